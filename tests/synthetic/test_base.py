"""Tasks of one's own: which methods a subclass of `SyntheticTask` must define."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from raysynth import Dataset, InputError, Ragged, SyntheticTask


@dataclass(frozen=True, kw_only=True)
class NoDraw(SyntheticTask):
    name: ClassVar[str] = "no_draw"


@dataclass(frozen=True, kw_only=True)
class SolveOnly(SyntheticTask):
    name: ClassVar[str] = "solve_only"

    def solve(self, sources):
        return sources


@dataclass(frozen=True, kw_only=True)
class DrawOnly(SyntheticTask):
    name: ClassVar[str] = "draw_only"

    def draw(self, rng, count):
        rows = Ragged.of(rng.integers(2, 9, 4) for _ in range(count))
        return rows, rows


@dataclass(frozen=True, kw_only=True)
class SampleAndSolve(SyntheticTask):
    name: ClassVar[str] = "sample_and_solve"

    def sample(self, rng, count):
        return Ragged.of(rng.integers(2, 9, 4) for _ in range(count))

    def solve(self, sources):
        return sources


@dataclass(frozen=True, kw_only=True)
class Inherits(SampleAndSolve):
    name: ClassVar[str] = "inherits"


@pytest.mark.parametrize("kind", [NoDraw, SolveOnly])
@pytest.mark.parametrize(
    "use",
    [
        lambda task: Dataset(task=task),
        lambda task: task.draw(np.random.default_rng(0), 2),
        lambda task: task.sample(np.random.default_rng(0), 2),
    ],
    ids=["dataset", "draw", "sample"],
)
def test_a_task_with_neither_sample_nor_draw_is_one_line(kind, use):
    with pytest.raises(InputError) as error:
        use(kind())
    line = f"{kind.__name__} must define sample, which draws inputs, or draw, which draws inputs and their targets"
    assert str(error.value) == line


@pytest.mark.parametrize("kind", [DrawOnly, SampleAndSolve, Inherits])
def test_sample_and_solve_or_draw_make_a_task(kind):
    task = kind()
    assert Dataset(task=task).task == task
    sources, targets = task.draw(np.random.default_rng(0), 5)
    assert len(sources) == len(targets) == 5
