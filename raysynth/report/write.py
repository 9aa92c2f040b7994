"""Prints a sweep's tables and writes them, learning curves and a page under `reports/` in the store."""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table as TerminalTable

from raysynth.errors import InputError, first_line, printable
from raysynth.report import figures, html, intervals, results
from raysynth.report.latex import as_latex
from raysynth.report.next_seeds import (
    NOTE,
    PROPOSAL_HEADER,
    NextSeeds,
    extend_lines,
    proposal_row,
    propose_seeds,
    summary,
)
from raysynth.report.tables import Layout, Table, as_csv, as_markdown, as_terminal_table, lay_out, note_as_markdown
from raysynth.specs.distinctions import distinctions
from raysynth.specs.finetuning import Finetune
from raysynth.specs.grid import Cell
from raysynth.specs.identity import Artifact, name
from raysynth.specs.pretraining import Pretrain
from raysynth.store.store import Status, Store

WIDTH = 160
"""Characters of a line where the output is no terminal."""


def print_report(
    sweep: str,
    claim: str,
    tables: Sequence[Table],
    cells: Sequence[Cell],
    statuses: Mapping[Artifact, Status],
    store: Store,
    *,
    table_format: str = "text",
) -> None:
    """Print the tables so far; write them, the learning curves and the page to `reports/SWEEP/` in the store.

    With a format of `FORMATS`, standard output has only the tables. If the store cannot be written, one line on
    standard error says so.
    """
    layouts = print_tables(tables, cells, statuses, table_format)
    lines = sys.stdout if table_format == "text" else sys.stderr
    if share := evaluation_share(statuses):
        print(share, file=lines)
    folder, place = f"reports/{sweep}", printable(store.place)
    for path, content in _files(sweep, claim, tables, layouts, cells, statuses, store):
        try:
            store.write_bytes(f"{folder}/{path}", content)
        except (OSError, InputError) as error:
            print(f"not written: {place}/{folder}/: {printable(first_line(error))}", file=sys.stderr)
            return
    print(f"tables and learning curves: {place}/{folder}/", file=lines)
    print(f"all of it as a page: {place}/{folder}/report.html", file=lines)
    print(f"TensorBoard: raysynth tensorboard --store {printable(shlex.quote(store.uri))}", file=lines)


def print_tables(
    tables: Sequence[Table], cells: Sequence[Cell], statuses: Mapping[Artifact, Status], table_format: str = "text"
) -> list[Layout]:
    """Print the tables so far as text or in a format of `FORMATS`; returns how they are laid out."""
    layouts = [lay_out(table, cells, statuses) for table in tables]
    for number, (table, layout) in enumerate(zip(tables, layouts, strict=True)):
        if table_format == "text":
            _print_text(table, layout)
        else:
            print("\n" * bool(number) + FORMATS[table_format](table, layout), end="")
    return layouts


def _print_text(table: Table, layout: Layout) -> None:
    _print_table(as_terminal_table(table.title, layout.header, layout.marked_rows, num_text_columns=layout.num_names))
    for note in layout.notes:
        print(printable(note))


def _markdown(table: Table, layout: Layout) -> str:
    notes = "".join(f"\n{note_as_markdown(note)}\n" for note in layout.notes)
    return f"{as_markdown(layout.header, layout.marked_rows)}{notes}"


def _csv(table: Table, layout: Layout) -> str:
    if table.rehearsal:  # CSV has no place for notes
        return as_csv([*layout.header, "rehearsal"], [[*row, "tiny"] for row in layout.rows])
    return as_csv(layout.header, layout.rows)


def _latex(table: Table, layout: Layout) -> str:
    return as_latex(table.title, layout)


FORMATS: dict[str, Callable[[Table, Layout], str]] = {"markdown": _markdown, "csv": _csv, "latex": _latex}
"""Formats of a table in a file."""
_SUFFIXES = {"markdown": "md", "csv": "csv", "latex": "tex"}


def _files(
    sweep: str,
    claim: str,
    tables: Sequence[Table],
    layouts: Sequence[Layout],
    cells: Sequence[Cell],
    statuses: Mapping[Artifact, Status],
    store: Store,
) -> Iterator[tuple[str, bytes]]:
    """The files of a report: their names and contents; `layouts` holds each table as text."""
    rehearsal = any(table.rehearsal for table in tables)
    title = f"{sweep}{', rehearsal' * rehearsal}: validation token accuracy"
    yield "results.csv", results.as_csv(results.results(cells, statuses, rehearsal=rehearsal)).encode()
    sections = []
    for number, (table, layout) in enumerate(zip(tables, layouts, strict=True), start=1):
        for table_format, suffix in _SUFFIXES.items():
            yield f"table{number}.{suffix}", FORMATS[table_format](table, layout).encode()
        curves_svg = tuning_svg = None
        if panels := table.curves(cells, statuses):
            curves_png, curves_svg = _curves(f"{title} by fine-tuning step", panels)
            yield f"learning_curves{number}.png", curves_png
        if tuning := table.tuning_curves(cells, statuses):
            axis = str(table.best_of).replace("_", " ")
            tuning_png, tuning_svg = _curves(f"{title} by {axis}", tuning, xlabel=axis, at_values=True)
            yield f"tuning_curves{number}.png", tuning_png
        trend_svg = None
        if trends := table.trend_curves(cells, statuses):
            xlabel = str(table.trend_axis(cells))
            lines_are = ", ".join(axis for axis in table.rows if axis != xlabel)
            metric = table.first_metric(cells)
            trend_png, trend_svg = _curves(
                f"{sweep}{', rehearsal' * rehearsal}: {metric} by {xlabel}".replace("_", " "),
                trends,
                xlabel=xlabel.replace("_", " "),
                ylabel=f"{metric} on the test split",
                lines_are=lines_are.replace("_", " "),
                at_values=True,
            )
            yield f"trend_curves{number}.png", trend_png
        next_seeds = _next_seeds_or_reason(table, cells, statuses, store)
        found = [] if table.rehearsal else intervals.intervals(table, cells, statuses)
        if found:
            content = as_csv(intervals.INTERVAL_HEADER, intervals.interval_rows(found))
            yield f"intervals{number}.csv", content.encode()
        if not table.rehearsal and not isinstance(next_seeds, str):
            content = as_csv(intervals.COMPARISON_CSV_HEADER, intervals.comparison_rows(next_seeds))
            yield f"comparisons{number}.csv", content.encode()
        sections.append(
            html.Section(
                table=table,
                layout=layout,
                curves_svg=curves_svg,
                tuning_svg=tuning_svg,
                trend_svg=trend_svg,
                intervals=found,
                next_seeds=next_seeds,
            )
        )
    pretraining_svg = None
    if sources := _pretraining_curves(statuses):
        pretraining_png, pretraining_svg = _curves(
            f"{title} by pre-training step", {"": sources}, xlabel="pre-training step", lines_are="pre-training"
        )
        yield "pretraining_curves.png", pretraining_png
    page = html.page(
        sweep, claim, sections, cells, statuses, store, pretraining_svg=pretraining_svg, now=datetime.now(UTC)
    )
    yield "report.html", page.encode()


