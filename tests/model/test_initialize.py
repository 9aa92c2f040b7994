"""Init schemes as functions of parameters, against statistics from the paper's code."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from raysynth.errors import InputError
from raysynth.model.initialize import initialize, mean_and_sd, spaced
from raysynth.specs.datasets import Dataset
from raysynth.specs.init_schemes import (
    ComposedInit,
    ConstantInit,
    Embeddings,
    Family,
    FullInit,
    GroupBy,
    NoisedInit,
    RandomInit,
    Statistic,
    StatisticInit,
)
from raysynth.specs.models import T5Config
from raysynth.specs.parameters import Kind, groups, parse, paths, touched
from raysynth.specs.pretraining import Pretrain, Pretrained
from raysynth.synthetic.catalog import synthetic_tasks
from raysynth.tokens.token_space import token_space
from tests.statistic_schemes import SCHEMES

KEY = jax.random.key(3)
# The shape of the toy checkpoint, with a vocabulary large enough for a description.
MODEL = T5Config(vocab_size=64, emb_dim=16, num_heads=2, head_dim=6, mlp_dim=24)
SOURCE = Pretrain(
    data=Dataset(
        task=dataclasses.replace(synthetic_tasks["identity"], tokens=token_space(num_pieces=32, num_sentinels=8))
    ),
    model=MODEL,
)


def arrays(model, seed):
    rng = np.random.default_rng(seed)
    values = {
        path: rng.normal(rng.normal(), rng.uniform(0.1, 1), shape).astype(np.float32)
        for path, shape in paths(model).items()
    }
    return unflatten_dict(values, sep="/")


def flat(params):
    return flatten_dict(params, sep="/")


RANDOM, TRAINED = arrays(MODEL, 0), arrays(MODEL, 1)


def scheme_of(name):
    group_by, statistic, where = SCHEMES[name]
    return StatisticInit(SOURCE, group_by=group_by, statistic=statistic, where=where)


ALL_SCHEMES = [
    RandomInit(MODEL),
    FullInit(SOURCE),
    FullInit(SOURCE, embeddings=Embeddings.SOURCE),
    FullInit(SOURCE, where=("attention", "relative_bias")),
    NoisedInit(SOURCE, scale=0.5),
    NoisedInit(SOURCE, scale=2.0, where=Family.MLP, embeddings=Embeddings.SOURCE),
    StatisticInit(SOURCE, group_by="parameter", statistic="shuffled", where=("layer_norm", "mlp")),
    ConstantInit(MODEL, where=Family.PRE_ATTENTION_LAYER_NORM, value=0.2),
    *(scheme_of(name) for name in SCHEMES),
    ComposedInit(
        schemes=(
            StatisticInit(SOURCE, group_by=GroupBy.PARAMETER, statistic=Statistic.MEAN_SD, where=Family.ATTENTION),
            ConstantInit(MODEL, where=Family.PRE_ATTENTION_LAYER_NORM, value=0.2),
        )
    ),
]


@pytest.mark.parametrize("name", SCHEMES)
def test_statistics_are_those_of_the_papers_code(golden_folder, name):
    golden = json.loads((golden_folder / "init/init_schemes.json").read_text())["schemes"][name]
    with np.load(golden_folder / "init/init_toy.npz") as file:
        toy = {path.removeprefix("pretrained/"): file[path] for path in file.files}
    for group in golden["groups"]:
        mean, sd = mean_and_sd([toy[path] for path in group["params"]])
        np.testing.assert_allclose([mean, sd], [group["mean"], group["sd"]], rtol=1e-5, atol=1e-7)

    # The scheme's values are constant if the paper's code sets a constant; else they have the group's moments.
    toy_params = {path: value for path, value in toy.items() if path != "token_embedder/embedding"}
    toy_params["token_embedder/embedding"] = flat(RANDOM)["token_embedder/embedding"]
    params = flat(initialize(scheme_of(name), RANDOM, {SOURCE: unflatten_dict(toy_params, sep="/")}, KEY))
    for group in golden["groups"]:
        values = np.concatenate([np.ravel(params[path]) for path in group["params"]])
        if group["kind"] == "constant_mean":
            np.testing.assert_allclose(values, group["mean"], rtol=1e-5)
            continue
        mean = group["mean"] if group["kind"] == "normal_mean_sd" else 0.0
        error = group["sd"] / np.sqrt(values.size)
        assert abs(values.mean() - mean) < 5 * error
        assert abs(values.std() - group["sd"]) < 5 * error / np.sqrt(2) + 0.01 * group["sd"]


@pytest.mark.parametrize("scheme", ALL_SCHEMES, ids=lambda scheme: scheme.name)
def test_only_the_touched_values_change(scheme):
    params = flat(initialize(scheme, RANDOM, {SOURCE: TRAINED}, KEY))
    assert {path: (leaf.shape, leaf.dtype) for path, leaf in params.items()} == {
        path: (leaf.shape, leaf.dtype) for path, leaf in flat(RANDOM).items()
    }
    for path, leaf in flat(RANDOM).items():
        assert np.array_equal(params[path], leaf) == (path not in touched(scheme))


def test_random_parameters_are_not_modified():
    before = {path: leaf.copy() for path, leaf in flat(RANDOM).items()}
    initialize(FullInit(SOURCE), RANDOM, {SOURCE: TRAINED}, KEY)
    assert all(np.array_equal(leaf, before[path]) for path, leaf in flat(RANDOM).items())


def test_full_init_takes_the_sources_values():
    params = flat(initialize(FullInit(SOURCE), RANDOM, {SOURCE: TRAINED}, KEY))
    for path, leaf in flat(TRAINED).items():
        expected = flat(RANDOM)[path] if path == "token_embedder/embedding" else leaf
        np.testing.assert_array_equal(params[path], expected)


def test_constant_init():
    scheme = ConstantInit(MODEL, where=Family.PRE_ATTENTION_LAYER_NORM, value=0.05)
    params = flat(initialize(scheme, RANDOM, {}, KEY))
    assert len(touched(scheme)) == 18
    for path in touched(scheme):
        np.testing.assert_array_equal(params[path], np.full(16, 0.05, np.float32))


def test_mean_sd_draws_norms_and_scale_sets_them():
    norms = [path for path in paths(MODEL) if parse(path).kind is Kind.LAYER_NORM]
    spreads = {}
    for statistic in (Statistic.MEAN_SD, Statistic.SCALE):
        scheme = StatisticInit(SOURCE, group_by=GroupBy.PARAMETER, statistic=statistic)
        params = flat(initialize(scheme, RANDOM, {SOURCE: TRAINED}, KEY))
        spreads[statistic] = [float(np.ptp(params[path])) for path in norms]
    assert min(spreads[Statistic.MEAN_SD]) > 0
    assert max(spreads[Statistic.SCALE]) == 0


def test_draws_depend_on_key_and_path_only():
    scheme = scheme_of("per_param_grouping___init_mean_std")
    once = flat(initialize(scheme, RANDOM, {SOURCE: TRAINED}, KEY))
    backwards = {path: flat(TRAINED)[path] for path in sorted(flat(TRAINED), reverse=True)}
    again = flat(initialize(scheme, RANDOM, {SOURCE: unflatten_dict(backwards, sep="/")}, KEY))
    other = flat(initialize(scheme, RANDOM, {SOURCE: TRAINED}, jax.random.key(4)))
    for path in touched(scheme):
        np.testing.assert_array_equal(once[path], again[path])
        assert not np.array_equal(once[path], other[path])

    # A narrower scheme draws the same values for what both touch.
    mlp = StatisticInit(SOURCE, group_by=GroupBy.PARAMETER, statistic=Statistic.MEAN_SD, where=Family.MLP)
    narrow = flat(initialize(mlp, RANDOM, {SOURCE: TRAINED}, KEY))
    for path in touched(mlp):
        np.testing.assert_array_equal(narrow[path], once[path])
    two = [once[f"encoder/layers_{layer}/attention/query/kernel"] for layer in (0, 1)]
    assert abs(np.corrcoef(np.ravel(two[0]), np.ravel(two[1]))[0, 1]) < 0.3


@pytest.mark.parametrize("scheme", [FullInit(SOURCE), scheme_of("per_param_grouping___init_scale")])
def test_a_source_that_does_not_fit_is_a_one_line_error(scheme):
    path = "decoder/layers_2/mlp/wi/kernel"
    missing = flat(TRAINED)
    del missing[path]
    with pytest.raises(InputError, match=f"have no '{path}'"):
        initialize(scheme, RANDOM, {SOURCE: unflatten_dict(missing, sep="/")}, KEY)
    wrong = flat(TRAINED) | {path: np.zeros((16, 25), np.float32)}
    with pytest.raises(InputError, match=rf"'{path}' must have shape \(16, 24\), got \(16, 25\)"):
        initialize(scheme, RANDOM, {SOURCE: unflatten_dict(wrong, sep="/")}, KEY)


# -------------------------------------------------------------------------------- composed schemes

LAYER_NORMS = ConstantInit(MODEL, where=Family.PRE_ATTENTION_LAYER_NORM, value=0.2)
OTHER, OTHER_TRAINED = dataclasses.replace(SOURCE, seed=1), arrays(MODEL, 2)


def of(source, where=Family.ALL, **fields):
    return StatisticInit(source, group_by=GroupBy.PARAMETER, statistic=Statistic.MEAN_SD, where=where, **fields)


def test_composed_schemes_set_what_each_sets_alone_and_the_later_one_wins():
    sources = {SOURCE: TRAINED, OTHER: OTHER_TRAINED}
    schemes = (FullInit(SOURCE), of(OTHER, Family.MLP), LAYER_NORMS)
    expected = flat(RANDOM)
    for scheme in schemes:
        alone = flat(initialize(scheme, RANDOM, {source: sources[source] for source in scheme.sources}, KEY))
        expected |= {path: alone[path] for path in touched(scheme)}
    composed = ComposedInit(schemes=schemes)
    assert composed.sources == (SOURCE, OTHER)
    params = flat(initialize(composed, RANDOM, sources, KEY))
    for path, leaf in expected.items():
        np.testing.assert_array_equal(params[path], leaf)
    assert touched(composed) == touched(FullInit(SOURCE))

    backwards = flat(initialize(ComposedInit(schemes=schemes[::-1]), RANDOM, sources, KEY))
    full = flat(initialize(FullInit(SOURCE), RANDOM, {SOURCE: TRAINED}, KEY))
    for path, leaf in full.items():
        np.testing.assert_array_equal(backwards[path], leaf)


def test_the_order_of_schemes_on_disjoint_families_does_not_matter():
    attention = of(SOURCE, Family.ATTENTION)
    forth, back = (
        flat(initialize(ComposedInit(schemes=schemes), RANDOM, {SOURCE: TRAINED}, KEY))
        for schemes in ((attention, LAYER_NORMS), (LAYER_NORMS, attention))
    )
    for path, leaf in forth.items():
        np.testing.assert_array_equal(leaf, back[path])


# -------------------------------------------------------------------------------- statistics for another size

DEEPER = dataclasses.replace(MODEL, emb_dim=20, num_heads=5, mlp_dim=40, num_encoder_layers=12, num_decoder_layers=4)
DEEPER_RANDOM = arrays(DEEPER, 3)
NEAREST = {"encoder": [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], "decoder": [0, 2, 3, 5]}
"""For each of twelve and of four layers the nearest of six, worked out by hand."""


def named_in_the_source(group):
    for stack, nearest in NEAREST.items():
        for layer, theirs in enumerate(nearest):
            if group.startswith(f"{stack}/layers_{layer}/"):
                return group.replace(f"layers_{layer}/", f"layers_{theirs}/", 1)
    return group


@pytest.mark.parametrize("statistic", [Statistic.MEAN_SD, Statistic.SCALE])
@pytest.mark.parametrize("group_by", GroupBy)
def test_a_larger_model_gets_the_statistics_of_the_source(group_by, statistic):
    scheme = StatisticInit(SOURCE, group_by=group_by, statistic=statistic, onto=DEEPER)
    params = flat(initialize(scheme, DEEPER_RANDOM, {SOURCE: TRAINED}, KEY))
    assert {path: leaf.shape for path, leaf in params.items()} == paths(DEEPER)
    theirs = groups(MODEL, group_by, Family.ALL)
    for group, own in groups(DEEPER, group_by, Family.ALL).items():
        values = np.concatenate([np.ravel(params[path]) for path in own])
        mean, sd = mean_and_sd([flat(TRAINED)[path] for path in theirs[named_in_the_source(group)]])
        if statistic is Statistic.SCALE and parse(own[0]).kind is Kind.LAYER_NORM:
            np.testing.assert_allclose(values, mean, rtol=1e-5)
            continue
        error = sd / np.sqrt(values.size)
        assert abs(values.mean() - (0 if statistic is Statistic.SCALE else mean)) < 5 * error
        assert abs(values.std() - sd) < 5 * error / np.sqrt(2) + 0.01 * sd
    again = flat(initialize(scheme, DEEPER_RANDOM, {SOURCE: TRAINED}, KEY))
    other = flat(initialize(scheme, DEEPER_RANDOM, {SOURCE: TRAINED}, jax.random.key(4)))
    query = "encoder/layers_11/attention/query/kernel"
    np.testing.assert_array_equal(params[query], again[query])
    assert not np.array_equal(params[query], other[query])
    embedding = "token_embedder/embedding"
    np.testing.assert_array_equal(params[embedding], flat(DEEPER_RANDOM)[embedding])


def test_a_smaller_model_gets_first_and_last_layers():
    shallow = dataclasses.replace(MODEL, num_encoder_layers=2, num_decoder_layers=1)
    scheme = StatisticInit(SOURCE, group_by=GroupBy.LAYER, statistic=Statistic.SCALE, onto=shallow)
    params = flat(initialize(scheme, arrays(shallow, 0), {SOURCE: TRAINED}, KEY))
    for own, theirs in (("encoder/layers_0", 0), ("encoder/layers_1", 5), ("decoder/layers_0", 0)):
        norms = [path for path in params if path.startswith(f"{own}/") and parse(path).kind is Kind.LAYER_NORM]
        named = [path.replace(own, f"{own.split('/')[0]}/layers_{theirs}") for path in norms]
        mean, _ = mean_and_sd([flat(TRAINED)[path] for path in named])
        for path in norms:
            np.testing.assert_allclose(params[path], mean, rtol=1e-5)


def test_composed_schemes_on_a_model_of_another_size():
    norms = ConstantInit(DEEPER, where=Family.PRE_ATTENTION_LAYER_NORM, value=0.2)
    composed = ComposedInit(schemes=(of(SOURCE, onto=DEEPER), norms))
    params = flat(initialize(composed, DEEPER_RANDOM, {SOURCE: TRAINED}, KEY))
    alone = flat(initialize(of(SOURCE, onto=DEEPER), DEEPER_RANDOM, {SOURCE: TRAINED}, KEY))
    for path, leaf in params.items():
        np.testing.assert_array_equal(leaf, np.full_like(leaf, 0.2) if path in touched(norms) else alone[path])


# -------------------------------------------------------------------------------- parts, shuffled and noised values


def test_attention_of_one_source_and_mlp_of_another():
    composed = ComposedInit(schemes=(FullInit(SOURCE, where="attention"), FullInit(OTHER, where="mlp")))
    params = flat(initialize(composed, RANDOM, {SOURCE: TRAINED, OTHER: OTHER_TRAINED}, KEY))
    origins = {Family.ATTENTION: TRAINED, Family.MLP: OTHER_TRAINED}
    for path, leaf in params.items():
        np.testing.assert_array_equal(leaf, flat(origins.get(parse(path).family, RANDOM))[path])


def test_shuffled_values_are_a_permutation_that_key_and_path_decide():
    scheme = StatisticInit(SOURCE, group_by="parameter", statistic="shuffled")
    once, again, other = (
        flat(initialize(scheme, RANDOM, {SOURCE: TRAINED}, key)) for key in (KEY, KEY, jax.random.key(4))
    )
    for path in touched(scheme):
        ours, theirs = np.ravel(once[path]), np.ravel(flat(TRAINED)[path])
        np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))
        assert abs(np.corrcoef(ours, theirs)[0, 1]) < 5 / np.sqrt(ours.size)
        np.testing.assert_array_equal(once[path], again[path])
        assert not np.array_equal(once[path], other[path])
    order = [
        np.argsort(np.argsort(np.ravel(once[path])))[np.argsort(np.ravel(flat(TRAINED)[path]))]
        for path in ("encoder/layers_0/mlp/wi/kernel", "encoder/layers_1/mlp/wi/kernel")
    ]
    assert not np.array_equal(*order)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_noise_has_the_scale_of_each_parameters_own_sd(scale):
    scheme = NoisedInit(SOURCE, scale=scale)
    params = flat(initialize(scheme, RANDOM, {SOURCE: TRAINED}, KEY))
    assert touched(scheme) == touched(FullInit(SOURCE))
    noise = [
        np.ravel((params[path] - flat(TRAINED)[path]) / flat(TRAINED)[path].astype(np.float64).std())
        for path in touched(scheme)
    ]
    values = np.concatenate(noise)
    assert abs(values.mean()) < 5 * scale / np.sqrt(values.size)
    assert abs(values.std() / scale - 1) < 0.02
    norms = [each.std() / scale for each in noise if each.size == 16]
    assert 0.8 < np.mean(norms) < 1.1


# -------------------------------------------------------------------------------- weight selection

WIDE = T5Config(
    vocab_size=64, emb_dim=20, num_heads=5, head_dim=6, mlp_dim=33, num_encoder_layers=3, num_decoder_layers=4
)
NARROW = dataclasses.replace(
    WIDE, emb_dim=10, num_heads=2, head_dim=4, mlp_dim=7, num_encoder_layers=2, num_decoder_layers=3
)
IMPORTED = Pretrained("wide", model=WIDE)


def test_a_smaller_model_selects_first_layers_whole_heads_and_spaced_units():
    theirs = flat(arrays(WIDE, 5))
    scheme = FullInit(IMPORTED, onto=NARROW)
    assert touched(scheme) == tuple(paths(NARROW))
    params = flat(initialize(scheme, arrays(NARROW, 6), {IMPORTED: arrays(WIDE, 5)}, KEY))
    assert {path: leaf.shape for path, leaf in params.items()} == paths(NARROW)
    # Worked out by hand: 10 divides 20; 2 of 5 are the first and the last; 0, 5/3, 10/3, 5; 0, 32/6, ..., 32.
    emb, heads, dims, mlp = range(0, 20, 2), [0, 4], [0, 2, 3, 5], [0, 5, 11, 16, 21, 27, 32]
    inner = [6 * head + dim for head in heads for dim in dims]
    for path, rows, columns in (
        ("encoder/layers_1/attention/query/kernel", emb, inner),
        ("decoder/layers_2/encoder_decoder_attention/out/kernel", inner, emb),
        ("decoder/layers_0/mlp/wi/kernel", emb, mlp),
        ("decoder/layers_0/mlp/wo/kernel", mlp, emb),
        ("encoder/relpos_bias/rel_embedding", heads, range(32)),
        ("token_embedder/embedding", range(64), emb),
    ):
        np.testing.assert_array_equal(params[path], theirs[path][np.ix_(rows, columns)])
    np.testing.assert_array_equal(params["decoder/decoder_norm/scale"], theirs["decoder/decoder_norm/scale"][emb])


def test_spaced_units_differ_and_begin_with_the_first():
    for total in range(1, 60):
        for num in range(1, total + 1):
            units = spaced(num, total)
            assert len(set(units.tolist())) == num
            assert units[0] == 0
            assert units[-1] == (total - total // num if total % num == 0 else total - 1)


def test_a_gated_untied_model_is_selected_with_its_output_layer():
    gated = dataclasses.replace(WIDE, mlp_activations=("gelu", "linear"), logits_via_embedding=False)
    source = Pretrained("gated", model=gated)
    small = dataclasses.replace(gated, emb_dim=5, mlp_dim=11)
    scheme = FullInit(source, onto=small)
    params = flat(initialize(scheme, arrays(small, 0), {source: arrays(gated, 1)}, KEY))
    assert "decoder/logits_dense/kernel" in touched(scheme)
    np.testing.assert_array_equal(
        params["decoder/layers_3/mlp/wi_1/kernel"],
        flat(arrays(gated, 1))["decoder/layers_3/mlp/wi_1/kernel"][::4, ::3],
    )
