"""The class that every synthetic task extends."""

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from raysynth.errors import InputError
from raysynth.fields import spec
from raysynth.tokens.token_space import T5_TOKENS, TokenSpace

if TYPE_CHECKING:
    from raysynth.tokens.ragged import Ragged


@spec
class SyntheticTask:
    """Examples that are made rather than collected (Appendices E and G); one subclass per task."""

    name: ClassVar[str]
    revision: ClassVar[int] = 1
    """Raised when the data that a seed gives change."""

    _owners: ClassVar[dict[str, type]] = {}
    """The class that first had each name."""

    tokens: TokenSpace = T5_TOKENS
    prefix: tuple[int, ...] = ()
    """Ids before every input. The paper's code wrote the task's name and <extra_id_0>; its appendix shows none."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if isinstance(vars(cls).get("name"), str):
            cls._owners.setdefault(cls.name, cls)

    @abstractmethod
    def sample(self, rng: Any, count: int) -> "Ragged":
        """`count` random inputs, without prefix and end of sequence; `rng` is a `numpy.random.Generator`."""

    def solve(self, sources: "Ragged") -> "Ragged":
        """The target of each input, without end of sequence; `InputError` where an input does not determine it."""
        raise InputError(f"{self.name}: an input does not determine its target; draw gives the two together")

    def draw(self, rng: Any, count: int) -> "tuple[Ragged, Ragged]":
        """`count` random (sources, targets), a function of the generator's state and `count` alone."""
        sources = self.sample(rng, count)
        return sources, self.solve(sources)

    def readable(self, source: Any, target: Any) -> tuple[str, str]:
        """One example, [length] ids each, as a person reads it."""
        return " ".join(map(str, source)), " ".join(map(str, target))

    def tiny(self) -> "SyntheticTask":
        """The same task with short inputs, for rehearsals."""
        return self

    @property
    def largest_id(self) -> int:
        """No id that the task writes is above this one."""
        return max(self.tokens.used)


def check_class(task: type[SyntheticTask]) -> None:
    """Raise `InputError` unless the class has a name of its own and all its fields are part of a description."""
    name = vars(task).get("name")
    if not isinstance(name, str | property):
        inherited = getattr(task, "name", None)
        raise InputError(
            f'{task.__name__}.name must be a text of the class\'s own, as in name: ClassVar[str] = "my_task"; '
            + (f"it inherits {inherited!r}" if isinstance(inherited, str) else "there is none")
        )
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
        if lost := sorted((own | (fields & vars(cls).keys())) - described):
            raise InputError(
                f"{cls.__name__}.{lost[0]} would not be part of the description: annotate every field and put "
                "@dataclass(frozen=True, kw_only=True) above the class"
            )