def _curves(
    title: str,
    panels: Mapping[str, Mapping[str, Sequence[figures.Curve]]],
    ylabel: str = "validation token accuracy",
    **options: Any,
) -> list[bytes]:
    """Curves as PNG and as SVG."""
    return [
        figures.learning_curves(title, panels, ylabel=ylabel, file_format=file_format, **options)
        for file_format in ("png", "svg")
    ]


def _pretraining_curves(statuses: Mapping[Artifact, Status]) -> dict[str, list[dict[int, float]]]:
    """Validation token accuracy by step of the pre-trainings that are done; those that differ in seeds are one line."""
    runs: dict[Pretrain, list[dict[int, float]]] = {}
    for artifact, status in statuses.items():
        if isinstance(artifact, Pretrain) and status.record is not None:
            evaluations = status.record.weights.evaluations or {}
            accuracies = {step: scores.get("token_accuracy") for step, scores in evaluations.items()}
            curve = {step: accuracy for step, accuracy in accuracies.items() if accuracy is not None}
            if curve:
                data = dataclasses.replace(artifact.data, seed=0)
                runs.setdefault(dataclasses.replace(artifact, data=data, seed=0), []).append(curve)
    told = distinctions(runs)
    legends = zip(figures.legends(map(name, runs)), runs, strict=True)
    return {
        f"{legend}, {told[artifact]}" if artifact in told else legend: runs[artifact] for legend, artifact in legends
    }


def print_next(
    tables: Sequence[Table], cells: Sequence[Cell], statuses: Mapping[Artifact, Status], store: Store
) -> None:
    """Print the differences that the seeds so far do not settle, and the cheapest seeds that would.

    Raises `InputError` as `propose_seeds` does.
    """
    for table in tables:
        next_seeds = propose_seeds(table, cells, statuses, store)
        print(printable(f"{table.title}: {summary(next_seeds)}"))
        if not next_seeds.proposals:
            continue
        rows = [proposal_row(proposal) for proposal in next_seeds.proposals]
        _print_table(as_terminal_table("", PROPOSAL_HEADER, rows, num_text_columns=2))
        if not any(proposal.add for proposal in next_seeds.proposals):
            continue
        _console().print(NOTE, style="dim", highlight=False)
        print(f"all of these seeds: {next_seeds.cost.text()}")
        if lines := extend_lines(table, next_seeds):
            print("seeds that the grid lacks, for the sweep's file, below its other grids:")
            print("".join(f"    {printable(line)}\n" for line in lines), end="")


def evaluation_share(statuses: Mapping[Artifact, Status]) -> str:
    """The share of the fine-tunings' time that evaluation and decoding took, in one line; empty if none is done."""
    provenances = [
        status.record.provenance
        for artifact, status in statuses.items()
        if isinstance(artifact, Finetune) and status.record is not None
    ]
    evaluation_seconds = sum((each.evaluation_seconds or 0.0) + (each.test_seconds or 0.0) for each in provenances)
    seconds = evaluation_seconds + sum(each.train_seconds or 0.0 for each in provenances)
    return (
        f"evaluation: {100 * evaluation_seconds / seconds:.1f} % of {seconds:,.0f} s of fine-tuning" if seconds else ""
    )


# -------------------------------------------------------------------------------- helpers


def _next_seeds_or_reason(
    table: Table, cells: Sequence[Cell], statuses: Mapping[Artifact, Status], store: Store
) -> NextSeeds | str:
    """What to run next, or in one line why that is unknown: the report does not fail for it."""
    try:
        return propose_seeds(table, cells, statuses, store)
    except InputError as error:
        return str(error)


def _print_table(table: TerminalTable) -> None:
    """Print a table, wider than the terminal where numbers would not fit: the terminal wraps, but nothing is cut."""
    console = _console()
    console.width = max(console.width, console.measure(table).minimum)
    console.print(table)


def _console() -> Console:
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return Console(width=None if is_terminal else WIDTH)
