"""Examples to arrays: the blocks of a step, in few shapes so that few are compiled."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raysynth.data.batches import Examples
from raysynth.specs.recipes import Recipe
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.streams import Purpose, stream
from raysynth.tokens.token_space import EOS, PAD

SHORTEST = 32
"""Padding to this length costs less than compiling another shape."""

Lengths = npt.NDArray[np.int64]
"""Number of ids of each example, with prefix and end of sequence, [examples] int64."""


class Block(NamedTuple):
    """The arrays of one compiled call; a step may have several blocks."""

    encoder_input_tokens: npt.NDArray[np.int32]
    """[rows, input_width] int32, 0 where padded."""
    decoder_target_tokens: npt.NDArray[np.int32]
    """[rows, target_width] int32, 0 where padded."""
    encoder_segment_ids: npt.NDArray[np.int32] | None = None
    """[rows, input_width] int32: 1, 2, ... for the examples in a row, 0 where padded; None for one example a row."""
    decoder_segment_ids: npt.NDArray[np.int32] | None = None
    """[rows, target_width] int32, the same for the targets."""

    @property
    def num_tokens(self) -> int:
        """Number of ids that are not padding."""
        return int(np.count_nonzero(self.encoder_input_tokens) + np.count_nonzero(self.decoder_target_tokens))


# -------------------------------------------------------------------------------- one example a row


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
        lengths = _lengths(rows, prefix, limit)
        unit = max(SHORTEST, -(-limit // (8 * self.num_lengths)) * 8)
        width = min(limit, _round_up(int(lengths.max(initial=1)), unit))
        array = np.full((len(rows), width), PAD, np.int32)
        _write(array, rows, prefix, lengths, np.arange(len(rows)), np.zeros(len(rows), np.int64))
        return array


def evaluation_batches(
    examples: Examples, rows: npt.NDArray[np.int64], batch_size: int, layout: PadToLongest
) -> Iterator[tuple[npt.NDArray[np.int64], Block]]:
    """Batches of examples of similar length, each with its rows; padding rows fill up the last batch.

    Sorted by target, then by source, because decoding a batch takes as many steps as its longest prediction. Sorting is
    safe: the order is fixed, and sums over all rows depend on it only by rounding. Padding rows have no targets and
    repeat the last input, so that decoding them takes no longer.
    """
    rows = rows[np.lexsort((examples.sources.lengths[rows], examples.targets.lengths[rows]))]
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        (block,) = layout.to_blocks(examples.take(part))
        missing = batch_size - len(part)
        inputs = np.pad(block.encoder_input_tokens, ((0, missing), (0, 0)), mode="edge")
        yield part, Block(inputs, np.pad(block.decoder_target_tokens, ((0, missing), (0, 0))))


# -------------------------------------------------------------------------------- several examples a row


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of a block."""

    rows: int
    input_width: int
    target_width: int

    @property
    def cost(self) -> float:
        """Roughly proportional to the time of a step: a target takes twice as long as an input, attention grows."""
        inputs, targets = self.input_width, self.target_width
        return self.rows * (inputs * (1 + inputs / 3000) + targets * (2 + (inputs + targets) / 3000))


class Places(NamedTuple):
    """Where each example of a batch lies in a block, [examples] int64 each."""

    row: npt.NDArray[np.int64]
    segment: npt.NDArray[np.int64]
    """1, 2, ... in each row."""
    input_start: npt.NDArray[np.int64]
    target_start: npt.NDArray[np.int64]

    @property
    def num_rows(self) -> int:
        """Number of rows that hold an example."""
        return int(self.row.max(initial=-1)) + 1


