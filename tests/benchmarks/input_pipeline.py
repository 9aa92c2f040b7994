"""How long a training step waits for its examples; run on request, asserts nothing.

    python tests/benchmarks/input_pipeline.py --num-examples 300000

Draws a data set of Set, then reads it as a pre-training of the paper does (batch 128, lengths 512, Appendix A): the
time to the first batch at step 0 and at a late step, the mean and the longest time of the batches after it, and the
largest growth of memory. Beside it the time of a real T5-small training step on this machine's device at a batch
that it can do, and what the same step would take for 128 examples.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from raysynth.model.devices import place

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax

from raysynth import Dataset, synthetic_tasks
from raysynth.data.batches import Order, StoredSplit, Stream
from raysynth.data.layout import PadToLongest
from raysynth.data.manifest import Manifest, write_manifest
from raysynth.data.shard_files import shard_bytes, write_shard
from raysynth.downstream.rows import Split
from raysynth.model import optimizer, train
from raysynth.model.t5 import T5, init_params
from raysynth.specs.models import T5_SMALL
from raysynth.store.store import Store
from raysynth.tokens.streams import Purpose

LAYOUT = PadToLongest(input_length=512, target_length=512)


def write(dataset: Dataset, directory: Path) -> None:
    """The training shards of a data set without their duplicates' removal, which reading does not notice."""
    store, shards = Store(str(directory.parent)), []
    for shard in range(dataset.num_examples // dataset.shard_size):
        sources, targets = dataset.task.draw(np.random.default_rng([dataset.seed, shard]), dataset.shard_size)
        content = shard_bytes(sources, targets)
        shards.append(write_shard(store, directory.name, f"train-{shard:05d}.parquet", content, len(sources)))
    write_manifest(Manifest(splits={Split.TRAIN: tuple(shards)}, prefix=()), store, directory.name)


def first(split: StoredSplit, step: int) -> float:
    """Seconds to the first batch of a run that starts at `step`."""
    began = time.perf_counter()
    with Stream(
        split, Order(shard_rows=split.shard_rows, batch_size=128, purpose=Purpose.PRETRAIN_ORDER, seed=0)
    ) as stream:
        LAYOUT.to_blocks(stream.examples(step))
        return time.perf_counter() - began


def step_seconds(split: StoredSplit, batch_size: int) -> float:
    """Seconds of a T5-small training step on `batch_size` examples."""
    params = init_params(T5_SMALL, jax.random.key(0))
    state = optimizer.init(params)
    with Stream(
        split, Order(shard_rows=split.shard_rows, batch_size=batch_size, purpose=Purpose.PRETRAIN_ORDER, seed=0)
    ) as stream:
        block = place(LAYOUT.to_blocks(stream.examples(0)))
    for _ in range(2):
        began = time.perf_counter()
        params, state, counts = train.train_step(
            T5(T5_SMALL, dropout_rate=0.1), 0.0, 0.0, params, state, block, np.float32(0.01), jax.random.key(0), 0
        )
        jax.block_until_ready(counts)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-examples", type=int, default=300_000)
    parser.add_argument("--num-steps", type=int, default=4_000)
    parser.add_argument("--step-batch", type=int, default=8, help="examples in the training step; 0: none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        write(Dataset(task=synthetic_tasks["set"], num_examples=options.num_examples), Path(directory))
        split = StoredSplit.open(Path(directory), "train")
        print(f"first batch at step 0: {first(split, 0):.2f} s, at step 20,001: {first(split, 20_001):.2f} s")
        process, times = psutil.Process(os.getpid()), []
        before = largest = process.memory_info().rss
        with Stream(
            split, Order(shard_rows=split.shard_rows, batch_size=128, purpose=Purpose.PRETRAIN_ORDER, seed=0)
        ) as stream:
            for step in range(options.num_steps):
                began = time.perf_counter()
                LAYOUT.to_blocks(stream.examples(step))
                times.append(time.perf_counter() - began)
                largest = max(largest, process.memory_info().rss)
        later, grown = np.array(times[1:]) * 1e3, (largest - before) / 2**20
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
