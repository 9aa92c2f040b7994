"""Hours on a machine that nobody has: recounted by hand for two tables of the paper, and replaced by measured ones."""

import dataclasses
import math

import pytest

from raysynth import InputError
from raysynth.cli import main
from raysynth.report.cost import cost, speed_file
from raysynth.report.machines import machines
from raysynth.run.cluster import hosts
from raysynth.run.on_machine import times_on
from raysynth.specs.identity import in_order
from raysynth.store.store import Store
from tests.records import DATA_RESULT, provenance, weights_result
from tests.report.grids import TASK, paper_sweep, pretrain, trial

RANDOM = [trial("random", seed) for seed in range(3)]
V5E = "v5litepod-8"
PEAK = 8 * 197e12


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


def flops(num_layers, attention, feed_forward, rows, inputs, targets):
    """FLOPs of a forward pass, counted product by product, for width 512, `attention` the width of all heads.

    `feed_forward` is the number of parameters of a layer's two or three matrices.
    """
    projection, logits = 2 * 512 * attention, 2 * 512 * 32_128
    encoder = inputs * num_layers * (4 * projection + 2 * feed_forward + 2 * 2 * inputs * attention)
    keys_and_values = inputs * num_layers * 2 * projection
    decoder = targets * num_layers * (6 * projection + 2 * feed_forward + 2 * 2 * (targets + inputs) * attention)
    return rows * encoder, rows * (keys_and_values + decoder + targets * logits)


def hours(*, steps, every, block, batch, decoding, validation, test, decodes_all=False, large=False):
    """Hours of a fine-tuning on a v5litepod-8, by plain arithmetic."""
    shape = (8, 384, 3 * 512 * 1024) if large else (6, 512, 2 * 512 * 2048)
    step = 3 * sum(flops(*shape, *block)) / (0.2 * PEAK)
    evaluations = steps // every
    scored = evaluations * math.ceil(validation / batch) + math.ceil(test / batch)
    decoded = test + (evaluations * validation if decodes_all else 0)
    encoder, decoder = flops(*shape, 1, *decoding)
    seconds = steps * max(step, 0.005) + scored * step / 3 + decoded * (encoder + 4 * decoder) / (0.02 * PEAK)
    return seconds / 3600


CNNDM = {
    "steps": 50_000,  # where the selected step is fixed, nothing is trained after it
    "every": 10_000,
    "block": (64, 1024, 128),
    "batch": 128,
    "decoding": (512, 70),
    "validation": 13_368,
    "test": 11_490,
}
MTOP = {
    "steps": 100_000,
    "every": 10_000,
    "block": (128, 888, 128),
    "batch": 128,
    "decoding": (1024, 58),
    "validation": 2_235,
    "test": 4_386,
}
WEBQSP = {
    "steps": 50_000,
    "every": 5_000,
    "block": (8, 144, 136),
    "batch": 32,
    "decoding": (1459, 31),
    "validation": 309,
    "test": 1_639,
}
SQUAD = {
    "steps": 250_000,
    "every": 10_000,
    "block": (56, 512, 56),
    "batch": 128,
    "decoding": (491, 9),
    "validation": 10_570,
    "test": 10_570,
    "decodes_all": True,
}
CODE = {
    "steps": 150_000,
    "every": 10_000,
    "block": (8, 664, 664),
    "batch": 32,
    "decoding": (288, 117),
    "validation": 499,
    "test": 1_000,
}
RETROSYNTHESIS = {
    "steps": 400_000,
    "every": 10_000,
    "block": (24, 272, 296),
    "batch": 128,
    "decoding": (80, 51),
    "validation": 5_004,
    "test": 5_004,
}
TABLE_3 = 10 * hours(**CNNDM) + 5 * hours(**CNNDM, large=True) + 15 * hours(**MTOP)
TABLE_8 = TABLE_3 + 15 * (hours(**WEBQSP) + hours(**SQUAD) + hours(**CODE) + hours(**RETROSYNTHESIS))


@pytest.mark.parametrize(("table", "expected"), [("table3", TABLE_3), ("table8", TABLE_8)])
def test_the_hours_of_a_table_are_those_counted_by_hand(table, expected, store, capsys):
    planned = paper_sweep(table).plan(store=store.uri, on=V5E, workers=5, price=8)
    assert planned.hours == pytest.approx(expected, rel=1e-9)
    assert planned.unknown == 0
    printed = capsys.readouterr().out
    assert f"to do: {planned.steps:,} training steps, {expected:,.0f} device-hours" in printed
    assert f"{8 * expected:,.2f} at 8 an hour" in printed
    assert "  assumed: 20 % of it, in decoding 2 %; 5 ms a step at least\n" in printed
    assert "with lengths of the public files\n" in printed


def planned(artifacts, store, machine=V5E):
    statuses = store.statuses(in_order(artifacts))
    times = times_on(machine, statuses, store)
    return cost(statuses, statuses, times), times


