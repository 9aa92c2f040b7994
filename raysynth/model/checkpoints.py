"""Orbax checkpoints of one run: the latest two, to resume from, and the selected and kept ones, to use."""

import hashlib
import logging
import os
import re
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from raysynth.errors import InputError, first_line
from raysynth.model.resume import Evaluations
from raysynth.model.step import TrainState
from raysynth.model.t5 import Params
from raysynth.specs.recipes import Selection
from raysynth.store.checkpoint_files import problem, write_list
from raysynth.store.records import Record


class _LatestAndUsed(PreservationPolicy):  # type: ignore[misc]  # Orbax has no types
    """Keeps the two newest steps, evaluated or not, of each the step that the selection rule had chosen by then, and
    those in `keep_steps`.

    A run can then go on from the step before the newest if the newest turns out to be damaged. Orbax's own `BestN` may
    delete the newest step and has no rule such as "the first above 99 %".
    """

    def __init__(self, selection: Selection, keep_steps: Collection[int], evaluations: Evaluations):
        self._selection = selection
        self._keep_steps = keep_steps
        self._evaluations = evaluations

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*steps[-2:], *self._keep_steps}
        evaluations = dict(self._evaluations)  # training adds to them meanwhile
        for newest in steps[-2:]:
            so_far = {step: scores for step, scores in evaluations.items() if step <= newest}
            kept.add(self._selection.choose(so_far))
        return [step in kept for step in steps]


class Checkpoints:
    """The checkpoints under `directory`, each with a step's parameters and optimizer state; use as a context manager.

    The optimizer's arrays are joined to one vector, because Orbax spends a millisecond of CPU time on each array.

    They are written while training continues. `saved` is called from another thread once a step is on disk, with the
    checksums of its files, and obsolete steps are deleted; until `wait` returns, the caller must not change any file
    that `saved` reads. Whoever resumes must have deleted the checkpoints that are not whole. `seconds` is the time
    after which another save is due.
    """

    def __init__(
        self,
        directory: Path,
        *,
        artifact: str,
        selection: Selection,
        evaluations: Evaluations,
        saved: Callable[[], None],
        seconds: float,
        keep_steps: Collection[int] = (),
    ) -> None:
        self._directory, self._artifact, self._saved = directory, artifact, saved
        self._seconds, self._last_save = seconds, time.monotonic()
        self._open = ExitStack()
        self._manager = self._open.enter_context(
            ocp.CheckpointManager(
                self._open.enter_context(_plainly_named(directory)),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=_LatestAndUsed(selection, keep_steps, evaluations), cleanup_tmp_directories=True
                ),
            )
        )
        self._saving: Future[None] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        if self._saving is not None:
            self._saving.exception()  # waits, and has been or will be raised elsewhere
        self._open.close()

    @property
    def latest(self) -> int | None:
        """The newest complete step."""
        latest: int | None = self._manager.latest_step()
        return latest

    @property
    def is_due(self) -> bool:
        """Whether the last save, or the start, is so long ago that a state should be saved between evaluations."""
        return time.monotonic() - self._last_save >= self._seconds

    def save(self, state: TrainState) -> None:
        """Start saving a state as its step, once the save before it is on disk; its arrays may be donated at once."""
        self.wait()
        # A copy on the devices takes milliseconds; the one to the host, and the files, are left to the thread.
        placement = jax.tree.map(lambda array: array.sharding, state.params)
        params = jax.device_put(state.params, placement, may_alias=False)
        copied = {"params": params, "optimizer": _joined(state.optimizer)}
        self._saving = Future()
        # The threads that Orbax starts in a daemon are daemons too. Those of a failed save wait for its directory for
        # minutes, for which the end of the process would wait in turn.
        threading.Thread(target=self._write, args=(self._saving, state.step, copied), daemon=True).start()
        self._last_save = time.monotonic()

    def _write(self, saving: "Future[None]", step: int, arrays: dict[str, Any]) -> None:
        _yield_cores()  # to training: compression takes seconds of CPU time
        try:
            self._write_step(step, arrays)
        except BaseException as error:
            saving.set_exception(error)
        else:
            saving.set_result(None)

    def _write_step(self, step: int, arrays: dict[str, Any]) -> None:
        items = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items()}
        self._manager.save(step, args=ocp.args.Composite(**items))
        self._manager.wait_until_finished()
        write_list(self._directory / str(step), artifact=self._artifact, step=step)
        self._saved()

    def wait(self) -> None:
        """Block until the last save is on disk; raises whatever the save or `saved` raised."""
        if self._saving is not None:
            self._saving.result()

    def restore(self, step: int, *, like: TrainState) -> TrainState:
        """The state saved at `step`, with the structure, shapes and placement of `like`.

        Its files must be those that were saved. Raises `InputError` if they hold another structure.
        """
        try:
            vectors = jax.eval_shape(_joined, like.optimizer)
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardRestore(like.params),
                    optimizer=ocp.args.StandardRestore(jax.tree.map(_zeros_like, vectors)),
                ),
            )
        except (ValueError, KeyError) as error:  # the files are whole, so another version has written them
            raise InputError(
                f"{self._directory / str(step)} cannot be read by these versions of raysynth and Orbax "
                f"({first_line(error):.200}); delete {self._directory} to train from the beginning"
            ) from error
        return TrainState(params=restored["params"], optimizer=_split(restored["optimizer"], like.optimizer), step=step)


