"""Paths, families and groups of parameters against Appendix K and the groups of the paper's code."""

import json
from pathlib import Path

import pytest

from raysynth.errors import InputError
from raysynth.specs.datasets import Dataset
from raysynth.specs.init_schemes import (
    ConstantInit,
    Embeddings,
    Family,
    FullInit,
    GroupBy,
    RandomInit,
    StatisticInit,
)
from raysynth.specs.models import T5_BASE, T5_SMALL, T5_V1_1_SMALL
from raysynth.specs.parameters import Kind, groups, parse, paths, touched
from raysynth.specs.pretraining import Pretrain
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
