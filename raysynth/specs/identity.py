"""The identity of artifacts: what an artifact is, and never where or when it is made.

Building a description runs nothing and imports neither JAX nor Ray. Equal descriptions are one artifact: they share
one fingerprint, one directory and one result, whichever sweep needs it.
"""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Container, Iterable
from enum import Enum
from types import NoneType
from typing import Any

from raysynth.errors import InputError, brief
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.finetuning import Finetune
from raysynth.specs.pretraining import Pretrain, Pretrained
from raysynth.synthetic.base import SyntheticTask

Artifact = Dataset | TextDataset | Pretrain | Pretrained | Finetune
"""Anything that a store holds."""


def describe(value: Any) -> Any:
    """The description as JSON values, without the fields that have their default value.

    A new field with a default therefore leaves old fingerprints unchanged. If the meaning of a class changes, its
    `revision` must be raised. If `__post_init__` computes a field's default from other fields, the field's metadata
    names the value to omit ("left_out"). If a part of a field is only shown, such as the order of a task's metrics, the
    metadata has a function without it ("described"). Raises `InputError` for values that JSON cannot hold.
    """
    if type(value) in (str, int, bool, NoneType):  # most values; looked at first, because sweeps have many thousands
        return value
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        description: dict[str, Any] = {"is": value.name if isinstance(value, SyntheticTask) else type(value).__name__}
        revision = getattr(value, "revision", 1)
        if revision != 1:
            description["revision"] = revision
        for field, left_out, described in _fields(type(value)):
            current = getattr(value, field)
            if left_out is dataclasses.MISSING or current != left_out:
                description[field] = describe(current if described is None else described(current))
        return description
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 1 and 1.0 compare equal, so they need one JSON form
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise InputError(f"a description may hold finite numbers, text, tuples and descriptions, got {brief(value)}")


@functools.cache
def _fields(cls: type) -> list[tuple[str, Any, Callable[[Any], Any] | None]]:
    """The fields of a dataclass, each with the value at which its description leaves it out, or `MISSING`.

    Then comes the function that takes away what is only shown, or None.
    """
    return [
        (field.name, field.metadata.get("left_out", field.default), field.metadata.get("described"))
        for field in dataclasses.fields(cls)
    ]


def fingerprint(artifact: Artifact) -> str:
    """The first eight hex digits of the SHA-256 of the description."""
    return fingerprint_of(describe(artifact))


def fingerprint_of(description: Any) -> str:
    """The fingerprint of the artifact with that description, as `describe` returns it or a record holds it."""
    return hashlib.sha256(_to_json(description).encode()).hexdigest()[:8]


_to_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def name(artifact: Artifact) -> str:
    """The artifact's readable and unique path in a store, such as `finetune/mtop.lime.full.lr0.001.seed0-3fa9c1d2`.

    Raises `InputError` if that is too long for the name of a file.
    """
    # An artifact never changes, and a sweep asks for the names of thousands again and again. The name is kept with the
    # artifact, because a cache by value would take True for 1.
    kept: dict[str, str] = vars(artifact)
    if _NAME not in kept:
        kept[_NAME] = _name(artifact)
    return kept[_NAME]


_NAME = "_name"
"""The attribute of an artifact that keeps its name."""


def _name(artifact: Artifact) -> str:
    if len(artifact.label) > _MAX_LABEL_CHARACTERS:
        raise InputError(
            f"{type(artifact).__name__}: its name in a store must have at most {_MAX_LABEL_CHARACTERS} characters; "
            f"shorten the names of its task and sources, got {artifact.label}"
        )
    return f"{artifact.kind}/{artifact.label}-{fingerprint(artifact)}"


_MAX_LABEL_CHARACTERS = 180
"""File systems take 255 in all; the fingerprint and the endings of files beside a directory need some of them."""


def in_order(artifacts: Iterable[Artifact]) -> list[Artifact]:
    """The artifacts and all that they need, each once; inputs come before the artifacts that need them."""
    ordered: dict[Artifact, None] = {}

    def visit(artifact: Artifact) -> None:
        if artifact not in ordered:
            for needed in artifact.inputs():
                visit(needed)
            ordered[artifact] = None

    for artifact in artifacts:
        visit(artifact)
    return list(ordered)


def blockers(artifact: Artifact, failed: Container[Artifact]) -> list[Artifact]:
    """The failed artifacts that `artifact` needs, directly or indirectly."""
    return [needed for needed in in_order([artifact])[:-1] if needed in failed]
