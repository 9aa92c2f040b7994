"""Adafactor and schedules, against T5X's trajectories."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from raysynth.model import optimizer
from raysynth.model.t5 import T5, loss_and_counts
from raysynth.specs.recipes import Constant, InverseSquareRoot


@pytest.fixture(scope="module")
def golden(golden_folder):
    with np.load(golden_folder / "optimizer/adafactor.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def described(golden_folder):
    return json.loads((golden_folder / "optimizer/adafactor.json").read_text())


@pytest.mark.parametrize("schedule", ["const1e-3", "rsqrt10000"])
def test_trajectories_are_t5x(golden, described, schedule, compilations):
    names = list(described["params"])
    params = {name: jnp.asarray(golden[f"params0/{name}"]) for name in names}
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    num_compilations = []
    for index, rate in enumerate(described["learning_rates"][schedule]):
        gradients = {name: golden[f"grads/{name}"][index].astype(np.float32) for name in names}
        with compilations() as compiled:
            params, state = update(gradients, state, params, np.float32(rate))
        num_compilations.append(len(compiled))
        for name in names:
            flat = np.ravel(params[name])
            probes = golden[f"{schedule}/probe_index/{name}"]
            np.testing.assert_allclose(
                flat[probes], golden[f"{schedule}/probe/{name}"][index], atol=1e-6, rtol=1e-6, err_msg=name
            )
            stored = np.flatnonzero(golden[f"{schedule}/steps/{name}"] == index + 1)
            if stored.size:
                expected = golden[f"{schedule}/params/{name}"][stored[0]]
                np.testing.assert_allclose(params[name], expected, atol=1e-6, rtol=1e-6, err_msg=name)
    assert not any(num_compilations[1:])
    for name in names:
        for part in ("v_row", "v_col", "v"):
            expected = golden[f"{schedule}/state_final/{name}/{part}"]
            np.testing.assert_allclose(getattr(state, part)[name], expected, rtol=1e-5, atol=1e-30, err_msg=name)


def test_five_training_steps_are_t5x(golden_folder, reference):
    described = json.loads((golden_folder / "train/train_5_steps.json").read_text())[reference.name]
    with np.load(golden_folder / "train/train_5_steps.npz") as file:
        prefix = f"{reference.name}/params_after_5/"
        expected = {name.removeprefix(prefix): file[name] for name in file.files if name.startswith(prefix)}
    model = T5(reference.config)
    sources, targets = (reference.arrays[name] for name in ("encoder_input_tokens", "decoder_target_tokens"))

    @jax.jit
    def step(params, state, rate):
        def loss(params):
            logits = model.apply({"params": params}, sources, targets)
            counts = loss_and_counts(logits, targets, z_loss=described["z_loss"], label_smoothing=0.0)
            return counts["loss"], counts

        gradients, counts = jax.grad(loss, has_aux=True)(params)
        return *optimizer.update(gradients, state, params, rate), counts

    params = unflatten_dict(reference.params, sep="/")
    state = optimizer.init(params)
    counts_of_steps = []
    for rate in [*described["learning_rates"], 0.0]:
        after, state, counts = step(params, state, np.float32(rate))
        counts_of_steps.append(counts)
        params = after if rate else params
    losses = [counts["loss"] for counts in counts_of_steps]
    np.testing.assert_allclose(losses, described["loss_sum_before_each_step_and_at_the_end"], rtol=1e-5)
    assert [float(counts["correct"]) for counts in counts_of_steps] == described["correct_sum"]
    params = flatten_dict(params, sep="/")
    assert len(expected) > 10
    assert expected.keys() <= params.keys()
    differences = np.concatenate([np.ravel(np.abs(params[path] - expected[path])) for path in expected])
    assert np.mean(differences > 2e-5) < 1e-3  # a first update is g / |g|, so a tiny gradient may change its sign
    assert differences.max() < 0.05


def test_a_constant_factor_of_the_loss_changes_no_update():
    """So T5X's loss_normalizing_factor, which the paper's runs left at None, could not have changed them."""
    rng = np.random.default_rng(0)
    shapes = {"factored": (130, 140), "whole": (12, 40), "vector": (64,)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    ends = []
    for factor in (1.0, 1 / 37):
        moved, state = params, optimizer.init(params)
        for step in range(3):
            draw = np.random.default_rng(step)
            gradients = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
            scaled = {name: gradient * np.float32(factor) for name, gradient in gradients.items()}
            moved, state = optimizer.update(scaled, state, moved, np.float32(0.01))
        ends.append(moved)
    for name in shapes:
        assert np.abs(ends[0][name] - params[name]).max() > 0.01
        np.testing.assert_allclose(ends[0][name], ends[1][name], atol=1e-6)


def test_large_matrices_have_a_factored_state():
    shapes = {"at": (128, 128), "below": (127, 512), "vector": (512,)}
    state = optimizer.init({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    assert {name: leaf.shape for name, leaf in state.v.items()} == {"at": (1,), "below": (127, 512), "vector": (512,)}
    assert (state.v_row["at"].shape, state.v_col["at"].shape) == ((128,), (128,))


def test_a_step_is_relative_to_the_parameters_size():
    small, large = np.full((4, 4), 1e-6, np.float32), np.full((4, 4), 10.0, np.float32)
    params = {"small": small, "large": large}
    after, _ = optimizer.update(jax.tree.map(np.ones_like, params), optimizer.init(params), params, np.float32(0.01))
    np.testing.assert_allclose(small - after["small"], 0.01 * 1e-3, rtol=1e-5)
    np.testing.assert_allclose(large - after["large"], 0.01 * 10.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "name"),
    [
        (InverseSquareRoot(), "pretrain: rsqrt_decay, warmup 10000 (base unused)"),
        (Constant(0.001), "finetune: constant 0.001"),
        (Constant(0.003), "finetune: constant 0.003"),
    ],
)
def test_schedules_are_t5x(golden_folder, schedule, name):
    golden = json.loads((golden_folder / "loss/loss.json").read_text())["learning_rate"][name]
    assert {step: optimizer.learning_rate(schedule, int(step)) for step in golden} == golden


def test_schedule_values():
    pretraining = [optimizer.learning_rate(InverseSquareRoot(), step) for step in (0, 1, 9_999, 10_000, 20_000)]
    np.testing.assert_allclose(pretraining, [0.01, 0.01, 0.01, 0.01, 0.0070710678], rtol=1e-7)
    np.testing.assert_allclose(optimizer.learning_rate(InverseSquareRoot(warmup_steps=4), 0), 0.5)
