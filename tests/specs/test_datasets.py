"""Synthetic tasks of a user: undescribed fields and names that are taken are refused in one line."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from raysynth import Dataset, InputError, SyntheticTask, synthetic_tasks
from raysynth.specs.identity import fingerprint, name
from raysynth.synthetic.simple import UniformTask


def test_the_example_of_the_documentation_is_a_task():
    text = (Path(__file__).parents[2] / "docs/tasks.md").read_text()
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "class EverySecond" in block]
    scope = {"__name__": "docs"}
    exec(block, scope)
    task = scope["task"]
    sources, targets = task.draw(np.random.default_rng(0), 50)
    assert [row.tolist() for row in targets] == [row[::2].tolist() for row in sources]
    assert name(Dataset(task=task)).startswith("dataset/every_second.seed0-")
    longer = scope["EverySecond"](tokens=task.tokens, max_length=30)
    assert fingerprint(Dataset(task=longer)) != fingerprint(Dataset(task=task))


def test_fields_that_would_not_be_described_are_one_line():
    class Undecorated(SyntheticTask):
        name: ClassVar[str] = "undecorated"
        max_length: int = 20

    class Overridden(UniformTask):
        name: ClassVar[str] = "overridden"
        max_length = 20

    class Reannotated(UniformTask):
        name: ClassVar[str] = "reannotated"
        max_length: int = 20

    for task in (Undecorated, Overridden, Reannotated):
        with pytest.raises(InputError, match=rf"{task.__name__}\..* would not be part of the description") as caught:
            Dataset(task=task())
        assert "\n" not in str(caught.value)


def test_a_task_needs_a_name_of_its_own_that_no_other_task_has():
    @dataclass(frozen=True, kw_only=True)
    class Nameless(SyntheticTask):
        pass

    class Inherits(type(synthetic_tasks["set"])):
        pass

    class Taken(UniformTask):
        name: ClassVar[str] = "set"

    for task, line in (
        (Nameless, "there is none"),
        (Inherits, "it inherits 'set'"),
        (Taken, "no other task has, got 'set' of raysynth.synthetic.simple.Set"),
    ):
        with pytest.raises(InputError, match=line) as caught:
            Dataset(task=task())
        assert "\n" not in str(caught.value)


def test_every_task_of_the_package_passes():
    for task in synthetic_tasks.values():
        Dataset(task=task)
