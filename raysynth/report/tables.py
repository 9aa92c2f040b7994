"""Records to tables: mean (SD) over seeds, the best of a swept field, the share of the gap closed."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as TerminalTable

from raysynth.errors import InputError, unknown
from raysynth.report.published import Printed, printed
from raysynth.specs.finetuning import Finetune
from raysynth.specs.grid import Cell
from raysynth.specs.identity import in_order
from raysynth.store.store import State, Status


@dataclass(frozen=True, kw_only=True)
class Table:
    """How results are laid out: one row per combination of `rows`, one column per metric, the other fields folded.

    With `columns`, one column per combination of those instead, and all metrics of a task in one cell.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...] = ()
    where: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Only points whose fields have one of these values; all where empty."""
    published: str | None = None
    """The printed table to set beside ours, by its name in `published.json`."""
    fold: str = "seed"
    """Mean and sample SD run over this field."""
    best_of: str | None = None
    """Of this field the value with the highest mean validation token accuracy is shown (Appendix D.3)."""
    baseline: tuple[Any, ...] | None = None
    """The row at 0 % of the gap."""
    ceiling: tuple[Any, ...] | None = None
    """The row at 100 % of the gap."""

    def check(self, points: Sequence[Cell]) -> None:
        """Raise `InputError` unless the fields and rows that the layout names exist."""
        for point in points:
            for name in (*self.where, *self.rows, *self.columns, self.fold, *([self.best_of] if self.best_of else [])):
                if name not in point.fields:
                    raise unknown("table field", name, point.fields)
        keys = {self._row(point) for point in self._chosen(points)}
        for name in ("baseline", "ceiling"):
            row = getattr(self, name)
            if row is not None and row not in keys:
                raise InputError(
                    f"table {name} {row!r} is not a row; rows: {', '.join(map(repr, sorted(keys, key=str)))}"
                )
        if self.published is not None:
            printed(self.published)

    def _chosen(self, points: Sequence[Cell]) -> list[Cell]:
        return [point for point in points if all(point.fields[name] in kept for name, kept in self.where.items())]

    def _row(self, point: Cell) -> tuple[Any, ...]:
        return tuple(point.fields[field] for field in self.rows)

    def lines(self, points: Sequence[Cell], statuses: dict[Any, Status]) -> "list[Line]":
        """The table's rows in the order of the grid; those without any result have no values."""
        points = self._chosen(points)
        keys = dict.fromkeys(self._row(point) for point in points)
        return [self._line(key, [p for p in points if self._row(p) == key], statuses) for key in keys]

    def cells(
        self, points: Sequence[Cell], statuses: dict[Any, Status]
    ) -> "dict[tuple[tuple[Any, ...], tuple[Any, ...]], Line]":
        """What stands at each row and column that the grid has."""
        groups: dict[tuple[tuple[Any, ...], tuple[Any, ...]], list[Cell]] = {}
        for point in self._chosen(points):
            column = tuple(point.fields[name] for name in self.columns)
            groups.setdefault((self._row(point), column), []).append(point)
        return {place: self._line(place[0], here, statuses) for place, here in groups.items()}

    def curves(
        self, points: Sequence[Cell], statuses: dict[Any, Status]
    ) -> "dict[str, dict[str, list[dict[int, float]]]]":
        """Learning curves by column and row, of those that have results; columns have different tasks."""
        panels: dict[str, dict[str, list[dict[int, float]]]] = {}
        for (row, column), line in self.cells(points, statuses).items():
            panel = panels.setdefault(" ".join(map(str, column)), {})
            if line.results:
                panel[" ".join(map(str, row))] = line.curves()
        return {column: panel for column, panel in panels.items() if panel}

    def _line(self, key: tuple[Any, ...], here: list[Cell], statuses: dict[Any, Status]) -> "Line":
        """The results of the given points, at the best value of the swept field."""
        values = dict.fromkeys(point.fields[self.best_of] if self.best_of else None for point in here)
        options = []
        for value in values:
            part = [point for point in here if self.best_of is None or point.fields[self.best_of] == value]
            told = [statuses[point.artifact] for point in part]
            results = [one.record["result"] for one in told if one.record is not None]
            waits = [_wait(p.artifact, statuses) for p in part if statuses[p.artifact].state is not State.DONE]
            options.append(
                Line(
                    key=key,
                    best=value,
                    points=tuple(part),
                    results=tuple(results),
                    waits=next(iter(waits), ""),
                    metrics=tuple(metric for metric in part[0].artifact.task.metrics if metric in HEADINGS),
                )
            )
        return max(options, key=lambda option: option.validation)


