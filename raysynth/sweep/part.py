"""A part of a sweep and a quick trial of it: which cells are used, and which fields of their descriptions are replaced.

The replaced fields are part of the artifacts' descriptions, as if the sweep file said so.
"""

import dataclasses
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from raysynth.errors import InputError, brief, printable, unknown
from raysynth.fields import has_field, replaced
from raysynth.specs.grid import Cell, label_text

Only = Mapping[str, str]
"""By axis, the text of one label, or several with commas between them."""
Changes = Mapping[str, str]
"""By dotted path of a field, such as `task.num_steps`, the text of its new value."""


def pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """The texts NAME=VALUE of an option by name; raises `InputError` for other texts and a name that comes twice."""
    read: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name.strip() or not equals:
            raise InputError(f"{option} takes NAME=VALUE, got {brief(text)}")
        if name in read:
            raise InputError(f"{option} has {name} twice: {brief(read[name])} and {brief(value)}")
        read[name] = value
    return read


def select(cells: Sequence[Cell], only: Only) -> list[Cell]:
    """The cells with these labels; raises `InputError` for axes and labels that the grid lacks, and if none is left."""
    labels: dict[str, list[str]] = {}
    for cell in cells:
        for axis, label in cell.fields.items():
            labels.setdefault(axis, []).append(label_text(label))
    wanted = {}
    for axis, text in only.items():
        if axis not in labels:
            raise unknown("axis of the sweep", axis, labels)
        wanted[axis] = set(_labels(text, dict.fromkeys(labels[axis]), axis))
    kept = [
        cell
        for cell in cells
        if all(axis in cell.fields and label_text(cell.fields[axis]) in wanted[axis] for axis in wanted)
    ]
    if not kept:
        raise InputError(f"no cell of the sweep has {as_text(only)}")
    return kept


def _labels(text: str, known: Collection[str], axis: str) -> Iterator[str]:
    """The labels that a text lists with commas between them; of labels that hold commas, the longest that fit."""
    parts, most = text.split(","), 1 + max(label.count(",") for label in known)
    while parts:
        for size in range(most, 0, -1):
            if (label := _label(",".join(parts[:size]), known)) is not None:
                break
        else:
            raise unknown(f"value of {axis}", parts[0], known)
        yield label
        parts = parts[size:]


def _label(text: str, known: Collection[str]) -> str | None:
    """The label that a text means, which may differ from it in capital letters; None if not one does."""
    if text in known:
        return text
    alike = [label for label in known if label.casefold() == text.casefold()]
    return alike[0] if len(alike) == 1 else None


def change(cells: Sequence[Cell], changes: Changes) -> list[Cell]:
    """The cells with fine-tunings in which these fields are replaced; one that lacks a field keeps the others.

    A line on standard error says how many lack a field. Raises `InputError` for a field that none has, for values that
    do not fit, and if different fine-tunings become equal.
    """
    if not changes:
        return list(cells)
    for path in changes:
        num_without = sum(not has_field(cell.artifact, path) for cell in cells)
        if num_without == len(cells):
            replaced(cells[0].artifact, {path: changes[path]})  # says which part of the path is unknown
        if num_without:
            line = f"--set {path}: {num_without} of {len(cells)} fine-tunings have no such field and stay as they are"
            print(printable(line), file=sys.stderr)
    changed = [_changed(cell, changes) for cell in cells]
    first: dict[Any, Cell] = {}
    for before, after in zip(cells, changed, strict=True):
        other = first.setdefault(after.artifact, before)
        if other.artifact != before.artifact:
            raise InputError(
                f"--set {as_text(changes)} makes two fine-tunings equal: {as_text(other.fields)} and "
                f"{as_text(before.fields)}; choose one with --only"
            )
    return changed


def _changed(cell: Cell, changes: Changes) -> Cell:
    def again(**others: Any) -> Any:
        artifact = cell.again(**others)
        return replaced(artifact, {path: text for path, text in changes.items() if has_field(artifact, path)})

    try:
        return dataclasses.replace(cell, artifact=again(), again=again)
    except InputError as error:
        raise InputError(f"{error}, with --set {as_text(changes)} in the cell {as_text(cell.fields)}") from None


def as_text(values: Mapping[str, Any]) -> str:
    """Names and values in one line, as on a command line."""
    return " ".join(f"{name}={label_text(value):.80}" for name, value in values.items())
