"""Paths, families and groups of parameters against Appendix K and the groups of the paper's code."""

import dataclasses
import json
from pathlib import Path

import pytest

from raysynth.errors import InputError
from raysynth.specs.catalog import downstream_tasks
from raysynth.specs.datasets import Dataset
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import describe, fingerprint
from raysynth.specs.init_schemes import (
    ComposedInit,
    ConstantInit,
    Embeddings,
    Family,
    FullInit,
    GroupBy,
    NoisedInit,
    RandomInit,
    StatisticInit,
)
from raysynth.specs.models import T5_BASE, T5_SMALL, T5_V1_1_SMALL
from raysynth.specs.parameters import Kind, groups, parse, paths, touched, touched_by
from raysynth.specs.pretraining import Pretrain, pretrained
from raysynth.specs.tiny import tiny
from raysynth.synthetic.catalog import synthetic_tasks
from tests.statistic_schemes import SCHEMES

EMBEDDING = "token_embedder/embedding"
OUTPUT = "decoder/logits_dense/kernel"


def source(model):
    return Pretrain(data=Dataset(task=synthetic_tasks["identity"]), model=model)


def test_t5_small_has_appendix_k_and_the_embedding():
    listed = (Path(__file__).parents[1] / "appendix_k.txt").read_text().split()
    assert len(listed) == 130
    assert sorted(paths(T5_SMALL)) == sorted([*listed, EMBEDDING])


def test_golden_shapes(golden_folder):
    golden = json.loads((golden_folder / "init/init_schemes.json").read_text())["t5_small_parameters"]
    assert {path: list(shape) for path, shape in paths(T5_SMALL).items()} == golden


@pytest.mark.parametrize("name", SCHEMES)
def test_groups_are_those_of_the_papers_code(golden_folder, name):
    golden = json.loads((golden_folder / "init/init_schemes.json").read_text())["schemes"][name]
    group_by, statistic, where = SCHEMES[name]
    expected = sorted(tuple(sorted(group["params"])) for group in golden["groups"])
    assert sorted(groups(T5_SMALL, group_by, where).values()) == expected
    scheme = StatisticInit(source(T5_SMALL), group_by=group_by, statistic=statistic, where=where)
    assert len(touched(scheme)) == golden["n_params_set"]
    assert sorted(set(paths(T5_SMALL)) - set(touched(scheme))) == sorted(golden["stays_random_init"])


def test_touched_by_the_other_schemes(golden_folder):
    golden = json.loads((golden_folder / "init/init_schemes.json").read_text())
    constant = ConstantInit(T5_SMALL, where=Family.PRE_ATTENTION_LAYER_NORM, value=0.2)
    expected = golden["schemes"]["custom_pre_attention_layer_norm_value"]["set_to_constant_value"]
    assert sorted(touched(constant)) == sorted(expected)
    assert touched(RandomInit(T5_SMALL)) == ()
    assert set(paths(T5_SMALL)) - set(touched(FullInit(source(T5_SMALL)))) == {EMBEDDING}
    assert len(touched(FullInit(source(T5_SMALL), embeddings=Embeddings.SOURCE))) == 131


def test_an_untied_output_layer_is_treated_as_the_embedding():
    model = T5_V1_1_SMALL
    assert set(paths(model)) - set(touched(FullInit(source(model)))) == {EMBEDDING, OUTPUT}
    assert set(touched(FullInit(source(model), embeddings=Embeddings.SOURCE))) == set(paths(model))
    for group_by in GroupBy:
        grouped = [path for group in groups(model, group_by, Family.ALL).values() for path in group]
        assert set(paths(model)) - set(grouped) == {EMBEDDING, OUTPUT}


