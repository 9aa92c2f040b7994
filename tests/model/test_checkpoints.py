"""Checkpoints are written while training continues, and hold their step's values even if its arrays are donated."""

import contextlib
import dataclasses
import errno
import os
import resource
import sys
import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from raysynth import T5_SMALL, Dataset, Pretrain, synthetic_tasks
from raysynth.model.checkpoints import Checkpoints
from raysynth.model.devices import replicated
from raysynth.model.resume import resume, write_evaluation
from raysynth.model.step import TrainState
from raysynth.model.t5 import init_params
from raysynth.observer import Silent
from raysynth.specs.recipes import Best
from raysynth.store.checkpoint_files import problem
from tests.model.tiny import MODEL


@partial(jax.jit, donate_argnums=0)
def doubled(arrays):
    return jax.tree.map(lambda array: 2 * array, arrays)


def do_nothing():
    pass


def state_of(step, params, count=0):
    return TrainState(params=params, optimizer={"count": jnp.asarray(count)}, step=step)


def checkpoints(directory, *, evaluations, saved=do_nothing, seconds=600.0):
    return Checkpoints(
        directory,
        artifact="pretrain/some",
        selection=Best("token_accuracy"),
        evaluations=evaluations,
        saved=saved,
        seconds=seconds,
    )


@pytest.mark.parametrize("num_devices", [1, 8])
def test_a_checkpoint_holds_its_steps_values_although_the_arrays_are_donated_at_once(tmp_path, num_devices):
    placement = NamedSharding(Mesh(np.array(jax.devices()[:num_devices]), ("data",)), PartitionSpec())
    first = {"large": np.ones((512, 1024), np.float32), "small": np.arange(3, dtype=np.float32)}
    arrays = jax.device_put(first, placement)
    evaluations = {}
    with checkpoints(tmp_path, evaluations=evaluations) as kept:
        for step in range(1, 6):
            evaluations[step] = {"token_accuracy": step / 10}
            kept.save(state_of(step, arrays, count=step))
            for _ in range(3):
                arrays = doubled(arrays)
        kept.wait()
        assert kept.latest == 5
        state = kept.restore(5, like=state_of(0, arrays))
    assert state.step == state.optimizer["count"] == 5
    np.testing.assert_array_equal(state.params["large"], first["large"] * 2**12)
    np.testing.assert_array_equal(state.params["small"], first["small"] * 2**12)


def test_an_optimizer_is_restored_array_by_array(tmp_path):
    params = init_params(MODEL, jax.random.key(0))
    state = TrainState.start(params)
    drawn = (
        np.random.default_rng(index).integers(0, 100, leaf.shape).astype(leaf.dtype)
        for index, leaf in enumerate(jax.tree.leaves(state.optimizer))
    )
    optimizer = jax.device_put(jax.tree.unflatten(jax.tree.structure(state.optimizer), drawn), replicated())
    with checkpoints(tmp_path, evaluations={}) as kept:
        kept.save(dataclasses.replace(state, optimizer=optimizer, step=1))
        kept.wait()
        restored = kept.restore(1, like=TrainState.start(params)).optimizer
    assert jax.tree.structure(restored) == jax.tree.structure(optimizer)
    for saved, read in zip(jax.tree.leaves(optimizer), jax.tree.leaves(restored), strict=True):
        assert (read.dtype, read.sharding) == (saved.dtype, saved.sharding)
        np.testing.assert_array_equal(read, saved)


def test_training_continues_until_the_next_save_and_no_further(tmp_path):
    go, listings = threading.Event(), []

    def saved():
        listings.append(sorted(path.name for path in tmp_path.iterdir()))
        go.wait(30)

    evaluations = {1: {"token_accuracy": 0.5}}
    with checkpoints(tmp_path, evaluations=evaluations, saved=saved) as kept:
        kept.save(state_of(1, {"a": jnp.ones(3)}))
        evaluations[2] = {"token_accuracy": 0.4}
        second = threading.Thread(target=kept.save, args=(state_of(2, {"a": jnp.zeros(3)}),))
        second.start()
        second.join(0.5)
        assert second.is_alive()
        go.set()
        second.join(30)
        kept.wait()
    assert listings == [["1"], ["1", "2"]]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_threads_that_write_leave_the_cores_to_training(tmp_path):
    before, during = os.nice(0), []
    with checkpoints(tmp_path, evaluations={}, saved=lambda: during.append(os.nice(0))) as kept:
        kept.save(state_of(1, {"a": jnp.ones(3)}))
        kept.wait()
    assert during == [min(before + 10, 19)]
    assert os.nice(0) == before


def test_an_error_in_saved_reaches_the_training(tmp_path):
    def saved():
        raise OSError("the bucket is gone")

    evaluations = {1: {"token_accuracy": 0.5}}
    with checkpoints(tmp_path, evaluations=evaluations, saved=saved) as kept:
        kept.save(state_of(1, {"a": jnp.ones(3)}))
        with pytest.raises(OSError, match="the bucket is gone"):
            kept.wait()


