"""How much faster a training step is in the packed layout than padded to 512/512. Run by hand; asserts nothing.

    python tests/benchmarks/layout.py set identity lime simple --batch-size 32

For each synthetic task (`simple` is the 18 simple tasks mixed) it draws batches as a pre-training of the paper sees
them (Appendix A: lengths 512) and prints the packed shape, the share of batches that fit it, the model's FLOPs of a
batch of 128 padded to the full lengths over those of the packed block, and the same ratio in wall time: the two steps
of T5-small alternate, after one compiling step each, and the ratio is that of their medians. A smaller `--batch-size`
fits a CPU and packs a little worse. With `--data FOLDER` and `--task NAME` it does the same for a downstream task.
"""

import argparse
import os
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("NPROC", str(os.cpu_count()))

import jax
import numpy as np

from raysynth import T5_SMALL, synthetic_tasks
from raysynth.data.batches import Examples
from raysynth.data.layout import Block, Packed, Shape
from raysynth.model.devices import device, place
from raysynth.model.step import TrainState, train_step
from raysynth.model.t5 import T5, init_params
from raysynth.specs.models import T5Config
from raysynth.synthetic.mixture import Mixture
from raysynth.synthetic.simple import simple_tasks

LENGTH = 512
SAMPLE = 16_384


def flops(shape: Shape, model: T5Config) -> float:
    """Multiplications and additions of a forward pass over one block."""
    inputs, targets = shape.input_width, shape.target_width
    attention = model.num_heads * model.head_dim
    mlp = 2 * model.emb_dim * model.mlp_dim * (len(model.mlp_activations) + 1)
    projections = 2 * model.emb_dim * attention
    encoder = model.num_encoder_layers * (inputs * (4 * projections + mlp) + 4 * inputs**2 * attention)
    decoder = model.num_decoder_layers * (
        targets * (6 * projections + mlp) + inputs * 2 * projections + 4 * (targets**2 + targets * inputs) * attention
    )
    return shape.rows * (encoder + decoder + 2 * targets * model.emb_dim * model.vocab_size)


def shape_of(block: Block) -> Shape:
    rows, input_width = block.encoder_input_tokens.shape
    return Shape(rows=rows, input_width=input_width, target_width=block.decoder_target_tokens.shape[1])


def padded(block: Block, batch_size: int) -> Block:
    """A batch of the same size with one example a row, padded to the full lengths; its ids do not matter."""
    ids = np.resize(block.encoder_input_tokens[block.encoder_input_tokens > 0], batch_size * LENGTH)
    return Block(ids.reshape(batch_size, LENGTH), ids.reshape(batch_size, LENGTH))


class Timed:
    """Steps of one layout."""

    def __init__(self, model: T5Config, block: Block):
        self._blocks = place((block,))
        self._network = T5(model, dropout_rate=0.1)
        self._key = jax.random.key(1)
        self._state = TrainState.start(init_params(model, jax.random.key(0)))
        started = time.perf_counter()
        self.step()
        self.compile_seconds = time.perf_counter() - started

    def step(self) -> float:
        """Seconds of one step."""
        started = time.perf_counter()
        self._state, counts = train_step(
            self._network, self._state, self._blocks, np.float32(1e-3), self._key, z_loss=1e-4, label_smoothing=0.0
        )
        jax.block_until_ready((self._state.params, counts))
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", metavar="TASK", help="synthetic tasks, or `simple`")
    parser.add_argument("--batch-size", type=int, default=32, help="examples of the timed steps (default: 32)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each layout; 0 counts FLOPs only")
    options = parser.parse_args()
    print(f"T5-small on {device()}, {os.environ['NPROC']} threads, batch {options.batch_size}")
    print(f"{'task':16} {'packed shape':>14} {'fit':>6} {'FLOPs':>6} {'padded s':>9} {'packed s':>9} {'ratio':>6}")
    for name in options.tasks:
        task = Mixture(tasks=tuple(simple_tasks.values())) if name == "simple" else synthetic_tasks[name]
        sources, targets = task.draw(np.random.default_rng(0), SAMPLE)
        examples = Examples(sources=sources, targets=targets, prefix=task.prefix)

        def fitted(batch_size: int, examples: Examples = examples) -> tuple[Packed, list[Block]]:
            layout = Packed.fitting(examples, batch_size=batch_size, input_length=LENGTH, target_length=LENGTH)
            starts = range(0, SAMPLE, batch_size)
            return layout, [layout.to_blocks(examples.take(np.arange(at, at + batch_size)))[0] for at in starts]

        layout, blocks = fitted(128)
        shapes = Counter(map(shape_of, blocks))
        full = 128 * flops(Shape(rows=1, input_width=LENGTH, target_width=LENGTH), T5_SMALL) * len(blocks)
        factor = full / sum(count * flops(shape, T5_SMALL) for shape, count in shapes.items())
        shape = layout.shape
        line = f"{name:16} {f'{shape.rows}x{shape.input_width}/{shape.target_width}':>14} "
        line += f"{shapes[shape] / len(blocks):6.1%} {factor:5.2f}x"
        if options.steps:
            block = fitted(options.batch_size)[1][0]
            wide, dense = Timed(T5_SMALL, padded(block, options.batch_size)), Timed(T5_SMALL, block)
            seconds = [(wide.step(), dense.step()) for _ in range(options.steps)]
            slow, quick = map(statistics.median, zip(*seconds, strict=True))
            line += f" {slow:9.2f} {quick:9.2f} {slow / quick:5.2f}x"
        print(line, flush=True)


if __name__ == "__main__":
    main()
