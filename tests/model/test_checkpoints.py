"""Checkpoints are written while training goes on, and hold what was given whatever becomes of it."""

import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from raysynth.model.checkpoints import Checkpoints
from raysynth.specs.recipes import Best


@partial(jax.jit, donate_argnums=0)
def doubled(arrays):
    return jax.tree.map(lambda array: 2 * array, arrays)


def nothing():
    """Take no notice."""


def checkpoints(directory, *, evaluations, saved=nothing):
    return Checkpoints(directory, selection=Best("token_accuracy"), evaluations=evaluations, saved=saved)


@pytest.mark.parametrize("num_devices", [1, 8])
def test_a_step_holds_its_own_values_though_its_arrays_are_given_away_at_once(tmp_path, num_devices):
    placement = NamedSharding(Mesh(np.array(jax.devices()[:num_devices]), ("data",)), PartitionSpec())
    first = {"large": np.ones((512, 1024), np.float32), "small": np.arange(3, dtype=np.float32)}
    arrays = jax.device_put(first, placement)
    evaluations = {}
    with checkpoints(tmp_path, evaluations=evaluations) as kept:
        for step in range(1, 6):
            evaluations[step] = {"token_accuracy": step / 10}
            kept.save(step, params=arrays, optimizer={"count": jnp.asarray(step)})
            for _ in range(3):
                arrays = doubled(arrays)
        kept.wait()
        assert kept.latest == 5
        params, state = kept.restore(5, params=arrays, optimizer={"count": jnp.asarray(0)})
    assert state["count"] == 5
    np.testing.assert_array_equal(params["large"], first["large"] * 2**12)
    np.testing.assert_array_equal(params["small"], first["small"] * 2**12)


def test_training_goes_on_until_the_next_save_and_no_further(tmp_path):
    go, begun = threading.Event(), []

    def saved():
        begun.append(sorted(path.name for path in tmp_path.iterdir()))
        go.wait(30)

    evaluations = {1: {"token_accuracy": 0.5}}
    with checkpoints(tmp_path, evaluations=evaluations, saved=saved) as kept:
        kept.save(1, params={"a": jnp.ones(3)}, optimizer={"b": jnp.ones(3)})
        evaluations[2] = {"token_accuracy": 0.4}
        second = threading.Thread(
            target=kept.save, args=(2,), kwargs={"params": {"a": jnp.zeros(3)}, "optimizer": {"b": jnp.ones(3)}}
        )
        second.start()
        second.join(0.5)
        assert second.is_alive()
        go.set()
        second.join(30)
        kept.wait()
    assert begun == [["1"], ["1", "2"]]


def test_what_the_listener_raises_reaches_the_training(tmp_path):
    def saved():
        raise OSError("the bucket is gone")

    evaluations = {1: {"token_accuracy": 0.5}}
    with checkpoints(tmp_path, evaluations=evaluations, saved=saved) as kept:
        kept.save(1, params={"a": jnp.ones(3)}, optimizer={"b": jnp.ones(3)})
        with pytest.raises(OSError, match="the bucket is gone"):
            kept.wait()