@pytest.mark.parametrize("seconds", [0, 600])
def test_a_save_is_due_once_the_seconds_have_passed_since_the_last_one(seconds, tmp_path):
    with checkpoints(tmp_path, evaluations={}, seconds=seconds) as kept:
        assert kept.is_due == (seconds == 0)
        kept.save(state_of(1, {"a": jnp.ones(3)}))
        assert kept.is_due == (seconds == 0)


def test_steps_between_evaluations_never_replace_the_selected_one(tmp_path):
    evaluations, listings = {}, []

    def saved():
        listings.append(sorted(int(path.name) for path in tmp_path.iterdir()))

    with checkpoints(tmp_path, evaluations=evaluations, saved=saved) as kept:
        for step, accuracy in enumerate((None, 0.5, None, 0.4, None, None, None, 0.6, None, None)):
            if accuracy is not None:
                kept.wait()
                evaluations[step] = {"token_accuracy": accuracy}
            kept.save(state_of(step, {"a": jnp.full(3, step)}))
    assert listings == [[0], [0, 1], [1, 2], [1, 2, 3], [1, 3, 4], [1, 4, 5], [1, 5, 6], [1, 6, 7], [7, 8], [7, 8, 9]]


# -------------------------------------------------------------------------------- a failing file system


@contextlib.contextmanager
def files_of_at_most(num_bytes):
    """Every write beyond that size fails, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_save_that_fails_leaves_no_thread_for_which_the_process_would_wait(tmp_path, monkeypatch):
    mkdir = os.mkdir

    def failing(path, *arguments, **options):
        if os.fspath(path).endswith(".orbax-checkpoint-tmp"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        mkdir(path, *arguments, **options)

    def save_in_vain():
        with checkpoints(tmp_path, evaluations={}) as kept:
            monkeypatch.setattr(os, "mkdir", failing)
            kept.save(state_of(1, {"a": jnp.ones(3)}))
            kept.wait()

    before = set(threading.enumerate())
    with pytest.raises(OSError, match="No space left"):
        save_in_vain()
    left = set(threading.enumerate()) - before
    assert left, "Orbax does not wait any longer: raysynth need not either"
    assert [thread for thread in left if not thread.daemon] == []


@contextlib.contextmanager
def no_rename_to(file_name):
    """Renaming a file to that name fails, as on a full disk."""

    def replace(source, target):
        if os.path.basename(target) == file_name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(source, target)

    original, os.replace = os.replace, replace
    try:
        yield
    finally:
        os.replace = original


FAILURES = {
    **{f"files above {size}": partial(files_of_at_most, size) for size in (0, 200, 2_000, 20_000)},
    "the list": partial(no_rename_to, "checksums.json"),
}
RECIPE = Pretrain(
    data=Dataset(task=synthetic_tasks["set"], num_examples=100),
    model=T5_SMALL,
    num_steps=6,
    eval_every=1,
    selection=Best("token_accuracy"),
)


@pytest.mark.parametrize("failure", FAILURES)
def test_a_save_that_fails_leaves_the_checkpoint_before_it_and_the_selected_one(failure, tmp_path):
    """Three attempts fail at the same step; then there is room again, and the run goes on from the step before it."""
    accuracies = {1: 0.9, 2: 0.1, 3: 0.2, 4: 0.3, 5: 0.4, 6: 0.5}
    folder, params = tmp_path / "checkpoints", {"a": jnp.arange(30_000.0), "b": jnp.ones(3)}

    def attempt(first, last):
        evaluations = {step: {"token_accuracy": accuracies[step]} for step in range(1, first)}
        with checkpoints(folder, evaluations=evaluations) as kept:
            for step in range(first, last + 1):
                evaluations[step] = {"token_accuracy": accuracies[step]}
                scores = {"loss": 1.0, **evaluations[step]}
                write_evaluation(tmp_path, artifact="pretrain/some", step=step, scores=scores)
                kept.save(state_of(step, jax.tree.map(lambda array, step=step: array * step, params)))
            kept.wait()

    def whole():
        steps = {int(each.name) for each in folder.iterdir() if each.name.isdigit()}
        return {step for step in steps if problem(folder / str(step), step=step) is None}

    attempt(1, 4)
    for _ in range(3):
        with pytest.raises(Exception), FAILURES[failure]():  # noqa: B017, PT011  # whatever Orbax makes of it
            attempt(5, 6)
        assert resume(tmp_path, "pretrain/some", RECIPE, Silent()).step == 4
        assert {1, 4} <= whole()
    attempt(5, 6)
    assert whole() == {1, 5, 6}
    with checkpoints(folder, evaluations={}) as kept:
        state = kept.restore(6, like=state_of(0, params))
    np.testing.assert_array_equal(state.params["a"], params["a"] * 6)
