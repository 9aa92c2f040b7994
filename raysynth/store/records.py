"""What the store keeps of an artifact as typed values: records, failures and progress, each with one reader and writer.

On disk each is a JSON object whose keys are the fields; fields that are None are left out. Unknown and missing fields
are an `InputError` in one line.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from raysynth.errors import InputError

Metrics = Mapping[str, float]
"""Scores by the metric's name, each in [0, 1] but for the loss."""


class Outcome(StrEnum):
    """How an attempt at an artifact ended; failures on disk are FAILED or DIVERGED."""

    SUCCEEDED = "succeeded"
    PREEMPTED = "preempted"
    """Its host was lost. It starts again elsewhere from its last checkpoint, however often this happens."""
    FAILED = "failed"
    """It raised an exception. The next run tries it again."""
    DIVERGED = "diverged"
    """Its loss was not finite. That is its result, so it is not tried again."""
    BLOCKED = "blocked"
    """It never started, because something that it needs failed or diverged."""


@dataclass(frozen=True, kw_only=True)
class DataResult:
    """What a finished data set holds."""

    rows: Mapping[str, int]
    """Number of examples by split."""
    sha256: str
    """Over the checksums of all shards."""
    skipped_rows: int | None = None
    """Rows of text files that could not be read and were left out."""


@dataclass(frozen=True, kw_only=True)
class WeightsResult:
    """What a pre-training, a fine-tuning or an import produced; a function of the description alone."""

    selected_step: int
    params_sha256: str
    """Over the selected parameters, as `model.checkpoints.params_digest` computes it."""
    last_step: int | None = None
    validation: Metrics | None = None
    """At the selected step."""
    evaluations: Mapping[int, Metrics] | None = None
    """All validation metrics by step."""
    test: Metrics | None = None
    """Of a fine-tuning: the selected checkpoint's scores on the test split."""
    num_test: int | None = None
    """Test examples."""
    predictions_sha256: str | None = None
    """Of a fine-tuning: over the file `predictions.jsonl`."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the time of a training went, in seconds."""

    evaluation_seconds: float
    train_seconds: float
    test_seconds: float | None = None
    seconds_per_step: float | None = None
    """Without compilation; None for runs too short to tell."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where, when and with which versions an artifact was made; no part of its identity."""

    host: str
    platform: str
    python: str
    versions: Mapping[str, str]
    started: float
    """Seconds since the epoch."""
    seconds: float
    node: str | None = None
    """Ray's id of the host."""
    device: str | None = None
    """Such as `8 TPU v3`."""
    evaluation_seconds: float | None = None
    train_seconds: float | None = None
    test_seconds: float | None = None
    seconds_per_step: float | None = None
    """Without compilation; None for runs too short to tell."""
    imported_from: str | None = None
    format: str | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """The file whose presence says that an artifact is done."""

    artifact: str
    description: Mapping[str, Any]
    result: DataResult | WeightsResult
    provenance: Provenance

    @property
    def weights(self) -> WeightsResult:
        """The result of an artifact that has weights; raises `InputError` for a data set."""
        if not isinstance(self.result, WeightsResult):
            raise InputError(f"{self.artifact} is a data set and has no weights")
        return self.result

    @staticmethod
    def read(value: Any, place: str) -> "Record":
        """The record in a JSON value; errors name `place`."""
        fields = _checked(Record, value, place)
        result = fields["result"]
        kind: type[DataResult] | type[WeightsResult] = DataResult
        if not isinstance(result, dict) or "rows" not in result:
            kind = WeightsResult
        result = _checked(kind, result, f"{place}, result")
        if "evaluations" in result:
            result["evaluations"] = {int(step): metrics for step, metrics in result["evaluations"].items()}
        provenance = _checked(Provenance, fields["provenance"], f"{place}, provenance")
        return Record(**{**fields, "result": kind(**result), "provenance": Provenance(**provenance)})


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an artifact could not be made, the last time it was tried."""

    host: str
    pid: int
    time: float
    """Seconds since the epoch."""
    error: str
    """One line."""
    log: str
    """The traceback."""
    outcome: Outcome = Outcome.FAILED
    step: int | None = None
    """The last step that the store knows of."""

    @staticmethod
    def read(value: Any, place: str) -> "Failure":
        """The failure in a JSON value; errors name `place`."""
        fields = _checked(Failure, value, place)
        return Failure(**{**fields, "outcome": Outcome(fields.get("outcome", Outcome.FAILED))})


@dataclass(frozen=True, kw_only=True)
class Running:
    """How far an artifact is that is being made, or was when its run ended."""

    host: str
    pid: int
    time: float
    """Seconds since the epoch, when this was written."""
    step: int
    num_steps: int
    seconds_per_step: float | None = None

    @staticmethod
    def read(value: Any, place: str) -> "Running":
        """The progress in a JSON value; errors name `place`."""
        return Running(**_checked(Running, value, place))


Kept = TypeVar("Kept", Record, Failure, Running)


def as_json(value: Any) -> dict[str, Any]:
    """The JSON object of a record, failure or progress."""
    return {
        field.name: as_json(item) if dataclasses.is_dataclass(item) else _plain(item)
        for field in dataclasses.fields(value)
        if (item := getattr(value, field.name)) is not None
    }


def _plain(item: Any) -> Any:
    return {str(key): _plain(value) for key, value in item.items()} if isinstance(item, Mapping) else item


def _checked(kind: type, value: Any, place: str) -> dict[str, Any]:
    """The fields of a JSON object, without those that are null."""
    if not isinstance(value, dict):
        raise InputError(f"{place} must be a JSON object, got {json.dumps(value):.60}; delete it to have it made again")
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name in value:
        if name not in known:
            raise InputError(f"{place} has the unknown field {name!r}; known: {', '.join(known)}")
    fields = {name: item for name, item in value.items() if item is not None}
    for name, field in known.items():
        if name not in fields and field.default is dataclasses.MISSING:
            raise InputError(f"{place} lacks the field {name!r}; delete it to have it made again")
    return fields
