"""`--only` uses a part of a grid, `--set` replaces fields of its descriptions; neither touches the sweep's report."""

import dataclasses
import re

import pytest

from raysynth import Finetune, InputError, RandomInit, Sweep
from raysynth.fields import has_field, replaced
from raysynth.specs.identity import name
from raysynth.specs.recipes import Best
from raysynth.store.store import Store
from tests.report.grids import MODEL, TASK, VALUES, grid, record, trial


def run(sweep, capsys, *arguments):
    """The exit status of a command line, and what it printed."""
    with pytest.raises(SystemExit) as ended:
        sweep.main([*arguments])
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


@pytest.fixture
def finished(tmp_path):
    store = Store(str(tmp_path))
    for init in ("random", "full"):
        for seed in range(3):
            record(store, trial(init, seed), VALUES[init][seed])
    return store


def test_only_keeps_the_cells_with_these_labels(finished, capsys):
    sweep = grid(random=3, full=3)
    status, out, _ = run(sweep, capsys, "plan", "--store", finished.uri, "--only", "init=Random", "seed=0,2")
    assert status == 0
    assert out.splitlines()[0] == "part of s: init=Random seed=0,2"
    assert [line.split()[1] for line in out.splitlines() if line.startswith("done")] == [
        name(TASK.data),
        name(trial("random", 0)),
        name(trial("random", 2)),
    ]
    states = sweep.status(store=finished.uri, only={"init": "full", "seed": [1]})
    assert [artifact for artifact in states if artifact.startswith("finetune/")] == [name(trial("full", 1))]
    assert sweep.results(store=finished.uri, only={"seed": range(2)})["seed"].to_pylist() == [0, 1, 0, 1]


def test_a_report_of_a_part_is_printed_and_not_written(finished, capsys):
    sweep = grid(random=3, full=3)
    status, out, err = run(sweep, capsys, "report", "--store", finished.uri, "--only", "init=full")
    assert status == 0
    assert "t (init=full)" in out
    assert "40.0 (4.0)" in out
    assert "random" not in out
    assert "not written" in err
    assert not finished.exists("reports/s/report.html")
    assert run(sweep, capsys, "run", "--store", finished.uri, "--only", "seed=0")[0] == 0
    assert not finished.exists("reports/s/report.html")


def test_a_part_claims_no_more_differences_than_the_table(finished, capsys):
    for seed in range(3):
        record(finished, trial("fast", seed), VALUES["full"][seed])
    sweep = grid(random=3, full=3, fast=3)
    sweep.table(title="gap", rows=("init",), baseline=("random",), ceiling=("fast",))
    parts = {"full,fast": ("0 of 0", "0 of 1"), "random,full": ("0 of 1", "0 of 1"), "full": ("0 of 0", "0 of 0")}
    for inits, counts in parts.items():
        out = run(sweep, capsys, "report", "--store", finished.uri, "--next", "--only", f"init={inits}")[1]
        assert tuple(re.findall(r"\d of \d(?= differences)", out)) == counts
    assert "gap closed" not in run(sweep, capsys, "report", "--store", finished.uri, "--only", "init=full,fast")[1]


def test_tables_without_a_cell_of_the_part_are_left_out(finished, capsys):
    sweep = grid(random=1, full=1)
    sweep.table(title="other", rows=("init",), where={"init": ("full",)}, ceiling=("full",))
    assert "other" not in run(sweep, capsys, "report", "--store", finished.uri, "--only", "init=random")[1]


