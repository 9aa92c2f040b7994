"""Orbax checkpoints of one run: the latest, to go on from, and the selected one, to use."""

import hashlib
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from raysynth.errors import InputError
from raysynth.model.t5 import Params
from raysynth.specs.recipes import Selection

Evaluations = dict[int, dict[str, float]]


class _LatestAndSelected(PreservationPolicy):
    """Keeps the newest step and the one that the selection rule chooses among those evaluated so far.

    Orbax's own `BestN` may delete the newest step, and knows no rule such as "the first above 99 %".
    """

    def __init__(self, selection: Selection, evaluations: Evaluations):
        self._selection = selection
        self._evaluations = evaluations

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        selected = self._selection.choose(self._evaluations)
        return [step == steps[-1] or step == selected for step in steps]


class Checkpoints:
    """The checkpoints under `directory`, each of a step's parameters and optimizer state.

    They are written while training goes on. `saved` is called from another thread once a step is on disk and the steps
    that no longer count are deleted; until `wait` returns, nothing else may change what it reads.
    """

    def __init__(
        self, directory: Path, *, selection: Selection, evaluations: Evaluations, saved: Callable[[], None]
    ) -> None:
        self._manager = ocp.CheckpointManager(
            directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_LatestAndSelected(selection, evaluations), cleanup_tmp_directories=True
            ),
        )
        self._saved = saved
        self._thread = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """The newest complete step."""
        return self._manager.latest_step()

    def save(self, step: int, *, params: Any, optimizer: Any) -> None:
        """Begin to save a step; returns once the arrays may be given away."""
        self.wait()
        self._manager.save(
            step,
            args=ocp.args.Composite(params=ocp.args.StandardSave(params), optimizer=ocp.args.StandardSave(optimizer)),
        )
        self._saving = self._thread.submit(self._finish)

    def _finish(self) -> None:
        self._manager.wait_until_finished()
        self._saved()

    def wait(self) -> None:
        """Return once the last save is on disk; raises what it or `saved` raised."""
        if self._saving is not None:
            self._saving.result()

    def restore(self, step: int, *, params: Any, optimizer: Any) -> tuple[Any, Any]:
        """The saved parameters and optimizer state; the arguments give their structure, shapes and placement."""
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(params), optimizer=ocp.args.StandardRestore(optimizer)
            ),
        )
        return restored["params"], restored["optimizer"]


def keep_only(directory: Path, step: int) -> None:
    """Delete every checkpoint under `directory` but one."""
    for other in directory.iterdir():
        if other.name != str(step):
            shutil.rmtree(other)


def write_params(directory: Path, step: int, params: dict[str, Any]) -> None:
    """Save parameters alone as a step under `directory`, in the place of any that is there."""
    shutil.rmtree(directory / str(step), ignore_errors=True)
    options = ocp.CheckpointManagerOptions(cleanup_tmp_directories=True)
    with ocp.CheckpointManager(directory, options=options) as manager:
        manager.save(step, args=ocp.args.Composite(params=ocp.args.StandardSave(params)))
        manager.wait_until_finished()


def read_params(directory: Path, step: int) -> dict[str, Any]:
    """The parameters of a step under `directory` as nested dicts of NumPy arrays."""
    path = directory / str(step) / "params"
    if not path.exists():
        raise InputError(f"{path} is missing: the checkpoint of step {step} is not there")
    handler = ocp.PyTreeCheckpointHandler()
    try:
        with _first_failure_only():
            as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(path).tree)
            return handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_arrays))
    except (ValueError, KeyError, OSError) as error:  # of JSON's or TensorStore's making
        raise InputError(f"{path} is damaged: {str(error).splitlines()[0]:.200}") from error


@contextmanager
def _first_failure_only() -> Iterator[None]:
    """Leave the telling to the first read that fails.

    Orbax reads arrays side by side in an event loop that the first failure closes. The others then fail in threads of
    TensorStore, some of them after the error is raised, and each would print a traceback of its own.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.object is not None or str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    def passes(record: logging.LogRecord) -> bool:
        return "exception was never retrieved" not in record.getMessage()

    sys.unraisablehook = hook
    logging.getLogger("asyncio").addFilter(passes)
    yield
    # Not in a `finally`: after a failure the late ones are still to come.
    sys.unraisablehook = before
    logging.getLogger("asyncio").removeFilter(passes)


def params_digest(params: Params) -> str:
    """SHA-256 over the parameters' paths and bytes: equal where every bit is."""
    digest = hashlib.sha256()
    for path, leaf in sorted(
        (jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
