"""How the examples of a step lie on the device: blocks of arrays of few compiled shapes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from raysynth.data.batches import Examples
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import EOS, PAD

SHORTEST = 32
"""Padding below this length costs less than compiling another shape."""


class Block(NamedTuple):
    """Arrays of one compiled shape; several blocks may make up a step."""

    encoder_input_tokens: np.ndarray
    """[rows, input_length] int32, 0 where padded."""
    decoder_target_tokens: np.ndarray
    """[rows, target_length] int32, 0 where padded."""


@dataclass(frozen=True, kw_only=True)
class PadToLongest:
    """Pad to the longest sequence of the batch, rounded up to one of a few lengths so that few shapes are compiled.

    Rows are cut to the lengths of the recipe after the end of sequence is added, as the paper's pipeline did, so an
    over-long row loses its end of sequence.
    """

    input_length: int
    target_length: int
    num_lengths: int = 4
    """Compiled lengths per side."""

    def lay(self, examples: Examples) -> tuple[Block, ...]:
        """The blocks of one step."""
        return (
            Block(
                self._pad(examples.sources, examples.prefix, self.input_length),
                self._pad(examples.targets, (), self.target_length),
            ),
        )

    def _pad(self, rows: Ragged, prefix: tuple[int, ...], limit: int) -> np.ndarray:
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
    examples: Examples, rows: np.ndarray, batch_size: int, layout: PadToLongest
) -> Iterator[tuple[np.ndarray, Block]]:
    """Batches of similar length with the rows they hold; the last one is filled up with padding rows.

    Sorting is free here: sums over the whole set do not depend on the order up to rounding, and the order is fixed.
    """
    lengths = examples.targets.lengths[rows] + examples.sources.lengths[rows]
    rows = rows[np.argsort(lengths, kind="stable")]
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        (block,) = layout.lay(examples.take(part))
        missing = batch_size - len(part)
        yield part, Block(*(np.pad(array, ((0, missing), (0, 0))) for array in block))
