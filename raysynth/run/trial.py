"""What Tune runs: one artifact, from its inputs in the store to its record, with TensorBoard scalars and hparams."""

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams as hparams_summary

from raysynth.data.stored_dataset import fetch
from raysynth.downstream.metrics import METRICS
from raysynth.environment import num_threads
from raysynth.errors import Diverged, InputError, StoreError, first_line
from raysynth.observer import Progress, Silent
from raysynth.run.sources import source_params
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import Artifact, name
from raysynth.specs.pretraining import Pretrain
from raysynth.store.files import private_directory
from raysynth.store.leases import is_taken
from raysynth.store.marks import provenance
from raysynth.store.records import Metrics, Outcome
from raysynth.store.store import Store, Workspace

REPORT_SECONDS = 1.0
"""Least time between two reports to the driver."""
MARK_SECONDS = 10.0
"""Least time between two signs of life in the store."""

Report = Callable[[dict[str, Any]], None]
"""Sends a dict to the driver."""


class LeaseLost(Exception):
    """Raised in a trial whose artifact another run makes now, because it thought this run dead."""


def trial(
    config: dict[str, str],
    *,
    artifacts: Mapping[str, Artifact],
    store: Store,
    cache: Path,
    driver: str,
    checkpoint_seconds: float,
) -> None:
    """Make the artifact that `config` names for the run that is called `driver`.

    An exception becomes the artifact's failure record and does not end the sweep.
    """
    artifact = artifacts[config["artifact"]]
    node = ray.get_runtime_context().get_node_id()
    tune.report({"node": node, "pid": os.getpid()})
    try:
        store.forget_failure(artifact)
        make(
            artifact,
            store=store,
            cache=cache,
            report=lambda result: tune.report(result),
            node=node,
            driver=driver,
            checkpoint_seconds=checkpoint_seconds,
        )
    except LeaseLost:
        tune.report({"outcome": Outcome.PREEMPTED})
    except Exception as error:
        final = isinstance(error, InputError | Diverged) and not isinstance(error, StoreError)
        is_plain = isinstance(error, InputError | Diverged)
        line = first_line(error) if is_plain else f"{type(error).__name__}: {first_line(error)}"
        outcome = Outcome.DIVERGED if isinstance(error, Diverged) else Outcome.FAILED
        with contextlib.suppress(StoreError):  # such as a full disk, of which the driver is told all the same
            store.fail(artifact, outcome=outcome, error=line, log=traceback.format_exc())
        tune.report({"outcome": outcome, "error": line, "again": not final})
    else:
        tune.report({"outcome": Outcome.SUCCEEDED})


def make(
    artifact: Artifact,
    *,
    store: Store,
    cache: Path,
    report: Report,
    node: str,
    driver: str | None = None,
    checkpoint_seconds: float = 600.0,
) -> None:
    """Train an artifact in its workspace and write its record, on the Ray node with that id.

    `cache` holds compiled programs and copies of a remote store's files. Raises `InputError` where another user could
    write there, and `LeaseLost` once the artifact's lease names another run than `driver`.
    """
    private_directory(cache)
    from raysynth.model import devices, train  # JAX is imported where a trial runs, never in the driver

    _check_device(devices.device)
    started = time.time()

    def check_lease() -> None:
        if driver is not None and is_taken(store, artifact, driver):
            raise LeaseLost

    with store.workspace(artifact) as workspace:
        board = _Board(artifact, workspace, store, report, check_lease)
        try:
            if isinstance(artifact, Pretrain):
                data, data_sha256 = fetch(artifact.data, store, cache)
                trained = train.pretrain(
                    artifact,
                    data=data,
                    data_sha256=data_sha256,
                    directory=workspace.path,
                    observer=board,
                    saved=workspace.push,
                    checkpoint_seconds=checkpoint_seconds,
                )
            elif isinstance(artifact, Finetune):
                data, data_sha256 = fetch(artifact.task.data, store, cache)
                trained = train.finetune(
                    artifact,
                    data=data,
                    data_sha256=data_sha256,
                    sources={source: partial(source_params, source, store, cache) for source in artifact.init.sources},
                    directory=workspace.path,
                    observer=board,
                    saved=workspace.push,
                    checkpoint_seconds=checkpoint_seconds,
                )
            else:
                raise TypeError(f"{name(artifact)} is not made by a trial")
            if trained.result.test is not None:
                board.write_test(trained.result.test, trained.result.selected_step)
        finally:
            board.close()
        check_lease()
        workspace.push()
        where = replace(
            provenance(started),
            node=node,
            device=devices.device(),
            backend=devices.backend(),
            threads=num_threads(os.environ),
            **vars(trained.timing),
        )
        store.record(artifact, result=trained.result, provenance=where)


