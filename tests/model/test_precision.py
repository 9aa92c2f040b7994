"""Precision: parameters, softmax, norms, sums and the loss stay float32 whatever the type of activations."""

import dataclasses
from functools import partial

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from raysynth.data.layout import Block
from raysynth.model.decode import generate
from raysynth.model.decode_step import start_decoding
from raysynth.model.devices import place_steps
from raysynth.model.step import TrainState, train_steps
from raysynth.model.t5 import T5, activation_dtype, init_params, loss_and_counts
from raysynth.specs.models import Dtype, T5Config

LARGER = T5Config(
    vocab_size=512, emb_dim=128, num_heads=4, head_dim=32, num_encoder_layers=2, num_decoder_layers=2, mlp_dim=256
)
GATED = dataclasses.replace(LARGER, mlp_activations=("gelu", "linear"), logits_via_embedding=False)
TINY = dataclasses.replace(LARGER, vocab_size=40, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=24)


def half(config):
    return dataclasses.replace(config, dtype=Dtype.BFLOAT16)


def tokens(seed, rows, length, vocab_size):
    """Rows of 2 ... length tokens, padded with 0."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(2, vocab_size, (rows, length))
    return np.where(np.arange(length) < rng.integers(2, length + 1, (rows, 1)), drawn, 0).astype(np.int32)


def loss(config, params, sources, targets, key=None):
    network = T5(config, dropout_rate=0.0 if key is None else 0.1)
    logits = network.apply({"params": params}, sources, targets, rngs=None if key is None else {"dropout": key})
    return loss_and_counts(logits, targets, z_loss=1e-4, label_smoothing=0.1)["loss"]


# -------------------------------------------------------------------------------- what is computed in which type


def equations(jaxpr):
    """All primitive operations of a traced function, those of inner functions among them."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda leaf: isinstance(leaf, jax.extend.core.Jaxpr | jax.extend.core.ClosedJaxpr),
        ):
            if isinstance(inner, jax.extend.core.ClosedJaxpr):
                yield from equations(inner.jaxpr)
            elif isinstance(inner, jax.extend.core.Jaxpr):
                yield from equations(inner)


def traced(function, config):
    params = jax.eval_shape(partial(init_params, config), jax.random.key(0))
    places = np.full((2, 6), 3, np.int32)
    called = partial(function, config)
    return list(equations(jax.make_jaxpr(called)(params, places, places, jax.random.key(0)).jaxpr))


def float_types(operations, *names):
    """The floating types that the operations of these names read."""
    types = {
        variable.aval.dtype
        for equation in operations
        if equation.primitive.name in names
        for variable in equation.invars
    }
    return {str(dtype) for dtype in types if jnp.issubdtype(dtype, jnp.floating)}


def products(operations):
    """The number of matrix products by the types of left operand, right operand and result."""
    counts = {}
    for equation in operations:
        if equation.primitive.name == "dot_general":
            types = tuple(str(variable.aval.dtype) for variable in (*equation.invars, *equation.outvars))
            counts[types] = counts.get(types, 0) + 1
    return counts


def gradient(config, *arguments):
    return jax.grad(lambda params, *rest: loss(config, params, *rest))(*arguments)


@pytest.mark.parametrize("function", [loss, gradient])
@pytest.mark.parametrize("config", [TINY, GATED])
def test_softmax_norms_and_loss_are_float32(config, function):
    """No exponential, logarithm, root, maximum or sum reads a bfloat16, in the model, its loss or their gradients."""
    operations = traced(function, half(config))
    for name in ("exp", "log", "rsqrt", "reduce_max", "reduce_sum"):
        assert float_types(operations, name) == {"float32"}, name
    names = [equation.primitive.name for equation in operations]
    assert names.count("exp") >= 7  # six attentions and the loss
    assert names.count("rsqrt") >= 12  # five norms for each of two pairs of layers, and two more


def test_matrix_products_are_bfloat16_but_for_attention_logits_and_the_output_layer():
    forward = products(traced(loss, half(TINY)))
    low, wide, full = ("bfloat16",) * 3, ("bfloat16", "bfloat16", "float32"), ("float32",) * 3
    # Two layers per stack: six attentions of four kernels and four MLPs of two; two products in each attention.
    assert forward == {low: 6 * 4 + 4 * 2, wide: 6 * 2, full: 1}
    # Gradients multiply operands of one type, as matrix units require.
    assert set(products(traced(gradient, half(TINY)))) == {low, wide, full}


@pytest.mark.parametrize("function", [loss, gradient])
def test_float32_activations_use_no_bfloat16(function):
    operations = traced(function, dataclasses.replace(TINY, dtype=Dtype.FLOAT32))
    types = {str(variable.aval.dtype) for equation in operations for variable in (*equation.invars, *equation.outvars)}
    assert "float32" in types
    assert not types & {"bfloat16", "float16", "float64"}


