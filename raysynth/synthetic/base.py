"""The class that every synthetic task extends."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np

from raysynth.errors import InputError, shorten_uncaught_errors
from raysynth.fields import check_name, spec
from raysynth.tokens.ragged import Ids, Ragged
from raysynth.tokens.token_space import EOS, LARGEST_ID, T5_TOKENS, TokenSpace


@spec
class SyntheticTask:
    """Generated examples (Appendices E and G); one subclass per task.

    A subclass defines `sample` and `solve`, or `draw` if it makes inputs and targets together.
    """

    name: ClassVar[str]
    revision: ClassVar[int] = 1
    """Raise it when the same seed gives different data."""

    _owners: ClassVar[dict[str, type]] = {}
    """The class that first took each name."""

    tokens: TokenSpace = T5_TOKENS
    prefix: tuple[int, ...] = ()
    """Ids before every input. The paper's code wrote the task's name and <extra_id_0>; its appendix shows none."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.__module__.startswith("raysynth."):
            shorten_uncaught_errors()  # the decorator above the class may be wrong
        if isinstance(vars(cls).get("name"), str):
            cls._owners.setdefault(cls.name, cls)

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """`count` random inputs, without prefix and end of sequence."""
        raise InputError(_no_sample(type(self)))

    def solve(self, sources: Ragged) -> Ragged:
        """The target of each input, without end of sequence.

        Raises `InputError` if an input does not determine its target.
        """
        raise InputError(f"{self.name}: an input does not determine its target; draw gives the two together")

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Ragged, Ragged]:
        """`count` random sources and their targets, without prefix and end of sequence.

        They depend on nothing but the generator's state and `count`.
        """
        sources = self.sample(rng, count)
        return sources, self.solve(sources)

    def readable(self, source: Ids, target: Ids) -> tuple[str, str]:
        """The source and target of one example, [length] ids each, as text for people."""
        return " ".join(map(str, source)), " ".join(map(str, target))

    def tiny(self) -> "SyntheticTask":
        """The same task with short inputs, for rehearsals."""
        return self

    @property
    def largest_id(self) -> int:
        """An upper bound of the ids that the task writes."""
        return max(self.tokens.used)


def _no_sample(task: type[SyntheticTask]) -> str:
    return f"{task.__name__} must define sample, which draws inputs, or draw, which draws inputs and their targets"


@functools.cache  # as often as there are data sets
def check_class(task: type[SyntheticTask]) -> None:
    """Raise `InputError` unless a class can serve as the task of a data set.

    It needs a name of its own, every field must be part of its description, and it must define `sample` or `draw`.
    """
    name = vars(task).get("name")
    if not isinstance(name, str | property):
        inherited = getattr(task, "name", None)
        raise InputError(
            f'{task.__name__}.name must be defined in the class itself, as in name: ClassVar[str] = "my_task"; '
            + (f"it inherits {inherited!r}" if isinstance(inherited, str) else "there is none")
        )
    if isinstance(name, str):
        check_name(f"{task.__name__}.name", name)
    owner = SyntheticTask._owners.get(name, task) if isinstance(name, str) else task
    if (owner.__module__, owner.__qualname__) != (task.__module__, task.__qualname__):
        raise InputError(
            f"{task.__name__}.name must be one that no other task has, got {name!r} of "
            f"{owner.__module__}.{owner.__qualname__}"
        )
    fields = {field.name for field in dataclasses.fields(task)}
    for cls in task.__mro__[: task.__mro__.index(SyntheticTask)]:
        own = {field for field, kind in vars(cls).get("__annotations__", {}).items() if "ClassVar" not in str(kind)}
        described = own if "__dataclass_fields__" in vars(cls) else set()
        if missing := sorted((own | (fields & vars(cls).keys())) - described):
            raise InputError(
                f"{cls.__name__}.{missing[0]} would not be part of the description: annotate every field and put "
                "@dataclass(frozen=True, kw_only=True) above the class"
            )
    if task.sample is SyntheticTask.sample and task.draw is SyntheticTask.draw:
        raise InputError(_no_sample(task))


def check_task(task: SyntheticTask) -> None:
    """Raise `InputError` unless a task can make a data set: its class, its fields and its prefix are checked."""
    kind = type(task)
    check_class(kind)  # type: ignore[arg-type]  # mypy does not see that classes have a hash
    check_name(f"{kind.__name__}.name", task.name)
    if not isinstance(task.tokens, TokenSpace):
        raise InputError(f"{kind.__name__}.tokens must be a TokenSpace, got {task.tokens!r:.80}")
    check_prefix(task)
    for field in dataclasses.fields(task):
        value = getattr(task, field.name, None)
        try:
            hash(value)
            is_hashable = True
        except TypeError:
            is_hashable = False
        if not is_hashable or isinstance(value, type):
            raise InputError(
                f"{kind.__name__}.{field.name} must be a number, text, a tuple or a frozen dataclass, got "
                f"{type(value).__name__} {value!r:.60}"
            )
        if value != value:
            raise InputError(f"{kind.__name__}.{field.name} must equal itself, got {value!r:.60}")


def check_prefix(task: SyntheticTask) -> None:
    """Raise `InputError` unless a task's prefix is a tuple of ids that an input may have."""
    prefix = task.prefix
    if not isinstance(prefix, tuple):
        raise InputError(f"{type(task).__name__}.prefix must be a tuple of ids, got {prefix!r:.80}")
    for id in prefix:
        if isinstance(id, bool) or not isinstance(id, int) or not EOS < id <= LARGEST_ID:
            raise InputError(
                f"{type(task).__name__}.prefix must have whole numbers from {EOS + 1} to {LARGEST_ID}, got {id!r:.60}"
            )
