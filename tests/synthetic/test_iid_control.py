"""IID control: the lengths of a task, and tokens that are uniform and independent."""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from raysynth import Dataset, InputError, Mixture, Ragged, SyntheticTask, synthetic_tasks, token_space
from raysynth.data.show import of_task
from raysynth.specs.identity import name
from raysynth.synthetic.contract import has_own_code
from raysynth.synthetic.iid_control import IIDControl

CONTROLLED = ["set", "delete", "longest_word", "dyck", "stack"]


@dataclass(frozen=True, kw_only=True)
class Own(SyntheticTask):
    name: ClassVar[str] = "own_of_iid_control"

    def draw(self, rng, count):
        rows = Ragged.of([[2, 3]] * count)
        return rows, rows


@pytest.mark.parametrize("task", CONTROLLED)
def test_lengths_are_those_of_the_task(task):
    task = synthetic_tasks[task]
    drawn = IIDControl(task=task).draw(np.random.default_rng(6), 300)
    for rows, expected in zip(drawn, task.draw(np.random.default_rng(6), 300), strict=True):
        assert rows.offsets.tolist() == expected.offsets.tolist()
        assert task.tokens.first <= rows.values.min() <= rows.values.max() <= task.tokens.last


def test_tokens_are_uniform_and_independent():
    task = dataclasses.replace(synthetic_tasks["identity"], tokens=token_space(num_pieces=14))
    control = IIDControl(task=task)
    assert control.tokens == task.tokens
    sources, targets = (rows.values.astype(int) - 2 for rows in control.draw(np.random.default_rng(0), 2_000))
    for first, second in ((sources[:-1], sources[1:]), (targets[:-1], targets[1:]), (sources, targets)):
        counts, expected = np.bincount(12 * first + second, minlength=144), len(first) / 144
        assert ((counts - expected) ** 2 / expected).sum() < 143 + 4 * math.sqrt(2 * 143)


def test_a_pool_of_its_own_wins():
    few = dataclasses.replace(IIDControl(), tokens=token_space(num_pieces=4))
    assert set(few.draw(np.random.default_rng(0), 20)[0].values.tolist()) == {2, 3}


def test_any_task_has_a_control_with_a_name_of_its_own():
    mixture = Mixture(tasks=(synthetic_tasks["set"], synthetic_tasks["sort"]))
    names = {name(Dataset(task=IIDControl(task=task))) for task in (mixture, *map(synthetic_tasks.get, CONTROLLED))}
    assert len(names) == 1 + len(CONTROLLED)
    assert has_own_code(IIDControl(task=Own()))
    assert not has_own_code(IIDControl())


def test_a_wrong_task_is_one_line():
    with pytest.raises(InputError, match=r"^IIDControl.task must be a SyntheticTask, got 'set'$"):
        IIDControl(task="set")
    with pytest.raises(InputError, match=r"^iid_control: an input does not determine its target"):
        IIDControl().solve(Ragged.of([[2]]))


def test_examples_can_be_shown():
    assert of_task(IIDControl().tiny(), num_examples=1, seed=0).startswith("Source (")
