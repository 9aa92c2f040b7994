"""Prints a sweep's tables and writes them, learning curves and a page under `reports/` in the store."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console

from raysynth.errors import InputError
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
from raysynth.report.tables import Table, as_csv, as_markdown, as_terminal_table, render
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
    """Print the tables so far; write them, the learning curves and the page to `reports/SWEEP/` in the store."""
    folder = f"reports/{sweep}"
    sections = []
    for number, table in enumerate(tables, start=1):
        header, rows = render(table, cells, statuses)
        _console().print(as_terminal_table(table.title, header, rows, num_text_columns=len(table.rows)))
        store.write_bytes(f"{folder}/table{number}.md", as_markdown(header, rows).encode())
        store.write_bytes(f"{folder}/table{number}.csv", as_csv(header, rows).encode())
        curves_svg = None
        if panels := table.curves(cells, statuses):
            curves_png, curves_svg = (
                figures.learning_curves(claim, panels, ylabel="validation token accuracy", file_format=file_format)
                for file_format in ("png", "svg")
            )
            store.write_bytes(f"{folder}/learning_curves{number}.png", curves_png)
        next_seeds = _next_seeds_or_reason(table, cells, statuses, store)
        sections.append(
            html.Section(table=table, header=header, rows=rows, curves_svg=curves_svg, next_seeds=next_seeds)
        )
    page = html.page(sweep, claim, sections, cells, statuses, store, now=datetime.now(UTC))
    store.write_bytes(f"{folder}/report.html", page.encode())
    if share := evaluation_share(statuses):
        print(share)
    print(f"tables and learning curves: {store.place}/{folder}/")
    print(f"all of it as a page: {store.place}/{folder}/report.html")
    print(f"TensorBoard: tensorboard --logdir {store.place}")


def print_next(
    tables: Sequence[Table], cells: Sequence[Cell], statuses: Mapping[Artifact, Status], store: Store
) -> None:
    """Print the differences that the seeds so far do not settle, and the cheapest seeds that would.

    Raises `InputError` as `propose_seeds` does.
    """
    for table in tables:
        next_seeds = propose_seeds(table, cells, statuses, store)
        print(f"{table.title}: {summary(next_seeds)}")
        if not next_seeds.proposals:
            continue
        rows = [proposal_row(proposal) for proposal in next_seeds.proposals]
        _console().print(as_terminal_table("", PROPOSAL_HEADER, rows, num_text_columns=2))
        if not any(proposal.add for proposal in next_seeds.proposals):
            continue
        _console().print(NOTE, style="dim", highlight=False)
        print(f"all of these seeds: {next_seeds.cost.text()}")
        if lines := extend_lines(table, next_seeds):
            print("seeds that the grid lacks, for the sweep's file, below its other grids:")
            print("".join(f"    {line}\n" for line in lines), end="")


def evaluation_share(statuses: Mapping[Artifact, Status]) -> str:
    """The share of the fine-tunings' time that evaluation and decoding took, in one line; empty if none is done."""
    provenances = [
        status.record["provenance"]
        for artifact, status in statuses.items()
        if isinstance(artifact, Finetune) and status.record is not None
    ]
    evaluation = sum(each.get("evaluation_seconds", 0.0) + each.get("test_seconds", 0.0) for each in provenances)
    whole = evaluation + sum(each.get("train_seconds", 0.0) for each in provenances)
    return f"evaluation: {100 * evaluation / whole:.1f} % of {whole:,.0f} s of fine-tuning" if whole else ""


# -------------------------------------------------------------------------------- helpers


def _next_seeds_or_reason(
    table: Table, cells: Sequence[Cell], statuses: Mapping[Artifact, Status], store: Store
) -> NextSeeds | str:
    """What to run next, or in one line why that is unknown: the report does not fail for it."""
    try:
        return propose_seeds(table, cells, statuses, store)
    except InputError as error:
        return str(error)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)
