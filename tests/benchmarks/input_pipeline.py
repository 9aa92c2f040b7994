"""How long a training step waits for its examples. Run by hand; asserts nothing.

    python tests/benchmarks/input_pipeline.py --num-examples 300000

Draws a data set of Set, then reads it as a pre-training of the paper does (batch 128, lengths 512, Appendix A): the
time to the first batch at step 0 and at a late step, the mean and the longest time of the batches after it, and the
largest growth of memory. Then times a real T5-small training step on this machine's device, at a batch size that fits,
and compares the input's time with what the step would take for 128 examples.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax

from raysynth import Dataset, synthetic_tasks
from raysynth.data.batches import Order, StoredSplit, Stream
from raysynth.data.layout import PadToLongest
from raysynth.data.shard_files import parquet
from raysynth.model.devices import place_steps
from raysynth.model.step import TrainState, train_steps
from raysynth.model.t5 import T5, init_params
from raysynth.specs.models import T5_SMALL
from raysynth.tokens.streams import Purpose

LAYOUT = PadToLongest(input_length=512, target_length=512)


def write(dataset: Dataset, directory: Path) -> None:
    """Write the training shards of a data set; duplicates stay, which makes no difference to reading."""
    shards = []
    for shard in range(dataset.num_examples // dataset.shard_size):
        sources, targets = dataset.task.draw(np.random.default_rng([dataset.seed, shard]), dataset.shard_size)
        file = directory / f"train-{shard:05d}.parquet"
        file.write_bytes(parquet(sources, targets))
        shards.append({"file": file.name, "rows": len(sources)})
    (directory / "manifest.json").write_text(json.dumps({"splits": {"train": shards}}))


def first(split: StoredSplit, step: int) -> float:
    """Seconds until a run that starts at `step` has its first batch."""
    started = time.perf_counter()
    with Stream(
        split, Order(shard_rows=split.shard_rows, batch_size=128, purpose=Purpose.PRETRAIN_ORDER, seed=0)
    ) as stream:
        LAYOUT.to_blocks(stream.examples(step))
        return time.perf_counter() - started


def step_seconds(split: StoredSplit, batch_size: int) -> float:
    """Seconds of a T5-small training step on `batch_size` examples."""
    network, state = T5(T5_SMALL, dropout_rate=0.1), TrainState.start(init_params(T5_SMALL, jax.random.key(0)))
    with Stream(
        split, Order(shard_rows=split.shard_rows, batch_size=batch_size, purpose=Purpose.PRETRAIN_ORDER, seed=0)
    ) as stream:
        blocks = place_steps([LAYOUT.to_blocks(stream.examples(0))])
    for _ in range(2):
        started = time.perf_counter()
        state, counts = train_steps(
            network, state, blocks, np.array([0.01], np.float32), jax.random.key(0), z_loss=0.0, label_smoothing=0.0
        )
        jax.block_until_ready(counts)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-examples", type=int, default=300_000)
    parser.add_argument("--num-steps", type=int, default=4_000)
    parser.add_argument("--step-batch", type=int, default=8, help="examples in the training step; 0 skips it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        write(Dataset(task=synthetic_tasks["set"], num_examples=options.num_examples), Path(directory))
        split = StoredSplit.open(Path(directory), "train")
        print(f"first batch at step 0: {first(split, 0):.2f} s, at step 20,001: {first(split, 20_001):.2f} s")
        process, times = psutil.Process(os.getpid()), []
        initial = largest = process.memory_info().rss
        with Stream(
            split, Order(shard_rows=split.shard_rows, batch_size=128, purpose=Purpose.PRETRAIN_ORDER, seed=0)
        ) as stream:
            for step in range(options.num_steps):
                started = time.perf_counter()
                LAYOUT.to_blocks(stream.examples(step))
                times.append(time.perf_counter() - started)
                largest = max(largest, process.memory_info().rss)
        later, grown = np.array(times[1:]) * 1e3, (largest - initial) / 2**20
        print(
            f"{len(later):,} batches of 128: mean {later.mean():.2f} ms, 99th percentile "
            f"{np.percentile(later, 99):.2f} ms, longest {later.max():.1f} ms; memory grew by {grown:.0f} MiB"
        )
        if options.step_batch:
            seconds = step_seconds(split, options.step_batch)
            share = later.mean() / 1e3 / (seconds * 128 / options.step_batch)
            print(f"T5-small step on {options.step_batch} examples ({jax.devices()[0].device_kind}): {seconds:.2f} s")
            print(f"the input of a batch of 128 takes {share:.3%} of a step of that speed")


if __name__ == "__main__":
    main()
