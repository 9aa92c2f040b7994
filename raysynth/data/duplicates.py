"""Duplicate rows, found by 64-bit hashes."""

import numpy as np
import numpy.typing as npt

from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Ragged


def row_hashes(rows: Ragged) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each row, [rows] uint64."""
    hashes = np.empty(len(rows), np.uint64)
    _hash(rows.values, rows.offsets, hashes)
    return hashes


@compiled
def _hash(values: npt.NDArray[np.uint16], offsets: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64]) -> None:
    """Mix in four ids at a time by the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    for row in range(len(hashes)):
        state = np.uint64(offsets[row + 1] - offsets[row])
        for start in range(offsets[row], offsets[row + 1], 4):
            word = np.uint64(0)
            for place in range(start, min(start + 4, offsets[row + 1])):
                word = (word << np.uint64(16)) | np.uint64(values[place])
            state = (state ^ word) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
        hashes[row] = state


def first_of_equals(hashes: npt.NDArray[np.uint64], *, chunk_size: int = 1_000_000) -> npt.NDArray[np.bool_]:
    """Whether each hash, [rows] uint64, is the first one of its value, [rows] bool.

    Looks up `chunk_size` hashes at a time, which keeps memory near 16 bytes an example.
    """
    first = np.ones(len(hashes), bool)
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return first
    places = []
    for start in range(0, len(hashes), chunk_size):
        chunk = hashes[start : start + chunk_size]
        nearest = repeated[np.minimum(np.searchsorted(repeated, chunk), len(repeated) - 1)]
        places.append(start + np.flatnonzero(nearest == chunk))
    duplicates = np.concatenate(places)
    first[duplicates] = False
    first[duplicates[np.unique(hashes[duplicates], return_index=True)[1]]] = True
    return first
