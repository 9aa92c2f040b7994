"""The artifacts of a sweep and their identity: what an artifact is, never where or when it is made.

Building a description runs nothing and imports neither JAX nor Ray. Equal descriptions are the same artifact: they
have one fingerprint, one directory and one result, whichever sweep asks.
"""

import dataclasses
import hashlib
import json
from collections.abc import Container, Iterator
from enum import Enum
from typing import Any

from raysynth.errors import InputError
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.finetuning import Finetune
from raysynth.specs.pretraining import Pretrain, Pretrained
from raysynth.synthetic.base import SyntheticTask

Artifact = Dataset | TextDataset | Pretrain | Pretrained | Finetune


def describe(value: Any) -> Any:
    """The description as JSON values, with fields that hold their default left out.

    A default that `__post_init__` makes from other fields says in its metadata which value is "left_out".
    A new field with a default therefore leaves old fingerprints as they are; a change of meaning raises the class's
    `revision`.
    """
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        told: dict[str, Any] = {"is": value.name if isinstance(value, SyntheticTask) else type(value).__name__}
        if getattr(value, "revision", 1) != 1:
            told["revision"] = value.revision
        for entry in dataclasses.fields(value):
            current = getattr(value, entry.name)
            default = entry.metadata.get("left_out", entry.default)
            if default is dataclasses.MISSING or current != default:
                told[entry.name] = describe(current)
        return told
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 1 and 1.0 compare equal, so they must read the same
    if value is None or isinstance(value, str | int | float):
        return value
    raise InputError(f"a description may hold numbers, text, tuples and descriptions, got {value!r}")


def fingerprint(artifact: Artifact) -> str:
    """Eight hex digits of the description's SHA-256."""
    text = json.dumps(describe(artifact), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def name(artifact: Artifact) -> str:
    """The artifact's readable, unique path within a store, such as `finetune/mtop.lime.full.lr0.001.seed0-3fa9c1d2`."""
    return f"{artifact.kind}/{artifact.label}-{fingerprint(artifact)}"


def in_order(artifacts: "Iterator[Artifact] | list[Artifact]") -> list[Artifact]:
    """All artifacts and their inputs, each once, inputs before what needs them."""
    ordered: dict[Artifact, None] = {}

    def visit(artifact: Artifact) -> None:
        for needed in artifact.inputs():
            visit(needed)
        ordered.setdefault(artifact)

    for artifact in artifacts:
        visit(artifact)
    return list(ordered)


def blockers(artifact: Artifact, failed: Container[Artifact]) -> list[Artifact]:
    """Those of the failed artifacts that an artifact needs, directly or not."""
    return [needed for needed in in_order([artifact])[:-1] if needed in failed]
