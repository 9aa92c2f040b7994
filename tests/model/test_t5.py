"""The model, its initial parameters and its loss, against T5X's numbers and by properties."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from raysynth.model.t5 import T5, Attention, init_params, loss_and_counts, project, relative_buckets
from raysynth.specs.models import T5_BASE, T5_SMALL, T5_V1_1_SMALL, T5Config
from raysynth.specs.parameters import parse, paths

TINY = T5Config(
    vocab_size=40, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1, mlp_dim=24
)
MODEL = T5(TINY)


@pytest.fixture(scope="module")
def params():
    """Random parameters, but for larger queries: with T5's own, attention hardly depends on what is attended."""
    drawn = flatten_dict(init_params(TINY, jax.random.key(0)), sep="/")
    return unflatten_dict({path: leaf * (8.0 if "query" in path else 1.0) for path, leaf in drawn.items()}, sep="/")


@partial(jax.jit, static_argnums=0)
def run(model, params, sources, targets, source_ids=None, target_ids=None, *, key=None):
    """Counts and logits in one compiled call, which most tests share."""
    rngs = None if key is None else {"dropout": key}
    logits = model.apply({"params": params}, sources, targets, source_ids, target_ids, rngs=rngs)
    return loss_and_counts(logits, targets, z_loss=0.0, label_smoothing=0.0), logits


@partial(jax.jit, static_argnums=0)
def gradient(model, params, sources, targets):
    return jax.grad(lambda params: run(model, params, sources, targets)[0]["loss"])(params)


def tokens(seed, *shape, low=2, high=40):
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.int32)


def ragged(seed, rows, length):
    """Rows of 2 ... length tokens, padded with 0."""
    lengths = np.random.default_rng(seed + 1000).integers(2, length + 1, rows)
    lengths[0] = length
    return np.where(np.arange(length)[None, :] < lengths[:, None], tokens(seed, rows, length), 0).astype(np.int32)


# --------------------------------------------------------------------------------------------------------------- golden


