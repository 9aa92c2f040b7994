"""Mixture: several synthetic tasks in one data set; prefixes of their inputs tell them apart."""

import dataclasses
import itertools
import math

import numpy as np

from raysynth.errors import InputError
from raysynth.fields import spec
from raysynth.synthetic.base import SyntheticTask, check_task
from raysynth.tokens.ragged import Ids, Ints, Ragged
from raysynth.tokens.token_space import T5_TOKENS


@spec
class Mixture(SyntheticTask):
    """Each example comes from a task drawn from `tasks` with probabilities `shares`.

    An input must say which task it belongs to, because tasks such as Set and Identity take the same inputs: it begins
    with its task's `prefix`. A task without a prefix gets one id, the next free id below `tokens.empty`: <extra_id_4>,
    <extra_id_5> and so on in T5's vocabulary. Shares are those of the draws: dropping duplicates later removes more
    examples from tasks with few distinct inputs.
    """

    tasks: tuple[SyntheticTask, ...]
    """If all have the same token space, it becomes the mixture's `tokens`."""
    shares: tuple[float, ...] = ()
    """Probability of each task; if empty, all are equally likely."""

    def __post_init__(self) -> None:
        if not isinstance(self.tasks, tuple) or len(self.tasks) < 2:
            raise InputError(f"Mixture.tasks must be a tuple of at least two tasks, got {self.tasks!r:.80}")
        for task in self.tasks:
            if not isinstance(task, SyntheticTask):
                raise InputError(f"Mixture.tasks must be SyntheticTask values, got {task!r:.80}")
            check_task(task)
        spaces = {task.tokens for task in self.tasks}
        if self.tokens == T5_TOKENS and len(spaces) == 1:
            object.__setattr__(self, "tokens", *spaces)
        object.__setattr__(self, "tasks", self._with_prefixes())
        for first, second in itertools.permutations(self.tasks, 2):
            if second.prefix[: len(first.prefix)] == first.prefix:
                raise InputError(
                    f"Mixture.tasks must have prefixes of which none begins with another, got {first.prefix} of "
                    f"{first.name} and {second.prefix} of {second.name}"
                )
        if self.shares and (
            not isinstance(self.shares, tuple)
            or len(self.shares) != len(self.tasks)
            or not all(isinstance(share, float) and 0 < share < 1 for share in self.shares)
            or not math.isclose(sum(self.shares), 1)
        ):
            raise InputError(
                f"Mixture.shares must be one probability for each of {len(self.tasks)} tasks and add up to 1, "
                f"got {self.shares}"
            )
        if len(set(self.shares)) == 1:
            object.__setattr__(self, "shares", ())

    def _with_prefixes(self) -> tuple[SyntheticTask, ...]:
        """The tasks; each without a prefix gets one id that no other prefix begins with."""
        taken = {task.prefix[0] for task in self.tasks if task.prefix}
        free = (id for id in range(self.tokens.empty - 1, self.tokens.last, -1) if id not in taken)
        tasks = []
        for task in self.tasks:
            if not task.prefix:
                id = next(free, None)
                if id is None:
                    raise InputError(
                        f"Mixture.tokens has too few ids between last ({self.tokens.last}) and empty "
                        f"({self.tokens.empty}) to tell {len(self.tasks)} tasks apart; give the tasks a prefix"
                    )
                task = dataclasses.replace(task, prefix=(id,))
            tasks.append(task)
        return tuple(tasks)

    @property
    def name(self) -> str:  # type: ignore[override]  # a name of the class elsewhere, here one of its value
        """The names of up to three tasks, or else the number of tasks."""
        return "_and_".join(task.name for task in self.tasks) if len(self.tasks) <= 3 else f"{len(self.tasks)}_tasks"

    @property
    def largest_id(self) -> int:
        return max(id for task in self.tasks for id in (task.largest_id, *task.prefix))

    def tiny(self) -> "Mixture":
        """The same mixture of tiny tasks."""
        return dataclasses.replace(self, tasks=tuple(task.tiny() for task in self.tasks))

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """The inputs of `draw`."""
        return self.draw(rng, count)[0]

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Ragged, Ragged]:
        """`count` sources, with the prefixes of their tasks, and targets; the tasks draw one after another."""
        shares = self.shares or (1 / len(self.tasks),) * len(self.tasks)
        # Rounding may leave the sum of the shares slightly below 1.
        which = np.minimum(np.searchsorted(np.cumsum(shares), rng.random(count), side="right"), len(shares) - 1)
        parts = []
        for index, task in enumerate(self.tasks):
            sources, targets = task.draw(rng, int((which == index).sum()))
            parts.append((_prefixed(task.prefix, sources), targets))
        return (
            _interleaved(which, [sources for sources, _ in parts]),
            _interleaved(which, [targets for _, targets in parts]),
        )

    def solve(self, sources: Ragged) -> Ragged:
        """The target of each input, from the task whose prefix the input begins with."""
        which = np.array([self._task_of(row, source) for row, source in enumerate(sources)], np.int64)
        return _interleaved(
            which,
            [task.solve(_stripped(task, sources.take(which == index))) for index, task in enumerate(self.tasks)],
        )

    def readable(self, source: Ids, target: Ids) -> tuple[str, str]:
        """The task's name and the example as that task writes it."""
        task = self.tasks[self._task_of(0, source)]
        source_text, target_text = task.readable(source[len(task.prefix) :], target)
        return f"<{task.name}> {source_text}", target_text

    def _task_of(self, row: int, source: Ids) -> int:
        """Index of the task whose prefix an input begins with; `row` is for the error message."""
        for index, task in enumerate(self.tasks):
            if tuple(source[: len(task.prefix)].tolist()) == task.prefix:
                return index
        raise InputError(f"Mixture: input {row} begins with no task's prefix")


def _prefixed(prefix: tuple[int, ...], rows: Ragged) -> Ragged:
    """Put the prefix before each row."""
    starts = np.repeat(rows.offsets[:-1], len(prefix))
    values = np.insert(rows.values, starts, np.tile(np.array(prefix, np.uint16), len(rows)))
    return Ragged.packed(values, rows.lengths + len(prefix))


def _stripped(task: SyntheticTask, rows: Ragged) -> Ragged:
    """Remove the task's prefix from each row."""
    return Ragged.packed(rows.values[rows.position >= len(task.prefix)], rows.lengths - len(task.prefix))


def _interleaved(which: Ints, parts: list[Ragged]) -> Ragged:
    """Merge the parts: row i is the next unused row of `parts[which[i]]`, where `which` is [rows] int64."""
    rows = np.empty(len(which), np.int64)
    rows[np.argsort(which, kind="stable")] = np.arange(len(which))
    return Ragged.chained(parts).take(rows)
