"""What the store keeps of an artifact as typed values: records, failures and progress, each with one reader and writer.

On disk each is a JSON object whose keys are the fields; fields that are None are left out. Unknown and missing fields,
and values of another type, are an `InputError` in one line.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from raysynth.errors import InputError
from raysynth.store.typed import read_object

Metrics = Mapping[str, float]
"""Scores by the metric's name, each in [0, 1] but for the loss."""


class Outcome(StrEnum):
    """How an attempt at an artifact ended; failures on disk are FAILED or DIVERGED."""

    SUCCEEDED = "succeeded"
    PREEMPTED = "preempted"
    """Its host was lost. It starts again elsewhere from its last checkpoint, up to `--max-preemptions` times."""
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
    """Over the whole manifest: splits, rows, checksums of all files, prefix and vocabulary."""
    skipped_rows: int | None = None
    """Rows of text files that could not be read and were left out."""
    sources_sha256: str | None = None
    """Of a text data set: over the rows or documents that were read."""


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
    """All validation metrics by step; those of step 0, before training, are never selected."""
    test: Metrics | None = None
    """Of a fine-tuning: the selected checkpoint's scores on the test split."""
    num_test: int | None = None
    """Test examples."""
    kept_params_sha256: Mapping[int, str] | None = None
    """Of a pre-training with `keep_steps`: over the parameters of each of them, by step."""
    predictions_sha256: str | None = None
    """Of a fine-tuning: over the file `predictions.jsonl`."""

    @property
    def digests(self) -> Mapping[int, str]:
        """Over the parameters of each step whose checkpoint the artifact has: the selected one and those kept."""
        return {**(self.kept_params_sha256 or {}), self.selected_step: self.params_sha256}


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
    backend: str | None = None
    """What JAX says of the device's driver and compiler."""
    processor: str | None = None
    """The CPU's model, and its instruction sets for arithmetic."""
    threads: int | None = None
    """With which XLA computes on a CPU; None means one per processor."""
    variables: Mapping[str, str] | None = None
    """Environment variables that choose devices and their programs."""
    commit: str | None = None
    """The last Git commit of the code, if it ran from a checkout; ends with "-dirty" if it was changed since."""
    sweep_commit: str | None = None
    """The Git commit of the repository of the sweep file that ran, with "-dirty" as above."""
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
        result = value.get("result") if isinstance(value, dict) else None
        if not isinstance(result, dict):
            return read_object(Record, value, place)
        # An error should name the fields of the right kind.
        read = read_object(DataResult if "rows" in result else WeightsResult, result, f"{place}, result")
        return read_object(Record, value, place, result=read)


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
        failure = read_object(Failure, value, place)
        if failure.outcome not in (Outcome.FAILED, Outcome.DIVERGED):
            raise InputError(f"{place} is damaged: its outcome must be failed or diverged, got {failure.outcome}")
        return failure


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A sign of life of one process, which says enough to tell it from all others."""

    host: str
    pid: int
    machine: str
    """The machine since it started, and the namespace of process ids there."""
    birth: str
    """When the process started; two processes with the same number differ in it."""
    time: float
    """Seconds since the epoch by the clock of the host, when this was written."""

    @staticmethod
    def read(value: Any, place: str) -> "Mark":
        """The mark in a JSON value; errors name `place`."""
        return read_object(Mark, value, place)


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """The hosts of a run's trials, as Ray told the run."""

    up: int
    """Hosts on which a trial fits."""
    starting: int
    """Hosts that the cluster launcher has asked for and that are not up yet."""
    running: int
    """Trials that have a host."""
    waiting: tuple[str, ...] = ()
    """The names of the artifacts whose trials wait for a host."""
    error: str | None = None
    """Why the launcher could not start a host, the last time, in one line."""

    def text(self) -> str:
        """How many hosts there are, and the launcher's last error, in one line."""
        plural = "" if self.up == 1 else "s"
        counts = f"{self.up} host{plural} up, {self.starting} starting, {self.running} running a training"
        return f"{counts}; the launcher's last error: {self.error}" if self.error else counts


@dataclass(frozen=True, kw_only=True)
class RunMark(Mark):
    """The sign of life of a run, with what it waits for."""

    started: float | None = None
    """Seconds since the epoch."""
    hosts: Hosts | None = None
    """None for a run that trains nothing now, or without Ray."""

    @staticmethod
    def read(value: Any, place: str) -> "RunMark":
        """The mark in a JSON value; errors name `place`."""
        return read_object(RunMark, value, place)


@dataclass(frozen=True, kw_only=True)
class Running(Mark):
    """How far an artifact is that is being made, or was when its run ended."""

    step: int
    num_steps: int
    seconds_per_step: float | None = None

    @staticmethod
    def read(value: Any, place: str) -> "Running":
        """The progress in a JSON value; errors name `place`."""
        return read_object(Running, value, place)


def as_json(value: Any) -> dict[str, Any]:
    """The JSON object of a record, failure or progress."""
    return {
        field.name: as_json(item) if dataclasses.is_dataclass(item) else _plain(item)
        for field in dataclasses.fields(value)
        if (item := getattr(value, field.name)) is not None
    }


def _plain(item: Any) -> Any:
    return {str(key): _plain(value) for key, value in item.items()} if isinstance(item, Mapping) else item
