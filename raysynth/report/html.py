"""A sweep's report as one HTML page that needs nothing beside it: tables, plots, what to run next, every record."""

import base64
import html
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from raysynth.report import figures, next_seeds, tables
from raysynth.report.cost import remaining
from raysynth.report.next_seeds import Outlook
from raysynth.report.published import printed
from raysynth.report.tables import PAPER, Line, Table
from raysynth.specs.finetuning import Finetune
from raysynth.specs.grid import Cell
from raysynth.specs.identity import Artifact, blockers, name
from raysynth.store.store import State, Status, Store


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table with all that the page says of it."""

    table: Table
    header: list[str]
    rows: list[list[str]]
    """As `tables.rendered` gives them."""
    curves: bytes | None
    """Learning curves as SVG; None where nothing is done."""
    outlook: Outlook | str
    """What to run next, or why that cannot be told."""


def page(
    sweep: str,
    claim: str,
    sections: Sequence[Section],
    cells: Sequence[Cell],
    statuses: Mapping[Artifact, Status],
    store: Store,
    *,
    now: datetime,
) -> str:
    """The page as HTML; its links to records are relative to `reports/SWEEP/` in the store."""
    body = [
        _head(sweep, claim, cells, statuses, store, now),
        *(_section(section, cells, statuses) for section in sections),
        _failures(statuses),
        _runs(cells, statuses),
        _provenance(statuses),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{_text(sweep)}: '
        f"{_text(claim)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


# -------------------------------------------------------------------------------- parts


def _head(
    sweep: str,
    claim: str,
    cells: Sequence[Cell],
    statuses: Mapping[Artifact, Status],
    store: Store,
    now: datetime,
) -> str:
    finetunes = {cell.artifact for cell in cells}
    done = sum(statuses[artifact].state is State.DONE for artifact in finetunes)
    states = Counter(status.state for status in statuses.values())
    counts = ", ".join(f"{states[state]} {state}" for state in State if states[state])
    left = remaining(dict(statuses), store)
    return (
        f"<header>\n<p class=kind>sweep</p>\n<h1>{_text(sweep)}</h1>\n<p class=claim>{_text(claim)}</p>\n"
        f'<progress max="{len(finetunes)}" value="{done}"></progress>\n'
        f"<p><b>{done} of {len(finetunes)}</b> fine-tunings are done. With what they need: {_text(counts)}. "
        f"To do: {_text(left.told(1, None))}.</p>\n"
        f"<p class=quiet>{now:%d %B %Y, %H:%M %Z}, from <code>{_text(store.place)}</code></p>\n</header>"
    )


def _section(section: Section, cells: Sequence[Cell], statuses: Mapping[Artifact, Status]) -> str:
    table = section.table
    told = [
        f"<h2>{_text(table.title)}</h2>",
        f"<p class=quiet>{_text(_legend(table))}</p>",
        _results(table, section.header, section.rows),
    ]
    rows, panels = _dots(table, cells, statuses)
    if any(panels.values()):
        told.append(_figure(figures.dots(rows, panels), "Means on the test split with one SD over seeds to each side"))
    if section.curves is not None:
        told.append(_figure(section.curves, "Learning curves: mean over runs, from the lowest to the highest"))
    told.append(_next(section))
    return "\n".join(["<section>", *told, "</section>"])


def _legend(table: Table) -> str:
    parts = [f"Percent on the test split, mean (sample SD) over {table.fold}s."]
    if table.best_of:
        parts.append(f"Shown at the {table.best_of.replace('_', ' ')} with the best mean validation accuracy.")
    if table.published is not None:
        parts.append(
            "In italics: the paper's values. Signed numbers are our distance from them, in the paper's SDs, "
            "or in percent where it prints none."
        )
    if table.baseline is not None and table.ceiling is not None:
        baseline, ceiling = (" ".join(map(str, row)) for row in (table.baseline, table.ceiling))
        parts.append(f"Gap closed: the way from {baseline} to {ceiling}.")
    return " ".join(parts)


def _results(table: Table, header: list[str], rows: list[list[str]]) -> str:
    names = len(table.rows)
    lines = []
    for row in rows:
        paper = row[0] == PAPER
        first = [f"<th scope=row>{_text(cell.strip())}</th>" for cell in row[:names]]
        rest = [f"<td>{_lines(cell)}</td>" for cell in row[names:]]
        lines.append(f"<tr{' class=paper' if paper else ''}>{''.join(first)}{''.join(rest)}</tr>")
    return _box([column.replace("_", " ") for column in header], lines, names)


def _lines(cell: str) -> str:
    """The mean large, the other lines of a cell below it."""
    first, *others = cell.split("\n")
    if first.startswith("(") and not others:  # what an empty cell waits for
        return f"<span class=quiet>{_text(first)}</span>"
    mean, space, spread = first.partition(" (")
    return (
        _text(mean)
        + (f" <span class=quiet>({_text(spread)}</span>" if space else "")
        + "".join(f"<br><span class=quiet>{_text(other)}</span>" for other in others)
    )


def _next(section: Section) -> str:
    """What the seeds settle so far, and what would settle the rest."""
    heading = "<h3>What to run next</h3>"
    outlook = section.outlook
    if isinstance(outlook, str):
        return f"{heading}\n<p>{_text(outlook)}</p>"
    told = [heading, f"<p>{_text(next_seeds.summary(outlook))}.</p>"]
    if outlook.proposals:
        lines = [_row(next_seeds.row(proposal), 2) for proposal in outlook.proposals]
        told.append(_box(next_seeds.HEADER, lines, 2))
    if any(proposal.add for proposal in outlook.proposals):
        told.append(f"<p class=quiet>{_text(next_seeds.NOTE)}</p>")
        told.append(f"<p>All of these seeds: {_text(outlook.cost.told(1, None))}.</p>")
        if edits := "\n".join(next_seeds.edits(section.table, outlook)):
            told.append(
                "<p>Seeds that the grid lacks, for the sweep's file, below its other grids:</p>\n"
                f"<pre>{_text(edits)}</pre>"
            )
    if outlook.settled:
        lines = [_row(next_seeds.standing(comparison), 1) for comparison in outlook.settled]
        told.append(_folded(f"{len(outlook.settled)} settled differences", _box(next_seeds.STANDING, lines, 1)))
    return "\n".join(told)


def _failures(statuses: Mapping[Artifact, Status]) -> str:
    failures = {artifact: status.failure for artifact, status in statuses.items() if status.failure is not None}
    if not failures:
        return ""
    blocked = Counter(cause for artifact in statuses for cause in blockers(artifact, failures))
    lines = []
    for artifact, failure in failures.items():
        step = "" if failure.get("step") is None else f"{failure['step']:,}"
        link = _link(f"{name(artifact)}/failure.json", name(artifact))
        row = [str(statuses[artifact].state), failure["error"], failure["host"]]
        lines.append(
            f"<tr><th scope=row>{link}</th>{''.join(f'<td class=words>{_text(cell)}</td>' for cell in row)}"
            f"<td>{step}</td><td>{blocked[artifact] or ''}</td></tr>"
        )
    header = ["artifact", "state", "reason", "host", "step", "waiting in vain"]
    return f"<section>\n<h2>Failures</h2>\n{_box(header, lines, 4)}\n</section>"


def _runs(cells: Sequence[Cell], statuses: Mapping[Artifact, Status]) -> str:
    """Every cell and every input with its place in the store."""
    told = ["<section>", "<h2>Every run</h2>"]
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.fields), []).append(cell)
    for fields, members in groups.items():
        lines = []
        for cell in members:
            values = "".join(f"<td class=words>{_text(str(value))}</td>" for value in cell.fields.values())
            lines.append(f"<tr>{values}{_told(cell.artifact, statuses[cell.artifact])}</tr>")
        header = [*(field.replace("_", " ") for field in fields), "state", "test metrics", "record"]
        told.append(_folded(f"{len(members)} fine-tunings by {', '.join(fields)}", _box(header, lines, len(header))))
    inputs = [artifact for artifact in statuses if not isinstance(artifact, Finetune)]
    lines = [f"<tr>{_told(artifact, statuses[artifact])}</tr>" for artifact in inputs]
    header = ["state", "selected step", "record"]
    told.append(_folded(f"{len(inputs)} data sets and pre-trainings that they need", _box(header, lines, len(header))))
    return "\n".join([*told, "</section>"])


def _told(artifact: Artifact, status: Status) -> str:
    """State, result and record of an artifact as cells."""
    result = {} if status.record is None else status.record["result"]
    if isinstance(artifact, Finetune):
        numbers = ", ".join(f"{_heading(metric)} {100 * value:.1f}" for metric, value in result.get("test", {}).items())
    else:
        numbers = f"{result['selected_step']:,}" if "selected_step" in result else ""
    place = f"{name(artifact)}/record.json"
    link = _link(place, place) if status.record is not None else _text(name(artifact))
    cells = [f"<span class={status.state}>{status.state}</span>", _text(numbers), link]
    return "".join(f"<td class=words>{cell}</td>" for cell in cells)


def _provenance(statuses: Mapping[Artifact, Status]) -> str:
    """Versions, hosts and devices behind the records, with how many of them have each."""
    found: dict[str, Counter[str]] = {}
    for status in statuses.values():
        told = {} if status.record is None else status.record["provenance"]
        for package, version in told.get("versions", {}).items():
            found.setdefault(package, Counter())[version] += 1
        for field in ("device", "python", "platform", "host"):
            if field in told:
                found.setdefault(field, Counter())[told[field]] += 1
    if not found:
        return ""
    lines = []
    for field, values in found.items():
        counts = [f"{value} ({count})" if len(values) > 1 else value for value, count in values.most_common()]
        lines.append(f"<tr><th scope=row>{_text(field)}</th><td class=words>{_text(', '.join(counts))}</td></tr>")
    count = sum(status.record is not None for status in statuses.values())
    return f"<section>\n<h2>Made with</h2>\n{_folded(f'{count} records', _box(['', ''], lines, 2))}\n</section>"


Panels = dict[str, dict[str, tuple[figures.Interval | None, figures.Interval | None]]]


def _dots(table: Table, cells: Sequence[Cell], statuses: Mapping[Artifact, Status]) -> tuple[list[str], Panels]:
    """Means and SDs, ours and the printed ones: a panel per column, or per metric in a table without columns."""
    paper = {} if table.published is None else printed(table.published)
    placed = table.cells(cells, dict(statuses))
    metrics = tables.metrics_of_columns(placed)
    panels: Panels = {}
    for (row, column), line in placed.items():
        shown = line.metrics[:1] if table.columns else line.points[0].artifact.task.metrics
        there = tables.printed_cell(paper, row, column) if table.columns else None
        theirs = None if there is None else (there.values[0], there.spreads[0] if there.spreads else 0.0)
        for metric in shown:
            told = [_heading(metric)] if not table.columns or len(metrics[column]) == 1 else []
            panel = panels.setdefault(" ".join([*map(str, column), *told]), {})
            if (ours := _interval(line, metric)) is not None or theirs is not None:
                panel[" ".join(map(str, row))] = ours, theirs
    return list(dict.fromkeys(" ".join(map(str, row)) for row, _ in placed)), panels


def _interval(line: Line, metric: str) -> figures.Interval | None:
    values = [100 * value for value in line.values(metric)]
    if not values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _heading(metric: str) -> str:
    return tables.HEADINGS.get(metric, metric.replace("_", " "))


# -------------------------------------------------------------------------------- HTML


def _text(text: str) -> str:
    return html.escape(text)


def _link(path: str, text: str) -> str:
    return f'<a href="../../{_text(path)}">{_text(text)}</a>'


def _row(cells: Sequence[str], names: int) -> str:
    """A row whose first cells are words and whose others are numbers."""
    words = "".join(f"<td class=words>{_text(cell)}</td>" for cell in cells[:names])
    return f"<tr>{words}{''.join(f'<td>{_text(cell)}</td>' for cell in cells[names:])}</tr>"


def _box(header: Sequence[str], lines: Iterable[str], names: int) -> str:
    """A table that scrolls inside its own box; the first columns hold words."""
    head = "".join(
        f"<th scope=col{' class=words' if index < names else ''}>{_text(column)}</th>"
        for index, column in enumerate(header)
    )
    thead = f"<thead><tr>{head}</tr></thead>\n" if any(header) else ""
    return "\n".join([f"<div class=box><table>\n{thead}<tbody>", *lines, "</tbody>\n</table></div>"])


def _folded(summary: str, content: str) -> str:
    return f"<details>\n<summary>{_text(summary)}</summary>\n{content}\n</details>"


def _figure(svg: bytes, caption: str) -> str:
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
    return (
        f'<figure>\n<img alt="{_text(caption)}" src="{source}">\n<figcaption>{_text(caption)}</figcaption>\n</figure>'
    )


_STYLE = """
:root { color-scheme: light dark; --text: #1d2228; --quiet: #68727d; --line: #dde1e6; --back: #ffffff; --box: #f6f7f9;
  --mark: #1f6fb2; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e7ea; --quiet: #98a2ad; --line: #343a41; --back: #15181c;
  --box: #1d2126; --mark: #6cb2ee; --bad: #f28b82; }
  figure img { filter: invert(1) hue-rotate(180deg); mix-blend-mode: screen; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.3rem; margin: 3rem 0 .4rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
p { margin: .4rem 0; max-width: 78ch; }
a { color: var(--mark); text-decoration: none; }
a:hover { text-decoration: underline; }
code, pre { font: .86em/1.5 ui-monospace, monospace; }
pre { background: var(--box); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; }
pre { overflow-x: auto; }
progress { width: min(30rem, 100%); height: .6rem; accent-color: var(--mark); }
.kind { text-transform: uppercase; letter-spacing: .08em; font-size: .75rem; color: var(--quiet); margin: 0; }
.claim { font-size: 1.15rem; margin: .2rem 0 1rem; }
.quiet { color: var(--quiet); font-size: .88em; }
.failed, .diverged { color: var(--bad); }
.box { overflow-x: auto; margin: .8rem 0; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .65rem; text-align: right; vertical-align: top; white-space: nowrap; }
thead th { background: var(--box); border-bottom: 1px solid var(--line); font-size: .85em; vertical-align: bottom;
  white-space: normal; }
tbody th, th.words, td.words { text-align: left; font-weight: 500; }
thead th.words { font-weight: bold; }
td.words { font-weight: normal; white-space: normal; min-width: 5rem; }
tbody tr + tr:not(.paper) > * { border-top: 1px solid var(--line); }
tr.paper > * { color: var(--quiet); font-size: .85em; font-weight: normal; padding-top: 0; font-style: italic; }
tr.paper .quiet { font-size: 1em; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; border-radius: 6px; }
figcaption { color: var(--quiet); font-size: .88em; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--mark); }
details td.words { white-space: nowrap; }
details td { font-size: .88em; }
"""
