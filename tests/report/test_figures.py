"""Plots: what is drawn, what lines are called, and that equal data give equal bytes."""

import re
from pathlib import Path

import pytest

from raysynth import InputError
from raysynth.report.figures import dots, learning_curves, legends, norms_by_layer, output_files

MODULES = ("pre_attention_layer_norm", "pre_self_attention_layer_norm", "pre_cross_attention_layer_norm")
SOURCES = {
    "Set $": {module: [0.2, 0.4] for module in MODULES},
    "_T5 Base": dict(zip(MODULES, ([0.1] * 12, [0.3] * 11, [1.4] * 12), strict=True)),
}


@pytest.mark.parametrize("file_format", ["png", "svg"])
def test_equal_sources_give_equal_bytes(file_format):
    first, second = (norms_by_layer(SOURCES, file_format=file_format) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG" if file_format == "png" else b"<?xml")
    assert first != norms_by_layer({"Set $": SOURCES["Set $"]}, file_format=file_format)


def test_every_source_and_random_init_are_drawn_in_each_plot():
    svg = norms_by_layer(SOURCES, file_format="svg").decode()
    for text in ("Encoder pre-attention", "Decoder pre-self-attention", "Decoder pre-cross-attention"):
        assert svg.count(f"<!-- {text} -->") == 1
    for label in ("random init", *SOURCES):
        assert svg.count(f"<!-- {label} -->") == 1
    # A marker is a `use` of its shape: one per layer and line, and one per line in the legend.
    markers = {color: len(re.findall(rf"<use [^>]*fill: {color}; stroke: {color}", svg)) for color in COLORS}
    assert list(markers.values()) == [3 * 2 + 1, 12 + 11 + 12 + 1]


COLORS = ("#1f77b4", "#ff7f0e")


@pytest.mark.parametrize(
    ("artifacts", "names"),
    [
        (["pretrain/set.seed0-3fb5a7f9", "pretrained/t5-v1_1-small-8a09e16d"], ["set", "t5-v1_1-small"]),
        (
            ["pretrain/set1_minus_set2.seed0-3fb5a7f9", "pretrain/set.seed0-11111111", "pretrain/set.seed1-11111111"],
            ["set1 minus set2", "set, seed0", "set, seed1"],
        ),
        (
            ["pretrain/set.seed0-3fb5a7f9", "pretrain/set.seed0-11111111"],
            ["pretrain/set.seed0-3fb5a7f9", "pretrain/set.seed0-11111111"],
        ),
        (
            ["finetune/mtop.t5-v1.1.full.lr1e-05.seed0-3fb5a7f9", "finetune/mtop.random.lr0.001.seed10-3fb5a7f9"],
            ["mtop, t5-v1.1, full", "mtop, random"],
        ),
        (
            [f"finetune/mtop.pre_attention_layer_norm_0.2.lr{rate}.seed0-3fb5a7f9" for rate in ("0.01", "0.1")],
            [f"mtop, pre attention layer norm 0.2, lr{rate}, seed0" for rate in ("0.01", "0.1")],
        ),
    ],
)
def test_legends_are_as_short_as_they_can_be_and_unique(artifacts, names):
    assert legends(artifacts) == names


def test_the_suffix_chooses_the_format():
    assert output_files(Path("a/b.svg")) == (Path("a/b.svg"),)
    assert output_files(Path("a/b")) == (Path("a/b.png"), Path("a/b.svg"))
    for wrong in ("b.pdf", "."):
        with pytest.raises(InputError, match=r"must end in \.png or \.svg, or have no suffix"):
            output_files(Path(wrong))


PANELS = {
    "MTOP $ EM": {"Set": ((70.0, 1.5), (71.7, 0.9)), "_random": ((38.0, 0.0), None)},
    "SQuAD": {"Set": (None, (48.2, 0.0))},
}


def test_dots_have_ours_and_the_printed_ones_in_every_panel():
    first, second = (dots(["Set", "_random"], PANELS) for _ in range(2))
    assert first == second
    svg = first.decode()
    for label in ("MTOP $ EM", "SQuAD", "Set", "_random", "ours", "printed"):
        assert f"<!-- {label} -->" in svg
    # A marker is a `use` of its shape: one per value, and one in the legend.
    assert len(re.findall(r"<use [^>]*fill: #1f77b4; stroke: #1f77b4", svg)) == 2 + 1
    assert len(re.findall(r"<use [^>]*fill-opacity: 0[^>]*stroke: #8a8a8a", svg)) == 2 + 1


def test_a_name_has_one_color_and_one_place_in_the_legend_over_all_panels():
    curves = {"a": {"Set": [{1: 0.1, 2: 0.2}]}, "b": {"$x": [{1: 0.3, 2: 0.4}], "Set": [{1: 0.1, 2: 0.2}] * 2}}
    svg = learning_curves("t", curves, ylabel="y", file_format="svg").decode()
    assert (svg.count("<!-- Set -->"), svg.count("<!-- $x -->")) == (1, 1)
    markers = {color: len(re.findall(rf"<use [^>]*fill: {color}; stroke: {color}", svg)) for color in COLORS}
    assert list(markers.values()) == [2 + 2 + 1, 2 + 1]
    assert learning_curves("t", curves, ylabel="y", file_format="png").startswith(b"\x89PNG")


def test_dots_have_one_for_every_seed():
    panels = {"EM": {"Set": ((2.0, 1.0), None), "one": ((1.0, 0.0), None)}}
    svg = dots(["Set", "one"], panels, {"EM": {"Set": [1.0, 2.0, 3.0], "one": [1.0]}}).decode()
    assert "<!-- a seed -->" in svg
    seeds = re.findall(r"<use [^>]*fill: #d62728", svg)
    assert len(seeds) == 3 + 1  # one seed is its mean; the legend has one more
    assert "<!-- a seed -->" not in dots(["Set", "one"], panels).decode()


def test_curves_begin_at_step_0_or_show_their_own_values():
    curves = {"": {"a": [{0.001: 0.1, 0.01: 0.2}]}}
    by_value = learning_curves("t", curves, ylabel="y", file_format="svg", xlabel="rate", at_values=True).decode()
    assert {"0.001", "0.01", "rate"} <= set(re.findall("<!-- (.*?) -->", by_value))
    by_step = learning_curves("t", {"": {"a": [{50: 0.1, 100: 0.2}]}}, ylabel="y", file_format="svg").decode()
    assert {"0", "100", "fine-tuning step"} <= set(re.findall("<!-- (.*?) -->", by_step))
