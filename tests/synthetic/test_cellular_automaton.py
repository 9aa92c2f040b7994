"""Cellular automaton compared with a plain one in floating point, and the range of gzip ratios."""

import dataclasses
import gzip
import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest

from raysynth.data.show import of_task
from raysynth.errors import InputError
from raysynth.synthetic.cellular_automaton import CellularAutomaton
from raysynth.tokens.token_space import T5_TOKENS, token_space


def plain_rule(rng, states):
    """The kernels as real numbers, with the variances of LeCun's, and the first logits."""

    def normal(shape, cutoff):
        least, numbers = NormalDist().cdf(-cutoff), []
        while len(numbers) < math.prod(shape):
            bits = int(rng.random() * 2**52)
            for _ in range(4):
                share = least + (1 - 2 * least) * ((bits & 8191) + 0.5) / 8192
                numbers.append(NormalDist().inv_cdf(share))
                bits >>= 13
        return np.array(numbers[: math.prod(shape)]).reshape(shape)

    scale = 0.8796256610342398  # standard deviation of a normal number cut off at two of its own
    kernels = [normal(shape, 2) / scale for shape in ((3, 3, states, 4), (4, 16), (16, states))]
    for kernel, inputs in zip(kernels, (9 * states, 4, 16), strict=True):
        kernel /= math.sqrt(inputs)
    return kernels, normal((states,), math.inf)


def plain_logits(kernels, grid):
    """Logits of each cell's next state, [size, size, states]."""
    first, second, third = kernels
    perceived = sum(first[dy, dx][np.roll(grid, (1 - dy, 1 - dx), (0, 1))] for dy in range(3) for dx in range(3))
    return np.maximum(perceived @ second, 0) @ third


def grids(task, ids):
    """The grids of source and target, [grids, size, size]."""
    side = task.grid_size // 2
    rows = np.array(ids, int).reshape(-1, task.grid_length) - task.tokens.first
    assert (rows[:, 0] == task.num_states**4).all()
    assert (rows[:, -1] == task.num_states**4 + 1).all()
    digits = np.stack([rows[:, 1:-1] // task.num_states**place % task.num_states for place in (3, 2, 1, 0)], -1)
    patches = digits.reshape(-1, side, side, 2, 2)
    return patches.transpose(0, 1, 3, 2, 4).reshape(-1, 2 * side, 2 * side)


ANY = CellularAutomaton(min_ratio=0.0, max_ratio=10.0, num_grids=3)


@pytest.mark.parametrize(
    "task",
    [ANY, dataclasses.replace(ANY, temperature=0.05), dataclasses.replace(ANY.tiny(), num_states=3)],
    ids=["default", "warm", "tiny"],
)
def test_each_grid_follows_from_the_one_before_by_the_documented_rule(task):
    surprise = variance = 0.0
    for seed in range(30):
        kernels, _ = plain_rule(np.random.default_rng(seed), task.num_states)
        source, target = (rows[0].tolist() for rows in task.draw(np.random.default_rng(seed), 1))
        assert len(target) == task.grid_length
        assert len(source) == task.num_grids * task.grid_length
        drawn = grids(task, source + target)
        for grid, after in pairwise(drawn):
            scaled = plain_logits(kernels, grid) / task.temperature
            scaled -= scaled.max(-1, keepdims=True)
            # Kernels are rounded to 1 / 512 of their SD, which moves logits by up to about one part in a hundred.
            if task.temperature < 1e-3:
                assert np.take_along_axis(scaled, after[..., None], -1).min() * task.temperature > -0.02
                variance += (scaled.argmax(-1) != after).sum()
                surprise += after.size
                continue
            shares = np.exp(scaled) / np.exp(scaled).sum(-1, keepdims=True)
            entropy = -(shares * np.log(shares)).sum(-1)
            surprise += (-np.log(np.take_along_axis(shares, after[..., None], -1)[..., 0]) - entropy).sum()
            variance += ((shares * np.log(shares) ** 2).sum(-1) - entropy**2).sum()
    if task.temperature < 1e-3:
        assert variance < 0.02 * surprise
    else:
        assert abs(surprise) < 4 * math.sqrt(variance)


def test_the_first_grid_has_the_softmax_of_the_drawn_logits():
    task = dataclasses.replace(ANY, num_skipped=0, num_grids=1)
    statistic = 0.0
    for seed in range(40):
        _, logits = plain_rule(np.random.default_rng(seed), 10)
        first = grids(task, task.draw(np.random.default_rng(seed), 1)[0][0])[0]
        expected = np.exp(logits) / np.exp(logits).sum() * first.size
        statistic += ((np.bincount(first.reshape(-1), minlength=10) - expected) ** 2 / expected).sum()
    assert abs(statistic - 40 * 9) < 5 * math.sqrt(2 * 40 * 9)


@pytest.mark.parametrize(
    "fields", [{}, {"min_ratio": 0.3, "max_ratio": 0.4, "tokens": T5_TOKENS}], ids=["text", "code"]
)
def test_kept_examples_have_ratios_in_range(fields):
    task = CellularAutomaton(**fields)
    count = 10 if fields else 100
    sources, targets = task.draw(np.random.default_rng(7), count)
    assert set(sources.lengths) == {494}
    assert set(targets.lengths) == {38}
    ratios = []
    for source, target in zip(sources, targets, strict=True):
        content = np.concatenate([source, target]).astype("<u2").tobytes()
        ratios.append(len(gzip.compress(content, 9)) / len(content))
    assert task.min_ratio < min(ratios) <= max(ratios) < task.max_ratio
    every = dataclasses.replace(task, min_ratio=0.0, max_ratio=9.0).draw(np.random.default_rng(7), count)[1]
    kept = {tuple(row.tolist()) for row in targets}
    assert any(tuple(row.tolist()) not in kept for row in every)  # others were drawn and left out


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"grid_size": 5}, "CellularAutomaton.grid_size must be even, got 5"),
        ({"min_ratio": 1.0}, "CellularAutomaton.min_ratio must be below max_ratio (1.0), got 1.0"),
        (
            {"tokens": token_space(num_pieces=412)},
            "CellularAutomaton.tokens must have a pool of at least 10002 ids for 10 states, got 410",
        ),
    ],
)
def test_a_wrong_field_is_one_line(fields, message):
    with pytest.raises(InputError) as error:
        CellularAutomaton(**fields)
    assert str(error.value) == message


def test_a_range_without_rules_is_one_line():
    task = dataclasses.replace(CellularAutomaton().tiny(), max_ratio=0.01)
    with pytest.raises(InputError, match=r"^CellularAutomaton: none of \d+ rules has a gzip ratio between"):
        task.draw(np.random.default_rng(0), 10_001)


def test_examples_can_be_shown():
    lines = of_task(CellularAutomaton().tiny(), num_examples=1, seed=0).splitlines()
    assert lines[0].startswith("Source (18 tokens): [ ")
    assert lines[1].endswith(" ]")
    assert len(lines[1].split("[")[1].split()) == 5
