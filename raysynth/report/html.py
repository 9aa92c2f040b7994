"""A sweep's report as one HTML page without external files: tables, plots, what to run next and every record."""

import base64
import html
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from raysynth.errors import InputError, printable
from raysynth.report import figures
from raysynth.report.cost import remaining
from raysynth.report.intervals import COVERAGE, NUM_RESAMPLES, Interval
from raysynth.report.next_seeds import (
    COMPARISON_HEADER,
    NOTE,
    PROPOSAL_HEADER,
    NextSeeds,
    comparison_row,
    extend_lines,
    proposal_row,
    summary,
)
from raysynth.report.predictions import read_predictions, samples
from raysynth.report.published import PrintedTable, printed_entry, read_printed
from raysynth.report.tables import (
    PAPER,
    Entry,
    Key,
    Layout,
    Place,
    Table,
    column_headings,
    gap_closed,
    heading,
    mean,
    spread,
)
from raysynth.specs.finetuning import Finetune
from raysynth.specs.grid import Cell, hashable, label_text
from raysynth.specs.identity import Artifact, blockers, name
from raysynth.store.records import WeightsResult
from raysynth.store.store import State, Status, Store


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table with everything that the page shows about it."""

    table: Table
    layout: Layout
    curves_svg: bytes | None
    """Learning curves; None if nothing is done."""
    tuning_svg: bytes | None
    """Validation accuracy by the values of `best_of`; None if there are none."""
    trend_svg: bytes | None
    """Scores by the numbers of an axis of the rows; None if there are none."""
    intervals: Sequence[Interval]
    """Bootstrap intervals of the table's numbers."""
    next_seeds: NextSeeds | str
    """What to run next, or why that is unknown."""


