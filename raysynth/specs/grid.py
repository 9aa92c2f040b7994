"""The points of a sweep's grid, each with its fine-tuning."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raysynth.errors import InputError
from raysynth.specs.finetuning import Finetune


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of a grid: the fields that name it and the fine-tuning it stands for."""

    fields: dict[str, Any]
    artifact: Finetune
    again: Callable[..., Finetune] = field(compare=False)
    """Makes the fine-tuning at other values of some axes, whether the grid has them or not."""


def called(
    trial: Callable[..., Finetune], values: dict[str, Any], size: Callable[[Finetune], Finetune], **others: Any
) -> Finetune:
    artifact = trial(**{**values, **others})
    if not isinstance(artifact, Finetune):
        raise InputError(f"{trial.__name__} must return a Finetune, got {artifact!r}")
    return size(artifact)


def named(axis: Iterable[Any] | Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """The points of an axis with their names."""
    return list(axis.items()) if isinstance(axis, Mapping) else [(label_of(value), value) for value in axis]


def kept_points(axis: Iterable[Any] | Mapping[str, Any], names: Sequence[Any]) -> dict[Any, Any]:
    """The points of those names."""
    return {name: value for name, value in named(axis) if name in names}


def label_of(value: Any) -> Any:
    return getattr(value, "name", value)
