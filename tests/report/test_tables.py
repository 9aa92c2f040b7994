"""Tables: means and spreads over seeds, the best of a swept field, the share of the gap, and missing results."""

import dataclasses
import statistics
from types import SimpleNamespace

import pytest

from raysynth import Finetune, InputError, RandomInit, Sweep
from raysynth.report.figures import learning_curves
from raysynth.report.latex import as_latex
from raysynth.report.significance import comparisons
from raysynth.report.tables import (
    Layout,
    Table,
    as_csv,
    as_markdown,
    gap_closed,
    heading,
    lay_out,
    mean_and_spread,
    render,
)
from raysynth.store.store import State, Status
from tests.report import grids
from tests.report.grids import done

TABLE = Table(title="t", rows=("init",), best_of="learning_rate", baseline=("random",), ceiling=("full",))


class Artifact:
    """A fine-tuning as far as tables look at it."""

    task = SimpleNamespace(metrics=("exact_match",), data="d")

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


@pytest.mark.parametrize(
    ("ceiling", "notes"),
    [
        ((0.5, 0.6), []),
        ((0.5,), []),
        ((0.1, 0.6), ["full, at 35.0 (35.4), is not clearly above random, at 15.0 (7.1)"]),
        ((0.0, 0.1), ["full, at 5.0 (7.1), is not clearly above random, at 15.0 (7.1)"]),
    ],
)
def test_a_gap_that_may_be_chance_is_named_below_the_table(ceiling, notes):
    full = {("full", 0.01, seed): (0.7, score) for seed, score in enumerate(ceiling)}
    layout = lay_out(TABLE, *grid({("random", 0.01, 0): (0.5, 0.1), ("random", 0.01, 1): (0.5, 0.2), **full}))
    assert layout.notes == [f"gap closed says little here: {note}" for note in notes]


def test_headings_are_the_papers_or_words():
    assert [heading(metric) for metric in ("squad_f1", "rouge1", "token_accuracy")] == [
        "F1",
        "ROUGE-1",
        "token accuracy",
    ]


def edges(scores, values=(0.01, 0.02, 0.04), **axes):
    """The best value that a table shows of a row with these validation accuracies, and the notes below the table."""
    cells, statuses = grid(
        {("a", value, 0): None if score is None else (score, 0.5) for value, score in zip(values, scores, strict=True)}
    )
    layout = lay_out(Table(title="t", rows=("init",), best_of="learning_rate", **axes), cells, statuses)
    return layout.marked_rows[0][2], layout.notes


def test_the_edge_of_a_grid_is_marked_and_one_line_names_row_value_and_grid():
    assert edges((0.1, 0.2, 0.3)) == (
        "0.04*",
        ["* a: best at learning_rate 0.04, an edge of its grid (0.01, 0.02, 0.04); a higher one may be better"],
    )
    for values in ((0.01, 0.02, 0.04), (10**-2.5, 10**-2, 10**-1.5)):  # as many digits as it takes, too
        marked, (note,) = edges((0.3, 0.2, 0.1), values)
        assert marked == f"{values[0]:g}*"
        assert note.endswith("a lower one may be better")


@pytest.mark.parametrize(
    ("scores", "values"),
    [
        ((0.1, 0.3, 0.2), (0.01, 0.02, 0.04)),  # inside
        ((0.3, 0.1, 0.2), (0.02, 0.01, 0.04)),  # inside, whatever the order in the sweep file
        ((0.3,), (0.01,)),  # nothing was chosen
        ((0.3, 0.3, 0.3), (0.01, 0.02, 0.04)),  # nothing tells them apart
        ((0.3, 0.3, 0.1), (0.01, 0.02, 0.04)),  # a value inside is as good
        ((0.3, None, None), (0.01, 0.02, 0.04)),  # nothing to compare with yet
        ((0.3, 0.1, 0.2), ("small", "medium", "large")),  # names have no order
        ((0.3, 0.1), (True, False)),
        ((None, None), (0.01, 0.02)),
    ],
)
def test_what_is_no_edge_is_not_marked(scores, values):
    marked, notes = edges(scores, values)
    assert not marked.endswith("*")
    assert notes == []


