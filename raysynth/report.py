"""Records to tables: mean (SD) over seeds, the best of a swept field, the share of the gap closed."""

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.table import Table as TerminalTable

from raysynth.errors import InputError, unknown
from raysynth.specs import Finetune
from raysynth.store import State, Status


class Point(Protocol):
    """A cell of a sweep: its fields and its fine-tuning."""

    fields: dict[str, Any]
    artifact: Finetune


@dataclass(frozen=True, kw_only=True)
class Table:
    """How results are laid out: one row per combination of `rows`, one column per metric, the other fields folded."""

    title: str
    rows: tuple[str, ...]
    fold: str = "seed"
    """Mean and sample SD run over this field."""
    best_of: str | None = None
    """Of this field the value with the highest mean validation token accuracy is shown (Appendix D.3)."""
    baseline: tuple[Any, ...] | None = None
    """The row at 0 % of the gap."""
    ceiling: tuple[Any, ...] | None = None
    """The row at 100 % of the gap."""

    def check(self, points: Sequence[Point]) -> None:
        """Raise `InputError` unless the fields and rows that the layout names exist."""
        for point in points:
            for field in (*self.rows, self.fold, *([self.best_of] if self.best_of else [])):
                if field not in point.fields:
                    raise unknown("table field", field, point.fields)
        keys = {self._row(point) for point in points}
        for name in ("baseline", "ceiling"):
            row = getattr(self, name)
            if row is not None and row not in keys:
                raise InputError(
                    f"table {name} {row!r} is not a row; rows: {', '.join(map(repr, sorted(keys, key=str)))}"
                )

    def _row(self, point: Point) -> tuple[Any, ...]:
        return tuple(point.fields[field] for field in self.rows)

    def lines(self, points: Sequence[Point], statuses: dict[Any, Status]) -> "list[Line]":
        """The table's rows in the order of the grid; those without any result have no values."""
        lines = []
        for key in dict.fromkeys(self._row(point) for point in points):
            here = [point for point in points if self._row(point) == key]
            values = dict.fromkeys(point.fields[self.best_of] if self.best_of else None for point in here)
            options = []
            for value in values:
                part = [point for point in here if self.best_of is None or point.fields[self.best_of] == value]
                results = [
                    statuses[p.artifact].record["result"] for p in part if statuses[p.artifact].state is State.DONE
                ]  # type: ignore[index]
                options.append(Line(key=key, best=value, wanted=len(part), results=tuple(results)))
            lines.append(max(options, key=lambda option: option.validation))
        return lines


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a table before it is printed."""

    key: tuple[Any, ...]
    best: Any
    wanted: int
    results: tuple[dict[str, Any], ...]

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


def rendered(table: Table, points: Sequence[Point], statuses: dict[Any, Status]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table as text."""
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


def terminal(title: str, header: list[str], rows: list[list[str]], *, text_columns: int) -> TerminalTable:
    """A table for the terminal: text columns to the left, numbers to the right."""
    table = TerminalTable(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(header):
        words = "\n".join(column.replace("_", " ").split())
        table.add_column(words, justify="left" if index < text_columns else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """The table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def comma_separated(header: list[str], rows: list[list[str]]) -> str:
    """The table as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
