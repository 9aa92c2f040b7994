"""One training step: the state that it changes, the update, and how long it takes."""

import math
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from raysynth.data.layout import Block, Shape
from raysynth.environment import num_threads
from raysynth.errors import Diverged, first_line
from raysynth.model import optimizer
from raysynth.model.calls import steps_per_call
from raysynth.model.devices import DeviceBlock, device, named_key, place_steps, replicated
from raysynth.model.process import uses_cpu
from raysynth.model.settings import settings
from raysynth.model.t5 import T5, Params, init_params, loss_and_counts, teacher_forced_logits
from raysynth.specs.models import T5Config
from raysynth.specs.recipes import Recipe
from raysynth.store.machine import free_memory
from raysynth.tokens.streams import Purpose, stream

Counts = dict[str, jax.Array]
"""Sums over target tokens: `loss`, `correct` and `weight`, float32."""


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """What a training step changes. `step` lives on the host, so that reading it does not wait for the device."""

    params: Params
    optimizer: optimizer.State
    step: int
    """Number of updates made."""

    @staticmethod
    def start(params: Params) -> "TrainState":
        """The state before the first update, with the parameters on each of this host's devices.

        Its arrays may share memory with `params`, which `train_steps` will reuse.
        """
        params = jax.device_put(params, replicated())
        return TrainState(params=params, optimizer=jax.device_put(optimizer.init(params), replicated()), step=0)


def train_steps(
    network: T5,
    state: TrainState,
    blocks: tuple[DeviceBlock, ...],
    learning_rates: npt.NDArray[np.float32],
    key: jax.Array,
    *,
    z_loss: float,
    label_smoothing: float,
) -> tuple[TrainState, Counts]:
    """Updates by one step after another, each on the summed loss of its blocks: the state after the last one.

    `blocks` are those of `place_steps`, and there is a learning rate for each step. Also returns the counts of each
    step before its update, [most], of which those beyond the steps are 0. The memory of `state` is reused, so its
    arrays must not be read afterwards. Dropout masks depend on `key`, the step and the place of a block. Learning rates
    and steps are traced, so one compilation serves a whole grid.
    """
    num_steps, most = len(learning_rates), len(blocks[0].encoder_input_tokens)
    params, after, counts = update(
        network,
        z_loss,
        label_smoothing,
        state.params,
        state.optimizer,
        blocks,
        np.pad(learning_rates, (0, most - num_steps)),
        key,
        np.uint32(state.step),
        np.int32(num_steps),
    )
    return TrainState(params=params, optimizer=after, step=state.step + num_steps), counts


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3, 4))
def update(
    network: T5,
    z_loss: float,
    label_smoothing: float,
    params: Params,
    state: optimizer.State,
    blocks: tuple[DeviceBlock, ...],
    learning_rates: jax.Array,
    key: jax.Array,
    first_step: jax.Array,
    num_steps: jax.Array,
) -> tuple[Params, optimizer.State, Counts]:
    """The compiled program of `train_steps`, which reuses the memory of `params` and `state`."""

    def loss(params: Params, block: DeviceBlock, key: jax.Array) -> tuple[jax.Array, Counts]:
        logits = teacher_forced_logits(network, params, block, dropout_key=key)
        counts = loss_and_counts(logits, block.decoder_target_tokens, z_loss=z_loss, label_smoothing=label_smoothing)
        return counts["loss"], counts

    def stepped(
        params: Params, state: optimizer.State, index: jax.Array | int
    ) -> tuple[Params, optimizer.State, Counts]:
        step_key = jax.random.fold_in(key, first_step + jnp.uint32(index))

        def gradients_and_counts(number: int) -> tuple[Params, Counts]:
            block = jax.tree.map(lambda arrays: arrays[index], blocks[number])
            block_key = jax.random.fold_in(step_key, np.uint32(number))
            gradients, counts = jax.grad(loss, has_aux=True)(params, block, block_key)
            return gradients, counts

        gradients, counts = gradients_and_counts(0)
        for number in range(1, len(blocks)):
            block_gradients, block_counts = gradients_and_counts(number)
            gradients = jax.tree.map(jnp.add, gradients, block_gradients)
            counts = jax.tree.map(jnp.add, counts, block_counts)
        params, state = optimizer.update(gradients, state, params, learning_rates[index])
        return params, state, counts

    if len(learning_rates) == 1:  # a loop would copy what it carries
        params, state, counts = stepped(params, state, 0)
        return params, state, jax.tree.map(lambda count: count[None], counts)

    def next_step(
        index: jax.Array, carried: tuple[Params, optimizer.State, Counts]
    ) -> tuple[Params, optimizer.State, Counts]:
        params, state, counts = stepped(*carried[:2], index)
        return (
            params,
            state,
            jax.tree.map(lambda all_counts, count: all_counts.at[index].set(count), carried[2], counts),
        )

    counts = {name: jnp.zeros(len(learning_rates), jnp.float32) for name in ("loss", "correct", "weight")}
    params, state, counts = jax.lax.fori_loop(0, num_steps, next_step, (params, state, counts))
    return params, state, counts