def _yield_cores() -> None:
    """Give this thread, and those that it starts, a tenth of what other threads get of a core that both want."""
    if sys.platform == "linux":  # elsewhere the whole process would be nicer
        with suppress(OSError):  # a sandbox may forbid it
            os.nice(10)


@jax.jit
def _joined(state: Any) -> dict[str, jax.Array]:
    """One vector for each dtype of a tree's arrays, by its name, with all their elements."""
    vectors: dict[str, list[jax.Array]] = {}
    for array in jax.tree.leaves(state):
        vectors.setdefault(array.dtype.name, []).append(jnp.ravel(array))
    return {name: jnp.concatenate(parts) for name, parts in vectors.items()}


def _split(vectors: dict[str, npt.NDArray[Any]], like: Any) -> Any:
    """The inverse of `_joined`, with the shapes and placement of `like`."""
    taken: Counter[str] = Counter()

    def next_array(array: jax.Array) -> jax.Array:
        start = taken[array.dtype.name]
        taken[array.dtype.name] += array.size
        part = vectors[array.dtype.name][start : start + array.size]
        placed: jax.Array = jax.device_put(part.reshape(array.shape), array.sharding)
        return placed

    return jax.tree.map(next_array, like)


def _zeros_like(array: jax.ShapeDtypeStruct) -> npt.NDArray[Any]:
    return np.zeros(array.shape, array.dtype)


def keep_only(directory: Path, steps: Iterable[int]) -> None:
    """Delete every checkpoint under `directory` except those of `steps`."""
    kept = {*map(str, steps)}
    for checkpoint in directory.iterdir():
        if checkpoint.name not in kept and checkpoint.is_dir():
            shutil.rmtree(checkpoint)


def write_params(directory: Path, step: int, params: Params, *, artifact: str) -> None:
    """Save an artifact's parameters without optimizer state as a step under `directory`, replacing all that is there.

    `artifact` is its name.
    """
    shutil.rmtree(directory, ignore_errors=True)
    with _plainly_named(directory) as path, ocp.CheckpointManager(path) as manager:
        manager.save(step, args=ocp.args.Composite(params=ocp.args.StandardSave(params)))
        manager.wait_until_finished()
    write_list(directory / str(step), artifact=artifact, step=step)


def read_params(directory: Path, step: int) -> Params:
    """The parameters of a step under `directory` as nested dicts of NumPy arrays.

    Raises `InputError` if the checkpoint is missing or its files are not those that were saved.
    """
    if (line := problem(directory / str(step), step=step)) is not None:
        raise InputError(line)
    handler = ocp.PyTreeCheckpointHandler()
    try:
        with _later_failures_silenced(), _plainly_named(directory) as plain:
            path = plain / str(step) / "params"
            as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(path).tree)
            params: Params = handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_arrays))
            return params
    except (ValueError, KeyError, OSError) as error:  # raised by JSON or TensorStore
        path = directory / str(step)
        raise InputError(f"{path} cannot be read by this version of Orbax: {first_line(error):.200}") from error


def checked_params(directory: Path, record: Record, *, step: int | None = None) -> Params:
    """The parameters of an artifact whose files are in `directory`, at a kept `step` or else the selected one.

    Raises `InputError` if they are missing or are not those that its record names.
    """
    result = record.weights
    step = result.selected_step if step is None else step
    checkpoint = directory / "checkpoints" / str(step)
    if step not in result.digests:
        raise InputError(f"the record of {record.artifact} names no parameters of step {step}")
    if params_digest(params := read_params(checkpoint.parent, step)) != result.digests[step]:
        raise InputError(f"{checkpoint} holds other parameters than the record says")
    return params


@contextmanager
def _plainly_named(directory: Path) -> Iterator[Path]:
    """Yield another path to a directory, which is made if needed, unless its own consists of plain characters.

    Orbax takes a path for a glob pattern, TensorStore a backslash for a slash, and both a colon for a scheme: in a
    directory named `lab [v2]` they would lose arrays without a word. The path holds in this process only.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if re.fullmatch("[A-Za-z0-9/._-]+", str(directory)) or not os.path.isdir("/proc/self/fd"):
        yield directory
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


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
