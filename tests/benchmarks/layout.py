"""How much faster a training step is packed than padded to the full lengths. Run by hand; asserts nothing.

    python tests/benchmarks/layout.py set identity lime simple --timed-batch-size 32
    python tests/benchmarks/layout.py mtop squad retrosynthesis --data FOLDER --steps 0

For each task it draws batches as a training of the paper sees them: of 128 examples and lengths of 512/512 for
synthetic tasks (Appendix A; `simple` is the 18 simple tasks mixed), and of the recipe's size and lengths for downstream
tasks, whose files lie in folders named for them beside `t5_vocab/spiece.model`. It prints the packed shape, the share
of batches that fit it, the model's FLOPs of a batch padded to the full lengths over those of the packed block, the same
for padding to the longest example (four widths for each side), and the first ratio in wall time: the two steps of
T5-small alternate, after one compiling step each, and the ratio is that of their medians. Memory for the timed steps
may call for a smaller `--timed-batch-size`, which packs a little worse; the columns before it do not change.
"""

import argparse
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("NPROC", str(os.cpu_count()))

import jax
import numpy as np

from raysynth import T5_SMALL, downstream_tasks, synthetic_tasks
from raysynth.data.batches import Examples
from raysynth.data.layout import Block, Packed, PadToLongest, Shape
from raysynth.data.text_pairs import encode
from raysynth.downstream.rows import Split
from raysynth.model.devices import device, place_steps
from raysynth.model.step import TrainState, train_steps
from raysynth.model.t5 import T5, init_params
from raysynth.specs.flops import training_flops
from raysynth.specs.models import T5Config
from raysynth.synthetic.mixture import Mixture
from raysynth.synthetic.simple import simple_tasks

SAMPLE = 16_384
FOLDERS = {"cnndm_10k": "cnndm", "webqsp": "webqsp/derived", "retrosynthesis": "uspto50k"}
"""Folders that have another name than their task."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Examples and how a training batches them."""

    examples: Examples
    batch_size: int
    input_length: int
    target_length: int

    def fitted(self, batch_size: int) -> tuple[Packed, list[Block]]:
        """The packed layout, and the blocks of some batches."""
        layout = Packed.fitting(
            self.examples, batch_size=batch_size, input_length=self.input_length, target_length=self.target_length
        )
        return layout, [layout.to_blocks(batch)[0] for batch in self.batches(batch_size)]

    def batches(self, batch_size: int) -> Iterator[Examples]:
        """Random batches."""
        rng = np.random.default_rng(1)
        for _ in range(SAMPLE // batch_size):
            yield self.examples.take(rng.choice(len(self.examples), batch_size, replace=False))


def case(name: str, data: Path | None) -> Case:
    """The case of a task."""
    if name in downstream_tasks:
        task = downstream_tasks[name]
        if data is None:
            raise SystemExit(f"{name} needs --data")
        os.environ["RAYSYNTH_T5_VOCABULARY"] = str(data / "t5_vocab" / "spiece.model")
        scored = Split.VALIDATION if name == "cnndm_10k" else task.data.scored  # the available files lack a test split
        dataset = replace(task.data, num_train=None, scored=scored)
        _, ids, _ = encode(dataset, str(data / FOLDERS.get(name, name)))
        sources, targets = ids[Split.TRAIN]
        return Case(
            examples=Examples(sources=sources, targets=targets),
            batch_size=task.batch_size,
            input_length=task.input_length,
            target_length=task.target_length,
        )
    task = Mixture(tasks=tuple(simple_tasks.values())) if name == "simple" else synthetic_tasks[name]
    sources, targets = task.draw(np.random.default_rng(0), SAMPLE)
    examples = Examples(sources=sources, targets=targets, prefix=task.prefix)
    return Case(examples=examples, batch_size=128, input_length=512, target_length=512)


def flops(shape: Shape) -> float:
    """FLOPs of a step of T5-small on a block."""
    lengths = {"input_length": shape.input_width, "target_length": shape.target_width}
    return training_flops(T5_SMALL, num_rows=shape.rows, **lengths)


def shape_of(block: Block) -> Shape:
    rows, input_width = block.encoder_input_tokens.shape
    return Shape(rows=rows, input_width=input_width, target_width=block.decoder_target_tokens.shape[1])


def padded(block: Block, shape: Shape) -> Block:
    """A batch with one example a row, padded to the full lengths; its ids do not matter."""
    ids = block.encoder_input_tokens[block.encoder_input_tokens > 0]
    sides = ((shape.rows, width) for width in (shape.input_width, shape.target_width))
    return Block(*(np.resize(ids, side).astype(np.int32) for side in sides))


class Timed:
    """Steps of one layout."""

    def __init__(self, model: T5Config, block: Block):
        self._blocks = place_steps([(block,)])
        self._network = T5(model, dropout_rate=0.1)
        self._key = jax.random.key(1)
        self._state = TrainState.start(init_params(model, jax.random.key(0)))
        started = time.perf_counter()
        self.step()
        self.compile_seconds = time.perf_counter() - started

    def step(self) -> float:
        """Seconds of one step."""
        started = time.perf_counter()
        self._state, counts = train_steps(
            self._network,
            self._state,
            self._blocks,
            np.array([1e-3], np.float32),
            self._key,
            z_loss=1e-4,
            label_smoothing=0.0,
        )
        jax.block_until_ready((self._state.params, counts))
        return time.perf_counter() - started


def total(blocks: Iterable[Block]) -> float:
    """FLOPs of blocks."""
    return sum(count * flops(shape) for shape, count in Counter(map(shape_of, blocks)).items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", metavar="TASK", help="synthetic or downstream tasks, or `simple`")
    parser.add_argument("--data", type=Path, help="the folder with the downstream tasks' folders")
    parser.add_argument("--timed-batch-size", type=int, default=32, help="examples of the timed steps (default: 32)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each layout; 0 counts FLOPs only")
    options = parser.parse_args()
    print(f"T5-small on {device()}, {os.environ['NPROC']} threads, timed batches of {options.timed_batch_size}")
    print(
        f"{'task':16} {'full shape':>14} {'packed shape':>14} {'fit':>6} {'FLOPs':>6} {'longest':>7} "
        f"{'padded s':>9} {'packed s':>9} {'ratio':>6}"
    )
    for name in options.tasks:
        each = case(name, options.data)
        layout, blocks = each.fitted(each.batch_size)
        full = Shape(rows=each.batch_size, input_width=each.input_length, target_width=each.target_length)
        longest = PadToLongest(input_length=each.input_length, target_length=each.target_length)
        all_full = len(blocks) * flops(full)
        to_longest = total(longest.to_blocks(batch)[0] for batch in each.batches(each.batch_size))
        fit = sum(shape_of(block) == layout.shape for block in blocks) / len(blocks)
        line = f"{name:16} {text(full):>14} {text(layout.shape):>14} {fit:6.1%} "
        line += f"{all_full / total(blocks):5.2f}x {all_full / to_longest:6.2f}x"
        if options.steps:
            block = each.fitted(options.timed_batch_size)[1][0]
            wide = Timed(T5_SMALL, padded(block, replace(full, rows=options.timed_batch_size)))
            dense = Timed(T5_SMALL, block)
            seconds = [(wide.step(), dense.step()) for _ in range(options.steps)]
            slow, quick = map(statistics.median, zip(*seconds, strict=True))
            line += f" {slow:9.2f} {quick:9.2f} {slow / quick:5.2f}x"
        print(line, flush=True)


def text(shape: Shape) -> str:
    return f"{shape.rows}x{shape.input_width}/{shape.target_width}"


if __name__ == "__main__":
    main()