def page(
    sweep: str,
    claim: str,
    sections: Sequence[Section],
    cells: Sequence[Cell],
    statuses: Mapping[Artifact, Status],
    store: Store,
    *,
    pretraining_svg: bytes | None,
    now: datetime,
) -> str:
    """The page as HTML; its links to records are relative to `reports/SWEEP/` in the store."""
    parts = [
        _head(sweep, claim, cells, statuses, store, now),
        *(_section(section, cells, statuses, store) for section in sections),
        _pretrainings(pretraining_svg),
        _failures(statuses),
        _runs(cells, statuses),
        _provenance(statuses),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{_text(sweep)}: '
        f"{_text(claim)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


# -------------------------------------------------------------------------------- the sweep


def _head(
    sweep: str,
    claim: str,
    cells: Sequence[Cell],
    statuses: Mapping[Artifact, Status],
    store: Store,
    now: datetime,
) -> str:
    finetunes = {cell.artifact for cell in cells}
    num_done = sum(statuses[artifact].state is State.DONE for artifact in finetunes)
    states = Counter(status.state for status in statuses.values())
    counts = ", ".join(f"{states[state]} {state}" for state in State if states[state])
    return (
        f"<header>\n<p class=kind>sweep</p>\n<h1>{_text(sweep)}</h1>\n<p class=claim>{_text(claim)}</p>\n"
        f'<progress max="{len(finetunes)}" value="{num_done}"></progress>\n'
        f"<p><b>{num_done} of {len(finetunes)}</b> fine-tunings are done. With what they need: {_text(counts)}. "
        f"To do: {_text(remaining(statuses, store).text())}.</p>\n"
        f"<p class=quiet>{now:%d %B %Y, %H:%M %Z}, from <code>{_text(store.place)}</code></p>\n</header>"
    )


# -------------------------------------------------------------------------------- a table


def _section(section: Section, cells: Sequence[Cell], statuses: Mapping[Artifact, Status], store: Store) -> str:
    table = section.table
    parts = [
        f"<h2>{_text(table.title)}</h2>",
        f"<p class=quiet>{_text(_legend(table))}</p>",
        _results(section.layout),
        *(f"<p class=warning>{_text(note)}</p>" for note in section.layout.notes),
    ]
    if section.intervals:
        parts.append(_intervals(section))
    rows, panels, seeds = _dots(table, cells, statuses)
    if any(panels.values()):
        caption = f"Percent on the test split: means with one SD over {table.fold}s to each side, and each {table.fold}"
        parts.append(_figure(figures.dots(rows, panels, seeds), caption))
    if section.curves_svg is not None:
        parts.append(_figure(section.curves_svg, "Learning curves: mean over runs, from the lowest to the highest"))
    if section.tuning_svg is not None:
        axis = str(table.best_of).replace("_", " ")
        caption = f"Validation token accuracy by {axis}: mean over {table.fold}s, from the lowest to the highest"
        parts.append(_figure(section.tuning_svg, caption))
    if section.trend_svg is not None:
        axis = str(table.trend_axis(cells)).replace("_", " ")
        metric = table.first_metric(cells)
        metric = f"{metric[0].upper()}{metric[1:]}"
        caption = f"{metric} on the test split by {axis}: mean over {table.fold}s, from the lowest to the highest"
        parts.append(_figure(section.trend_svg, caption))
    parts += _predictions(table, cells, statuses, store)
    if not table.rehearsal:
        parts.append(_next_seeds(section))
    return "\n".join(["<section>", *parts, "</section>"])


def _legend(table: Table) -> str:
    """What the numbers of the table are, in sentences."""
    sentences = [f"Percent on the test split, mean (sample SD) over {table.fold}s."]
    if table.best_of:
        sentences.append(f"Shown at the {table.best_of.replace('_', ' ')} with the best mean validation accuracy.")
    if table.published is not None:
        sentences.append(
            "In italics: the paper's values. Signed numbers are our distance from them, in the paper's SDs, "
            "or in percent where it prints none."
        )
    if table.gap:
        baseline, ceiling = (" ".join(map(label_text, row)) for row in table.gap)
        sentences.append(f"Gap closed: the way from {baseline} to {ceiling}.")
    return " ".join(sentences)


def _results(layout: Layout) -> str:
    lines = []
    for row in layout.marked_rows:
        names = "".join(f"<th scope=row>{_text(text.strip())}</th>" for text in row[: layout.num_names])
        entries = "".join(f"<td>{_entry(text)}</td>" for text in row[layout.num_names :])
        lines.append(f"<tr{' class=paper' if row[0] == PAPER else ''}>{names}{entries}</tr>")
    return _table([column.replace("_", " ") for column in layout.header], lines, layout.num_names)


def _intervals(section: Section) -> str:
    """The bootstrap intervals, which open at a click."""
    fold = section.table.fold
    lines = [
        _row(
            [
                *(" ".join(map(label_text, key)) for key in (each.row, each.column)),
                heading(each.what),
                f"{100 * each.value:.1f}",
                f"{100 * each.low:.1f} to {100 * each.high:.1f}",
                str(each.num_seeds),
            ],
            3,
        )
        for each in section.intervals
    ]
    title = f"{100 * COVERAGE:.0f} % bootstrap intervals over {fold}s, in percent"
    note = (
        f"{NUM_RESAMPLES:,} stratified resamples: {fold}s are drawn again within each entry. With few {fold}s the "
        "intervals are too narrow."
    )
    header = ["row", "column", "of", "value", "interval", f"{fold}s"]
    return _details(title, f"<p class=quiet>{_text(note)}</p>\n{_table(header, lines, 3)}")


def _entry(text: str) -> str:
    """An entry with its mean large and its other lines small below it."""
    first, *others = text.split("\n")
    if first.startswith("(") and not others:  # no results: what the entry waits for
        return f"<span class=quiet>{_text(first)}</span>"
    mean_text, space, spread_text = first.partition(" (")
    return (
        _text(mean_text)
        + (f" <span class=quiet>({_text(spread_text)}</span>" if space else "")
        + "".join(f"<br><span class=quiet>{_text(other)}</span>" for other in others)
    )


Panels = dict[str, dict[str, tuple[figures.Interval | None, figures.Interval | None]]]
"""Ours and the printed interval, by panel and row."""


Seeds = dict[str, dict[str, list[float]]]
"""The values behind our means, by panel and row."""


def _dots(table: Table, cells: Sequence[Cell], statuses: Mapping[Artifact, Status]) -> tuple[list[str], Panels, Seeds]:
    """Rows, panels and single values of a plot of means and SDs.

    There is a panel per column, or per metric in a table without columns, and then one for the gap closed.
    """
    printed_table: PrintedTable = {} if table.published is None else read_printed(table.published)
    entries = table.entries(cells, statuses)
    headings = column_headings(entries)
    panels: Panels = {}
    seeds: Seeds = {}
    for (row, column), entry in entries.items():
        metrics = entry.metrics[:1] if table.columns else entry.metrics
        printed = printed_entry(printed_table, row, column) if table.columns else None
        theirs = None if printed is None else (printed.values[0], printed.spreads[0] if printed.spreads else 0.0)
        for metric in metrics:
            with_metric = not table.columns or len(headings[column]) == 1
            title = " ".join([*map(label_text, column), *([heading(metric)] if with_metric else [])])
            panel = panels.setdefault(title, {})
            if (ours := _interval(entry, metric)) is not None or theirs is not None:
                panel[_row_name(row)] = ours, theirs
                seeds.setdefault(title, {})[_row_name(row)] = _finite(100 * value for value in entry.values(metric))
    if table.gap:
        _add_gap(_averages(table, entries, statuses), table.gap, panels, seeds)
    return list(dict.fromkeys(_row_name(row) for row, _ in entries)), panels, seeds


def _averages(
    table: Table, entries: Mapping[Place, Entry], statuses: Mapping[Artifact, Status]
) -> dict[Key, list[float]]:
    """The first metric by row, averaged over the table's columns: one value for each seed that all of them have."""
    columns = {column for _, column in entries}
    values: dict[Key, dict[Key, list[float]]] = {}
    for (row, _), entry in entries.items():
        by_seed = values.setdefault(row, {})
        for cell in entry.cells:
            record = statuses[cell.artifact].record
            scores = {} if record is None else record.weights.test or {}
            if entry.metrics[0] in scores:
                by_seed.setdefault((hashable(cell.fields[table.fold]),), []).append(scores[entry.metrics[0]])
    return {
        row: [mean(each) for each in by_seed.values() if len(each) == len(columns)] for row, by_seed in values.items()
    }


def _add_gap(averages: Mapping[Key, list[float]], gap: tuple[Key, Key], panels: Panels, seeds: Seeds) -> None:
    """Add the panel of the gap closed: that of each mean and of each seed, on the scale of the two rows' means.

    There is none as long as one of the two rows has no results.
    """
    ends = [averages.get(row) for row in gap]
    if not all(ends):
        return
    baseline, ceiling = (mean(values) for values in ends if values)
    for row, scores in averages.items():
        values = [100 * gap_closed(value, baseline=baseline, ceiling=ceiling) for value in scores]
        if values and all(map(math.isfinite, values)):
            sd = spread(values) if len(values) > 1 else 0.0
            panels.setdefault("gap closed", {})[_row_name(row)] = (mean(values), sd), None
            seeds.setdefault("gap closed", {})[_row_name(row)] = values


NUM_SHOWN, NUM_EACH = 12, 3
"""Most entries of a table whose predictions the page shows, and most right and most wrong ones of each."""


def _predictions(
    table: Table, cells: Sequence[Cell], statuses: Mapping[Artifact, Status], store: Store
) -> Iterator[str]:
    """Some test predictions, right and wrong, of the first run of each of the first entries."""
    for (row, column), entry in list(table.entries(cells, statuses).items())[:NUM_SHOWN]:
        done = ((cell, record) for cell in entry.cells if (record := statuses[cell.artifact].record) is not None)
        cell, record = next(done, (None, None))
        if cell is None or record is None:
            continue
        run = name(cell.artifact)
        try:
            content = read_predictions(run, record, store)
            rows = [] if content is None else samples(content, f"{store.uri}: {run}", num_each=NUM_EACH)
        except InputError as error:
            yield f"<p class=warning>{_text(str(error))}</p>"
            continue
        lines = [
            f"<tr><th scope=row>{'right' if each['right'] else '<span class=failed>wrong</span>'}</th>"
            + "".join(f"<td class=text>{_text(each[field])}</td>" for field in ("source", "target", "prediction"))
            + "</tr>"
            for each in rows
        ]
        if lines:
            title = ", ".join(map(str, [*map(label_text, (*row, *column)), f"{table.fold} {cell.fields[table.fold]}"]))
            yield _details(f"Sample predictions: {title}", _table(["", "source", "target", "prediction"], lines, 4))


def _row_name(row: Key) -> str:
    return " ".join(map(label_text, row))


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _interval(entry: Entry, metric: str) -> figures.Interval | None:
    """Mean and SD over seeds in percent."""
    values = [100 * value for value in entry.values(metric)]
    if not values:
        return None
    return mean(values), spread(values) if len(values) > 1 else 0.0


def _next_seeds(section: Section) -> str:
    """What the seeds settle so far, and what would settle the rest."""
    title = "<h3>What to run next</h3>"
    next_seeds = section.next_seeds
    if isinstance(next_seeds, str):
        return f"{title}\n<p>{_text(next_seeds)}</p>"
    parts = [title, f"<p>{_text(summary(next_seeds))}.</p>"]
    if next_seeds.proposals:
        lines = [_row(proposal_row(proposal), 2) for proposal in next_seeds.proposals]
        parts.append(_table(PROPOSAL_HEADER, lines, 2))
    if any(proposal.add for proposal in next_seeds.proposals):
        parts.append(f"<p class=quiet>{_text(NOTE)}</p>")
        parts.append(f"<p>All of these seeds: {_text(next_seeds.cost.text())}.</p>")
        if code := "\n".join(map(_text, extend_lines(section.table, next_seeds))):
            parts.append(
                f"<p>Seeds that the grid lacks, for the sweep's file, below its other grids:</p>\n<pre>{code}</pre>"
            )
    if next_seeds.settled:
        lines = [_row(comparison_row(comparison), 1) for comparison in next_seeds.settled]
        parts.append(_details(f"settled differences: {len(next_seeds.settled)}", _table(COMPARISON_HEADER, lines, 1)))
    return "\n".join(parts)


def _pretrainings(svg: bytes | None) -> str:
    if svg is None:
        return ""
    caption = "Validation token accuracy by pre-training step: mean over runs, from the lowest to the highest"
    return f"<section>\n<h2>Pre-trainings</h2>\n{_figure(svg, caption)}\n</section>"


# -------------------------------------------------------------------------------- artifacts and their records


def _failures(statuses: Mapping[Artifact, Status]) -> str:
    failures = {artifact: status.failure for artifact, status in statuses.items() if status.failure is not None}
    if not failures:
        return ""
    num_blocked = Counter(cause for artifact in statuses for cause in blockers(artifact, failures))
    lines = []
    for artifact, failure in failures.items():
        step = "" if failure.step is None else f"{failure.step:,}"
        link = _link(f"{name(artifact)}/failure.json", name(artifact))
        texts = [str(statuses[artifact].state), failure.error, failure.host]
        lines.append(
            f"<tr><th scope=row>{link}</th>{''.join(f'<td class=words>{_text(text)}</td>' for text in texts)}"
            f"<td>{step}</td><td>{num_blocked[artifact] or ''}</td></tr>"
        )
    header = ["artifact", "state", "reason", "host", "step", "blocks"]
    return f"<section>\n<h2>Failures</h2>\n{_table(header, lines, 4)}\n</section>"


def _runs(cells: Sequence[Cell], statuses: Mapping[Artifact, Status]) -> str:
    """Every cell and every input with its place in the store."""
    parts = ["<section>", "<h2>Every run</h2>"]
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.fields), []).append(cell)
    for fields, group in groups.items():
        lines = []
        for cell in group:
            values = "".join(f"<td class=words>{_text(label_text(value))}</td>" for value in cell.fields.values())
            lines.append(f"<tr>{values}{_artifact_columns(cell.artifact, statuses[cell.artifact])}</tr>")
        header = [*(field.replace("_", " ") for field in fields), "state", "test metrics", "record"]
        parts.append(_details(f"{len(group)} fine-tunings by {', '.join(fields)}", _table(header, lines, len(header))))
    inputs = [artifact for artifact in statuses if not isinstance(artifact, Finetune)]
    lines = [f"<tr>{_artifact_columns(artifact, statuses[artifact])}</tr>" for artifact in inputs]
    header = ["state", "selected step", "record"]
    parts.append(
        _details(f"{len(inputs)} data sets and pre-trainings that they need", _table(header, lines, len(header)))
    )
    return "\n".join([*parts, "</section>"])


