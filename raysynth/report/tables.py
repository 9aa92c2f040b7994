"""Result tables: means and SDs over seeds, the best value of a swept field and the share of a gap closed.

A `Table` describes a layout and groups the cells of a grid into entries, `lay_out` turns those into text, and the
`as_` functions format that text for a terminal, Markdown or CSV.
"""

import csv
import dataclasses
import io
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as TerminalTable
from rich.text import Text

from raysynth.downstream.metrics import metrics as decoded_metrics
from raysynth.errors import InputError, brief, printable, unknown
from raysynth.report.published import PrintedEntry, PrintedTable, printed_entry, read_printed
from raysynth.specs.finetuning import DownstreamTask, Finetune
from raysynth.specs.grid import Cell, hashable, label_text
from raysynth.specs.identity import Artifact, in_order
from raysynth.store.records import Record, WeightsResult
from raysynth.store.store import State, Status

# -------------------------------------------------------------------------------- layout

Key = tuple[Any, ...]
"""Names a row or a column: a cell's values of the table's row or column fields."""

Place = tuple[Key, Key]
"""Row and column of an entry; the column is empty in a table without columns."""


REHEARSAL = "Rehearsal (--tiny)"
"""Leads the titles of tables and pages of tiny models."""
REHEARSAL_NOTE = "Rehearsal with tiny models, little data and few steps: these numbers say nothing about the claim."