@pytest.mark.parametrize(
    ("model", "num_paths", "num_by_layer"),
    [(T5_SMALL, 131, 28), (T5_BASE, 257, 52), (T5_V1_1_SMALL, 190, 36)],
)
def test_every_size_has_every_group(model, num_paths, num_by_layer):
    everything = [path for path in paths(model) if parse(path).kind is not Kind.VOCABULARY]
    assert len(paths(model)) == num_paths
    expected = {GroupBy.PARAMETER: len(everything), GroupBy.TYPE: 9, GroupBy.LAYER: num_by_layer, GroupBy.MODEL: 3}
    for group_by, count in expected.items():
        grouped = groups(model, group_by, Family.ALL)
        assert len(grouped) == count
        assert sorted(path for group in grouped.values() for path in group) == everything
        for group in grouped.values():
            assert len({parse(path).kind for path in group}) == 1


def test_a_gated_mlp_is_one_type():
    mlp = groups(T5_V1_1_SMALL, GroupBy.TYPE, Family.ALL)["mlp"]
    assert {parse(path).matrix for path in mlp} == {"wi_0", "wi_1", "wo"}


def test_parse():
    query = parse("decoder/layers_11/encoder_decoder_attention/query/kernel")
    assert (query.stack, query.layer, query.module, query.matrix) == (
        "decoder",
        11,
        "encoder_decoder_attention",
        "query",
    )
    assert (query.family, query.kind, query.type) == (Family.ATTENTION, Kind.KERNEL, "query")
    norm = parse("encoder/encoder_norm/scale")
    assert (norm.layer, norm.family, norm.kind, norm.type) == (None, None, Kind.LAYER_NORM, "final_layer_norm")


@pytest.mark.parametrize("path", ["decoder/layers_0/mpl/wi/kernel", "encoder/mlp/wi/kernel", "scale", ""])
def test_parse_refuses_other_paths(path):
    with pytest.raises(InputError, match="unknown module of parameter path"):
        parse(path)


# -------------------------------------------------------------------------------- families and their unions


def test_the_families_cover_the_model_without_its_embedding():
    parts = ("attention", "mlp", "layer_norm", "relative_bias")
    sizes = {part: len(touched(FullInit(source(T5_SMALL), where=part))) for part in parts}
    assert sizes == {"attention": 72, "mlp": 24, "layer_norm": 32, "relative_bias": 2}
    assert touched(FullInit(source(T5_SMALL), where=parts)) == touched(FullInit(source(T5_SMALL)))
    norms = ("pre_attention_layer_norm", "pre_mlp_layer_norm")
    finals = set(touched(FullInit(source(T5_SMALL), where="layer_norm")))
    assert finals - set(touched(FullInit(source(T5_SMALL), where=norms))) == {
        "decoder/decoder_norm/scale",
        "encoder/encoder_norm/scale",
    }


def test_a_union_has_one_form():
    one, other = (FullInit(source(T5_SMALL), where=where) for where in (("mlp", "attention"), ("attention", "mlp")))
    assert one == other
    assert one.where == (Family.ATTENTION, Family.MLP)
    assert one.name == "attention_and_mlp_full"
    assert FullInit(source(T5_SMALL), where=("mlp",)) == FullInit(source(T5_SMALL), where="mlp")


@pytest.mark.parametrize(
    "where",
    [(), ("mlp", "mlp"), ("all", "mlp"), ("layer_norm", "pre_mlp_layer_norm"), ("mpl",), (3,), ["mlp", "attention"]],
)
def test_a_union_that_says_something_twice_or_nothing_is_refused(where):
    for scheme, fields in (
        (FullInit, {}),
        (NoisedInit, {"scale": 1.0}),
        (StatisticInit, {"group_by": "parameter", "statistic": "scale"}),
    ):
        with pytest.raises(InputError, match=rf"{scheme.__name__}\.where"):
            scheme(source(T5_SMALL), where=where, **fields)


def test_a_part_leaves_embeddings_random_unless_asked():
    t5 = pretrained("t5-small")
    assert len(touched(FullInit(t5))) == len(touched(NoisedInit(t5, scale=1.0))) == 131
    assert len(touched(FullInit(t5, where="attention"))) == 72
    assert len(touched(FullInit(t5, where="attention", embeddings="source"))) == 73


