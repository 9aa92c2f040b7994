"""Examples to arrays: the blocks of a step, in few shapes so that few are compiled."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raysynth.data.batches import Examples
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import EOS, PAD

SHORTEST = 32
"""Padding to this length costs less than compiling another shape."""


class Block(NamedTuple):
    """The arrays of one compiled call; a step may have several blocks."""

    encoder_input_tokens: npt.NDArray[np.int32]
    """[rows, input_length] int32, 0 where padded."""
    decoder_target_tokens: npt.NDArray[np.int32]
    """[rows, target_length] int32, 0 where padded."""


@dataclass(frozen=True, kw_only=True)
class PadToLongest:
    """Pads to the longest sequence of the batch, rounded up to one of a few lengths so that few shapes are compiled.

    Rows are cut to the recipe's lengths after the end of sequence is added, as in the paper's pipeline, so rows that
    are too long lose their end of sequence.
    """

    input_length: int
    target_length: int
    num_lengths: int = 4
    """Number of compiled lengths, for inputs and for targets."""

    def to_blocks(self, examples: Examples) -> tuple[Block, ...]:
        """The blocks of one step."""
        return (
            Block(
                self._pad(examples.sources, examples.prefix, self.input_length),
                self._pad(examples.targets, (), self.target_length),
            ),
        )

    def _pad(self, rows: Ragged, prefix: tuple[int, ...], limit: int) -> npt.NDArray[np.int32]:
        longest = min(limit, int(rows.lengths.max(initial=0)) + len(prefix) + 1)
        unit = max(SHORTEST, -(-limit // (8 * self.num_lengths)) * 8)
        width = min(limit, -(-longest // unit) * unit)
        full = np.full((len(rows), max(width, longest)), PAD, np.int32)
        full[:, : len(prefix)] = prefix
        ends = np.minimum(rows.lengths + len(prefix), width)
        keep = rows.position + len(prefix) < width
        full[rows.row_of[keep], (rows.position + len(prefix))[keep]] = rows.values[keep]
        fits = ends < width
        full[np.flatnonzero(fits), ends[fits]] = EOS
        return full[:, :width]


def evaluation_batches(
    examples: Examples, rows: npt.NDArray[np.int64], batch_size: int, layout: PadToLongest
) -> Iterator[tuple[npt.NDArray[np.int64], Block]]:
    """Batches of examples of similar length, each with its rows; padding rows fill up the last batch.

    Sorting by length is safe: the order is fixed, and sums over all rows depend on it only by rounding.
    """
    lengths = examples.targets.lengths[rows] + examples.sources.lengths[rows]
    rows = rows[np.argsort(lengths, kind="stable")]
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        (block,) = layout.to_blocks(examples.take(part))
        missing = batch_size - len(part)
        yield part, Block(*(np.pad(array, ((0, missing), (0, 0))) for array in block))