@dataclass(frozen=True, kw_only=True)
class Table:
    """The layout of a table of results.

    There is one row per combination of the `rows` fields. Without `columns` there is one column per metric. With
    `columns` there is one column per combination of those fields, and an entry holds all metrics of its task.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...] = ()
    where: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Keeps only cells whose fields have one of these values; keeps all cells if empty."""
    published: str | None = None
    """Name in `published.json` of the printed table to show beside ours."""
    fold: str = "seed"
    """Mean and sample SD are taken over this field."""
    best_of: str | None = None
    """Entries show results at one value of this field, that of the best mean validation accuracy (Appendix D.3)."""
    baseline: Key | None = None
    """The row at 0 % of the gap."""
    ceiling: Key | None = None
    """The row at 100 % of the gap."""
    metric: str | None = None
    """The only metric to show and to compare; by default those of the tasks."""
    rehearsal: bool = False
    """Whether the results are those of tiny models, which say nothing about the claim; see `rehearsed`."""
    lacks_gap: bool = False
    """Whether the table shows no gap though it has baseline and ceiling; see `of_part`."""

    def __post_init__(self) -> None:
        for name in ("baseline", "ceiling"):
            if isinstance(row := getattr(self, name), tuple):
                object.__setattr__(self, name, tuple(map(hashable, row)))  # as the keys of rows are

    @property
    def gap(self) -> tuple[Key, Key] | None:
        """Baseline and ceiling, or None unless the table has both and shows how much of the gap is closed."""
        if self.baseline is None or self.ceiling is None or self.lacks_gap:
            return None
        return self.baseline, self.ceiling

    def rehearsed(self) -> "Table":
        """The table of a rehearsal: it says so, and it is not compared with the paper's."""
        return dataclasses.replace(self, title=f"{REHEARSAL}: {self.title}", published=None, rehearsal=True)

    def has_cells(self, cells: Sequence[Cell]) -> bool:
        """Whether any of the cells are in the table."""
        return bool(self._kept(cells))

    def of_part(self, cells: Sequence[Cell], part: str) -> "Table":
        """The table of some cells of the grid: it says which, and shows no gap if rows or columns may be missing.

        Baseline and ceiling stay: a part claims no more differences than the table does.
        """
        rows = {self._row(cell) for cell in self._kept(cells)}
        lacks_gap = bool(self.columns) or not rows.issuperset(self.gap or ())
        return dataclasses.replace(self, title=f"{self.title} ({part})", lacks_gap=lacks_gap)

    def check(self, cells: Sequence[Cell]) -> None:
        """Raise `InputError` unless the fields, values, rows and printed table that the layout names exist."""
        self._check_types()
        for cell in cells:
            for name in (*self.where, *self.rows, *self.columns, self.fold, *([self.best_of] if self.best_of else [])):
                if name not in cell.fields:
                    raise unknown("table field", name, cell.fields)
        for name, values in self.where.items():
            present = [cell.fields[name] for cell in cells]
            for value in values:
                if value not in present:
                    raise unknown(f"value of {name} in the table's where", value, {str(label) for label in present})
        rows = {self._row(cell) for cell in self._kept(cells)}
        for name in ("baseline", "ceiling"):
            row = getattr(self, name)
            if row is not None and hashable(row) not in rows:
                raise InputError(
                    f"table {name} {brief(row)} is not a row; rows: {', '.join(map(brief, sorted(rows, key=str)))}"
                )
        if self.published is not None:
            read_printed(self.published)
        metrics = dict.fromkeys(metric for cell in self._kept(cells) for metric in cell.artifact.task.metrics)
        if self.metric is not None and self.metric not in metrics:
            raise unknown("table metric", self.metric, metrics)
        if self.metric is not None and self.published is not None:
            raise InputError("a table has either metric or published: the paper's tables have metrics of their own")
        if self.published is not None and not self.columns:
            raise InputError("a table with published needs columns: the paper's numbers stand below those of a column")

    def first_metric(self, cells: Sequence[Cell]) -> str:
        """The metric to compare by in words; "first metric" if the table's tasks have different ones."""
        metrics = {self.metrics_of(cell.artifact.task)[0] for cell in self._kept(cells)}
        return metrics.pop().replace("_", " ") if len(metrics) == 1 else "first metric"

    def metrics_of(self, task: DownstreamTask) -> tuple[str, ...]:
        """The metrics that the table shows of a task, the one to compare by first."""
        if self.metric is not None:
            return (self.metric,)
        return _shown_metrics(task.metrics) if self.columns else task.metrics

    def _check_types(self) -> None:
        """Raise `InputError` for an argument of a wrong type, such as a text where a tuple of texts must be."""
        for name in ("title", "fold", "best_of", "published", "metric"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (value is None and name not in ("title", "fold")):
                raise InputError(f"table {name} must be text, got {brief(value)}")
        for name in ("rows", "columns"):
            value = getattr(self, name)
            if not isinstance(value, tuple | list) or not all(isinstance(field, str) for field in value):
                raise InputError(f"table {name} must be a tuple of axes, got {brief(value)}")
        if not isinstance(self.where, Mapping):
            raise InputError(f"table where must be a mapping from axes to tuples of values, got {brief(self.where)}")
        for axis, values in self.where.items():
            if not isinstance(values, tuple | list | set | frozenset):
                raise InputError(f"table where must give a tuple of values of {axis}, got {brief(values)}")

    def entries(self, cells: Sequence[Cell], statuses: Mapping[Artifact, Status]) -> "dict[Place, Entry]":
        """The entries by row and column, in the order of the grid; an entry may have no results yet."""
        groups = self._groups(cells).items()
        return {(row, column): self._entry(row, group, statuses) for (row, column), group in groups}

    def curves(
        self, cells: Sequence[Cell], statuses: Mapping[Artifact, Status]
    ) -> dict[str, dict[str, list[dict[int, float]]]]:
        """Learning curves by column, then row, of the entries that have results."""
        panels: dict[str, dict[str, list[dict[int, float]]]] = {}
        for (row, column), entry in self.entries(cells, statuses).items():
            panel = panels.setdefault(" ".join(map(label_text, column)), {})
            if entry.results:
                panel[" ".join(map(label_text, row))] = entry.curves()
        return {column: panel for column, panel in panels.items() if panel}

    def _kept(self, cells: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in cells if all(cell.fields[name] in values for name, values in self.where.items())]

    def _row(self, cell: Cell) -> Key:
        return tuple(hashable(cell.fields[name]) for name in self.rows)

    def tuning_curves(
        self, cells: Sequence[Cell], statuses: Mapping[Artifact, Status]
    ) -> dict[str, dict[str, list[dict[float, float]]]]:
        """Validation token accuracy by the value of `best_of`, by column, then row: one curve a seed.

        Only rows with results at two values or more; nothing if the values are no numbers.
        """
        panels: dict[str, dict[str, list[dict[float, float]]]] = {}
        if self.best_of is None:
            return panels
        for (row, column), group in self._groups(cells).items():
            runs: dict[Any, dict[float, float]] = {}
            for cell in group:
                value = _number(cell.fields[self.best_of])
                accuracy = _accuracy(statuses[cell.artifact].record)
                if value is not None and accuracy is not None:
                    runs.setdefault(hashable(cell.fields[self.fold]), {})[value] = accuracy
            most = max(map(len, runs.values()), default=0)
            if most > 1:
                panel = panels.setdefault(" ".join(map(label_text, column)), {})
                panel[" ".join(map(label_text, row))] = [run for run in runs.values() if len(run) == most]
        return panels

    def trend_axis(self, cells: Sequence[Cell]) -> str | None:
        """The last of the axes of the rows that has three different numbers or more, and nothing else."""
        for axis in reversed(self.rows):
            labels = {hashable(cell.fields[axis]) for cell in self._kept(cells)}
            numbers = [label for label in labels if isinstance(label, int | float) and _number(label) is not None]
            if len(numbers) == len(labels) > 2:
                return axis
        return None

    def trend_curves(
        self, cells: Sequence[Cell], statuses: Mapping[Artifact, Status]
    ) -> dict[str, dict[str, list[dict[float, float]]]]:
        """The first metric on the test split by the numbers of `trend_axis`, by column, then by the rest of the row:
        one curve a seed.

        A baseline that has one of the numbers only is a level line over those of the others. Nothing without such an
        axis; other lines need results at two numbers or more.
        """
        panels: dict[str, dict[str, list[dict[float, float]]]] = {}
        if (axis := self.trend_axis(cells)) is None:
            return panels
        place = self.rows.index(axis)
        lines: dict[Key, dict[Key, dict[Any, dict[float, float]]]] = {}
        for (row, column), entry in self.entries(cells, statuses).items():
            runs = lines.setdefault(column, {}).setdefault(row[:place] + row[place + 1 :], {})
            for cell in entry.cells:
                record = statuses[cell.artifact].record
                score = None if record is None else (record.weights.test or {}).get(entry.metrics[0])
                if score is not None:
                    runs.setdefault(hashable(cell.fields[self.fold]), {})[float(row[place])] = score
        baseline = None if self.baseline is None else self.baseline[:place] + self.baseline[place + 1 :]
        for column, by_rest in lines.items():
            others = [run for rest, runs in by_rest.items() if rest != baseline for run in runs.values()]
            values = {value for run in others for value in run}
            panel = {}
            for rest, runs in by_rest.items():
                if rest == baseline:
                    level = {seed: next(iter(run.values())) for seed, run in runs.items() if len(run) == 1}
                    runs |= {seed: dict.fromkeys(values, score) for seed, score in level.items()}
                most = max(map(len, runs.values()), default=0)
                if most > 1:
                    name = " ".join(map(label_text, rest)) or axis
                    panel[name] = [run for run in runs.values() if len(run) == most]
            if panel:
                panels[" ".join(map(label_text, column))] = panel
        return panels

    def _groups(self, cells: Sequence[Cell]) -> dict[Place, list[Cell]]:
        """The cells at each row and column."""
        groups: dict[Place, list[Cell]] = {}
        for cell in self._kept(cells):
            column = tuple(hashable(cell.fields[name]) for name in self.columns)
            groups.setdefault((self._row(cell), column), []).append(cell)
        return groups

    def _entry(self, row: Key, cells: list[Cell], statuses: Mapping[Artifact, Status]) -> "Entry":
        """The entry of these cells at the best value of the swept field."""
        groups: dict[Any, list[Cell]] = {}
        for cell in cells:
            groups.setdefault(hashable(cell.fields[self.best_of]) if self.best_of else None, []).append(cell)
        candidates = []
        for value, group in groups.items():
            records = [statuses[cell.artifact].record for cell in group]
            unfinished = [cell.artifact for cell in group if statuses[cell.artifact].state is not State.DONE]
            candidates.append(
                Entry(
                    row=row,
                    best_value=value,
                    cells=tuple(group),
                    results=tuple(record.weights for record in records if record is not None),
                    waiting_for=_waiting_for(unfinished[0], statuses) if unfinished else "",
                    metrics=self.metrics_of(group[0].artifact.task),
                )
            )
        best = max(candidates, key=lambda entry: entry.validation_accuracy)
        return dataclasses.replace(best, edge_of=_edge_of(best, candidates)) if self.best_of else best


def _edge_of(best: "Entry", candidates: Sequence["Entry"]) -> tuple[float, ...]:
    """The values of `best_of` in order if the best one is the lowest or highest; empty if not or if nothing tells.

    Nothing tells where a value is no number, where all scores so far are equal, and where a value inside has the same
    score.
    """
    values = [_number(candidate.best_value) for candidate in candidates]
    numbers = sorted(value for value in values if value is not None)
    scores = [candidate.validation_accuracy for candidate in candidates if candidate.validation_accuracy > -math.inf]
    as_good = [
        value
        for value, candidate in zip(values, candidates, strict=True)
        if candidate.validation_accuracy == best.validation_accuracy
    ]
    if len(numbers) < len(values) or len(set(scores)) < 2 or not set(as_good) <= {numbers[0], numbers[-1]}:
        return ()
    return tuple(numbers)


def _accuracy(record: Record | None) -> float | None:
    """Validation token accuracy at the selected step, if it is a number."""
    accuracy = None if record is None else (record.weights.validation or {}).get("token_accuracy")
    return accuracy if accuracy is not None and math.isfinite(accuracy) else None


def _number(label: Any) -> float | None:
    """A label as a number, or None."""
    try:
        number = float(label)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and not isinstance(label, bool) else None


def _shown_metrics(metrics: tuple[str, ...]) -> tuple[str, ...]:
    """The metrics of decoded text, which the paper prints; all, if a task has none of those."""
    return tuple(metric for metric in metrics if metric in decoded_metrics) or metrics


def _waiting_for(artifact: Finetune, statuses: Mapping[Artifact, Status]) -> str:
    """What an unfinished fine-tuning waits for: "data" or "source", or a state if it can run or an input failed."""
    missing = next((needed for needed in in_order([artifact]) if statuses[needed].state is not State.DONE), artifact)
    if missing == artifact or statuses[missing].state in (State.FAILED, State.DIVERGED):
        return str(statuses[missing].state)
    return "data" if missing.kind == "dataset" else "source"


# -------------------------------------------------------------------------------- entries


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The results that stand at one row and column of a table, before they become text."""

    row: Key
    best_value: Any
    """Value of the table's `best_of` field that the entry shows; None without `best_of`."""
    cells: tuple[Cell, ...]
    """The cells at the best value, done or not."""
    results: tuple[WeightsResult, ...]
    """The `result` of each record, of the cells that are done."""
    waiting_for: str = ""
    """What the first unfinished cell waits for; empty if all are done."""
    edge_of: tuple[float, ...] = ()
    """All values of the table's `best_of` field in order if the best is the first or last of them; empty if not."""
    metrics: tuple[str, ...] = ()
    """The metrics that the table shows, the one to compare by first."""

    @property
    def measured(self) -> tuple[Any, ...]:
        """Data and first metric: only entries that agree in both can be compared."""
        return self.cells[0].artifact.task.data, self.metrics[0]

    @property
    def validation_accuracy(self) -> float:
        """Mean validation token accuracy in [0, 1], or minus infinity without results or with one that has none."""
        accuracy = mean([(result.validation or {}).get("token_accuracy", math.nan) for result in self.results])
        return float("-inf") if math.isnan(accuracy) else accuracy

    def values(self, metric: str) -> list[float]:
        """The metric on the test split in [0, 1], one value per seed that is done."""
        return [result.test[metric] for result in self.results if result.test is not None and metric in result.test]

    def mean(self, metric: str) -> float:
        """Mean over seeds on the test split in [0, 1], or minus infinity without results."""
        return mean(self.values(metric))

    def curves(self) -> list[dict[int, float]]:
        """Validation token accuracy by step, one curve per seed that is done."""
        return [
            {
                step: scores["token_accuracy"]
                for step, scores in (result.evaluations or {}).items()
                if "token_accuracy" in scores
            }
            for result in self.results
        ]

    def text(self, printed: PrintedEntry | None) -> str:
        """Format the entry in percent, in lines: means, SDs over seeds, distance to the printed value, seeds done.

        The distance is that of the first metric, in the paper's SDs if it prints them, else in percent. The number of
        seeds appears only if some are missing. An entry without results says in parentheses what it waits for.
        """
        if not self.results:
            return f"({self.waiting_for})"
        values = [[100 * value for value in self.values(metric)] for metric in self.metrics]
        lines = ["/".join(f"{mean(each):.1f}" if each else "-" for each in values)]
        if len(self.results) > 1:
            lines.append(f"({'/'.join(f'{spread(each):.1f}' if len(each) > 1 else '-' for each in values)})")
        if printed is not None and values[0]:
            distance = mean(values[0]) - printed.values[0]
            printed_spread = printed.spreads[0] if printed.spreads is not None else 0.0
            lines.append(f"{distance / printed_spread:+.1f} SD" if printed_spread else f"{distance:+.1f}")
        if len(self.results) < len(self.cells):
            lines.append(f"{len(self.results)} of {len(self.cells)}")
        return "\n".join(lines)


def heading(metric: str) -> str:
    """The metric's heading in the paper's tables; its name in words for a metric that the paper does not print."""
    return decoded_metrics[metric].heading if metric in decoded_metrics else metric.replace("_", " ")


def column_headings(entries: Mapping[Place, Entry]) -> dict[Key, set[str]]:
    """The headings of each column's metrics; several if tasks with different metrics share the column."""
    headings: dict[Key, set[str]] = {}
    for (_, column), entry in entries.items():
        headings.setdefault(column, set()).add("/".join(map(heading, entry.metrics)))
    return headings


# -------------------------------------------------------------------------------- arithmetic


def mean(values: Sequence[float]) -> float:
    """The mean, or minus infinity of no values; NaN if a value is not finite."""
    if not all(map(math.isfinite, values)):
        return math.nan
    return statistics.fmean(values) if values else float("-inf")


def spread(values: Sequence[float]) -> float:
    """The sample SD of at least two values; NaN if a value is not finite."""
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan


def mean_if_complete(means: Sequence[float]) -> float:
    """The mean of means, or NaN if one of them is missing (minus infinity) or there are none."""
    return statistics.fmean(means) if means and float("-inf") not in means else float("nan")


def gap_closed(value: float, *, baseline: float, ceiling: float) -> float:
    """The share of the distance from baseline to ceiling that a value covers.

    It may be negative or above 1. It is NaN if a number is missing (minus infinity) or the distance is 0.
    """
    if float("-inf") in (value, baseline, ceiling) or ceiling == baseline:
        return float("nan")
    return (value - baseline) / (ceiling - baseline)


# -------------------------------------------------------------------------------- tables as text

PAPER = "  paper"
"""First text of a row of printed values, below the row of ours."""


EDGE = "*"
"""Marks an entry whose best value of the `best_of` field is the lowest or highest of its grid."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A table as text; a text may have several lines."""

    header: list[str]
    rows: list[list[str]]
    num_names: int
    """The first columns name the row."""
    edges: frozenset[tuple[int, int]]
    """Row and column of each text that shows the edge of a grid."""
    best: frozenset[tuple[int, int]]
    """Row and column of the highest mean of each lane."""
    notes: list[str]
    """Lines below the table."""

    @property
    def marked_rows(self) -> list[list[str]]:
        """The rows with `EDGE` behind the first line of each text in `edges`."""
        return [
            [_marked(text) if (i, j) in self.edges else text for j, text in enumerate(row)]
            for i, row in enumerate(self.rows)
        ]


def _marked(text: str) -> str:
    first, *others = text.split("\n")
    return "\n".join([f"{first}{EDGE}", *others])


def render(
    table: Table, cells: Sequence[Cell], statuses: Mapping[Artifact, Status]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table as text, without marks; a text may have several lines."""
    layout = lay_out(table, cells, statuses)
    return layout.header, layout.rows


def lay_out(table: Table, cells: Sequence[Cell], statuses: Mapping[Artifact, Status]) -> Layout:
    """A table as text."""
    entries = table.entries(cells, statuses)
    if table.columns:
        return _lay_out_by_column(table, entries)
    return _lay_out_by_metric(table, entries)


def _lay_out_by_metric(table: Table, entries: Mapping[Place, Entry]) -> Layout:
    """One column per metric, then the best value, how much of the gap a row closes and its number of seeds."""
    metrics = list(dict.fromkeys(metric for entry in entries.values() for metric in entry.metrics))
    header = [*table.rows, *metrics]
    if table.best_of:
        header.append(table.best_of)
    if table.gap:
        header.append("gap closed")
    header.append(f"{table.fold}s")
    means = {row: entry.mean(metrics[0]) for (row, _), entry in entries.items()}
    rows: list[list[str]] = []
    edges = set()
    for (row, _), entry in entries.items():
        texts = [*_words(row), *(mean_and_spread(entry.values(metric)) for metric in metrics)]
        if table.best_of:
            if entry.edge_of:
                edges.add((len(rows), len(texts)))
            texts.append(_value_text(entry.best_value))
        if table.gap:
            baseline, ceiling = (means.get(anchor, math.nan) for anchor in table.gap)
            texts.append(_share(gap_closed(means[row], baseline=baseline, ceiling=ceiling)))
        num_done, num_cells = len(entry.results), len(entry.cells)
        texts.append(str(num_done) if num_done == num_cells else f"{num_done} of {num_cells}")
        rows.append(texts)
    comparable = len({entry.measured for entry in entries.values()}) == 1
    best = {
        (row, len(table.rows) + column)
        for column, metric in enumerate(metrics if comparable else [])
        for row in _highest([entry.mean(metric) for entry in entries.values()])
    }
    return _layout(table, entries, header, rows, edges, best)


def _lay_out_by_column(table: Table, entries: Mapping[Place, Entry]) -> Layout:
    """Rows by columns, with printed values below ours, then the average and how much of the gap a row closes."""
    printed: PrintedTable = {} if table.published is None else read_printed(table.published)
    rows = list(dict.fromkeys(row for row, _ in entries))
    columns = list(dict.fromkeys(column for _, column in entries))
    averages = {
        row: mean_if_complete([entries[row, column].mean(entries[row, column].metrics[0]) for column in columns])
        for row in rows
        if all((row, column) in entries for column in columns)
    }
    lines: list[list[str]] = []
    edges = set()
    places: dict[Place, tuple[int, int]] = {}
    for row in rows:
        ours: list[str] = []
        theirs: list[str] = []
        for column in columns:
            entry, printed_here = entries.get((row, column)), printed_entry(printed, row, column)
            places[row, column] = len(lines), len(row) + len(ours)
            if entry is not None and entry.edge_of:
                edges.add(places[row, column])
            ours.append("" if entry is None else entry.text(printed_here))
            theirs.append(_printed_text(printed_here))
        if table.gap:
            average, *anchors = (averages.get(key, float("nan")) for key in (row, *table.gap))
            ours += [_percent(average), _share(gap_closed(average, baseline=anchors[0], ceiling=anchors[1]))]
            theirs += [_printed_text(printed_entry(printed, row, ("average",))), ""]
        lines.append([*_words(row), *ours])
        if any(theirs):
            lines.append([PAPER, *[""] * (len(row) - 1), *theirs])
    headings = column_headings(entries)
    header = [
        " ".join([*_words(column), *(headings[column] if len(headings[column]) == 1 else [])]) for column in columns
    ]
    header = [*table.rows, *header, *(["average", "gap closed"] if table.gap else [])]
    best = {places[place] for lane in lanes(entries) for place in _best_places(lane, entries)}
    return _layout(table, entries, header, lines, edges, best)


def lanes(entries: Mapping[Place, "Entry"]) -> list[list[Place]]:
    """Places whose entries can be compared: those of each column or, if a column holds several tasks, of each row."""
    measured: dict[Key, set[Any]] = {}
    by_column: dict[Key, list[Place]] = {}
    by_row: dict[Key, list[Place]] = {}
    for row, column in entries:
        measured.setdefault(column, set()).add(entries[row, column].measured)
        by_column.setdefault(column, []).append((row, column))
        by_row.setdefault(row, []).append((row, column))
    return list((by_column if all(len(each) == 1 for each in measured.values()) else by_row).values())


def _best_places(lane: Sequence[Place], entries: Mapping[Place, "Entry"]) -> list[Place]:
    """The places of the highest means; none if the entries cannot be compared."""
    if len({entries[place].measured for place in lane}) > 1:
        return []
    return [lane[index] for index in _highest([entries[place].mean(entries[place].metrics[0]) for place in lane])]


def _highest(means: Sequence[float]) -> list[int]:
    """Where the highest means are, among at least two; means that a table shows alike are equal."""
    shown = [round(100 * mean, 1) if math.isfinite(mean) else -math.inf for mean in means]
    if sum(map(math.isfinite, shown)) < 2:
        return []
    return [index for index, value in enumerate(shown) if value == max(shown)]


def _layout(
    table: Table,
    entries: Mapping[Place, Entry],
    header: list[str],
    rows: list[list[str]],
    edges: set[tuple[int, int]],
    best: set[tuple[int, int]],
) -> Layout:
    return Layout(
        header=header,
        rows=rows,
        num_names=len(table.rows),
        edges=frozenset() if table.rehearsal else frozenset(edges),
        best=frozenset(best),
        notes=[REHEARSAL_NOTE] if table.rehearsal else [*_edge_notes(table, entries), *_gap_notes(table, entries)],
    )


def _edge_notes(table: Table, entries: Mapping[Place, Entry]) -> list[str]:
    """One line for all entries that show the same edge of the same grid."""
    places: dict[tuple[str, str, tuple[float, ...]], list[str]] = {}
    for (row, column), entry in entries.items():
        if entry.edge_of:
            label = " ".join(_words((*row, *column))) or table.title
            side = "lower" if _number(entry.best_value) == entry.edge_of[0] else "higher"
            places.setdefault((_value_text(entry.best_value), side, entry.edge_of), []).append(label)
    return [
        f"{EDGE} {'; '.join(names)}: best at {table.best_of} {value}, an edge of its grid "
        f"({', '.join(f'{each:g}' for each in grid)}); a {side} one may be better"
        for (value, side, grid), names in places.items()
    ]


def _gap_notes(table: Table, entries: Mapping[Place, Entry]) -> list[str]:
    """A line that warns of shares of a gap that is within two standard errors of its two means, or negative."""
    anchors = [entries.get((row, ())) for row in table.gap or ()]
    values = [entry.values(entry.metrics[0]) for entry in anchors if entry is not None]
    if table.columns or len(values) < 2 or min(map(len, values)) < 2:
        return []
    baseline, ceiling = values
    error = math.sqrt(sum(spread(each) ** 2 / len(each) for each in values))
    if not mean(ceiling) - mean(baseline) <= 2 * error:
        return []
    names = [" ".join(_words(row)) for row in table.gap or ()]
    return [
        f"gap closed says little here: {names[1]}, at {mean_and_spread(ceiling)}, is not clearly above {names[0]}, at "
        f"{mean_and_spread(baseline)}"
    ]


def _value_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else label_text(value)


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean and sample SD of values in [0, 1] as percent, such as `41.2 (1.3)`; one value has no SD, none is "-"."""
    if not values:
        return "-"
    spread_text = f" ({100 * spread(values):.1f})" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread_text}"


def _printed_text(entry: PrintedEntry | None) -> str:
    if entry is None:
        return ""
    spreads = "" if entry.spreads is None else f"\n({'/'.join(f'{spread:.1f}' for spread in entry.spreads)})"
    return "/".join(f"{value:.1f}" for value in entry.values) + spreads


def _percent(value: float) -> str:
    return f"{100 * value:.1f}" if math.isfinite(value) else "-"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"


def _words(key: Key) -> list[str]:
    return [label_text(label) for label in key]


# -------------------------------------------------------------------------------- formats


def as_terminal_table(title: str, header: list[str], rows: list[list[str]], *, num_text_columns: int) -> TerminalTable:
    """The table for a terminal; the first columns hold text, aligned left, the others numbers, aligned right.

    All text is shown as it is: brackets are no markup.
    """
    table = TerminalTable(
        title=Text(printable(title)), title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for index, column in enumerate(header):
        lines = _lines("\n".join(column.replace("_", " ").split()))
        is_text = index < num_text_columns
        table.add_column(Text(lines), justify="left" if is_text else "right", no_wrap=not is_text)
    for row in rows:
        table.add_row(*(Text(_lines(text)) for text in row))
    return table


def as_markdown(header: list[str], rows: list[list[str]]) -> str:
    """The table in Markdown; what would be markup in a text is escaped."""
    lines = [list(map(_markdown, header)), ["---"] * len(header), *(list(map(_markdown, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def note_as_markdown(note: str) -> str:
    """A line of text in Markdown."""
    return _markdown(note)


def as_csv(header: list[str], rows: list[list[str]]) -> str:
    """The table as CSV; an apostrophe leads texts that a spreadsheet would take for a formula."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([_spreadsheet(text) for text in row] for row in [header, *rows])
    return file.getvalue()


def _lines(text: str) -> str:
    """Text that is safe to print and keeps its lines."""
    return "\n".join(map(printable, text.split("\n")))


_MARKDOWN = re.compile(
    r"[`*|~$]|\\(?=[!-/:-@\[-`{-~])|\](?=\()|<(?=[A-Za-z/!?])|&(?=#?\w+;)|:(?=[a-z0-9_+-]+:)"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"
)
"""What Markdown would read as markup inside a line; a backslash before it makes it text."""


def _markdown(text: str) -> str:
    return "<br>".join(_MARKDOWN.sub(r"\\\g<0>", line) for line in _lines(text).split("\n"))


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?( %| SD)?( \([\d./]+\))?|[-+]?(inf|nan)|-", re.ASCII)
"""The numbers of a table; a spreadsheet does not execute them."""


def _spreadsheet(text: str) -> str:
    text = " ".join(_lines(text).split("\n"))
    return f"'{text}" if text[:1] in tuple("=+-@\t\uff1d\uff0b\uff0d\uff20") and not _NUMBER.fullmatch(text) else text
