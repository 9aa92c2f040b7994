"""The plan of a synthetic data set: how many shards to draw, and which rows go to which split."""

import dataclasses

import numpy as np
import pytest

from raysynth import Dataset, InputError, synthetic_tasks
from raysynth.data.draws import final_file, num_more_shards, number_of, rows_by_split, split_of
from raysynth.downstream.rows import Split

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
