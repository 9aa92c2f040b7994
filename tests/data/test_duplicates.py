"""Duplicates: equal rows share a hash, and the first of them is kept."""

import numpy as np

from raysynth.data.duplicates import first_of_equals, row_hashes
from raysynth.tokens.ragged import Ragged


def test_equal_rows_share_a_hash_and_others_do_not():
    rng = np.random.default_rng(0)
    some = [tuple(rng.integers(2, 6, rng.integers(0, 6)).tolist()) for _ in range(3000)]
    hashes = row_hashes(Ragged.of([*some, *some])).tolist()
    assert hashes[:3000] == hashes[3000:]
    assert len(set(hashes)) == len(set(some))


def test_duplicates_are_found_in_chunks_as_in_one_pass():
    hashes = np.random.default_rng(0).integers(0, 5_000, 20_000).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    first = np.zeros(len(hashes), bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    assert np.array_equal(first_of_equals(hashes), first)
    assert np.array_equal(first_of_equals(hashes, chunk_size=3_000), first)
