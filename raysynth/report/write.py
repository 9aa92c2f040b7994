"""Prints a sweep's tables and writes them, learning curves and a page under `reports/` in the store."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table as TerminalTable

from raysynth.errors import InputError, first_line, printable
from raysynth.report import figures, html
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
from raysynth.specs.finetuning import Finetune
from raysynth.specs.grid import Cell
from raysynth.specs.identity import Artifact
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
) -> None:
    """Print the tables so far; write them, the learning curves and the page to `reports/SWEEP/` in the store.

    If the store cannot be written, one line on standard error says so.
    """
    layouts = [lay_out(table, cells, statuses) for table in tables]
    for table, layout in zip(tables, layouts, strict=True):
        _print_table(
            as_terminal_table(table.title, layout.header, layout.marked_rows, num_text_columns=layout.num_names)
        )
        for note in layout.notes:
            print(printable(note))
    if share := evaluation_share(statuses):
        print(share)
    folder, place = f"reports/{sweep}", printable(store.place)
    for path, content in _files(sweep, claim, tables, layouts, cells, statuses, store):
        try:
            store.write_bytes(f"{folder}/{path}", content)
        except (OSError, InputError) as error:
            print(f"not written: {place}/{folder}/: {printable(first_line(error))}", file=sys.stderr)
            return
    print(f"tables and learning curves: {place}/{folder}/")
    print(f"all of it as a page: {place}/{folder}/report.html")
    print(f"TensorBoard: tensorboard --logdir {place}")


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
    sections = []
    for number, (table, layout) in enumerate(zip(tables, layouts, strict=True), start=1):
        notes = "".join(f"\n{note_as_markdown(note)}\n" for note in layout.notes)
        yield f"table{number}.md", f"{as_markdown(layout.header, layout.marked_rows)}{notes}".encode()
        yield f"table{number}.csv", as_csv(layout.header, layout.rows).encode()
        curves_svg = None
        if panels := table.curves(cells, statuses):
            curves_png, curves_svg = (
                figures.learning_curves(claim, panels, ylabel="validation token accuracy", file_format=file_format)
                for file_format in ("png", "svg")
            )
            yield f"learning_curves{number}.png", curves_png
        next_seeds = _next_seeds_or_reason(table, cells, statuses, store)
        sections.append(html.Section(table=table, layout=layout, curves_svg=curves_svg, next_seeds=next_seeds))
    page = html.page(sweep, claim, sections, cells, statuses, store, now=datetime.now(UTC))
    yield "report.html", page.encode()


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
