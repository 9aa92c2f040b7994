"""Mixtures: the requested shares, inputs that identify their task, and the same rows from the same seed."""

import dataclasses

import numpy as np
import pytest

from raysynth import Dataset, InputError, Mixture, synthetic_tasks, token_space
from raysynth.data.show import of_task
from raysynth.specs.identity import describe, fingerprint, name
from raysynth.synthetic.simple import simple_tasks
from raysynth.tokens.ragged import Ragged

SET, IDENTITY = synthetic_tasks["set"], synthetic_tasks["identity"]
HALVES = Mixture(tasks=(SET, IDENTITY))
EVERYTHING = Mixture(tasks=tuple(simple_tasks.values()))


def draw(task, seed=0, count=4_000):
    return task.draw(np.random.default_rng(seed), count)


def parts(mixture, sources):
    """For each task, which rows begin with its prefix, [rows] bool."""
    return [
        np.array([tuple(source[: len(task.prefix)].tolist()) == task.prefix for source in sources])
        for task in mixture.tasks
    ]


@pytest.mark.parametrize("shares", [(), (0.9, 0.1), (0.25, 0.75)])
def test_shares(shares):
    sources, _ = draw(dataclasses.replace(HALVES, shares=shares))
    observed_shares = [rows.mean() for rows in parts(HALVES, sources)]
    assert sum(observed_shares) == 1
    for observed, expected in zip(observed_shares, shares or (0.5, 0.5), strict=True):
        assert abs(observed - expected) < 5 * np.sqrt(expected * (1 - expected) / len(sources))


@pytest.mark.parametrize("mixture", [HALVES, EVERYTHING, Mixture(tasks=(HALVES, synthetic_tasks["sort"]))])
def test_every_example_belongs_to_the_task_of_its_prefix(mixture):
    sources, targets = draw(mixture, count=2_000)
    which = parts(mixture, sources)
    assert (np.sum(which, axis=0) == 1).all()
    for task, rows in zip(mixture.tasks, which, strict=True):
        assert rows.any()
        for source, target in list(zip(sources.take(rows), targets.take(rows), strict=True))[:20]:
            bare = Ragged.of([source[len(task.prefix) :]])
            assert task.solve(bare)[0].tolist() == target.tolist()
    solved = mixture.solve(sources)
    assert np.array_equal(solved.values, targets.values)
    assert np.array_equal(solved.offsets, targets.offsets)


def test_the_tasks_are_interleaved():
    sources, _ = draw(HALVES)
    set_rows = parts(HALVES, sources)[0]
    assert abs((set_rows[1:] != set_rows[:-1]).mean() - 0.5) < 0.05


def test_the_same_seed_gives_the_same_rows():
    for first, again in zip(draw(HALVES, seed=3), draw(HALVES, seed=3), strict=True):
        assert np.array_equal(first.values, again.values)
        assert np.array_equal(first.offsets, again.offsets)
    assert not np.array_equal(draw(HALVES, seed=3)[0].values, draw(HALVES, seed=4)[0].values)


def test_a_few_rows_may_lack_a_task():
    sources, targets = draw(EVERYTHING, count=2)
    assert len(sources) == len(targets) == 2


def test_marks_are_sentinels_of_the_vocabulary_that_no_task_draws():
    assert [task.prefix for task in HALVES.tasks] == [(32_095,), (32_094,)]
    tokens = token_space(num_pieces=412)
    small = Mixture(
        tasks=tuple(dataclasses.replace(task, tokens=tokens) for task in simple_tasks.values()), tokens=tokens
    )
    marks = [mark for task in small.tasks for mark in task.prefix]
    assert len(set(marks)) == 18
    assert tokens.last < min(marks) <= max(marks) < tokens.empty
    assert draw(small, count=500)[0].values.max() <= small.largest_id < 512


def test_explicit_prefixes_are_kept_and_not_assigned_twice():
    own = dataclasses.replace(IDENTITY, prefix=(32_095, 7))
    mixture = Mixture(tasks=(SET, own))
    assert [task.prefix for task in mixture.tasks] == [(32_094,), (32_095, 7)]
    assert all(rows.any() for rows in parts(mixture, draw(mixture)[0]))


def test_names_and_identity():
    assert name(Dataset(task=HALVES)).startswith("dataset/set_and_identity.seed0-")
    assert name(Dataset(task=EVERYTHING)).startswith("dataset/18_tasks.seed0-")
    assert Mixture(tasks=(SET, IDENTITY), shares=(0.5, 0.5)) == HALVES
    others = [
        dataclasses.replace(HALVES, shares=(0.9, 0.1)),
        dataclasses.replace(HALVES, tasks=(dataclasses.replace(SET, max_length=50), IDENTITY)),
        Mixture(tasks=(IDENTITY, SET)),
    ]
    assert len({fingerprint(Dataset(task=task)) for task in (HALVES, *others)}) == 4
    assert describe(HALVES)["tasks"][0]["revision"] == SET.revision


def test_tiny_and_readable():
    assert HALVES.tiny().tasks == tuple(task.tiny() for task in HALVES.tasks)
    lines = of_task(HALVES.tiny(), num_examples=8, seed=0).splitlines()
    assert {line.split(": ")[1].split()[0] for line in lines if line.startswith("Source")} == {"<set>", "<identity>"}


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (lambda: Mixture(tasks=(SET,)), "Mixture.tasks must be a tuple of at least two tasks, got (Set("),
        (lambda: Mixture(tasks=("set", "identity")), "Mixture.tasks must be SyntheticTask values, got 'set'"),
        (
            lambda: Mixture(tasks=tuple(dataclasses.replace(task, prefix=(9,)) for task in (SET, IDENTITY))),
            "Mixture.tasks must have prefixes of which none begins with another, got (9,) of set and (9,) of identity",
        ),
        (
            lambda: Mixture(
                tasks=(dataclasses.replace(SET, prefix=(9, 8)), dataclasses.replace(IDENTITY, prefix=(9,)))
            ),
            "Mixture.tasks must have prefixes of which none begins with another, got (9,) of identity and (9, 8)",
        ),
        (
            lambda: Mixture(tasks=(SET, IDENTITY), shares=(0.5, 0.6)),
            "Mixture.shares must be one probability for each of 2 tasks and add up to 1, got (0.5, 0.6)",
        ),
        (lambda: Mixture(tasks=(SET, IDENTITY), shares=(0.5, 0.3, 0.2)), "Mixture.shares must be one probability"),
        (lambda: Mixture(tasks=(SET, IDENTITY), shares=[0.7, 0.3]), "Mixture.shares must be one probability"),
        (lambda: Mixture(tasks=(SET, IDENTITY), shares=(1.0, 0.0)), "Mixture.shares must be one probability"),
        (
            lambda: Mixture(tasks=(SET, IDENTITY), tokens=token_space(num_pieces=40, num_sentinels=5)),
            "Mixture.tokens has too few ids between last (39) and empty (41) to tell 2 tasks apart; give the tasks a",
        ),
        (
            lambda: HALVES.solve(draw(SET, count=1)[0]),
            "Mixture: input 0 begins with no task's prefix",
        ),
    ],
)
def test_bad_input_is_one_line(build, line):
    with pytest.raises(InputError) as caught:
        build()
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_mixture_takes_the_token_space_of_its_tasks():
    tokens = token_space(num_pieces=412)
    tasks = tuple(dataclasses.replace(simple_tasks[task], tokens=tokens) for task in ("set", "identity"))
    assert Mixture(tasks=tasks) == Mixture(tasks=tasks, tokens=tokens)
    assert Mixture(tasks=tasks).largest_id < 512