def check_finite(loss: float, step: int) -> None:
    """Raise `Diverged` if a loss is infinite or not a number."""
    if not math.isfinite(loss):
        raise Diverged(f"diverged: the loss is {loss} by step {step:,}; try a lower learning rate")


@settings()
def time_step(
    recipe: Recipe, model: T5Config, shape: Shape, *, num_steps: int = 5, memory_bytes: int | None = None
) -> dict[str, Any]:
    """Time a training step on this host, on a full block of that shape and without compilation.

    Returns `seconds_per_step`, the `device` and the number of `threads` (None: one per processor). Raises `MemoryError`
    if the step needs more memory than the device has, or on a CPU more than `memory_bytes`, by default nine tenths of
    the host's free memory.
    """
    try:
        return _timed(recipe, model, shape, num_steps, memory_bytes)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise MemoryError(first_line(error)) from None
        raise


def _timed(recipe: Recipe, model: T5Config, shape: Shape, num_steps: int, memory_bytes: int | None) -> dict[str, Any]:
    rng = stream(Purpose.TIMED_BATCH, 0)
    tokens = [
        rng.integers(2, model.vocab_size, (shape.rows, width), dtype=np.int32)
        for width in (shape.input_width, shape.target_width)
    ]
    block = Block(*tokens, *map(np.ones_like, tokens))
    most = steps_per_call(model, shape)
    blocks, network = place_steps([(block,)] * most, most), T5(model, dropout_rate=recipe.dropout_rate)
    key = named_key(0, Purpose.TIMED_DROPOUT)
    params = init_params(model, named_key(0, Purpose.TIMED_INIT))
    learning_rates = np.zeros(most, np.float32)
    if uses_cpu():
        _check_memory(network, recipe, params, blocks, learning_rates, key, memory_bytes)
    state = TrainState.start(params)
    started, num_calls = 0.0, math.ceil(num_steps / most)
    for call in range(num_calls + 2):
        if call == 2:  # the first call compiles, the second one brings the donated arrays into their layout
            _wait(state.params)
            started = time.perf_counter()
        state, _ = train_steps(
            network,
            state,
            blocks,
            learning_rates,
            key,
            z_loss=recipe.z_loss,
            label_smoothing=recipe.label_smoothing,
        )
    _wait(state.params)
    seconds = (time.perf_counter() - started) / (num_calls * most)
    return {"seconds_per_step": seconds, "device": device(), "threads": num_threads(os.environ)}


def _check_memory(
    network: T5,
    recipe: Recipe,
    params: Params,
    blocks: tuple[DeviceBlock, ...],
    learning_rates: npt.NDArray[np.float32],
    key: jax.Array,
    limit: int | None,
) -> None:
    """Raise `MemoryError` if a step would need more memory than there is: the kernel would end other processes too."""
    free = free_memory()
    limit = limit if limit is not None or free is None else free * 9 // 10
    start = jax.eval_shape(optimizer.init, params)
    arguments = (params, start, blocks, learning_rates, key, np.uint32(0), np.int32(len(learning_rates)))
    needs = update.lower(network, recipe.z_loss, recipe.label_smoothing, *arguments).compile().memory_analysis()
    if needs is None or limit is None:
        return
    needed = needs.temp_size_in_bytes + needs.argument_size_in_bytes
    if needed > limit:
        raise MemoryError(f"a step needs {needed / 2**30:.1f} GiB, and {limit / 2**30:.1f} GiB are free")


def _wait(arrays: Any) -> None:
    """Return once the device has computed all arrays of a tree."""
    jax.block_until_ready(arrays)  # type: ignore[no-untyped-call]  # JAX does not annotate it