def pack(inputs: Lengths, targets: Lengths, input_width: int, target_width: int) -> Places:
    """Put each example into the first row with room for its input and its target, the longest examples first.

    Each length must be at most the width.
    """
    largest_share = np.maximum(inputs / input_width, targets / target_width)
    places = np.zeros((len(inputs), 4), np.int64)
    rows: list[list[int]] = []  # of each: ids of inputs, ids of targets, number of examples

    def has_room(row: list[int], input_length: int, target_length: int) -> bool:
        return row[0] + input_length <= input_width and row[1] + target_length <= target_width

    for example in np.argsort(-largest_share, kind="stable").tolist():
        input_length, target_length = int(inputs[example]), int(targets[example])
        index = next((index for index, row in enumerate(rows) if has_room(row, input_length, target_length)), len(rows))
        if index == len(rows):
            rows.append([0, 0, 0])
        row = rows[index]
        places[example] = index, row[2] + 1, row[0], row[1]
        row[0] += input_length
        row[1] += target_length
        row[2] += 1
    return Places(*places.T)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Packs a batch into one block with several examples in a row, told apart by segment ids.

    The block has one shape, that nearly every batch fits; a batch that does not gets more rows, or rows of the
    recipe's full lengths. Examples are cut as in `PadToLongest`.
    """

    input_length: int
    target_length: int
    shape: Shape
    row_multiple: int
    """The number of rows is a multiple of this, so that they divide among devices."""

    @staticmethod
    def of(recipe: Recipe, examples: Examples) -> "Packed":
        """The layout of a recipe's batches of examples with lengths like these."""
        return Packed.fitting(
            examples,
            batch_size=recipe.batch_size,
            input_length=recipe.input_length,
            target_length=recipe.target_length,
        )

    @staticmethod
    def fitting(examples: Examples, *, batch_size: int, input_length: int, target_length: int) -> "Packed":
        """The layout with the cheapest shape for batches like those that can be drawn from some examples.

        Depends on the lengths alone, not on the devices.
        """
        inputs = _lengths(examples.sources, examples.prefix, input_length)
        targets = _lengths(examples.targets, (), target_length)
        batches = stream(Purpose.LAYOUT, 0).integers(0, len(examples), (_NUM_BATCHES, batch_size))
        row_multiple = math.gcd(batch_size, 8)

        def estimated(widths: tuple[int, int]) -> float:
            """The cost if rows were as full as they usually get."""
            num_rows = max(inputs[batches].sum(1).max() / widths[0], targets[batches].sum(1).max() / widths[1])
            num_rows = _round_up(math.ceil(num_rows / _USUAL_FILL), row_multiple)
            return Shape(rows=num_rows, input_width=widths[0], target_width=widths[1]).cost

        def simulated(widths: tuple[int, int]) -> Shape:
            num_rows = max(pack(inputs[rows], targets[rows], *widths).num_rows for rows in batches)
            return Shape(rows=_round_up(num_rows, row_multiple), input_width=widths[0], target_width=widths[1])

        widths = [(wide, long) for wide in _widths(inputs) for long in _widths(targets)]
        shapes = [simulated(pair) for pair in sorted(widths, key=estimated)[:_NUM_SIMULATED]]
        return Packed(
            input_length=input_length,
            target_length=target_length,
            shape=min(shapes, key=lambda shape: shape.cost),
            row_multiple=row_multiple,
        )

    def to_blocks(self, examples: Examples) -> tuple[Block, ...]:
        """The blocks of one step, always one."""
        inputs = _lengths(examples.sources, examples.prefix, self.input_length)
        targets = _lengths(examples.targets, (), self.target_length)
        shape = self.shape
        if inputs.max(initial=0) > shape.input_width or targets.max(initial=0) > shape.target_width:
            shape = Shape(
                rows=self.row_multiple,
                input_width=max(shape.input_width, self.input_length),
                target_width=max(shape.target_width, self.target_length),
            )
        places = pack(inputs, targets, shape.input_width, shape.target_width)
        num_rows = max(shape.rows, _round_up(places.num_rows, self.row_multiple))
        tokens = [np.full((num_rows, width), PAD, np.int32) for width in (shape.input_width, shape.target_width)]
        segments = [np.zeros_like(array) for array in tokens]
        _write(tokens[0], examples.sources, examples.prefix, inputs, places.row, places.input_start)
        _write(tokens[1], examples.targets, (), targets, places.row, places.target_start)
        _number(segments[0], inputs, places.segment, places.row, places.input_start)
        _number(segments[1], targets, places.segment, places.row, places.target_start)
        return (Block(*tokens, *segments),)


_NUM_BATCHES = 16
"""Batches that a shape is fitted to."""
_USUAL_FILL = 0.95
_NUM_SIMULATED = 8
"""Pairs of widths that are tried by packing."""


def _widths(lengths: Lengths) -> list[int]:
    """Row widths worth trying: from the longest sequence to four times as much, in multiples of 8."""
    longest = int(lengths.max())
    return sorted({math.ceil(longest * sixteenths / 128) * 8 for sixteenths in (*range(16, 33), *range(34, 65, 3))})


# -------------------------------------------------------------------------------- arrays


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _lengths(rows: Ragged, prefix: tuple[int, ...], limit: int) -> Lengths:
    """The length of each row with the prefix and the end of sequence, cut at `limit`."""
    return np.minimum(rows.lengths + len(prefix) + 1, limit)


def _write(
    array: npt.NDArray[np.int32],
    rows: Ragged,
    prefix: tuple[int, ...],
    lengths: Lengths,
    place: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
) -> None:
    """Write prefix, ids and end of sequence of each row into its place in `array`, from column `start`, cut."""
    for offset, token in enumerate(prefix):
        fits = lengths > offset
        array[place[fits], start[fits] + offset] = token
    position = rows.position + len(prefix)
    keep = position < lengths[rows.row_of]
    owner = rows.row_of[keep]
    array[place[owner], start[owner] + position[keep]] = rows.values[keep]
    whole = rows.lengths + len(prefix) < lengths
    array[place[whole], (start + lengths - 1)[whole]] = EOS


def _number(
    array: npt.NDArray[np.int32],
    lengths: Lengths,
    segment: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
) -> None:
    """Write each example's segment id over its columns."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    column = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    array[place[owner], start[owner] + column] = segment[owner]
