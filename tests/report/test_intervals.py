"""Bootstrap intervals: their bits, their coverage, their strata, and that the report has them."""

import csv
import io

import numpy as np
import pytest
from scipy import stats

from raysynth import Sweep
from raysynth.report.intervals import bootstrap, intervals
from raysynth.report.write import print_report
from raysynth.specs.identity import in_order
from tests.report.grids import VALUES, all_new, done, grid, record, trial


def test_an_interval_is_fixed_by_its_values_and_inside_their_range():
    values = [0.30, 0.34, 0.38, 0.31]
    once, again = (bootstrap([values], lambda means: means[0]) for _ in range(2))
    assert once == again
    assert min(values) <= once[0] < np.mean(values) < once[1] <= max(values)


def test_an_interval_of_many_seeds_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(0.5, 0.02, 200)
    low, high = bootstrap([values], lambda means: means[0])
    error = values.std(ddof=1) / np.sqrt(200)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_an_interval_is_near_scipys():
    values = [[0.1, 0.14, 0.11, 0.2], [0.9, 0.92, 0.95]]
    theirs = stats.bootstrap(
        values,
        lambda first, second, axis: second.mean(axis=axis) - first.mean(axis=axis),
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    assert bootstrap(values, lambda means: means[1] - means[0]) == pytest.approx(tuple(theirs), abs=2e-3)


def test_strata_are_resampled_each_by_itself():
    """Two tasks far apart: drawn together, the average would spread by their distance."""
    low, high = bootstrap([[0.1, 0.12, 0.11], [0.9, 0.92, 0.91]], lambda means: (means[0] + means[1]) / 2)
    assert 0.50 <= low < high <= 0.52


@pytest.mark.parametrize("values", [[], [0.3], [0.3, float("nan")], [0.3, float("inf")]])
def test_values_that_tell_no_spread_have_no_interval(values):
    assert bootstrap([values], lambda means: means[0]) is None


def test_an_interval_leaves_out_resamples_without_a_value_and_needs_one():
    assert bootstrap([[0.3, 0.3]], lambda means: means[0] / (means[0] - means[0].mean())) is None
    assert bootstrap([[0.0, 0.3, 0.4]], lambda means: means[0] / means[0]) == (1.0, 1.0)


def test_a_table_has_intervals_of_its_means_and_of_the_gap_but_not_of_its_ends():
    sweep = grid(random=3, full=3, shared=3)
    sweep.table(title="gap", rows=("init",), baseline=("random",), ceiling=("full",))
    cells = sweep.cells()
    values = VALUES | {"shared": [0.40, 0.34, 0.36]}  # the first seed of full is that of shared too
    statuses = all_new(cells) | {
        cell.artifact: done(exact_match=values[cell.fields["init"]][cell.fields["seed"]]) for cell in cells
    }
    found = intervals(sweep.tables[1], cells, statuses)
    assert [(each.row[0], each.what) for each in found] == [
        *((init, "exact_match") for init in ("random", "full", "shared")),
        ("shared", "gap closed"),
    ]
    gap = found[-1]
    assert gap.value == pytest.approx((np.mean(values["shared"]) - 0.34) / 0.06)
    assert gap.low < gap.value < gap.high
    assert {each.num_seeds for each in found} == {3}


@pytest.mark.filterwarnings("error")
def test_a_gap_of_nothing_has_no_interval():
    sweep = grid(random=12, slow=12, fast=12)
    sweep.table(title="gap", rows=("init",), baseline=("random",), ceiling=("slow",))
    cells, values = sweep.cells(), np.random.default_rng(0).random(12).tolist()
    higher = {"random": 0.0, "slow": 0.0, "fast": 0.1}
    statuses = all_new(cells) | {
        cell.artifact: done(exact_match=values[cell.fields["seed"]] + higher[cell.fields["init"]]) for cell in cells
    }
    assert {each.what for each in intervals(sweep.tables[1], cells, statuses)} == {"exact_match"}


def test_a_report_has_intervals_and_both_p_in_its_page_and_in_csv(store, capsys):
    sweep = grid(random=3, full=3)
    for init, metrics in VALUES.items():
        for seed, value in enumerate(metrics):
            record(store, trial(init, seed), value)
    cells = sweep.cells()
    statuses = store.statuses(in_order([cell.artifact for cell in cells]))
    print_report("s", "c", sweep.tables, cells, statuses, store)
    page = store.read_bytes("reports/s/report.html").decode()
    assert "95 % bootstrap intervals over seeds" in page
    assert "Holm&#x27;s correction over all 1" in page
    means = list(csv.DictReader(io.StringIO(store.read_bytes("reports/s/intervals1.csv").decode())))
    assert {each["row"] for each in means if each["of"] == "exact_match"} == {"random", "full"}
    assert all(float(each["low"]) <= float(each["value"]) <= float(each["high"]) for each in means)
    (difference,) = csv.DictReader(io.StringIO(store.read_bytes("reports/s/comparisons1.csv").decode()))
    assert difference["settled"] == "False"
    assert float(difference["low"]) < float(difference["difference"]) < float(difference["high"])
    assert float(difference["holm_p"]) == float(difference["p"])


def test_a_table_with_columns_has_averages_stratified_by_column(store):
    sweep = Sweep(name="s", claim="c")
    sweep.add(
        lambda init, task, seed: trial(init, seed + 10 * task),
        init=["random", "slow", "fast"],
        task=[0, 1],
        seed=range(3),
    )
    sweep.table(title="t", rows=("init",), columns=("task",), baseline=("random",), ceiling=("fast",))
    cells = sweep.cells()
    means = {"random": 0.3, "slow": 0.4, "fast": 0.5}
    statuses = all_new(cells) | {
        cell.artifact: done(
            exact_match=means[cell.fields["init"]] + 0.4 * cell.fields["task"] + 0.01 * cell.fields["seed"]
        )
        for cell in cells
    }
    found = {(each.row[0], each.column, each.what): each for each in intervals(sweep.tables[0], cells, statuses)}
    average = found["slow", (), "average"]
    assert average.value == pytest.approx(0.61)
    assert 0.60 <= average.low < average.high <= 0.62
    assert average.num_seeds == 6
    gap = found["slow", (), "gap closed"]
    assert gap.value == pytest.approx(0.5)
    assert 0.4 < gap.low < 0.5 < gap.high < 0.6
    assert gap.num_seeds == 6
    assert found["slow", (1,), "exact_match"].num_seeds == 3