def assert_close_to_scale(found, expected):
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_logits_encodings_loss_and_gradients_are_t5x(reference):
    model, arrays = T5(reference.config), reference.arrays
    params = unflatten_dict(reference.params, sep="/")
    sources, targets = arrays["encoder_input_tokens"], arrays["decoder_target_tokens"]

    @jax.jit
    def run(params, z_loss):
        def loss(params):
            logits = model.apply({"params": params}, sources, targets)
            counts = loss_and_counts(logits, targets, z_loss=z_loss, label_smoothing=0.0)
            encoded = model.apply({"params": params}, sources, method="encode")
            return counts["loss"], (counts, logits, encoded)

        return jax.grad(loss, has_aux=True)(params)

    for z_loss, suffix in ((0.0, "z0"), (1e-4, "z1e4")):
        gradients, (counts, logits, encoded) = run(params, jnp.float32(z_loss))
        assert_close_to_scale(encoded[sources > 0], arrays["encoded"][sources > 0])
        assert_close_to_scale(logits[targets > 0], arrays["logits"][targets > 0])
        assert_close_to_scale(logits[targets > 0], arrays["hf_logits"][targets > 0])
        np.testing.assert_allclose(counts["loss"], arrays[f"loss_sum_{suffix}"], rtol=1e-6)
        assert counts["correct"] == arrays["correct_sum"]
        assert counts["weight"] == arrays["weight_sum"]
        gradients = flatten_dict(gradients, sep="/")
        norm = np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in gradients.values()))
        np.testing.assert_allclose(norm, arrays[f"grad_norm_{suffix}"], rtol=1e-5)
        if suffix == "z0":
            stored = [path for path in gradients if f"grads_z0/{path}" in arrays]
            assert len(stored) == sum(name.startswith("grads_z0/") for name in arrays) > 10
            for path in stored:
                expected = arrays[f"grads_z0/{path}"]
                np.testing.assert_allclose(gradients[path], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_packed_logits_are_t5x(reference):
    arrays = {
        name.removeprefix("packed_"): array for name, array in reference.arrays.items() if name.startswith("packed_")
    }
    logits = jax.jit(T5(reference.config).apply)(
        {"params": unflatten_dict(reference.params, sep="/")},
        arrays["encoder_input_tokens"],
        arrays["decoder_target_tokens"],
        arrays["encoder_segment_ids"],
        arrays["decoder_segment_ids"],
    )
    real = arrays["decoder_target_tokens"] > 0
    assert_close_to_scale(logits[real], arrays["logits"][real])


@pytest.mark.parametrize(("name", "bidirectional"), [("encoder_bucket", True), ("decoder_bucket", False)])
def test_relative_buckets_are_t5x(golden_folder, name, bidirectional):
    with np.load(golden_folder / "model/relpos_buckets.npz") as golden:
        buckets = relative_buckets(
            golden["relative_position"], bidirectional=bidirectional, num_buckets=32, max_distance=128
        )
        np.testing.assert_array_equal(buckets, golden[name])


@pytest.mark.parametrize(
    ("num_buckets", "max_distance"), [(2, 3), (8, 20), (16, 64), (36, 50), (64, 256), (72, 100), (128, 100)]
)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_buckets_of_other_sizes_are_hugging_faces(bidirectional, num_buckets, max_distance):
    torch = pytest.importorskip("torch", reason="torch is absent: pip install 'raysynth[parity]'")
    from transformers.models.t5.modeling_t5 import T5Attention

    places = np.arange(-3000, 3001)
    sizes = {"bidirectional": bidirectional, "num_buckets": num_buckets, "max_distance": max_distance}
    if bidirectional:
        sizes["num_buckets"] *= 2  # a half for each direction
    expected = T5Attention._relative_position_bucket(torch.from_numpy(places), **sizes)
    # PyTorch's logarithm depends on the processor, so the bucket of a place at the very edge of two does too.
    exact = num_buckets // 2
    edge = np.log(np.maximum(np.abs(places), 1) / exact) / np.log(max_distance / exact) * (num_buckets - exact)
    is_clear = (np.abs(edge - edge.round()) > 1e-5) | (np.abs(places) < exact)
    assert is_clear.mean() > 0.99
    np.testing.assert_array_equal(relative_buckets(places, **sizes)[is_clear], expected.numpy()[is_clear])


def test_loss_is_t5x(golden_folder):
    cases = json.loads((golden_folder / "loss/loss.json").read_text())["cases"]
    with np.load(golden_folder / "loss/loss.npz") as file:
        golden = {name: file[name] for name in file.files}

    @partial(jax.jit, static_argnums=2)
    def run(logits, z_loss, label_smoothing):
        def loss(logits):
            counts = loss_and_counts(logits, golden["targets"], z_loss=z_loss, label_smoothing=label_smoothing)
            return counts["loss"], counts

        return jax.grad(loss, has_aux=True)(logits)

    for z_loss in (0, 0.0001, 0.01):
        for smoothing in (0, 0.1):
            name = f"z{z_loss}_ls{smoothing}_lnfNone"
            gradient, counts = run(golden["logits"], np.float32(z_loss), float(smoothing))
            np.testing.assert_allclose(counts["loss"], cases[name]["loss"], rtol=1e-6)
            np.testing.assert_allclose(gradient, golden[f"{name}/grad_logits"], atol=1e-6)
            assert counts["weight"] == cases[name]["weight_sum"]
            assert counts["correct"] == cases["accuracy"]["total"]
            # The paper's runs set no normalizing factor, by which T5X divides this sum; a constant one would not reach
            # Adafactor's updates (see test_optimizer.py).
            np.testing.assert_allclose(counts["loss"] / 37, cases[name.replace("None", "37.0")]["loss"], rtol=1e-6)
    accuracy = counts["correct"] / counts["weight"]
    np.testing.assert_allclose(accuracy, cases["accuracy"]["value"], rtol=1e-6)
    _, counts = run(golden["logits"], np.float32(1e-4), 0.0)
    np.testing.assert_allclose(counts["loss"] / counts["weight"], cases["NUM_REAL_TARGET_TOKENS"]["loss"], rtol=1e-6)


# -------------------------------------------------------------------------------------------------------------- initial


@pytest.mark.parametrize("config", [TINY, T5_SMALL, T5_BASE, T5_V1_1_SMALL])
def test_parameters_have_the_described_paths_and_shapes(config):
    abstract = jax.eval_shape(partial(init_params, config), jax.random.key(0))
    leaves = flatten_dict(abstract, sep="/")
    assert {path: leaf.shape for path, leaf in leaves.items()} == paths(config)
    assert {leaf.dtype for leaf in leaves.values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize("family", [T5_SMALL, T5_V1_1_SMALL])
def test_initial_distributions_are_t5x(family):
    config = dataclasses.replace(
        family,
        vocab_size=1000,
        emb_dim=256,
        num_heads=8,
        head_dim=64,
        mlp_dim=512,
        num_encoder_layers=1,
        num_decoder_layers=1,
    )
    emb, width, mlp = 256, 512, 512
    normal, uniform, cut = 3.0, 1.8, 2.3652  # kurtosis; `cut` is a normal distribution cut at two of its own SDs
    expected = {  # standard deviation, kurtosis
        "embedding": (1.0, normal),
        "rel_embedding": (np.sqrt(2 / (8 + 32)), uniform),
        "query": (1 / np.sqrt(emb * 64), normal),
        "key": (1 / np.sqrt(emb), normal),
        "value": (1 / np.sqrt(emb), normal),
        "out": (1 / np.sqrt(width), normal),
        "wo": (1 / np.sqrt(mlp), cut),
    }
    if family is T5_SMALL:
        expected |= {"wi": (1 / np.sqrt(emb), cut)}
    else:
        expected |= {name: (1 / np.sqrt(emb), cut) for name in ("wi_0", "wi_1", "logits_dense")}
    largest = {uniform: np.sqrt(3), cut: 2 / 0.87962566}  # multiple of the standard deviation
    drawn = {}
    for path, leaf in flatten_dict(init_params(config, jax.random.key(1)), sep="/").items():
        assert leaf.dtype == jnp.float32
        if path.endswith("scale"):
            assert (leaf == 1).all()
        else:
            name = parse(path).matrix or path.split("/")[-2 if path.endswith("kernel") else -1]
            drawn.setdefault(name, []).append(np.ravel(leaf).astype(np.float64))
    assert drawn.keys() == expected.keys()
    for name, (sd, kurtosis) in expected.items():
        values = np.concatenate(drawn[name]) / sd
        spread = 5 / np.sqrt(values.size)
        assert abs(values.mean()) < spread, name
        assert abs(values.std() - 1) < spread, name
        assert abs(np.mean(values**4) - kurtosis) < 10 * spread, name
        if kurtosis in largest:
            assert 0.97 * largest[kurtosis] < np.abs(values).max() <= largest[kurtosis] * (1 + 1e-5), name
        else:
            assert np.abs(values).max() > 3.5, name


def test_initial_parameters_depend_on_key_and_path_only():
    once = flatten_dict(init_params(TINY, jax.random.key(0)), sep="/")
    deeper = dataclasses.replace(TINY, num_encoder_layers=3, logits_via_embedding=False)
    again = flatten_dict(init_params(deeper, jax.random.key(0)), sep="/")
    other = flatten_dict(init_params(TINY, jax.random.key(1)), sep="/")
    for path, leaf in once.items():
        np.testing.assert_array_equal(leaf, again[path])
        assert path.endswith("scale") or not np.array_equal(leaf, other[path])


# ----------------------------------------------------------------------------------------------------------- properties


def test_padding_to_the_right_changes_nothing(params):
    sources, targets = ragged(0, 4, 8), ragged(1, 4, 8)
    wide_sources, wide_targets = np.pad(sources, ((0, 0), (0, 6))), np.pad(targets, ((0, 0), (0, 3)))
    short, logits = run(MODEL, params, sources, targets)
    long, wide_logits = run(MODEL, params, wide_sources, wide_targets)
    np.testing.assert_allclose(wide_logits[:, :8][targets > 0], logits[targets > 0], atol=1e-5)
    np.testing.assert_allclose(long["loss"], short["loss"], rtol=1e-6)
    assert (long["correct"], long["weight"]) == (short["correct"], short["weight"])


def test_padding_does_not_reach_gradients(params):
    """Nor do rows of nothing but padding."""
    sources, targets = ragged(2, 4, 8), ragged(3, 4, 8)
    short = flatten_dict(gradient(MODEL, params, sources, targets), sep="/")
    wide = [np.pad(array, ((0, 2), (0, 3))) for array in (sources, targets)]
    long = flatten_dict(gradient(MODEL, params, *wide), sep="/")
    for path, leaf in short.items():
        np.testing.assert_allclose(long[path], leaf, rtol=0, atol=1e-5 * np.abs(leaf).max())


def test_a_target_depends_on_earlier_targets_and_the_whole_input(params):
    sources, targets = tokens(4, 4, 8), tokens(5, 4, 8)
    _, before = run(MODEL, params, sources, targets)
    changed = targets.copy()
    changed[:, 4] = 2 + (targets[:, 4] - 1) % 38
    _, after = run(MODEL, params, sources, changed)
    np.testing.assert_allclose(after[:, :5], before[:, :5], atol=1e-6)
    assert (np.abs(after - before).max(axis=-1)[:, 5:] > 1e-4).all()
    changed = sources.copy()
    changed[:, 7] = 2 + (sources[:, 7] - 1) % 38
    assert (np.abs(run(MODEL, params, changed, targets)[1] - before).max(axis=-1) > 1e-6).all()


def test_packing_changes_nothing(params):
    sources = [tokens(10 + index, length) for index, length in enumerate([3, 5, 2, 8])]
    targets = [tokens(20 + index, length) for index, length in enumerate([4, 2, 5, 8])]

    def pack(rows, length):
        ids = np.concatenate([np.full(len(row), index + 1) for index, row in enumerate(rows)])
        return [np.pad(line, (0, length - len(ids)))[None].astype(np.int32) for line in (np.concatenate(rows), ids)]

    def pad(rows):
        return np.stack([np.pad(row, (0, 8 - len(row))) for row in rows])

    (packed_sources, source_ids), (packed_targets, target_ids) = pack(sources, 20), pack(targets, 21)
    packed, logits = run(MODEL, params, packed_sources, packed_targets, source_ids, target_ids)
    unpacked, alone = run(MODEL, params, pad(sources), pad(targets))
    np.testing.assert_allclose(packed["loss"], unpacked["loss"], rtol=1e-5)
    assert packed["weight"] == unpacked["weight"]
    np.testing.assert_allclose(logits[0, 4:6], alone[1, :2], atol=1e-5)
    np.testing.assert_allclose(logits[0, 6:11], alone[2, :5], atol=1e-5)


def test_dropout_acts_only_with_a_key(params):
    sources, targets = ragged(6, 4, 8), ragged(7, 4, 8)
    dropping = T5(TINY, dropout_rate=0.5)
    _, plain = run(MODEL, params, sources, targets)
    np.testing.assert_array_equal(run(dropping, params, sources, targets)[1], plain)
    one, again, other = (run(dropping, params, sources, targets, key=jax.random.key(seed))[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    assert not np.allclose(one, plain)


def test_dropout_shares_one_mask_along_the_length(params):
    """With the layers silenced, what is left of the encoder is input dropout, norm and output dropout."""
    silent = {
        path: leaf * (0.0 if path.split("/")[-2] in ("out", "wo") else 1.0)
        for path, leaf in flatten_dict(params, sep="/").items()
    }
    encode = jax.jit(partial(T5(TINY, dropout_rate=0.5).apply, method="encode"))
    encoded = encode(
        {"params": unflatten_dict(silent, sep="/")},
        np.full((8, 32), 5, np.int32),
        rngs={"dropout": jax.random.key(0)},
    )
    dropped = np.asarray(encoded) == 0
    always = dropped.all(axis=1)  # [batch, emb_dim]: by the shared input mask
    assert 0.3 < always.mean() < 0.7
    others = dropped.transpose(0, 2, 1)[~always]
    assert 0.45 < others.mean() < 0.55  # by the output mask, of every place its own
    assert len(np.unique(others, axis=0)) > len(others) / 2


def test_attention_dropout_drops_keys_for_all_queries():
    """Weights dropped with one mask along the queries, as in T5X, are whole values dropped."""
    attention = Attention(TINY, dropout_rate=0.5)
    x, bias = jnp.ones((2, 6, 16)), jnp.zeros((1, 1, 6, 6))

    @jax.jit
    def run(keys):
        variables = attention.init(jax.random.key(0), x, x, bias)
        dropping = jax.vmap(lambda key: attention.apply(variables, x, x, bias, rngs={"dropout": key}))
        return attention.apply(variables, x, x, bias), dropping(keys)

    plain, dropped = run(jax.random.split(jax.random.key(1), 2000))
    np.testing.assert_allclose(dropped, jnp.broadcast_to(dropped[:, :, :1], dropped.shape), atol=1e-5)
    assert np.abs(dropped.mean(axis=0) - plain).max() < 0.1 * np.abs(plain).max()


def test_an_id_outside_the_vocabulary_is_not_silent(params):
    sources, targets = tokens(30, 4, 8), tokens(31, 4, 8)
    sources[0, 1] = 40
    assert np.isnan(run(MODEL, params, sources, targets)[0]["loss"])


def test_eight_devices_give_the_loss_of_one(params):
    sources, targets = ragged(40, 16, 8), ragged(41, 16, 8)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    assert mesh.size == 8
    rows = NamedSharding(mesh, PartitionSpec("data"))
    whole = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    spread, _ = run(MODEL, whole, jax.device_put(sources, rows), jax.device_put(targets, rows))
    alone = [run(MODEL, params, sources[part : part + 4], targets[part : part + 4])[0] for part in (0, 4, 8, 12)]
    for name, value in spread.items():
        np.testing.assert_allclose(value, sum(counts[name] for counts in alone), rtol=1e-6)


@pytest.mark.parametrize(("inner", "outer"), [(256, 300), (300, 256), (256, 24), (24, 256)])
def test_a_kernel_gradient_is_the_product_of_inputs_and_output_gradients(inner, outer):
    """Of kernels both sides of the width from which a side is transposed first, on one device and on eight."""
    rng = np.random.default_rng(inner)
    x, kernel, gradient = (rng.normal(size=shape) for shape in ((8, 5, inner), (inner, outer), (8, 5, outer)))
    expected = np.einsum("bli,blo->io", x, gradient), np.einsum("blo,io->bli", gradient, kernel)
    x, kernel, gradient = (array.astype(np.float32) for array in (x, kernel, gradient))
    mesh = Mesh(np.array(jax.devices()), ("data",))
    rows, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    pull_back = jax.jit(lambda x, kernel, gradient: jax.vjp(project, x, kernel)[1](gradient))
    for given in (x, kernel, gradient), (jax.device_put(x, rows), jax.device_put(kernel, whole), gradient):
        of_x, of_kernel = pull_back(*given)
        np.testing.assert_allclose(of_kernel, expected[0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(of_x, expected[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("backend", "barriers"), [("cpu", 2), ("gpu", 1), ("tpu", 1)])
def test_only_a_cpu_transposes_before_it_multiplies(monkeypatch, backend, barriers):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    x, kernel, gradient = jnp.ones((4, 256)), jnp.ones((256, 512)), jnp.ones((4, 512))
    traced = jax.make_jaxpr(lambda *given: jax.vjp(project, *given[:2])[1](given[2]))(x, kernel, gradient)
    assert str(traced).count("optimization_barrier") == barriers


def test_correct_is_the_first_of_equal_maxima():
    logits = jnp.asarray([[[0, 3, 3, 1], [2, 2, 2, 2], [0, 0, 1, 5], [9, 0, 0, 0]]], jnp.float32)
    for targets, correct in (([1, 1, 3, 0], 2), ([2, 1, 2, 0], 0), ([1, 2, 3, 1], 2)):
        counts = loss_and_counts(logits, jnp.asarray([targets]), z_loss=0.0, label_smoothing=0.0)
        assert counts["correct"] == correct
        assert int(counts["weight"]) == np.count_nonzero(targets)


def test_random_parameters_are_flax_s_own_and_the_network_is_traced_once_for_all_keys(monkeypatch):
    config = dataclasses.replace(TINY, emb_dim=24)  # a shape of its own, of which nothing is kept yet
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    keys = [jax.random.key(seed) for seed in range(3)]
    expected = [T5(config).lazy_init(key, tokens, tokens)["params"] for key in keys]
    traced = []
    lazy_init = T5.lazy_init
    monkeypatch.setattr(T5, "lazy_init", lambda *arguments: traced.append(None) or lazy_init(*arguments))
    jax.tree.map(np.testing.assert_array_equal, [init_params(config, key) for key in keys], expected)
    assert len(traced) == 1