def test_two_values_have_no_inside_and_names_may_be_numbers():
    assert edges((0.1, 0.2), ("1e-2", "2e-2"))[0] == "2e-2*"
    assert edges((0.1, 0.2), (1, 2))[0] == "2*"
    assert edges((0.3, 0.2, 0.3))[0] == "0.01*"  # both edges are better than the inside


def test_rows_with_the_same_edge_share_a_line_and_a_column_marks_its_entry():
    cells, statuses = grid(RESULTS)
    layout = lay_out(TABLE, cells, statuses)
    assert [note.partition(",")[0] for note in layout.notes] == [
        "* random; half: best at learning_rate 0.01",
        "* full: best at learning_rate 0.1",
    ]
    for cell in cells:
        cell.fields["task"] = "x"
    by_column = Table(title="t", rows=("init",), columns=("task",), best_of="learning_rate")
    layout = lay_out(by_column, cells, statuses)
    assert layout.marked_rows[0] == ["random", "15.0*\n(7.1)"]
    assert layout.rows[0] == ["random", "15.0\n(7.1)"]
    assert layout.notes[0].startswith("* random x; half x: best at learning_rate 0.01")


def test_one_metric_can_be_shown_and_compared():
    sweep = grids.grid(random=2, full=2)
    statuses = {
        artifact: grids.done(exact_match=0.2, token_accuracy=0.5 + 0.1 * (artifact.init.name == "full"))
        for artifact in (cell.artifact for cell in sweep.cells())
    }
    sweep.tables.clear()
    sweep.table(title="t", rows=("init",), baseline=("random",), ceiling=("full",), metric="token_accuracy")
    sweep.table(title="t", rows=("init",), columns=("seed",), metric="token_accuracy")
    cells = sweep.cells()
    assert render(sweep.tables[0], cells, statuses) == (
        ["init", "token_accuracy", "gap closed", "seeds"],
        [["random", "50.0 (0.0)", "0 %", "2"], ["full", "60.0 (0.0)", "100 %", "2"]],
    )
    assert render(sweep.tables[1], cells, statuses)[0] == ["init", "0 token accuracy", "1 token accuracy"]
    (comparison,) = comparisons(sweep.tables[0], cells, statuses)
    assert comparison.metric == "token_accuracy"


@pytest.mark.parametrize(
    ("layout", "line"),
    [
        ({"metric": "exact"}, "unknown table metric 'exact' (did you mean 'exact_match'?)"),
        ({"metric": 1}, "table metric must be text, got 1"),
        ({"metric": "exact_match", "published": "table6"}, "a table has either metric or published"),
        ({"published": "table6"}, "a table with published needs columns"),
    ],
)
def test_a_metric_or_printed_table_that_does_not_fit_is_an_error_of_one_line(layout, line):
    cells, _ = grid(RESULTS)
    with pytest.raises(InputError) as caught:
        Table(title="t", rows=("init",), **layout).check(cells)
    assert str(caught.value).startswith(line)


def test_latex_has_the_numbers_the_best_in_bold_and_the_edge():
    text = as_latex("a_b", lay_out(TABLE, *grid(RESULTS)))
    assert "\\caption{a\\_b}" in text
    assert "\\begin{tabular}{lrrrr}" in text
    assert "random & 15.0 (7.1) & 0.01\\textsuperscript{{*}} & 0 \\% & 2 \\\\\n" in text
    assert "full & \\textbf{55.0} (0.0) & 0.1\\textsuperscript{{*}} & 100 \\% & 2 \\\\\n" in text
    assert "{\\footnotesize {*} random; half: best at learning\\_rate 0.01" in text


def test_latex_of_a_table_with_columns_has_the_paper_in_italics_and_means_as_they_are_shown():
    layout = Layout(
        header=["init", "a_b"],
        rows=[["x", "1.5/2.0\n(0.1/0.2)\n-0.4 SD"], ["  paper", "1.9"], ["y", "-3 %"], ["z", "-"], ["w", "(new)"]],
        num_names=1,
        edges=frozenset(),
        best=frozenset({(0, 1)}),
        notes=[],
    )
    assert as_latex("t", layout).split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines() == [
        "x & \\textbf{1.5/2.0} (0.1/0.2) $-$0.4 SD \\\\",
        "paper & \\textit{1.9} \\\\",
        "y & $-$3 \\% \\\\",
        "z & -- \\\\",
        "w & (new) \\\\",
    ]


