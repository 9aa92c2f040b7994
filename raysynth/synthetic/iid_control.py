"""IID control: examples as long as those of a task, without anything to learn.

What remains of a benefit with this source is not due to the task. arXiv 2310.00771 introduced such a control.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from raysynth.fields import instance, spec
from raysynth.synthetic.base import SyntheticTask, check_task
from raysynth.synthetic.simple import Set
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Ids, Ragged
from raysynth.tokens.token_space import T5_TOKENS


@spec
class IIDControl(SyntheticTask):
    """Sources and targets of a task's lengths whose tokens are uniform in its pool and independent of each other.

    The lengths of an example's source and target are those of an example that `task` draws, so they may depend on each
    other. Every token is drawn anew, separators, sentinels and fixed answers included; the pool is `tokens`, which is
    that of `task` unless given. With few tokens and short inputs, equal inputs may have different targets; of these a
    data set keeps the first.
    """

    name: ClassVar[str] = "iid_control"

    task: SyntheticTask = Set()
    """The task whose lengths and tokens the examples have."""

    def __post_init__(self) -> None:
        instance(self, "task", SyntheticTask)
        check_task(self.task)
        if self.tokens == T5_TOKENS:
            object.__setattr__(self, "tokens", self.task.tokens)

    @property
    def tasks(self) -> tuple[SyntheticTask, ...]:
        """The task whose code takes part in a draw, as in a mixture."""
        return (self.task,)

    def tiny(self) -> "IIDControl":
        """The control of the tiny task."""
        return dataclasses.replace(self, task=self.task.tiny())

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Ragged, Ragged]:
        """`count` uniform sources and targets."""
        sources, targets = self.task.draw(rng, count)
        return self._uniform(rng, sources), self._uniform(rng, targets)

    def _uniform(self, rng: np.random.Generator, rows: Ragged) -> Ragged:
        """Rows of the same lengths with uniform tokens."""
        values = np.empty(len(rows.values), np.uint16)
        _fill_uniform(rng, values, self.tokens.first, self.tokens.size)
        return Ragged(values, rows.offsets)


@compiled
def _fill_uniform(rng: np.random.Generator, values: Ids, first: int, size: int) -> None:
    for place in range(len(values)):
        values[place] = first + int(rng.random() * size)
