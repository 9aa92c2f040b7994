"""Grids of fine-tunings: axes, their labelled points, and the cells that the points span.

An axis is a mapping from labels to values, or a list of values that label themselves. A function of the axes, the
trial, makes the fine-tuning of each cell from its values; tables name the cell by its labels.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from raysynth.errors import InputError, brief, printable
from raysynth.specs.finetuning import Finetune

Axis = Iterable[Any] | Mapping[Any, Any]
"""The values of one argument of a trial, or a mapping from labels to them."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A point of a grid: its label on each axis and its fine-tuning."""

    fields: dict[str, Any]
    """The cell's label on each axis, by the axis's name."""
    artifact: Finetune
    again: Callable[..., Finetune] = field(compare=False)
    """Makes the fine-tuning with other values on some axes, given by keyword; the grid need not have them."""

    @property
    def key(self) -> frozenset[tuple[str, Hashable]]:
        """The fields in hashable form: equal for cells with equal fields. A label without a hash has its `repr`."""
        return frozenset((axis, hashable(label)) for axis, label in self.fields.items())


def hashable(label: Any) -> Hashable:
    """The label, or its `repr` if it has no hash; raises `InputError` if that fails too."""
    try:
        hash(label)
    except TypeError:  # a list, say
        try:
            return repr(label)
        except Exception:  # of the user's own class
            raise InputError(f"{brief(label)} cannot be a label: it has neither a hash nor a repr") from None
    return label  # type: ignore[no-any-return]  # it has a hash


def finetuning_at(
    trial: Callable[..., Finetune], values: Mapping[str, Any], size: Callable[[Finetune], Finetune], **others: Any
) -> Finetune:
    """Call `trial` with `values`, of which `others` replace some, and pass its fine-tuning through `size`.

    Raises `InputError` if the trial returns no `Finetune`.
    """
    artifact = trial(**{**values, **others})
    if not isinstance(artifact, Finetune):
        raise InputError(f"{trial_name(trial)} must return a Finetune, got {brief(artifact)}")
    return size(artifact)


def label_text(label: Any) -> str:
    """A label as one line of text."""
    try:
        return printable(str(label))
    except Exception:  # of the user's own class, or for a number of more than 4,300 digits
        return brief(label)


def trial_name(trial: Callable[..., Finetune]) -> str:
    """What messages call a trial."""
    return str(getattr(trial, "__name__", brief(trial)))


def labelled_points(axis: Axis) -> list[tuple[Any, Any]]:
    """The points of an axis as pairs of label and value. A listed value's label is its `name`, or else itself."""
    if isinstance(axis, Mapping):
        return list(axis.items())
    return [(getattr(value, "name", value), value) for value in axis]


def select_points(axis: Axis, labels: Iterable[Any]) -> dict[Any, Any]:
    """The values of the points with the given labels, by label, in the order of the axis."""
    selected = set(map(hashable, labels))
    return {label: value for label, value in labelled_points(axis) if hashable(label) in selected}
