"""Results as numbers: one row a fine-tuning, as an Arrow table, a data frame and a long CSV."""

import csv
import dataclasses
import io
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from raysynth import Finetune, RandomInit, Sweep
from raysynth.report.next_seeds import extend_lines, propose_seeds
from raysynth.report.results import as_arrow, as_csv, results
from raysynth.specs.identity import in_order, name
from raysynth.store.store import Outcome
from tests.report.grids import MODEL, TASK, VALUES, grid, record, trial


@pytest.fixture
def sweep(store):
    """Two inits of which one seed failed and one has no result."""
    for seed in range(2):
        record(store, trial("random", seed), VALUES["random"][seed])
    store.fail(trial("full", 0), outcome=Outcome.FAILED, error="no\nroom", log="")
    return grid(random=2, full=2)


def test_there_is_a_row_a_finetuning_with_its_numbers(sweep, store):
    table = sweep.results(store=store.uri)
    assert table.num_rows == 4
    assert table.column_names[:6] == [
        "init",
        "seed",
        "state",
        "validation_token_accuracy",
        "test_exact_match",
        "test_token_accuracy",
    ]
    first, *_, third, last = table.to_pylist()
    assert first["init"] == "random"
    assert (first["seed"], first["state"], first["test_exact_match"]) == (0, "done", 0.30)
    assert (first["artifact"], first["params_sha256"]) == (name(trial("random", 0)), "0" * 64)
    assert (first["started"], first["host"]) == (datetime(1970, 1, 1, tzinfo=UTC), "here")
    assert (third["state"], third["error"], third["test_exact_match"]) == ("failed", r"no\nroom", None)
    assert (last["state"], last["error"], last["started"]) == ("new", None, None)


def test_columns_have_their_types_even_without_a_value(sweep, tmp_path):
    types = dict(zip((schema := sweep.results(store=tmp_path).schema).names, schema.types, strict=True))
    assert types["seed"] == types["selected_step"] == pa.int64()
    assert types["test_exact_match"] == types["seconds_per_step"] == pa.float64()
    assert types["started"] == pa.timestamp("us", tz="UTC")
    assert types["device"] == pa.string()


def test_pandas_gets_a_frame_in_one_call(sweep, store):
    frame = sweep.results(store=store.uri).to_pandas()
    assert frame.groupby("init")["test_exact_match"].mean()["random"] == pytest.approx(0.32)


def test_the_report_has_the_same_as_a_long_csv(sweep, store, capsys):
    sweep.report(store=store.uri)
    rows = list(csv.DictReader(io.StringIO(store.read_bytes("reports/s/results.csv").decode())))
    assert [row["test_exact_match"] for row in rows] == ["0.3", "0.34", "", ""]
    assert [row["seed"] for row in rows] == ["0", "1", "0", "1"]
    assert list(rows[0]) == sweep.results(store=store.uri).column_names


def test_numbers_of_numpy_are_numbers(store):
    """In results, and in the lines that `report --next` prints."""
    sweep = Sweep(name="s", claim="c")

    def make(rate, seed):
        return Finetune(task=dataclasses.replace(TASK, learning_rate=rate), init=RandomInit(MODEL), seed=seed)

    sweep.add(make, rate=np.logspace(-3, -1, 3), seed=np.arange(1))
    sweep.table(title="t", rows=("rate",), baseline=(0.1,))
    cells = sweep.cells()
    for cell in cells:
        record(store, cell.artifact, 0.5)
    table = sweep.results(store=store.uri)
    assert table["rate"].to_pylist() == [0.001, 0.01, 0.1]
    assert table["seed"].to_pylist() == [0] * 3
    assert "run_seed" not in table.column_names
    statuses = store.statuses(in_order([cell.artifact for cell in cells]))
    lines = extend_lines(sweep.tables[0], propose_seeds(sweep.tables[0], cells, statuses, store))
    assert lines == ["sweep.extend({'rate': [0.001, 0.1, 0.01]}, seed=[1])"]


def test_no_column_takes_the_place_of_an_axis(store):
    sweep = Sweep(name="s", claim="c")
    sweep.add(lambda rehearsal, state, run_state: trial("random", 0), rehearsal=["x"], state=["y"], run_state=["z"])
    (row,) = sweep.results(store=store.uri, tiny=True).to_pylist()
    assert (row["rehearsal"], row["state"], row["run_state"]) == ("x", "y", "z")
    assert (row["run_rehearsal"], row["run_run_state"]) == ("tiny", "new")


def test_axes_of_any_labels_and_names_have_columns(store):
    sweep = Sweep(name="s", claim="c")

    def make(state, seed, init):
        return trial(init, int(seed[0]))

    sweep.add(make, state=[1, 2.5], seed=["0 a", "1=1"], init=["random", "fast"])
    sweep.add(lambda seed, init, rate: trial(init, seed), seed=[2], init=["slow"], rate=[True])
    cells = sweep.cells()
    columns = results(cells, store.statuses(cell.artifact for cell in cells))
    table = as_arrow(columns).to_pydict()
    assert table["state"] == [1.0] * 4 + [2.5] * 4 + [None]
    assert table["run_state"] == ["new"] * 9
    assert table["seed"][::2] == ["0 a", "1=1", "0 a", "1=1", "2"]
    assert table["run_seed"] == [0, 0, 1, 1, 0, 0, 1, 1, 2]
    assert table["rate"] == [None] * 8 + [True]
    assert len(list(csv.reader(io.StringIO(as_csv(columns))))) == 10
