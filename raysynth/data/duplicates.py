"""Duplicate rows by 64-bit hashes."""

import numpy as np

from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Ragged

_AT_ONCE = 1_000_000
"""Hashes that are looked up together, so that memory stays near 16 bytes an example."""


# -------------------------------------------------------------------------------- duplicates


def row_hashes(rows: Ragged) -> np.ndarray:
    """A 64-bit hash of each row, [rows] uint64."""
    hashes = np.empty(len(rows), np.uint64)
    _hash(rows.values, rows.offsets, hashes)
    return hashes


@compiled
def _hash(values, offsets, hashes):
    """Four ids at a time, mixed in by the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
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


def first_of_equals(hashes: np.ndarray) -> np.ndarray:
    """Whether each hash, [rows] uint64, stands there for the first time, [rows] bool."""
    first = np.ones(len(hashes), bool)
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return first
    places = []
    for start in range(0, len(hashes), _AT_ONCE):
        part = hashes[start : start + _AT_ONCE]
        nearest = repeated[np.minimum(np.searchsorted(repeated, part), len(repeated) - 1)]
        places.append(start + np.flatnonzero(nearest == part))
    again = np.concatenate(places)
    first[again] = False
    first[again[np.unique(hashes[again], return_index=True)[1]]] = True
    return first
