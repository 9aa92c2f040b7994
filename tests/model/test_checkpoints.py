"""Checkpoints are written while training continues, and hold their step's values even if its arrays are donated."""

import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from raysynth.model.checkpoints import Checkpoints
from raysynth.model.step import TrainState
from raysynth.specs.recipes import Best


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
