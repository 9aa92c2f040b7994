"""Dyck: restored examples are well nested, and draws have the documented distributions."""

import dataclasses
import math

import numpy as np
import pytest

from raysynth.data.show import of_task
from raysynth.errors import InputError
from raysynth.synthetic.dyck import Dyck, Frequency
from raysynth.tokens.span_corruption import SpanCorruption
from raysynth.tokens.token_space import token_space

SENTINELS = range(32_072, 32_100)


def draw(task, count, seed=0):
    return task.draw(np.random.default_rng(seed), count)


def restored(source, target):
    """The tokens before corruption: each sentinel of the source is replaced by the tokens after it in the target."""
    spans, sentinel = {}, None
    for id in target:
        if id in SENTINELS:
            sentinel = id
            spans[sentinel] = []
        else:
            spans[sentinel].append(id)
    assert list(spans) == sorted(spans, reverse=True)
    tokens = []
    for id in source:
        tokens.extend(spans.pop(id) if id in SENTINELS else [id])
    assert not spans
    return tokens


def depths(tokens, task, opened):
    """The number of open brackets after each token; asserts that each tail matches the last open head."""
    kinds, num_open = task.tokens.size // 2, []
    for token in tokens:
        kind = token - task.tokens.first
        if kind < kinds:
            opened.append(kind)
        else:
            assert opened.pop() == kind - kinds
        num_open.append(len(opened))
    return num_open


def blocks(task, rows):
    """Join the rows of each block, whose last row is short."""
    joined = []
    for row in rows:
        joined.extend(row)
        if len(row) < task.objective.segment_length:
            yield joined
            joined = []


def test_restored_examples_are_well_nested():
    task = Dyck()
    sources, targets = draw(task, 300, 1)
    rows = [restored(s.tolist(), t.tolist()) for s, t in zip(sources, targets, strict=True)]
    seen = 0
    for block in blocks(task, rows):
        opened = []
        num_open = depths(block, task, opened)
        assert not opened
        # Every sentence ends with nothing open, and a part of one may too.
        assert num_open.count(0) >= 128
        assert len(block) % 2 == 0
        seen += 1
    assert seen > 30


def test_lengths_are_the_appendix_ranges():
    task = Dyck()
    sources, targets = draw(task, 30_000, 2)
    assert (sources.lengths.min() + 1, sources.lengths.max() + 1) == (3, 512)
    assert (targets.lengths.min() + 1, targets.lengths.max() + 1) == (3, 114)
    drawn = np.concatenate([sources.values, targets.values])
    assert drawn.min() >= 2
    assert set(drawn[drawn >= 32_000].tolist()) == set(SENTINELS)
    assert task.largest_id == 32_099


def sentences(task, count, seed=3):
    """Draw single sentences: each is a block, and each block is one segment."""
    objective = SpanCorruption(input_length=512)
    return dataclasses.replace(task, sentences_per_block=1, objective=objective).sample(
        np.random.default_rng(seed), count
    )


def test_sentence_lengths_follow_the_truncated_normal_distribution():
    # Expected: a real length between 6 and 60, rounded down or up, then halved and rounded down or up.
    rng = np.random.default_rng(8)
    lengths = rng.normal(22.69, 11.69, 400_000)
    lengths = lengths[(lengths >= 6) & (lengths <= 60)][:200_000]
    lengths = np.floor(lengths + (rng.random(len(lengths)) < 0.5))
    expected = np.bincount((lengths // 2 + (rng.random(len(lengths)) < 0.5)).astype(int), minlength=32)
    counts = np.bincount(sentences(Dyck(), 40_000).lengths // 2, minlength=32)
    assert len(counts) == len(expected) == 32
    expected, counts = expected / expected.sum(), counts / counts.sum()
    assert np.abs(np.cumsum(expected) - np.cumsum(counts)).max() < 1.95 * math.sqrt(1 / 40_000 + 1 / 200_000)


def test_a_bracket_opens_with_the_given_share():
    task = Dyck()
    opened = closed = 0
    for row in sentences(task, 3_000):
        ids = row.tolist()
        num_open, heads = depths(ids, task, []), 0
        for place, id in enumerate(ids):
            head = id < 2 + task.num_kinds
            # A free choice: something is open and heads are left to write.
            if place and num_open[place - 1] and heads < len(ids) // 2:
                opened, closed = opened + head, closed + (not head)
            heads += head
    share = opened / (opened + closed)
    assert abs(share - 0.4) < 4 * math.sqrt(0.24 / (opened + closed))


@pytest.mark.parametrize("frequency", Frequency)
def test_kinds_have_the_documented_frequencies(frequency):
    task = Dyck(frequency=frequency)
    rows = sentences(task, 20_000)
    heads = rows.values[rows.values < 2 + task.num_kinds].astype(int) - 2
    weights = np.ones(task.num_kinds)
    if frequency is Frequency.ZIPF:
        weights = task.num_kinds // np.arange(1, task.num_kinds + 1)
    groups = np.minimum(np.arange(task.num_kinds), 20) if frequency is Frequency.ZIPF else np.arange(15_999) // 1_000
    counts, expected = np.bincount(groups[heads]), np.bincount(groups, weights) / weights.sum() * len(heads)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < len(counts) - 1 + 4 * math.sqrt(2 * (len(counts) - 1))
    if frequency is Frequency.UNIFORM:
        assert heads.max() > 15_990


def test_a_seed_gives_the_same_rows():
    first, again = draw(Dyck(), 40, 1), draw(Dyck(), 40, 1)
    for a, b in zip(first, again, strict=True):
        assert (a.values.tolist(), a.offsets.tolist()) == (b.values.tolist(), b.offsets.tolist())
    assert first[0].values.tolist() != draw(Dyck(), 40, 2)[0].values.tolist()


def test_small_vocabularies_and_tiny_tasks():
    task = Dyck(tokens=token_space(num_pieces=30), objective=SpanCorruption(first_sentinel=129))
    assert draw(task, 100)[0].values.max() == task.largest_id == 129
    sources, targets = draw(Dyck().tiny(), 1_000)
    assert sources.lengths.max() + 1 == 24
    assert targets.lengths.max() + 1 <= 24


def test_an_input_does_not_determine_its_target():
    with pytest.raises(InputError, match=r"^dyck: an input does not determine its target; draw gives the two together"):
        Dyck().solve(draw(Dyck(), 1)[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frequency": "zip"}, "unknown Dyck.frequency 'zip' (did you mean 'zipf'?)"),
        ({"shortest_sentence": 60}, "Dyck.shortest_sentence must be below longest_sentence (60), got 60"),
        ({"objective": SpanCorruption(first_sentinel=32_020)}, "Dyck: the sentinels 31993..32020 must lie above"),
        ({"objective": 3}, "Dyck.objective must be a SpanCorruption, got 3"),
    ],
)
def test_a_wrong_field_is_one_line(fields, message):
    with pytest.raises(InputError) as error:
        Dyck(**fields)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_examples_can_be_shown():
    lines = of_task(Dyck().tiny(), num_examples=2, seed=0).splitlines()
    assert lines[0].startswith("Source (23 tokens): (1 ")
    assert lines[1].startswith("Target")
    assert "<s0>" in lines[1]
