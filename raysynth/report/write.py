"""Prints a sweep's tables and leaves them, learning curves and a page under `reports/` in the store."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console

from raysynth.errors import InputError
from raysynth.report import figures, html, next_seeds
from raysynth.report.tables import Table, comma_separated, markdown, rendered, terminal
from raysynth.specs.finetuning import Finetune
from raysynth.specs.grid import Cell
from raysynth.specs.identity import Artifact
from raysynth.store.store import Status, Store

WIDTH = 160
"""Characters of a line where there is no terminal that tells."""


def print_report(
    sweep: str,
    claim: str,
    tables: Sequence[Table],
    cells: Sequence[Cell],
    statuses: dict[Artifact, Status],
    store: Store,
) -> None:
    """Print the tables so far; leave them, the learning curves and the page under `reports/` in the store."""
    where = f"reports/{sweep}"
    sections = []
    for number, table in enumerate(tables, start=1):
        header, rows = rendered(table, cells, statuses)
        _console().print(terminal(table.title, header, rows, text_columns=len(table.rows)))
        store.write_bytes(f"{where}/table{number}.md", markdown(header, rows).encode())
        store.write_bytes(f"{where}/table{number}.csv", comma_separated(header, rows).encode())
        drawn: dict[str, bytes] = {}
        if panels := table.curves(cells, statuses):
            drawn = {
                form: figures.learning_curves(claim, panels, ylabel="validation token accuracy", form=form)
                for form in ("png", "svg")
            }
            store.write_bytes(f"{where}/learning_curves{number}.png", drawn["png"])
        outlook = _outlook(table, cells, statuses, store)
        sections.append(html.Section(table=table, header=header, rows=rows, curves=drawn.get("svg"), outlook=outlook))
    told = html.page(sweep, claim, sections, cells, statuses, store, now=datetime.now(UTC))
    store.write_bytes(f"{where}/report.html", told.encode())
    if told := evaluation_share(statuses):
        print(told)
    print(f"tables and learning curves: {store.place}/{where}/")
    print(f"all of it as a page: {store.place}/{where}/report.html")
    print(f"TensorBoard: tensorboard --logdir {store.place}")


def _outlook(
    table: Table, cells: Sequence[Cell], statuses: dict[Artifact, Status], store: Store
) -> next_seeds.Outlook | str:
    """What to run next, or in one line why that cannot be told: a report is there without it."""
    try:
        return next_seeds.next_seeds(table, cells, statuses, store)
    except InputError as error:
        return str(error)


def print_next(tables: Sequence[Table], cells: Sequence[Cell], statuses: dict[Artifact, Status], store: Store) -> None:
    """Print the differences that the seeds so far do not settle, and the cheapest seeds that would."""
    for table in tables:
        outlook = next_seeds.next_seeds(table, cells, statuses, store)
        print(f"{table.title}: {next_seeds.summary(outlook)}")
        if not outlook.proposals:
            continue
        rows = [next_seeds.row(proposal) for proposal in outlook.proposals]
        _console().print(terminal("", next_seeds.HEADER, rows, text_columns=2))
        if not any(proposal.add for proposal in outlook.proposals):
            continue
        _console().print(next_seeds.NOTE, style="dim", highlight=False)
        print(f"all of these seeds: {outlook.cost.told(1, None)}")
        if lines := next_seeds.edits(table, outlook):
            print("seeds that the grid lacks, for the sweep's file, below its other grids:")
            print("".join(f"    {line}\n" for line in lines), end="")


# -------------------------------------------------------------------------------- helpers


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def evaluation_share(statuses: Mapping[Artifact, Status]) -> str:
    """In one line, how much of the fine-tunings' time went into evaluation and decoding; empty where none is done."""
    told = [
        status.record["provenance"]
        for artifact, status in statuses.items()
        if isinstance(artifact, Finetune) and status.record is not None
    ]
    evaluation = sum(times.get("evaluation_seconds", 0.0) + times.get("test_seconds", 0.0) for times in told)
    whole = evaluation + sum(times.get("train_seconds", 0.0) for times in told)
    return f"evaluation: {100 * evaluation / whole:.1f} % of {whole:,.0f} s of fine-tuning" if whole else ""