def test_tuning_curves_have_the_scores_of_every_value_and_seed():
    cells, statuses = grid(RESULTS)
    assert TABLE.tuning_curves(cells, statuses) == {
        "": {
            "random": [{0.01: 0.5, 0.1: 0.4}] * 2,
            "half": [{0.01: 0.6, 0.1: 0.5}] * 2,
            "full": [{0.01: 0.6, 0.1: 0.8}] * 2,
        }
    }
    assert Table(title="t", rows=("init",)).tuning_curves(cells, statuses) == {}


def trend(rows, baseline=None):
    """A table by examples and step, with made-up scores of two seeds, and its curves."""
    sweep = Sweep(name="s", claim="c")

    def trial(examples, step, seed):
        different = 1_000_000 * seed + 1_000 * examples + step
        return Finetune(task=grids.TASK, init=RandomInit(grids.MODEL), seed=different)

    for examples, step in rows:
        sweep.add(trial, examples=[examples], step=[step], seed=range(2))
    cells = sweep.cells()
    statuses = {cell.artifact: done(exact_match=cell.fields["step"] / 100) for cell in cells}
    table = Table(title="t", rows=("examples", "step"), baseline=baseline)
    return table, cells, statuses


def test_trend_curves_go_along_the_last_axis_of_numbers():
    rows = [(0, 0), (1, 10), (1, 20), (2, 10), (2, 20), (2, 40)]
    table, cells, statuses = trend(rows, baseline=(0, 0))
    assert table.trend_axis(cells) == "step"
    curves = table.trend_curves(cells, statuses)
    assert curves == {
        "": {
            "0": [dict.fromkeys((10, 20, 40), 0.0)] * 2,
            "1": [{10: 0.1, 20: 0.2}] * 2,
            "2": [{10: 0.1, 20: 0.2, 40: 0.4}] * 2,
        }
    }
    others = trend([(0, 10), *rows[1:]], baseline=(0, 10))  # one of the numbers of the others
    assert others[0].trend_curves(*others[1:])[""]["0"] == [dict.fromkeys((10, 20, 40), 0.1)] * 2
    assert learning_curves("t", curves, ylabel="y", xlabel="step", at_values=True, file_format="png")


def test_a_trend_is_of_the_tables_own_metric():
    """The tables of a sweep may be of different tasks."""
    sweep = Sweep(name="s", claim="c")
    tasks = {name: dataclasses.replace(grids.TASK, metrics=(name,)) for name in ("exact_match", "token_accuracy")}
    sweep.add(
        lambda task, step: Finetune(task=task, init=RandomInit(grids.MODEL), seed=step), task=tasks, step=[1, 2, 3]
    )
    table, cells = Table(title="t", rows=("step",), where={"task": ("token_accuracy",)}), sweep.cells()
    assert table.first_metric(cells) == "token accuracy"
    assert dataclasses.replace(table, where={}).first_metric(cells) == "first metric"


def test_without_three_numbers_there_is_no_trend():
    table, cells, statuses = trend([(1, 10), (1, 20), (2, 10)])
    assert table.trend_axis(cells) is None
    assert table.trend_curves(cells, statuses) == {}
    cells, statuses = grid(RESULTS)
    assert TABLE.trend_curves(cells, statuses) == {}
    table, cells, _ = trend([(1, 10), (1, 20), (1, 30)])
    assert table.trend_axis(cells) == "step"
    assert table.trend_curves(cells, grids.all_new(cells)) == {}


def test_a_rehearsal_says_so_and_is_not_compared_with_the_paper():
    cells, statuses = grid(RESULTS)
    table = dataclasses.replace(TABLE, published="table6").rehearsed()
    layout = lay_out(table, cells, statuses)
    assert table.title == "Rehearsal (--tiny): t"
    assert table.published is None
    assert layout.marked_rows == layout.rows
    (note,) = layout.notes
    assert note.startswith("Rehearsal with tiny models")
