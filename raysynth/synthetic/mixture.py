"""Mixture: several synthetic tasks in one data set, told apart by how their inputs begin."""

import dataclasses
import itertools
import math

import numpy as np

from raysynth.errors import InputError
from raysynth.fields import spec
from raysynth.synthetic.base import SyntheticTask
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import T5_TOKENS


@spec
class Mixture(SyntheticTask):
    """Each example comes from one of several tasks, drawn with the tasks' shares.

    Set and Identity take the same inputs, so an input must say which task it belongs to: it begins with its task's
    `prefix`. A task without one gets one id, the next free below `tokens.empty`: <extra_id_4>, <extra_id_5> and so on
    of T5's vocabulary. Shares are those of the draws; dropping duplicates takes more from tasks with few inputs.
    """

    tasks: tuple[SyntheticTask, ...]
    """`tokens` become theirs where they have one token space."""
    shares: tuple[float, ...] = ()
    """Probability of each task; equal ones where empty."""

    def __post_init__(self) -> None:
        if not isinstance(self.tasks, tuple) or len(self.tasks) < 2:
            raise InputError(f"Mixture.tasks must be a tuple of at least two tasks, got {self.tasks!r:.80}")
        for task in self.tasks:
            if not isinstance(task, SyntheticTask):
                raise InputError(f"Mixture.tasks must be SyntheticTask values, got {task!r:.80}")
        spaces = {task.tokens for task in self.tasks}
        if self.tokens == T5_TOKENS and len(spaces) == 1:
            object.__setattr__(self, "tokens", *spaces)
        object.__setattr__(self, "tasks", self._with_prefixes())
        for one, other in itertools.permutations(self.tasks, 2):
            if other.prefix[: len(one.prefix)] == one.prefix:
                raise InputError(
                    f"Mixture.tasks must have prefixes of which none begins with another, got {one.prefix} of "
                    f"{one.name} and {other.prefix} of {other.name}"
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
        """The tasks, those without a prefix with one id each that no other prefix begins with."""
        taken = {task.prefix[0] for task in self.tasks if task.prefix}
        free = (id for id in range(self.tokens.empty - 1, self.tokens.last, -1) if id not in taken)
        told = []
        for task in self.tasks:
            if not task.prefix:
                mark = next(free, None)
                if mark is None:
                    raise InputError(
                        f"Mixture.tokens has too few ids between last ({self.tokens.last}) and empty "
                        f"({self.tokens.empty}) to tell {len(self.tasks)} tasks apart; give the tasks a prefix"
                    )
                task = dataclasses.replace(task, prefix=(mark,))
            told.append(task)
        return tuple(told)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The tasks' names where there are few."""
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
        """`count` (sources, targets), sources with their task's prefix; tasks draw one after another."""
        shares = self.shares or (1 / len(self.tasks),) * len(self.tasks)
        # The sum of the shares may be a little below 1.
        which = np.minimum(np.searchsorted(np.cumsum(shares), rng.random(count), side="right"), len(shares) - 1)
        parts = []
        for number, task in enumerate(self.tasks):
            sources, targets = task.draw(rng, int((which == number).sum()))
            parts.append((_prefixed(task.prefix, sources), targets))
        return _in_turn(which, [sources for sources, _ in parts]), _in_turn(which, [targets for _, targets in parts])

    def solve(self, sources: Ragged) -> Ragged:
        """The target of each input by the task whose prefix it begins with."""
        which = np.array([self._task_of(row, source) for row, source in enumerate(sources)], np.int64)
        return _in_turn(
            which,
            [task.solve(_stripped(task, sources.take(which == number))) for number, task in enumerate(self.tasks)],
        )

    def readable(self, source: np.ndarray, target: np.ndarray) -> tuple[str, str]:
        """The task's name, then the example as that task tells it."""
        task = self.tasks[self._task_of(0, source)]
        told_source, told_target = task.readable(source[len(task.prefix) :], target)
        return f"<{task.name}> {told_source}", told_target

    def _task_of(self, row: int, source: np.ndarray) -> int:
        for number, task in enumerate(self.tasks):
            if tuple(source[: len(task.prefix)].tolist()) == task.prefix:
                return number
        raise InputError(f"Mixture: input {row} begins with no task's prefix")


def _prefixed(prefix: tuple[int, ...], rows: Ragged) -> Ragged:
    """The rows with the prefix before each."""
    places = np.repeat(rows.offsets[:-1], len(prefix))
    values = np.insert(rows.values, places, np.tile(np.array(prefix, np.uint16), len(rows)))
    return Ragged.packed(values, rows.lengths + len(prefix))


def _stripped(task: SyntheticTask, rows: Ragged) -> Ragged:
    """The rows without the task's prefix."""
    return Ragged.packed(rows.values[rows.position >= len(task.prefix)], rows.lengths - len(task.prefix))


def _in_turn(which: np.ndarray, parts: list[Ragged]) -> Ragged:
    """Row i is the next one of part which[i], [rows] int64."""
    places = np.empty(len(which), np.int64)
    places[np.argsort(which, kind="stable")] = np.arange(len(which))
    return Ragged.chained(parts).take(places)
