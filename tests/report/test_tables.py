"""Tables: means and spreads over seeds, the best of a swept field, the share of the gap, and missing results."""

import statistics
from types import SimpleNamespace

import pytest

from raysynth import InputError
from raysynth.report.tables import Table, as_csv, as_markdown, gap_closed, heading, mean_and_spread, render
from raysynth.store.store import State, Status
from tests.report.grids import done

TABLE = Table(title="t", rows=("init",), best_of="learning_rate", baseline=("random",), ceiling=("full",))


class Artifact:
    """A fine-tuning as far as tables look at it."""

    task = SimpleNamespace(metrics=("exact_match",))

    def inputs(self):
        return ()


def grid(results):
    """Cells and statuses from {(init, learning_rate, seed): (validation accuracy, test exact match) or None}."""
    cells, statuses = [], {}
    for (init, rate, seed), scores in results.items():
        artifact = Artifact()
        cells.append(SimpleNamespace(fields={"init": init, "learning_rate": rate, "seed": seed}, artifact=artifact))
        if scores is None:
            statuses[artifact] = Status(state=State.NEW)
        else:
            validation, exact_match = scores
            statuses[artifact] = done(validation=validation, exact_match=exact_match)
    return cells, statuses


RESULTS = {
    ("random", 0.01, 0): (0.5, 0.10),
    ("random", 0.01, 1): (0.5, 0.20),
    ("random", 0.1, 0): (0.4, 0.90),
    ("random", 0.1, 1): (0.4, 0.90),
    ("half", 0.01, 0): (0.6, 0.30),
    ("half", 0.01, 1): (0.6, 0.40),
    ("half", 0.1, 0): (0.5, 0.00),
    ("half", 0.1, 1): (0.5, 0.00),
    ("full", 0.01, 0): (0.6, 0.10),
    ("full", 0.01, 1): (0.6, 0.10),
    ("full", 0.1, 0): (0.8, 0.55),
    ("full", 0.1, 1): (0.8, 0.55),
}


def test_the_table_shows_mean_sd_best_rate_and_gap():
    header, rows = render(TABLE, *grid(RESULTS))
    assert header == ["init", "exact_match", "learning_rate", "gap closed", "seeds"]
    assert rows == [
        ["random", "15.0 (7.1)", "0.01", "0 %", "2"],
        ["half", "35.0 (7.1)", "0.01", "50 %", "2"],
        ["full", "55.0 (0.0)", "0.1", "100 %", "2"],
    ]


def test_the_best_rate_is_chosen_on_validation_not_on_the_test_split():
    _, rows = render(TABLE, *grid(RESULTS))
    assert rows[0][2] == "0.01"  # 0.1 has the better test metric and the worse validation accuracy


def test_missing_results_show():
    results = {key: scores for key, scores in RESULTS.items() if key[1] == 0.01}
    results["full", 0.01, 0] = results["full", 0.01, 1] = results["half", 0.01, 1] = None
    _, rows = render(TABLE, *grid(results))
    assert rows[1] == ["half", "30.0", "0.01", "-", "1 of 2"]
    assert rows[2] == ["full", "-", "0.01", "-", "0 of 2"]


def test_spread_is_the_sample_standard_deviation():
    values = [0.11, 0.13, 0.19]
    assert mean_and_spread(values) == f"14.3 ({100 * statistics.stdev(values):.1f})"
    assert mean_and_spread([0.5]) == "50.0"
    assert mean_and_spread([]) == "-"


def test_gap_closed_can_be_negative_above_one_and_undefined():
    assert gap_closed(0.0, baseline=0.1, ceiling=0.3) == pytest.approx(-0.5)
    assert gap_closed(0.5, baseline=0.1, ceiling=0.3) == pytest.approx(2.0)
    undefined = gap_closed(0.5, baseline=0.1, ceiling=0.1)
    assert undefined != undefined


def test_tables_as_markdown_and_csv():
    assert as_markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert as_csv(["a", "b"], [["1,5", "2"]]) == 'a,b\n"1,5",2\n'


@pytest.mark.parametrize(
    ("layout", "line"),
    [
        ({"rows": ("inti",)}, "unknown table field 'inti' (did you mean 'init'?)"),
        ({"rows": ("init",), "baseline": ("randm",)}, "table baseline ('randm',) is not a row"),
    ],
)
def test_a_wrong_name_in_a_layout_is_an_error_of_one_line(layout, line):
    cells, _ = grid(RESULTS)
    with pytest.raises(InputError) as caught:
        Table(title="t", **layout).check(cells)
    assert str(caught.value).startswith(line)


def test_headings_are_the_papers_or_words():
    assert [heading(metric) for metric in ("squad_f1", "rouge1", "token_accuracy")] == [
        "F1",
        "ROUGE-1",
        "token accuracy",
    ]
