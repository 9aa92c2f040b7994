"""Adafactor as T5X runs it, and the two learning-rate schedules.

The learning rate is an argument of `update`, not part of the optimizer, so one compiled step serves a whole grid.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from raysynth.model.t5 import Params
from raysynth.specs.recipes import Constant, InverseSquareRoot, Schedule

State: TypeAlias = optax.FactoredState

# T5X's settings, which the paper keeps (Appendices A and B): decay 1 - step^-0.8, factored from 128 x 128 up, no
# momentum.
_SCALE = optax.scale_by_factored_rms(decay_rate=0.8, min_dim_size_to_factor=128, epsilon=1e-30)
_CLIP = optax.clip_by_block_rms(1.0)
_SMALLEST_SCALE = 1e-3
"""A parameter whose root mean square is smaller is updated as if it had this size."""


def init(params: Params) -> State:
    """The state before the first update: float32 leaves, factored into rows and columns for large matrices only."""
    return _SCALE.init(params)


def update(gradients: Params, state: State, params: Params, learning_rate: jax.Array | float) -> tuple[Params, State]:
    """Parameters and state after one Adafactor step at a scalar float32 `learning_rate`.

    Each tensor's update is clipped to root mean square 1 and scaled by learning rate times the tensor's own root mean
    square (Shazeer and Stern 2018, Algorithm 4, without momentum).
    """
    updates, state = _SCALE.update(gradients, state, params)
    updates, _ = _CLIP.update(updates, optax.EmptyState())

    def updated(param: jax.Array, update: jax.Array) -> jax.Array:
        size = jnp.maximum(jnp.sqrt(jnp.mean(jnp.square(param))), _SMALLEST_SCALE)
        return param - (learning_rate * size) * update

    return jax.tree.map(updated, params, updates), state


def learning_rate(schedule: Schedule, step: int) -> float:
    """The learning rate of the update that follows `step` updates: a float32 value, computed on the host."""
    match schedule:
        case Constant():
            return float(np.float32(schedule.learning_rate))
        case InverseSquareRoot():
            return float(np.float32(1.0) / np.sqrt(np.float32(max(step, schedule.warmup_steps))))


def learning_rates(schedule: Schedule, first_step: int, last_step: int) -> npt.NDArray[np.float32]:
    """The learning rates, [steps] float32, of the updates from `first_step` to `last_step`."""
    return np.array([learning_rate(schedule, step) for step in range(first_step, last_step)], np.float32)