def test_what_a_described_scheme_sets_is_what_the_scheme_sets():
    set_source, t5 = source(T5_SMALL), pretrained("t5-small")
    smaller = dataclasses.replace(T5_SMALL, emb_dim=96, num_heads=3, num_decoder_layers=2)
    parts = (FullInit(set_source, where="attention"), FullInit(t5, where=("mlp", "layer_norm")))
    for scheme in (
        RandomInit(T5_SMALL),
        FullInit(t5),
        NoisedInit(set_source, scale=0.3, where="mlp"),
        FullInit(t5, onto=smaller),
        StatisticInit(set_source, group_by="type", statistic="scale", onto=T5_V1_1_SMALL),
        ConstantInit(T5_SMALL, where="pre_attention_layer_norm", value=0.2),
        ComposedInit(schemes=parts),
    ):
        assert touched_by(json.loads(json.dumps(describe(scheme)))) == (scheme.model, touched(scheme))
    assert len(touched(ComposedInit(schemes=parts))) == 72 + 24 + 32


def test_new_fields_leave_old_descriptions_alone():
    full = describe(FullInit(source(T5_SMALL)))
    assert set(full) == {"is", "source"}
    statistic = StatisticInit(source(T5_SMALL), group_by="parameter", statistic="mean_sd", where="mlp")
    assert set(describe(statistic)) == {"is", "source", "group_by", "statistic", "where"}
    different = [
        FullInit(source(T5_SMALL)),
        FullInit(source(T5_SMALL), where="mlp"),
        NoisedInit(source(T5_SMALL), scale=0.5),
        NoisedInit(source(T5_SMALL), scale=1.0),
        FullInit(source(T5_SMALL), onto=dataclasses.replace(T5_SMALL, emb_dim=256)),
    ]
    task = downstream_tasks["code_translation"]
    assert len({fingerprint(Finetune(task=task, init=scheme)) for scheme in different}) == len(different)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"group_by": "layer"}, "StatisticInit.group_by must be parameter if statistic is shuffled"),
        ({"group_by": "parameter", "onto": T5_BASE}, "StatisticInit.onto must be None if statistic is shuffled"),
    ],
)
def test_only_one_parameter_can_be_shuffled(fields, line):
    with pytest.raises(InputError, match=line):
        StatisticInit(source(T5_SMALL), statistic="shuffled", **fields)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"num_heads": 9}, "num_heads must be at most 8, got 9"),
        ({"num_encoder_layers": 7}, "num_encoder_layers must be at most 6, got 7"),
        ({"mlp_activations": ("gelu", "linear")}, "must have the mlp_activations of the source's model"),
        ({"vocab_size": 1000}, "must have the vocab_size of the source's model"),
    ],
)
def test_weight_selection_refuses_what_it_cannot_select(fields, line):
    with pytest.raises(InputError, match=line):
        FullInit(pretrained("t5-small"), onto=dataclasses.replace(T5_SMALL, **fields))


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), "big"])
def test_a_noise_scale_is_a_positive_number(scale):
    with pytest.raises(InputError, match=r"NoisedInit\.scale must be a positive number"):
        NoisedInit(source(T5_SMALL), scale=scale)


def test_rehearsals_keep_the_kind_of_each_scheme():
    smaller = dataclasses.replace(T5_SMALL, emb_dim=96, num_heads=3, num_decoder_layers=2)
    selection = FullInit(source(T5_SMALL), onto=smaller)
    statistic = StatisticInit(source(T5_BASE), group_by="type", statistic="scale", onto=smaller, where="mlp")
    for scheme in (
        selection,
        NoisedInit(source(T5_SMALL), scale=0.5, where="mlp"),
        ComposedInit(schemes=(selection, statistic)),
        ComposedInit(schemes=(selection, FullInit(pretrained("small", model=smaller), where="mlp"))),
    ):
        small = tiny(Finetune(task=downstream_tasks["code_translation"], init=scheme)).init
        assert type(small) is type(scheme)
        assert small.name.split("_onto")[0] == scheme.name.split("_onto")[0]