def _check_device(device: Callable[[], str]) -> None:
    """Raise `InputError` if JAX has no device where it should run, which no other attempt would change."""
    try:
        device()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that there is a plug-in
        if "in use" in str(error):  # by a process that is about to end
            raise
        platforms = os.environ.get("JAX_PLATFORMS", "")
        raise InputError(
            f"JAX finds no device or no plug-in for JAX_PLATFORMS={platforms}: {first_line(error)}"
        ) from None


class _Board(Silent):
    """An observer that takes a run's progress to TensorBoard, the store and the driver."""

    def __init__(
        self,
        artifact: Artifact,
        workspace: Workspace,
        store: Store,
        report: Report,
        check_lease: Callable[[], None],
    ):
        self._artifact = artifact
        self._workspace = workspace
        self._store = store
        self._report = report
        self._check_lease = check_lease
        self._writer: SummaryWriter | None = None
        self._last_report = self._last_mark = float("-inf")
        self._seconds_per_step: float | None = None

    def progress(self, artifact: str, progress: Progress) -> None:
        """Plot the scalars; now and then, mark the store and report to the driver."""
        self._plot(progress)
        if time.monotonic() - self._last_mark > MARK_SECONDS:
            self._mark(progress)
        if time.monotonic() - self._last_report > REPORT_SECONDS:
            self._send(progress)

    def evaluated(self, artifact: str, progress: Progress) -> None:
        """Plot the scores, and let everyone see them at once."""
        self._plot(progress).flush()
        self._mark(progress)
        self._send(progress)

    def noted(self, artifact: str, note: str) -> None:
        """Let the driver show a line."""
        self._report({"note": note})

    def write_test(self, scores: Metrics, step: int) -> None:
        """Write the test scores at the selected step, so that the HParams page has a column for each."""
        assert self._writer is not None, "training reports its first step before it can end"
        for metric, value in scores.items():
            self._writer.add_scalar(f"test/{metric}", value, step)

    def close(self) -> None:
        """End the event file."""
        if self._writer is not None:
            self._writer.close()

    def _plot(self, progress: Progress) -> SummaryWriter:
        if self._writer is None:
            purge_step = progress.step + 1 if progress.step else None
            self._writer = SummaryWriter(str(self._workspace.path), purge_step=purge_step)
            for summary in _hparams(self._artifact):
                self._writer.file_writer.add_summary(summary)
        for tag, value in progress.scalars.items():
            self._writer.add_scalar(tag, value, progress.step)
        self._seconds_per_step = progress.scalars.get("speed/seconds_per_step", self._seconds_per_step)
        return self._writer

    def _mark(self, progress: Progress) -> None:
        with contextlib.suppress(StoreError):  # the mark only informs, and the next one may succeed
            self._check_lease()
            self._store.progress(
                self._artifact,
                step=progress.step,
                num_steps=progress.num_steps,
                seconds_per_step=self._seconds_per_step,
            )
        self._last_mark = time.monotonic()

    def _send(self, progress: Progress) -> None:
        self._report({"progress": {**vars(progress), "scalars": dict(progress.scalars)}})
        self._last_report = time.monotonic()


def _hparams(artifact: Artifact) -> Iterable[Any]:
    """TensorBoard's HParams declaration. Every run has the same columns, or the page would show those of one run."""
    assert isinstance(artifact, Pretrain | Finetune), "only these are trained"
    sources = (artifact,) if isinstance(artifact, Pretrain) else artifact.init.sources
    values = {
        "kind": artifact.kind,
        "task": artifact.task.name if isinstance(artifact, Finetune) else artifact.data.task.name,
        "init": artifact.init.name if isinstance(artifact, Finetune) else "random",
        "source": " ".join(source.source_name for source in sources) or "-",
        "learning_rate": artifact.task.learning_rate if isinstance(artifact, Finetune) else 0.0,
        "seed": artifact.seed,
    }
    metrics = {"validation/token_accuracy": None, **{f"test/{metric}": None for metric in METRICS}}
    experiment, start, _ = hparams_summary(values, metrics)
    return experiment, start