def _artifact_columns(artifact: Artifact, status: Status) -> str:
    """State, result and record of an artifact as three columns of a row."""
    result = None if status.record is None else status.record.result
    numbers = ""
    if isinstance(result, WeightsResult):
        scores = (result.test or {}).items()
        numbers = ", ".join(f"{heading(metric)} {100 * score:.1f}" for metric, score in scores)
        numbers = numbers if isinstance(artifact, Finetune) else f"{result.selected_step:,}"
    path = f"{name(artifact)}/record.json"
    link = _link(path, path) if status.record is not None else _text(name(artifact))
    columns = [f"<span class={status.state}>{status.state}</span>", _text(numbers), link]
    return "".join(f"<td class=words>{column}</td>" for column in columns)


_FIELDS = ("commit", "sweep_commit", "device", "backend", "threads", "processor", "python", "platform", "host")
"""Of the provenance, those that a page shows besides versions."""


def _provenance(statuses: Mapping[Artifact, Status]) -> str:
    """Versions, hosts and devices behind the records; if they differ, with the number of records that have each."""
    provenances = [status.record.provenance for status in statuses.values() if status.record is not None]
    counts: dict[str, Counter[str]] = {}
    for provenance in provenances:
        for package, version in provenance.versions.items():
            counts.setdefault(package, Counter())[version] += 1
        for field in _FIELDS:
            if (value := getattr(provenance, field)) is not None:
                counts.setdefault(field, Counter())[str(value)] += 1
    if not counts:
        return ""
    lines = []
    for field, values in counts.items():
        texts = [f"{value} ({count})" if len(values) > 1 else value for value, count in values.most_common()]
        lines.append(f"<tr><th scope=row>{_text(field)}</th><td class=words>{_text(', '.join(texts))}</td></tr>")
    table = _table(["", ""], lines, 2)
    return f"<section>\n<h2>Made with</h2>\n{_details(f'{len(provenances)} records', table)}\n</section>"