def test_layers_return_activations_in_the_described_type():
    sources, targets = tokens(0, 2, 6, 40), tokens(1, 2, 6, 40)
    params = init_params(TINY, jax.random.key(0))
    for dtype in (Dtype.BFLOAT16, Dtype.FLOAT32):
        network = T5(dataclasses.replace(TINY, dtype=dtype))
        logits, seen = network.apply({"params": params}, sources, targets, capture_intermediates=True)
        assert logits.dtype == jnp.float32
        layers = {
            path: leaf.dtype
            for path, leaf in flatten_dict(seen["intermediates"], sep="/").items()
            for leaf in leaf
            if isinstance(leaf, jax.Array)
            and not path.startswith(("decoder/__call__", "__call__"))
            and "relpos_bias" not in path
        }
        assert {"encoder/layers_1/__call__", "decoder/layers_0/mlp/wo/__call__"} <= layers.keys()
        assert set(layers.values()) == {jnp.dtype(dtype.value)}


def test_the_type_of_activations_follows_the_device(monkeypatch):
    assert T5Config().dtype is Dtype.DEVICE
    for backend, expected in (("cpu", jnp.float32), ("gpu", jnp.bfloat16), ("tpu", jnp.bfloat16)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert activation_dtype(Dtype.DEVICE) == expected
        assert activation_dtype(Dtype.FLOAT32) == jnp.float32
        assert activation_dtype(Dtype.BFLOAT16) == jnp.bfloat16


# -------------------------------------------------------------------------------- how close bfloat16 is


def distance(config, params, sources, targets):
    """Relative distance of the bfloat16 loss from the float32 one, and the least cosine of a parameter's gradients."""
    run = jax.jit(jax.value_and_grad(lambda params, config: loss(config, params, sources, targets)), static_argnums=1)
    (full, full_gradients), (low, low_gradients) = (run(params, chosen) for chosen in (config, half(config)))
    cosines = []
    for a, b in zip(jax.tree.leaves(full_gradients), jax.tree.leaves(low_gradients), strict=True):
        a, b = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
        cosines.append(a @ b / np.sqrt((a @ a) * (b @ b)))
    return abs(float(low / full) - 1), min(cosines)


def test_the_bfloat16_loss_is_near_on_the_golden_models(reference):
    arrays = reference.arrays
    params = unflatten_dict(reference.params, sep="/")
    gap, cosine = distance(reference.config, params, arrays["encoder_input_tokens"], arrays["decoder_target_tokens"])
    assert gap < 2e-3  # 1e-4 and 3e-4 on CPU
    assert cosine > 0.99


@pytest.mark.long
@pytest.mark.parametrize("config", [LARGER, GATED])
def test_the_bfloat16_loss_and_gradients_are_near_on_a_larger_model(config):
    sources, targets = tokens(0, 16, 64, 512), tokens(1, 16, 48, 512)
    gap, cosine = distance(config, init_params(config, jax.random.key(0)), sources, targets)
    assert gap < 1e-3  # 1e-4 and 2e-5 on CPU
    assert cosine > 0.995


# -------------------------------------------------------------------------------- training and decoding in bfloat16


def test_training_in_bfloat16_keeps_parameters_and_optimizer_in_float32_and_follows_float32():
    config = dataclasses.replace(LARGER, num_encoder_layers=1, num_decoder_layers=1)
    blocks = place_steps([(Block(tokens(2, 8, 24, 512), tokens(3, 8, 16, 512)),)])
    losses = {}
    for dtype in (Dtype.FLOAT32, Dtype.BFLOAT16):
        network = T5(dataclasses.replace(config, dtype=dtype))
        state = TrainState.start(init_params(config, jax.random.key(0)))
        losses[dtype] = []
        for _ in range(10):
            state, counts = train_steps(
                network,
                state,
                blocks,
                np.array([0.01], np.float32),
                jax.random.key(0),
                z_loss=1e-4,
                label_smoothing=0.0,
            )
            losses[dtype].append(float(counts["loss"][0]))
        leaves = jax.tree.leaves((state.params, state.optimizer))
        assert {leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)} == {jnp.dtype("float32")}
        assert {value.dtype for value in counts.values()} == {jnp.dtype("float32")}
    assert losses[Dtype.FLOAT32][-1] < 0.9 * losses[Dtype.FLOAT32][0]
    np.testing.assert_allclose(losses[Dtype.BFLOAT16], losses[Dtype.FLOAT32], rtol=5e-3)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_decoding_in_bfloat16_keeps_a_bfloat16_cache_and_float32_scores(num_beams):
    config = dataclasses.replace(TINY, num_encoder_layers=1, num_decoder_layers=1)
    params, sources = init_params(config, jax.random.key(0)), tokens(4, 4, 6, 40)
    start = partial(start_decoding, T5(half(config)), decode_length=5, num_beams=num_beams)
    _, cache = jax.eval_shape(start, params, sources)
    assert {leaf.dtype for leaf in (*cache.keys, *cache.values)} == {jnp.dtype("bfloat16")}
    _, low = generate(T5(half(config)), params, sources, decode_length=5, num_beams=num_beams)
    _, full = generate(T5(config), params, sources, decode_length=5, num_beams=num_beams)
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, full, rtol=0.02)
