"""Orbax checkpoints of one run: the latest, to resume from, and the selected one, to use."""

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
from raysynth.model.step import TrainState
from raysynth.model.t5 import Params
from raysynth.specs.recipes import Selection

Evaluations = dict[int, dict[str, float]]
"""The scores of each evaluated step."""


class _LatestAndSelected(PreservationPolicy):  # type: ignore[misc]  # Orbax has no types
    """Keeps the newest step and the one that the selection rule chooses among those evaluated so far.

    Orbax's own `BestN` may delete the newest step and has no rule such as "the first above 99 %".
    """

    def __init__(self, selection: Selection, evaluations: Evaluations):
        self._selection = selection
        self._evaluations = evaluations

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        selected = self._selection.choose(self._evaluations)
        return [step == steps[-1] or step == selected for step in steps]


class Checkpoints:
    """The checkpoints under `directory`, each with a step's parameters and optimizer state; use as a context manager.

    They are written while training continues. `saved` is called from another thread once a step is on disk and obsolete
    steps are deleted; until `wait` returns, the caller must not change any file that `saved` reads.
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
        latest: int | None = self._manager.latest_step()
        return latest

    def save(self, state: TrainState) -> None:
        """Start saving a state as its step; returns once its arrays may be donated."""
        self.wait()
        self._manager.save(
            state.step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params), optimizer=ocp.args.StandardSave(state.optimizer)
            ),
        )
        self._saving = self._thread.submit(self._finish)

    def _finish(self) -> None:
        self._manager.wait_until_finished()
        self._saved()

    def wait(self) -> None:
        """Block until the last save is on disk; raises whatever the save or `saved` raised."""
        if self._saving is not None:
            self._saving.result()

    def restore(self, step: int, *, like: TrainState) -> TrainState:
        """The state saved at `step`, with the structure, shapes and placement of `like`."""
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(like.params), optimizer=ocp.args.StandardRestore(like.optimizer)
            ),
        )
        return TrainState(params=restored["params"], optimizer=restored["optimizer"], step=step)


def keep_only(directory: Path, step: int) -> None:
    """Delete every checkpoint under `directory` except that of `step`."""
    for checkpoint in directory.iterdir():
        if checkpoint.name != str(step):
            shutil.rmtree(checkpoint)


def write_params(directory: Path, step: int, params: Params) -> None:
    """Save parameters without optimizer state as a step under `directory`, replacing an existing checkpoint."""
    shutil.rmtree(directory / str(step), ignore_errors=True)
    options = ocp.CheckpointManagerOptions(cleanup_tmp_directories=True)
    with ocp.CheckpointManager(directory, options=options) as manager:
        manager.save(step, args=ocp.args.Composite(params=ocp.args.StandardSave(params)))
        manager.wait_until_finished()


def read_params(directory: Path, step: int) -> Params:
    """The parameters of a step under `directory` as nested dicts of NumPy arrays.

    Raises `InputError` if the checkpoint is missing or damaged.
    """
    path = directory / str(step) / "params"
    if not path.exists():
        raise InputError(f"{path} is missing: there is no checkpoint of step {step}")
    handler = ocp.PyTreeCheckpointHandler()
    try:
        with _later_failures_silenced():
            as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(path).tree)
            params: Params = handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_arrays))
            return params
    except (ValueError, KeyError, OSError) as error:  # raised by JSON or TensorStore
        raise InputError(f"{path} is damaged: {str(error).splitlines()[0]:.200}") from error


@contextmanager
def _later_failures_silenced() -> Iterator[None]:
    """Let only the first failing read report an error.

    Orbax reads arrays concurrently in an event loop that the first failure closes. The remaining reads then fail in
    TensorStore's threads, some of them after the error was raised, and each would print a traceback of its own.
    """
    original_hook = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if unraisable.object is not None or str(unraisable.exc_value) != "Event loop is closed":
            original_hook(unraisable)

    def is_relevant(record: logging.LogRecord) -> bool:
        return "exception was never retrieved" not in record.getMessage()

    sys.unraisablehook = hook
    logging.getLogger("asyncio").addFilter(is_relevant)
    yield
    # Not in a `finally`: after a failure the later failures are still to come.
    sys.unraisablehook = original_hook
    logging.getLogger("asyncio").removeFilter(is_relevant)


def params_digest(params: Params) -> str:
    """SHA-256 of the parameters' paths and bytes, in hexadecimal."""
    digest = hashlib.sha256()
    for path, leaf in sorted(
        (jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