def _wait(artifact: Finetune, statuses: dict[Any, Status]) -> str:
    """What an unfinished fine-tuning waits for: its own state, or the first of its inputs that is not done."""
    missing = next((needed for needed in in_order([artifact]) if statuses[needed].state is not State.DONE), artifact)
    if missing == artifact or statuses[missing].state in (State.FAILED, State.DIVERGED):
        return str(statuses[missing].state)
    return "data" if missing.kind == "dataset" else "source"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a table before it is printed."""

    key: tuple[Any, ...]
    best: Any
    points: tuple[Cell, ...]
    """Those at the best value, done or not."""
    results: tuple[dict[str, Any], ...]
    waits: str = ""
    """What the first unfinished one waits for."""
    metrics: tuple[str, ...] = ()
    """The task's metrics that the paper prints."""

    @property
    def wanted(self) -> int:
        """How many results there will be."""
        return len(self.points)

    @property
    def validation(self) -> float:
        """Mean validation token accuracy, or minus infinity without results."""
        return mean([result["validation"]["token_accuracy"] for result in self.results])

    def curves(self) -> list[dict[int, float]]:
        """Validation token accuracy by step, one curve per seed that is done."""
        return [
            {int(step): told["token_accuracy"] for step, told in result["evaluations"].items()}
            for result in self.results
        ]

    def mean(self, metric: str) -> float:
        """Mean over seeds on the test split, or minus infinity without results."""
        return mean(self.values(metric))

    def told(self, there: Printed | None) -> str:
        """The cell as text: means, SDs over seeds, seeds if some are missing, the distance to a printed value.

        The distance is that of the first metric, in the paper's SDs where it prints them, else in percent.
        """
        if not self.results:
            return f"({self.waits})"
        values = [[100 * value for value in self.values(metric)] for metric in self.metrics]
        lines = ["/".join(f"{statistics.fmean(each):.1f}" for each in values)]
        if len(self.results) > 1:
            lines.append(f"({'/'.join(f'{statistics.stdev(each):.1f}' for each in values)})")
        if there is not None:
            distance = statistics.fmean(values[0]) - there.values[0]
            spread = there.spreads[0] if there.spreads is not None else 0.0
            lines.append(f"{distance / spread:+.1f} SD" if spread else f"{distance:+.1f}")
        if len(self.results) < self.wanted:
            lines.append(f"{len(self.results)} of {self.wanted}")
        return "\n".join(lines)

    def values(self, metric: str) -> list[float]:
        """The metric on the test split, one value per seed that is done."""
        return [result["test"][metric] for result in self.results if metric in result["test"]]


def mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else float("-inf")


def mean_and_spread(values: Sequence[float]) -> str:
    """Percent as `41.2 (1.3)`: mean and sample standard deviation; the mean alone of one value."""
    if not values:
        return "-"
    spread = f" ({100 * statistics.stdev(values):.1f})" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.1f}{spread}"


def gap_closed(value: float, *, baseline: float, ceiling: float) -> float:
    """The share of the distance from baseline to ceiling that a value covers; not a number where there is none."""
    if float("-inf") in (value, baseline, ceiling) or ceiling == baseline:
        return float("nan")
    return (value - baseline) / (ceiling - baseline)


