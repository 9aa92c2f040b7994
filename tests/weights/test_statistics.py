"""Statistics of parameters: numbers worked out by hand, and the groups of the init schemes."""

import csv
import io

import numpy as np
import pytest

from raysynth import T5_BASE, T5_SMALL, T5_V1_1_SMALL, InputError, T5Config
from raysynth.report.tables import as_csv
from raysynth.specs.init_schemes import Family, GroupBy
from raysynth.specs.parameters import groups, paths
from raysynth.weights.statistics import attention_norm_means, moments, spreadsheet, table

BY_HAND = {
    "encoder/layers_0/attention/query/kernel": np.array([[1, 3], [5, 7]], np.float32),
    "encoder/layers_0/pre_attention_layer_norm/scale": np.array([0.5, 1.5], np.float32),
    "decoder/layers_0/self_attention/query/kernel": np.array([[-4, 0]], np.float32),
    "decoder/layers_0/mlp/wi/kernel": np.array([[2]], np.float32),
    "token_embedder/embedding": np.array([[10, 20]], np.float32),
}


def numbers(group_by):
    return {
        group.group: (group.num_values, group.mean, group.sd, group.lowest, group.highest)
        for group in moments(BY_HAND, group_by)
    }


def test_numbers_by_hand():
    assert numbers(GroupBy.TYPE) == {
        "mlp": (1, 2, 0, 2, 2),
        "pre_attention_layer_norm": (2, 1, 0.5, 0.5, 1.5),
        "query": (6, 2, pytest.approx((76 / 6) ** 0.5), -4, 7),
        "token_embedder": (2, 15, 5, 10, 20),
    }
    assert numbers(GroupBy.LAYER) == {
        "decoder/layers_0/kernels": (3, pytest.approx(-2 / 3), pytest.approx((56 / 9) ** 0.5), -4, 2),
        "encoder/layers_0/kernels": (4, 4, pytest.approx(5**0.5), 1, 7),
        "encoder/layers_0/layer_norms": (2, 1, 0.5, 0.5, 1.5),
        "token_embedder/vocabulary": (2, 15, 5, 10, 20),
    }
    assert numbers(GroupBy.PARAMETER)["encoder/layers_0/attention/query/kernel"] == (4, 4, pytest.approx(5**0.5), 1, 7)
    assert numbers(GroupBy.PARAMETER).keys() == BY_HAND.keys()
    assert numbers(GroupBy.MODEL).keys() == {"kernels", "layer_norms", "vocabulary"}


@pytest.mark.parametrize("model", [T5_SMALL, T5_BASE, T5_V1_1_SMALL], ids=["small", "base", "v1.1"])
@pytest.mark.parametrize("group_by", GroupBy)
def test_groups_are_those_of_the_schemes_and_the_vocabulary(model, group_by):
    params = {path: np.zeros((1, len(shape)), np.float32) for path, shape in paths(model).items()}
    names = [group.group for group in moments(params, group_by)]
    extra = set(names) - groups(model, group_by, Family.ALL).keys()
    assert len(names) == len(set(names)) == len(groups(model, group_by, Family.ALL)) + len(extra)
    vocabulary = ["token_embedder"] if model.logits_via_embedding else ["token_embedder", "logits_dense"]
    assert len(extra) == (1 if group_by is GroupBy.MODEL else len(vocabulary))
    assert all("vocabulary" in group or any(module in group for module in vocabulary) for group in extra)


def test_layers_are_in_order():
    model = T5Config(vocab_size=8, emb_dim=2, num_heads=1, head_dim=2, mlp_dim=2, num_encoder_layers=12)
    params = {path: np.zeros(shape, np.float32) for path, shape in paths(model).items()}
    kernels = [group.group for group in moments(params, GroupBy.LAYER) if "kernels" in group.group]
    assert kernels[-12:] == [f"encoder/layers_{layer}/kernels" for layer in range(12)]


def test_a_table_has_headings():
    assert table(moments(BY_HAND, GroupBy.LAYER), GroupBy.LAYER).splitlines() == [
        "layer                      values   mean   SD min max",
        "decoder",
        " layers_0/kernels               3 -0.667 2.49  -4   2",
        "encoder",
        " layers_0/kernels               4      4 2.24   1   7",
        " layers_0/layer_norms           2      1  0.5 0.5 1.5",
        "shared",
        " token_embedder/vocabulary      2     15    5  10  20",
    ]


@pytest.mark.parametrize("group_by", GroupBy)
def test_a_table_fits_eighty_columns(group_by):
    rng = np.random.default_rng(0)
    params = {
        path: rng.normal(0, 10 ** rng.uniform(-6, 6), [min(size, 8) for size in shape]).astype(np.float32)
        for path, shape in paths(T5_V1_1_SMALL).items()
    }
    params["token_embedder/embedding"] = np.broadcast_to(np.float32(-1.2345e-5), (32_128, 768))
    text = table(moments(params, group_by), group_by)
    assert max(map(len, text.splitlines())) <= 80
    if group_by is not GroupBy.MODEL:
        assert "24,674,304 -1.2e-05" in text


def test_a_spreadsheet_keeps_all_digits_and_whole_names():
    rows = list(csv.DictReader(io.StringIO(as_csv(*spreadsheet(moments(BY_HAND, "type"), GroupBy.TYPE)))))
    assert list(rows[0]) == ["type", "num_values", "mean", "sd", "min", "max"]
    assert float(rows[2]["sd"]) == moments(BY_HAND, GroupBy.TYPE)[2].sd
    rows = spreadsheet(moments(BY_HAND, GroupBy.PARAMETER), GroupBy.PARAMETER)[1]
    assert [row[0] for row in rows] == sorted(BY_HAND)


def test_norm_means_by_layer():
    params = {
        f"{stack}/layers_{layer}/{module}/scale": np.array([layer, layer + offset], np.float32)
        for stack, module, offset in (
            ("encoder", "pre_attention_layer_norm", 1),
            ("decoder", "pre_self_attention_layer_norm", 2),
            ("decoder", "pre_cross_attention_layer_norm", 3),
            ("decoder", "pre_mlp_layer_norm", 9),
        )
        for layer in range(11 if stack == "encoder" else 2)
    }
    assert attention_norm_means(dict(sorted(params.items()))) == {
        "pre_attention_layer_norm": [layer + 0.5 for layer in range(11)],
        "pre_self_attention_layer_norm": [1, 2],
        "pre_cross_attention_layer_norm": [1.5, 2.5],
    }


def test_a_path_that_is_not_a_t5s_is_one_line():
    with pytest.raises(InputError, match="unknown module of parameter path"):
        moments({"encoder/layers_0/router/kernel": np.zeros(2)}, GroupBy.TYPE)
