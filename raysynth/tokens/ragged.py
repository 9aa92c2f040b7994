"""Rows of token ids of different lengths, in two flat arrays."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raysynth.errors import InputError

Ids = npt.NDArray[np.uint16]
"""Token ids."""
Ints = npt.NDArray[np.int64]
"""Offsets, indices, lengths and counts."""
AnyInts = npt.NDArray[np.integer[Any]]
"""Integers of any width."""
Bools = npt.NDArray[np.bool_]
"""Masks."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: Ids
    """[total] uint16 token ids."""
    offsets: Ints
    """[rows + 1] int64, from 0 to total."""

    @staticmethod
    def of(rows: Iterable[Sequence[int]]) -> "Ragged":
        """Build from any rows of ids; raises `InputError` for ids that are not whole numbers from 0 to 65535."""
        arrays = [_whole_row(row) for row in rows]
        lengths = np.array([len(row) for row in arrays], dtype=np.int64)
        values = np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
        return Ragged.packed(values, lengths)

    @staticmethod
    def packed(values: np.ndarray, lengths: np.ndarray) -> "Ragged":
        """Build from all ids in row order, [total], and the row lengths, [rows].

        Raises `InputError` for ids that are not whole numbers from 0 to 65535.
        """
        _check_whole(values)
        if values.dtype != np.uint16 and len(values):  # a cast would wrap them around
            for extreme in (int(values.min()), int(values.max())):
                if not 0 <= extreme < 2**16:
                    raise InputError(f"token ids must be from 0 to 65535, got {extreme}")
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        if offsets[-1] != len(values):
            raise ValueError(f"lengths add up to {offsets[-1]} but there are {len(values)} values")
        return Ragged(np.ascontiguousarray(values, dtype=np.uint16), offsets)

    @staticmethod
    def chained(parts: "Sequence[Ragged]") -> "Ragged":
        """Concatenate the rows of all parts."""
        return Ragged.packed(
            np.concatenate([part.values for part in parts]), np.concatenate([part.lengths for part in parts])
        )

    @property
    def lengths(self) -> Ints:
        """[rows] int64: the number of ids in each row."""
        return np.diff(self.offsets)

    @property
    def row_of(self) -> Ints:
        """[total] int64: the row that each id belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def position(self) -> Ints:
        """[total] int64: the index of each id within its row."""
        return np.arange(len(self.values)) - np.repeat(self.offsets[:-1], self.lengths)

    def take(self, rows: np.ndarray) -> "Ragged":
        """Select rows by index, [count] int, in that order, or by mask, [rows] bool."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        lengths = self.offsets[rows + 1] - self.offsets[rows]  # `self.lengths` would be computed for all rows
        starts = np.repeat(self.offsets[rows] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        return Ragged.packed(self.values[starts + np.arange(len(starts))], lengths)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Ids:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[Ids]:
        return (self[row] for row in range(len(self)))


def _whole_row(row: Sequence[int]) -> AnyInts:
    try:
        array = np.asarray(row)
    except ValueError:  # rows in rows, of different lengths
        array = np.zeros((0, 0))
    if array.ndim != 1:
        raise InputError(f"a row must be a flat sequence of token ids, got {row!r:.60}")
    if array.dtype.kind == "f" and all(isinstance(id, np.integer) or type(id) is int for id in row):
        array = np.array([int(id) for id in row])  # NumPy makes floats of mixed kinds of integers
    _check_whole(array)
    return array.astype(np.int64, copy=False)


def _check_whole(values: np.ndarray) -> None:
    if values.dtype.kind not in "iu" and len(values):  # a cast would cut off fractions
        wrong = (value for value in values.tolist() if type(value) is not int)
        raise InputError(f"token ids must be whole numbers from 0 to 65535, got {next(wrong, values[0])!r:.60}")
