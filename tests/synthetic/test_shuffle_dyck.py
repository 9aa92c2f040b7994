"""Shuffle Dyck: tails close open kinds, depths stay in bounds, and draws have the documented shares."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest

from raysynth.data.show import of_task
from raysynth.errors import InputError
from raysynth.synthetic.shuffle_dyck import ShuffleDyck
from raysynth.tokens.token_space import T5_TOKENS, TokenSpace
from tests.synthetic.test_dyck import restored


def sequences(task, count, seed=0):
    """`count` whole sequences, which `sample` cuts into segments."""
    return task.sample(np.random.default_rng(seed), 4 * count).values.reshape(count, 2048).tolist()


def test_draws_follow_the_rule():
    task = ShuffleDyck()
    free = opened = heads = total = 0
    kinds, unequal, lone = Counter(), 0, 0
    for ids in sequences(task, 200):
        assert len(ids) == 2048
        num_open, depth = Counter(), 0
        for id in ids:
            tail, kind = divmod(id - 2, 64)
            assert tail in (0, 1)
            if 0 < depth < 8:
                free, opened = free + 1, opened + (not tail)
            assert tail or depth < 8
            if tail:
                assert num_open[kind] > 0
                counts = sorted(count for count in num_open.values() if count)
                if counts == [1, 2]:  # a kind with two open brackets is no likelier than one with a single one
                    unequal, lone = unequal + 1, lone + (num_open[kind] == 1)
                num_open[kind] -= 1
            else:
                kinds[kind] += 1
                num_open[kind] += 1
            depth += 1 - 2 * tail
            assert 0 <= depth <= 8
        heads, total = heads + sum(id < 66 for id in ids), total + len(ids)
    assert abs(opened / free - 0.51) < 4 * math.sqrt(0.25 / free)
    assert unequal > 500
    assert abs(lone / unequal - 0.5) < 4 * math.sqrt(0.25 / unequal)
    assert 0.5 <= heads / total < 0.502
    expected = heads / 64
    statistic = sum((kinds[kind] - expected) ** 2 / expected for kind in range(64))
    assert statistic < 63 + 4 * math.sqrt(2 * 63)


def test_examples_restore_segments_of_the_stated_lengths():
    task = ShuffleDyck()
    rows = task.sample(np.random.default_rng(4), 10)
    assert rows.lengths.tolist() == [568, 568, 568, 344, 568, 568, 568, 344, 568, 568]
    sources, targets = task.draw(np.random.default_rng(4), 10)
    for row, source, target in zip(rows, sources, targets, strict=True):
        assert restored(source.tolist(), target.tolist()) == row.tolist()
    assert (sources.lengths.max() + 1, targets.lengths.max() + 1) == (512, 114)


def test_the_papers_pool_makes_15_999_kinds():
    task = ShuffleDyck(tokens=T5_TOKENS)
    assert task.num_kinds == 15_999
    ids = task.sample(np.random.default_rng(0), 40).values
    assert ids.max() > 31_900
    assert ids.min() < 100


def test_two_of_a_kind_and_depth_one():
    plain = ShuffleDyck(tokens=TokenSpace(first=2, last=3), max_depth=1, sequence_length=7)
    assert [row.tolist() for row in plain.sample(np.random.default_rng(0), 2)] == [[2, 3, 2, 3, 2, 3, 2]] * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"open_share": 1.5}, "ShuffleDyck.open_share must lie between 0 and 1, got 1.5"),
        ({"max_depth": 0}, "ShuffleDyck.max_depth must be an integer of at least 1, got 0"),
        ({"sequence_length": 1}, "ShuffleDyck.sequence_length must be an integer of at least 2, got 1"),
        ({"objective": 3}, "ShuffleDyck.objective must be a SpanCorruption, got 3"),
    ],
)
def test_a_wrong_field_is_one_line(fields, message):
    with pytest.raises(InputError) as error:
        ShuffleDyck(**fields)
    assert str(error.value) == message


def test_examples_can_be_shown():
    task = dataclasses.replace(ShuffleDyck().tiny(), sequence_length=20)
    lines = of_task(task, num_examples=1, seed=0).splitlines()
    assert lines[0].startswith("Source (18 tokens): (1 ")
    assert "<s0>" in lines[1]
