"""The artifacts of a sweep and their identity: what an artifact is, never where or when it is made.

Building a description runs nothing and imports neither JAX nor Ray. Equal descriptions are the same artifact: they
have one fingerprint, one directory and one result, whichever sweep asks.
"""

import dataclasses
import hashlib
import json
from collections.abc import Container, Iterator
from enum import Enum
from typing import Any, ClassVar

from raysynth.datasets import Dataset, SyntheticTask, TextDataset
from raysynth.errors import InputError, unknown
from raysynth.recipes import Constant, Recipe, Schedule, T5Config
from raysynth.schemes import (
    ComposedInit,
    ConstantInit,
    FullInit,
    InitScheme,
    Pretrain,
    Pretrained,
    RandomInit,
    StatisticInit,
)
from raysynth.spec import instance, positive, spec, whole

METRICS = (
    "token_accuracy",
    "exact_match",
    "token_f1",
    "squad_exact_match",
    "squad_f1",
    "rouge1",
    "canonical_smiles_match",
)
"""Metrics of a downstream task; `token_accuracy` is teacher-forced, the others score decoded text."""


@spec
class DownstreamTask(Recipe):
    """A downstream task with its recipe: data, lengths, steps, metrics and selection rule (Appendices B and D)."""

    name: str
    data: TextDataset
    learning_rate: float
    """Constant during fine-tuning (Appendix B)."""
    decode_length: int
    metrics: tuple[str, ...] = ("exact_match", "token_accuracy")
    """Of the selected checkpoint on the test split; the first one heads the tables."""
    num_beams: int = 4
    """Beams of the search that decodes for evaluation, as in the paper's fine-tuning configuration; 1 is greedy."""
    length_penalty: float = 0.6
    """The exponent alpha that a finished beam's score is normalized with: T5X's default, which the paper kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        instance(self, "data", TextDataset)
        positive(self, "learning_rate")
        whole(self, "decode_length", minimum=2)
        whole(self, "num_beams")
        for metric in self.metrics:
            if metric not in METRICS:
                raise unknown("metric", metric, METRICS)

    @property
    def selectable(self) -> tuple[str, ...]:
        """The metrics that a selection rule may go by; those of decoded text have the validation split decoded."""
        return ("token_accuracy", *(metric for metric in self.metrics if metric != "token_accuracy"))

    @property
    def schedule(self) -> Schedule:
        return Constant(self.learning_rate)


@spec
class Finetune:
    """Artifact: a model initialized by a scheme and trained on a downstream task, with its test metrics."""

    task: DownstreamTask
    init: InitScheme
    seed: int = 0
    """Draws the random initial parameters, the scheme's draws, the order of examples and dropout."""

    kind: ClassVar[str] = "finetune"

    def __post_init__(self) -> None:
        instance(self, "task", DownstreamTask)
        instance(self, "init", RandomInit, FullInit, StatisticInit, ConstantInit, ComposedInit)
        whole(self, "seed", minimum=0)
        vocabulary = self.task.data.vocabulary
        size = vocabulary.size
        if size > self.model.vocab_size:
            raise InputError(
                f"vocab_size must be at least that of the task's vocabulary ({size}), got {self.model.vocab_size}"
            )

    @property
    def model(self) -> T5Config:
        return self.init.model

    @property
    def label(self) -> str:
        sources = "".join(f"{source.source_name}." for source in self.init.sources)
        return f"{self.task.name}.{sources}{self.init.name}.lr{self.task.learning_rate:g}.seed{self.seed}"

    def inputs(self) -> "tuple[Artifact, ...]":
        return (self.task.data, *self.init.sources)


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