def test_measured_figures_replace_assumed_ones_if_they_are_of_such_a_machine(store):
    _, assumed = planned(RANDOM, store)
    assert assumed.seconds_per_step[RANDOM[0]] == 0.005
    assert "  shapes of batches: 0 measured on such a machine, 1 assumed" in assumed.notes
    speed = {"seconds_per_step": 3.6, "device": "1 cpu"}
    store.write_json(speed_file(RANDOM[0]), speed)
    assert planned(RANDOM, store)[1].seconds_per_step[RANDOM[0]] == 0.005
    store.write_json(speed_file(RANDOM[0]), {**speed, "device": "8 TPU v5 lite"})
    measured = planned(RANDOM, store)[1]
    assert measured.seconds_per_step[RANDOM[0]] == 3.6
    assert "  shapes of batches: 1 measured on such a machine, 0 assumed" in measured.notes
    assert planned(RANDOM, store, "v3-8")[1].seconds_per_step[RANDOM[0]] == 0.005


def test_recorded_evaluations_replace_counted_ones(store):
    evaluations = {step: {"loss": 1.0} for step in range(100, 1_001, 100)}
    made_on = {"device": "8 TPU v5 lite", "seconds_per_step": 2.0, "evaluation_seconds": 600.0, "test_seconds": 90.0}
    store.record(RANDOM[0], result=weights_result(evaluations=evaluations), provenance=provenance(**made_on))
    store.progress(RANDOM[1], step=400, num_steps=1_000, seconds_per_step=2.0)
    total, times = planned(RANDOM, store)
    assert times.evaluation_seconds == {RANDOM[1]: 6 * 60 + 90, RANDOM[2]: 10 * 60 + 90}
    assert total.hours == pytest.approx((600 * 2 + 6 * 60 + 90 + 1_000 * 2 + 10 * 60 + 90) / 3600)


def test_sizes_that_nobody_knows_leave_evaluations_out_and_a_line_says_so(store):
    task = dataclasses.replace(TASK, data=dataclasses.replace(TASK.data, num_validation=None))
    artifact = dataclasses.replace(RANDOM[0], task=task)
    times = planned([artifact], store)[1]
    assert not times.evaluation_seconds
    assert "  not counted: evaluations of 1 trainings on data of unknown size" in times.notes
    assert "    1 with lengths of full rows, for lack of data" in times.notes
    rows = {"train": 1, "validation": 640, "test": 320}
    store.record(task.data, result=dataclasses.replace(DATA_RESULT, rows=rows), provenance=provenance())
    counted = planned([artifact], store)[1].evaluation_seconds[artifact]
    doubled = {name: 2 * count for name, count in rows.items()}
    store.record(task.data, result=dataclasses.replace(DATA_RESULT, rows=doubled), provenance=provenance())
    assert planned([artifact], store)[1].evaluation_seconds[artifact] == pytest.approx(2 * counted)


def test_a_pre_training_counts_with_examples_drawn_here_and_decodes_nothing(store):
    times = planned([pretrain(0)], store)[1]
    assert "    1 with lengths of examples drawn here" in times.notes
    assert times.evaluation_seconds[pretrain(0)] > 0


def test_all_lines_fit_a_terminal_and_shared_artifacts_count_once(store, tmp_path, capsys):
    for number in (3, 8):
        assert main(["plan", f"sweeps/table{number}.py", "--on", V5E, "--store", store.uri]) == 0
    capsys.readouterr()
    files = ["sweeps/table3.py", "sweeps/table8.py"]
    assert main(["plan", *files, "--on", V5E, "--workers", "5", "--price", "8", "--store", store.uri]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["together"] == rows["table8"], "Table 8 holds all of Table 3"
    assert rows["table3"][-1] == f"{8 * TABLE_3:,.2f}"
    assert rows["table8"][3:5] == [f"{TABLE_8:.0f}", "h"]
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "is not a file"),
        ("x = 1", "must describe one sweep at its top level, got 0"),
        ("import raysynth\nraysynth.Sweep('a', 3)", "claim must be"),
        ("1 / 0", "division by zero"),
    ],
)
def test_a_file_without_a_sweep_is_one_line(content, line, tmp_path, capsys):
    file = tmp_path / "sweep.py"
    if content is not None:
        file.write_text(content)
    assert main(["plan", str(file), "--on", V5E, "--store", str(tmp_path / "store")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert str(file) in error
    assert line in error


def test_an_unknown_machine_is_one_line(store):
    with pytest.raises(InputError, match=r"unknown machine 'v5e-8'"):
        paper_sweep("table3").plan(store=store.uri, on="v5e-8")


def test_machines_have_the_chips_of_their_accelerator_types():
    shared = machines.keys() & hosts.keys()
    assert {name: machines[name].num_chips for name in shared} == {name: hosts[name].num_chips for name in shared}
    assert {"v3-8", "v5litepod-8", "v6e-8"} <= shared