def rendered(table: Table, points: Sequence[Cell], statuses: dict[Any, Status]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table as text; cells may have several lines."""
    if table.columns:
        return _crossed(table, points, statuses)
    lines = table.lines(points, statuses)
    metrics = list(dict.fromkeys(metric for point in points for metric in point.artifact.task.metrics))
    header = [*table.rows, *metrics]
    if table.best_of:
        header.append(table.best_of)
    with_gap = table.baseline is not None and table.ceiling is not None
    if with_gap:
        header.append("gap closed")
    header.append(f"{table.fold}s")
    means = {line.key: mean(line.values(metrics[0])) for line in lines}
    rows = []
    for line in lines:
        row = [*map(str, line.key), *(mean_and_spread(line.values(metric)) for metric in metrics)]
        if table.best_of:
            row.append(f"{line.best:g}" if isinstance(line.best, float) else str(line.best))
        if with_gap:
            share = gap_closed(means[line.key], baseline=means[table.baseline], ceiling=means[table.ceiling])  # type: ignore[index]
            row.append("-" if share != share else f"{100 * share:.0f} %")
        done = len(line.results)
        row.append(str(done) if done == line.wanted else f"{done} of {line.wanted}")
        rows.append(row)
    return header, rows


PAPER = "  paper"
"""Heads a row of printed values, below that of ours."""

HEADINGS = {
    "exact_match": "EM",
    "squad_exact_match": "EM",
    "canonical_smiles_match": "EM",
    "token_f1": "F1",
    "squad_f1": "F1",
    "rouge1": "ROUGE-1",
}
"""Metrics as the paper's tables head them."""


def _crossed(table: Table, points: Sequence[Cell], statuses: dict[Any, Status]) -> tuple[list[str], list[list[str]]]:
    """Rows by columns, with the printed values below ours, the average and how much of the gap a row closes."""
    cells = table.cells(points, statuses)
    paper = {} if table.published is None else printed(table.published)
    rows, columns = (list(dict.fromkeys(place[side] for place in cells)) for side in (0, 1))
    averages = {
        row: mean_of([cells[row, column].mean(cells[row, column].metrics[0]) for column in columns])
        for row in rows
        if all((row, column) in cells for column in columns)
    }
    with_gap = table.baseline is not None and table.ceiling is not None
    told = []
    for row in rows:
        ours, theirs = [*map(str, row)], ["", *[""] * (len(row) - 1)]
        theirs[0] = PAPER
        for column in columns:
            line = cells.get((row, column))
            there = printed_cell(paper, row, column)
            ours.append("" if line is None else line.told(there))
            theirs.append("" if there is None else _paper(there))
        if with_gap:
            average = averages.get(row, float("nan"))
            share = gap_closed(
                average,
                baseline=averages.get(table.baseline, float("nan")),  # type: ignore[arg-type]
                ceiling=averages.get(table.ceiling, float("nan")),  # type: ignore[arg-type]
            )
            there = printed_cell(paper, row, ("average",))
            ours += [_percent(average), "-" if share != share else f"{100 * share:.0f} %"]
            theirs += ["" if there is None else _paper(there), ""]
        told.append(ours)
        if any(theirs[len(row) :]):
            told.append(theirs)
    metrics = metrics_of_columns(cells)
    header = [
        " ".join([*map(str, column), *(metrics[column] if len(metrics[column]) == 1 else [])]) for column in columns
    ]
    return [*table.rows, *header, *(["average", "gap closed"] if with_gap else [])], told


def metrics_of_columns(cells: Mapping[tuple[tuple[Any, ...], tuple[Any, ...]], Line]) -> dict[Any, set[str]]:
    """The metrics of each column as the paper heads them, several where its tasks have different ones."""
    told: dict[Any, set[str]] = {}
    for (_, column), line in cells.items():
        told.setdefault(column, set()).add("/".join(HEADINGS[metric] for metric in line.metrics))
    return told


def printed_cell(
    paper: dict[tuple[str, str], Printed], row: tuple[Any, ...], column: tuple[Any, ...]
) -> Printed | None:
    """The printed cell, whichever way round the paper's table lies."""
    one, other = (" ".join(map(str, key)) for key in (row, column))
    return paper.get((one, other)) or paper.get((other, one))


def _paper(there: Printed) -> str:
    spreads = "" if there.spreads is None else f"\n({'/'.join(f'{spread:.1f}' for spread in there.spreads)})"
    return "/".join(f"{value:.1f}" for value in there.values) + spreads


def _percent(value: float) -> str:
    return "-" if value != value or value == float("-inf") else f"{100 * value:.1f}"


def mean_of(values: Sequence[float]) -> float:
    """The mean, or not a number where a value is missing (minus infinity) or there is none."""
    return statistics.fmean(values) if values and float("-inf") not in values else float("nan")


def terminal(title: str, header: list[str], rows: list[list[str]], *, text_columns: int) -> TerminalTable:
    """A table for the terminal: text columns to the left, numbers to the right."""
    table = TerminalTable(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(header):
        words = "\n".join(column.replace("_", " ").split())
        text = index < text_columns
        table.add_column(words, justify="left" if text else "right", no_wrap=not text)
    for row in rows:
        table.add_row(*row)
    return table


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """The table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("\n", "<br>") for cell in line) + " |\n" for line in lines)


def comma_separated(header: list[str], rows: list[list[str]]) -> str:
    """The table as CSV."""
    text = io.StringIO()
    lines = [[cell.replace("\n", " ") for cell in row] for row in rows]
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    return text.getvalue()
