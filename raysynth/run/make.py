"""Makes one trained artifact in this process, from its inputs in the store to its record. Needs no Ray."""

import contextlib
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from raysynth.data.stored_dataset import fetch
from raysynth.environment import num_threads
from raysynth.errors import Diverged, InputError, StoreError, first_line
from raysynth.run.board import Board, Report
from raysynth.run.sources import source_params
from raysynth.run.surroundings import BoardSettings, compiled_programs
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import Artifact, name
from raysynth.specs.pretraining import Pretrain
from raysynth.store.checkpoint_files import CHECKPOINT_SECONDS
from raysynth.store.files import private_directory
from raysynth.store.leases import is_taken
from raysynth.store.marks import provenance
from raysynth.store.records import Outcome
from raysynth.store.store import Store


class LeaseLost(Exception):
    """Raised in a trial whose artifact another run makes now, because it thought this run dead."""


def attempt(
    artifact: Artifact,
    *,
    store: Store,
    cache: Path,
    report: Report,
    node: str | None,
    driver: str,
    checkpoint_seconds: float,
    board: BoardSettings,
) -> dict[str, Any]:
    """Make an artifact for the run that is called `driver`; returns how that ended, for `Schedule.ended`.

    The arguments are those of `make`. An exception becomes the artifact's failure record and does not end the run.
    """
    try:
        store.forget_failure(artifact)
        make(
            artifact,
            store=store,
            cache=cache,
            report=report,
            node=node,
            driver=driver,
            checkpoint_seconds=checkpoint_seconds,
            board=board,
        )
    except LeaseLost:
        return {"outcome": Outcome.PREEMPTED}
    except Exception as error:
        is_plain = isinstance(error, InputError | Diverged)
        is_final = is_plain and not isinstance(error, StoreError)
        line = first_line(error) if is_plain else f"{type(error).__name__}: {first_line(error)}"
        outcome = Outcome.DIVERGED if isinstance(error, Diverged) else Outcome.FAILED
        with contextlib.suppress(StoreError):  # such as a full disk, of which the driver is told all the same
            store.fail(artifact, outcome=outcome, error=line, log=traceback.format_exc())
        return {"outcome": outcome, "error": line, "again": not is_final}
    return {"outcome": Outcome.SUCCEEDED}


def make(
    artifact: Artifact,
    *,
    store: Store,
    cache: Path,
    report: Report,
    node: str | None,
    driver: str | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    board: BoardSettings = BoardSettings(),  # noqa: B008  # it is frozen
) -> None:
    """Train an artifact in its workspace and write its record, on the Ray node with that id, or without Ray.

    `cache` holds copies of a remote store's files. Raises `InputError` where another user could write there, and
    `LeaseLost` once the artifact's lease names another run than `driver`.
    """
    private_directory(cache)
    from raysynth.model import devices, train  # JAX is imported where a trial runs, never in the driver

    _check_device(devices.device)
    started = time.time()

    def check_lease() -> None:
        if driver is not None and is_taken(store, artifact, driver):
            raise LeaseLost

    with compiled_programs(), store.workspace(artifact) as workspace:
        with Board(artifact, workspace, store, report, check_lease, board) as watch:
            if isinstance(artifact, Pretrain):
                data, data_sha256 = fetch(artifact.data, store, cache)
                trained = train.pretrain(
                    artifact,
                    data=data,
                    data_sha256=data_sha256,
                    directory=workspace.path,
                    observer=watch,
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
                    observer=watch,
                    saved=workspace.push,
                    checkpoint_seconds=checkpoint_seconds,
                )
            else:
                raise TypeError(f"{name(artifact)} is not made by a trial")
            if trained.result.test is not None:
                watch.write_test(trained.result.test, trained.result.selected_step)
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