# -------------------------------------------------------------------------------- HTML


def _text(text: str) -> str:
    """One line of text."""
    return html.escape(printable(text))


def _link(path: str, text: str) -> str:
    """A link to a file of the store."""
    return f'<a href="../../{quote(path)}">{_text(text)}</a>'


def _row(texts: Sequence[str], num_words: int) -> str:
    """A row whose first columns are words and whose others are numbers."""
    words = "".join(f"<td class=words>{_text(text)}</td>" for text in texts[:num_words])
    return f"<tr>{words}{''.join(f'<td>{_text(text)}</td>' for text in texts[num_words:])}</tr>"


def _table(header: Sequence[str], rows: Iterable[str], num_words: int) -> str:
    """A table that scrolls inside its own box; the first columns are words."""
    columns = "".join(
        f"<th scope=col{' class=words' if index < num_words else ''}>{_text(column)}</th>"
        for index, column in enumerate(header)
    )
    head = f"<thead><tr>{columns}</tr></thead>\n" if any(header) else ""
    hint = "<p class=hint>swipe sideways for more columns</p>\n" if len(header) > _MOST_COLUMNS_OF_A_PHONE else ""
    return "\n".join([f"{hint}<div class=box><table>\n{head}<tbody>", *rows, "</tbody>\n</table></div>"])


_MOST_COLUMNS_OF_A_PHONE = 3


def _details(title: str, content: str) -> str:
    """Content that opens at a click on its title."""
    return f"<details>\n<summary>{_text(title)}</summary>\n{content}\n</details>"


def _figure(svg: bytes, caption: str) -> str:
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
    return (
        "<p class=hint>swipe sideways for the whole picture</p>\n"
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
.hint { display: none; color: var(--quiet); font-size: .8em; margin: .8rem 0 -.6rem; text-align: right; }
.hint::after { content: " \\2192"; }
.failed, .diverged, .warning { color: var(--bad); }
.box { overflow-x: auto; margin: .8rem 0; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .65rem; text-align: right; vertical-align: top; white-space: nowrap; }
thead th { background: var(--box); border-bottom: 1px solid var(--line); font-size: .85em; vertical-align: bottom;
  white-space: normal; }
td.text { text-align: left; white-space: pre-wrap; overflow-wrap: anywhere; min-width: 14rem; }
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
@media (max-width: 40rem) { .hint { display: block; } figure { overflow-x: auto; }
  figure img { max-width: none; width: 44rem; } }
"""
