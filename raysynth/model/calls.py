"""Groups training steps into calls of the device: several steps a call where they are short.

A call costs a millisecond on the host, however short its steps are: the batches are transferred and hundreds of arrays
are handed over.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from raysynth.data.layout import Block, Shape
from raysynth.specs.flops import training_flops
from raysynth.specs.models import T5Config

_CALL_FLOPS = 10e9
"""Steps are short if several of them together have no more FLOPs. A core of a CPU takes some 0.3 s for these."""
_MAX_STEPS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """Consecutive training steps whose blocks have the same shapes."""

    first_step: int
    """Number of updates made before."""
    batches: tuple[tuple[Block, ...], ...]
    """The blocks of each step."""

    @property
    def last_step(self) -> int:
        """Number of updates made after it."""
        return self.first_step + len(self.batches)


def steps_per_call(model: T5Config, shape: Shape) -> int:
    """How many steps on blocks of that shape a call makes. Depends on the description alone, not on the machine."""
    flops = training_flops(model, num_rows=shape.rows, input_length=shape.input_width, target_length=shape.target_width)
    return max(1, min(_MAX_STEPS, int(_CALL_FLOPS / flops)))


def calls(
    batch: Callable[[int], tuple[Block, ...]], *, first_step: int, num_steps: int, most: int, ends: Collection[int]
) -> Iterator[Call]:
    """The calls that make the steps from `first_step` to `num_steps`, of at most `most` steps each.

    `batch` lays out the blocks of a step. A call ends after every step of `ends` and at every multiple of `most`, which
    are the same after a training was resumed, and before a batch of other shapes.
    """
    waiting: list[tuple[Block, ...]] = []
    for step in range(first_step, num_steps):
        blocks = batch(step)
        if waiting and _shapes(blocks) != _shapes(waiting[0]):
            yield Call(first_step=step - len(waiting), batches=tuple(waiting))
            waiting = []
        waiting.append(blocks)
        after = step + 1
        if after % most == 0 or after in ends or after == num_steps:
            yield Call(first_step=after - len(waiting), batches=tuple(waiting))
            waiting = []


def _shapes(blocks: tuple[Block, ...]) -> list[tuple[int, ...]]:
    return [array.shape for block in blocks for array in block if array is not None]
