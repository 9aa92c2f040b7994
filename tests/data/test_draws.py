"""The plan of a synthetic data set: how many shards to draw, and which rows go to which split."""

import dataclasses

import numpy as np
import pytest

from raysynth import Dataset, InputError, synthetic_tasks
from raysynth.data.draws import (
    draw_shard,
    final_file,
    num_more_shards,
    number_of,
    rewrite_shard,
    rows_by_split,
    settle_in_place,
    split_of,
)
from raysynth.downstream.rows import Split
from raysynth.specs.identity import name
from raysynth.store.sealed import seal, unseal
from raysynth.store.store import Store

DATA = Dataset(task=synthetic_tasks["set"], num_examples=5, num_validation=3, shard_size=4)


def test_distinct_rows_fill_validation_first_and_the_surplus_is_left_out():
    distinct = np.array([[1, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    plan = rows_by_split(DATA, distinct)
    assert [{split: rows.tolist() for split, rows in shard.items()} for shard in plan] == [
        {Split.VALIDATION: [0, 2, 3]},
        {Split.TRAIN: [1, 2, 3]},
        {},
        {Split.TRAIN: [0, 1]},
    ]


def test_a_shard_may_hold_rows_of_both_splits():
    (shard,) = rows_by_split(dataclasses.replace(DATA, num_validation=1), np.ones((1, 4), bool))
    assert {split: rows.tolist() for split, rows in shard.items()} == {"validation": [0], "train": [1, 2, 3]}


def test_more_shards_are_drawn_where_many_rows_are_duplicates():
    data = dataclasses.replace(DATA, num_examples=990, num_validation=10, shard_size=100)
    assert num_more_shards(data, num_drawn=0, num_distinct=0) == 10
    assert num_more_shards(data, num_drawn=1_000, num_distinct=500) == 10
    assert num_more_shards(data, num_drawn=1_000, num_distinct=999) == 1
    assert num_more_shards(dataclasses.replace(data, shard_size=1), num_drawn=0, num_distinct=0) == 1_020
    with pytest.raises(InputError, match=r"^set gave only 19 distinct inputs in 1000 draws, 990 and 10 for validation"):
        num_more_shards(data, num_drawn=1_000, num_distinct=19)


def test_a_final_file_names_its_split_and_shard():
    file = final_file(Split.VALIDATION, 123)
    assert (file, split_of(file), number_of(file)) == ("validation-00123.parquet", Split.VALIDATION, 123)


# -------------------------------------------------------------------------------- what a killed call leaves

SHARD = Dataset(task=dataclasses.replace(synthetic_tasks["set"], max_length=20), num_examples=30, shard_size=20)


@pytest.fixture
def drawn(tmp_path):
    """A store with one draw, its directory, the shard and its hashes."""
    store = Store(str(tmp_path))
    return store, tmp_path / name(SHARD), *draw_shard(SHARD, store, 3)


def test_every_flipped_or_cut_byte_of_a_draw_is_found(drawn):
    store, directory, shard, hashes = drawn
    file = directory / "draws" / "00003.parquet"
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    flipped = [
        content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]
        for place in rng.integers(0, len(content), 30)
    ]
    for bad in (*flipped, content[:-9] + b"x" + content[-8:], content[:-1], content[:40], b"", content + b"x"):
        file.write_bytes(bad)
        again, same = draw_shard(SHARD, store, 3)
        assert again == dataclasses.replace(shard, damaged_file="draws/00003.parquet")
        assert np.array_equal(same, hashes)
        assert file.read_bytes() == content


def test_a_draw_that_no_note_names_was_not_finished(drawn):
    store, directory, shard, _ = drawn
    (directory / "draws" / "00003.json").unlink()
    (directory / "draws" / "00003.parquet").write_bytes(b"half")
    assert draw_shard(SHARD, store, 3)[0] == shard


@pytest.mark.parametrize(
    "spoil",
    [
        lambda note: seal(note)[:-20],
        lambda note: b"",
        lambda note: b"null",
        lambda note: seal({**note, "files": []}),
        lambda note: seal({**note, "files": "all"}),
        lambda note: seal({**note, "more": 1}),
        lambda note: seal({"files": note["files"]}),
        lambda note: seal({**note, "files": [{**note["files"][0], "file": "draws/00004.parquet"}]}),
        lambda note: seal({**note, "files": [{**note["files"][0], "file": "../../outside"}]}),
        lambda note: seal({**note, "files": [{**note["files"][0], "rows": -1}]}),
        lambda note: seal({**note, "files": [{**note["files"][0], "sha256": None}]}),
    ],
)
def test_a_damaged_note_costs_no_more_than_its_shard(drawn, tmp_path, spoil):
    store, directory, shard, _ = drawn
    (tmp_path / "outside").write_text("kept")
    note = directory / "draws" / "00003.json"
    content = note.read_bytes()
    note.write_bytes(spoil(unseal(content, "note")))
    again, _ = draw_shard(SHARD, store, 3)
    assert again == dataclasses.replace(shard, damaged_file="draws/00003.json")
    assert note.read_bytes() == content
    assert (tmp_path / "outside").read_text() == "kept"


def test_a_shard_is_kept_under_its_final_name_and_in_two_files(drawn):
    store, directory, shard, hashes = drawn
    moved = settle_in_place(name(SHARD), store, shard, {Split.TRAIN: np.arange(20)})
    again, same = draw_shard(SHARD, store, 3)
    assert again == moved
    assert np.array_equal(same, hashes)
    both = rewrite_shard(name(SHARD), store, (moved, {Split.VALIDATION: np.arange(5), Split.TRAIN: np.arange(5, 18)}))
    again, same = draw_shard(SHARD, store, 3)
    assert again == both
    assert np.array_equal(same, hashes[:18])
    (directory / "validation-00003.parquet").unlink()
    again, same = draw_shard(SHARD, store, 3)
    assert again == dataclasses.replace(shard, damaged_file="validation-00003.parquet")
    assert np.array_equal(same, hashes), "half of a shard is never taken for all of it"


def test_a_draw_that_is_damaged_before_it_is_settled_is_one_line(drawn):
    store, directory, shard, _ = drawn
    file = directory / "draws" / "00003.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"draws/00003\.parquet is damaged: run the same command again$"):
        rewrite_shard(name(SHARD), store, (shard, {Split.TRAIN: np.arange(5)}))