@pytest.mark.parametrize(
    ("only", "rates"),
    [
        ("a, b", ["random"]),
        ("C,A, b", ["random", "fast"]),
        (["a, b", "c"], ["random", "fast"]),
        ({"c"}, ["fast"]),
    ],
)
def test_a_label_may_hold_commas(only, rates, tmp_path):
    sweep = Sweep(name="s", claim="c")
    sweep.add(lambda init, seed: trial(init, seed), init={"a, b": "random", "c": "fast"}, seed=[0])
    states = sweep.status(store=tmp_path, only={"init": only})
    assert [each for each in states if each.startswith("finetune/")] == [name(trial(rate, 0)) for rate in rates]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--only", "int=random"], "unknown axis of the sweep 'int' (did you mean 'init'?); allowed: init, seed"),
        (["--only", "init=fast"], "unknown value of init 'fast'; allowed: full, random"),
        (["--only", "init"], "--only takes NAME=VALUE, got 'init'"),
        (["--only", "seed=0", "seed=1"], "--only has seed twice: '0' and '1'"),
        (["--only", "init=full", "seed=2"], "no cell of the sweep has init=full seed=2"),
        (["--set", "task.num_step=9"], "unknown field of DownstreamTask 'num_step' (did you mean 'num_steps'?)"),
        (["--set", "task.num_steps=many"], "DownstreamTask.num_steps must be an integer, got 'many', with --set"),
        (["--set", "task.learning_rate=-1"], "DownstreamTask.learning_rate must be a positive number, got -1.0"),
        (["--set", "task.num_steps=9"], "DownstreamTask.eval_every must be at most num_steps (9), got "),
        (["--set", "task.selection=Best"], "DownstreamTask.selection must be a Selection, got 'Best'"),
        (["--set", "init.source=3"], "FullInit.source must be a Pretrain or a Pretrained or a SourceAt, got '3'"),
        (["--set", "seed.x=3"], "unknown field of 0 'x': there is none"),
        (["--set", "seed=4"], "--set seed=4 makes two fine-tunings equal: init=random seed=0 and init=random seed=1"),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, line, tmp_path, capsys):
    sweep = Sweep(name="s", claim="c")
    sweep.add(trial, init=["random"], seed=range(3))
    sweep.add(trial, init=["full"], seed=range(2))
    status, _, err = run(sweep, capsys, "plan", "--store", str(tmp_path), *arguments)
    assert status == 2
    assert line in err.splitlines()[-1]
    assert len([one for one in err.splitlines() if one.startswith("error: ")]) == 1


def test_set_gives_the_artifacts_that_the_sweep_file_would(tmp_path, capsys):
    changes = ["task.num_steps=800", "task.eval_every=200", "task.learning_rate=2e-2"]
    status, out, _ = run(grid(random=2), capsys, "plan", "--store", str(tmp_path), "--set", *changes)
    assert status == 0
    task = dataclasses.replace(TASK, num_steps=800, eval_every=200, learning_rate=0.02)
    for seed in range(2):
        assert name(Finetune(task=task, init=RandomInit(MODEL), seed=seed)) in out


def test_set_leaves_fine_tunings_without_the_field_as_they_are_and_says_so(finished, capsys):
    sweep = grid(random=2, full=2)
    options = ["--store", finished.uri, "--set", "init.source.num_steps=8000"]
    status, out, err = run(sweep, capsys, "plan", *options)
    assert status == 0
    assert "--set init.source.num_steps: 2 of 4 fine-tunings have no such field and stay as they are" in err
    assert f"done        {name(trial('random', 0))}" in out
    assert name(trial("full", 0)) not in out
    assert "to do: 18,000 training steps" in out


def test_set_comes_after_tiny(tmp_path, capsys):
    options = {"store": tmp_path, "tiny": True, "only": {"seed": 0}, "set": {"task.num_steps": 12}}
    assert grid(random=2).plan(**options).steps == 12


def test_fields_are_read_by_their_annotations():
    run = trial("full", 0)
    assert replaced(run, {"init.source.model.dtype": "bfloat16"}).model.dtype == "bfloat16"
    assert replaced(run, {"init.source.num_eval_examples": "None"}).init.source.num_eval_examples is None
    assert replaced(run, {"task.metrics": "token_accuracy"}).task.metrics == ("token_accuracy",)
    assert replaced(run, {"task.selection.metric": "exact_match"}).task.selection == Best("exact_match")
    assert replaced(MODEL, {"logits_via_embedding": "false"}).logits_via_embedding is False
    assert replaced(run, {"init.where": "attention"}).init.where == "attention"
    assert replaced(run, {"init.where": "attention,relative_bias"}).init.where == ("attention", "relative_bias")
    assert has_field(run, "init.source.data.task.max_length")
    assert not has_field(run, "task.selection.step")
    with pytest.raises(InputError, match=r"T5Config\.logits_via_embedding must be True or False, got 'no'"):
        replaced(MODEL, {"logits_via_embedding": "no"})
    with pytest.raises(InputError, match=r"Finetune\.task is given as a whole and in part: num_steps"):
        replaced(run, {"task": "x", "task.num_steps": "3"})
