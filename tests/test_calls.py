"""The verbs as methods, for notebooks: the code and options of the command line, without its exits."""

import sys

import pytest

from raysynth import InputError
from raysynth.specs.identity import name
from raysynth.store.store import Outcome, Store
from tests.report.grids import VALUES, grid, record, trial


@pytest.fixture(autouse=True)
def arguments_of_a_notebook(monkeypatch):
    """What a kernel has in sys.argv, which nothing may read."""
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "/run/kernel.json"])


@pytest.fixture
def finished(tmp_path):
    store = Store(str(tmp_path))
    for init in ("random", "full"):
        for seed in range(2):
            record(store, trial(init, seed), VALUES[init][seed])
    return store


def test_plan_returns_what_remains(tmp_path, capsys):
    cost = grid(random=2, full=2).plan(store=tmp_path, workers=2, price=8)
    assert cost.steps == 4 * 1_000 + 2 * 5_000
    assert "14,000 training steps" in capsys.readouterr().out


def test_run_returns_the_failures_and_makes_nothing_that_is_there(finished, capsys):
    sweep = grid(random=2, full=2)
    assert sweep.run(store=finished.uri) == {}
    assert "nothing to do" in capsys.readouterr().out
    finished.fail(trial("random", 2), outcome=Outcome.DIVERGED, error="the loss is nan", log="")
    sweep = grid(random=3, full=2)
    assert sweep.run(store=finished.uri, data={"python_ast": finished.uri}) == {
        name(trial("random", 2)): "the loss is nan"
    }


def test_status_returns_states_and_report_writes(finished, capsys):
    sweep = grid(random=2, full=2)
    assert set(sweep.status(store=finished.uri).values()) == {"done"}
    sweep.report(store=finished.uri, format="latex")
    printed = capsys.readouterr().out
    assert "\\toprule" in printed
    assert "learning curves" not in printed[printed.index("\\toprule") :]
    assert finished.exists("reports/s/table1.tex")


@pytest.mark.parametrize(
    ("verb", "options", "line"),
    [
        ("plan", {"workrs": 2}, "unknown option of plan 'workrs' (did you mean 'workers'?)"),
        ("plan", {"workers": 0}, "sweep.plan: argument --workers: must be a whole number of at least 1, got '0'"),
        ("plan", {"workers": True}, "sweep.plan: argument --workers: must be a whole number"),
        ("run", {"fail_fast": 3}, "fail_fast must be True or False, got 3"),
        ("run", {"data": {"python_ast": ""}}, "--data"),
        ("report", {"store": " "}, "sweep.report: argument --store: must not be blank"),
        ("report", {"format": "pdf"}, "sweep.report: argument --format: invalid choice: 'pdf'"),
    ],
)
def test_bad_options_are_errors_of_one_line(verb, options, line, tmp_path):
    with pytest.raises(InputError) as caught:
        getattr(grid(random=1), verb)(**{"store": tmp_path, **options})
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_store_may_begin_with_hyphens(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    grid(random=1).status(store="--store")
    assert Store("--store").names() == []
