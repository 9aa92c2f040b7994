"""Whether seeds settle a difference of means, and the cheapest seeds that would, by Welch's test.

A difference is settled if its two-sided p is below 0.05 after Holm's correction over all comparisons of its table. So
a table without any true difference shows a settled one in at most one of twenty cases, however many it compares. Adding
seeds until a test passes makes that more likely: decide on the number of seeds once, run them, and report the number.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from raysynth.errors import InputError
from raysynth.report.published import PrintedEntry, PrintedTable, printed_entry, read_printed
from raysynth.report.tables import Entry, Place, Table, lanes, mean, spread
from raysynth.specs.grid import Cell, hashable, label_text
from raysynth.specs.identity import Artifact
from raysynth.store.store import Status

LEVEL = 0.05
"""A difference is settled if its two-sided p is below this after Holm's correction over the table."""
MOST_SEEDS = 30
"""The most seeds to ask for on one side."""
PRINTED_SEEDS = 5
"""Number of seeds behind the paper's SDs (Appendix J)."""


# -------------------------------------------------------------------------------- Welch's test


class Origin(StrEnum):
    """Where the SD of an entry comes from."""

    OWN = "own"
    POOLED = "pooled"
    """Pooled over the table's other entries of the same task and metric."""
    PAPER = "paper"
    """Printed for the entry, else the root mean square of those printed for the table's other entries of the task."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Mean and SD of an entry over seeds."""

    mean: float
    size: int
    """Number of seeds behind the mean."""
    spread: float
    """Standard deviation of one seed."""
    freedom: float
    """Degrees of freedom of the SD."""
    origin: Origin = Origin.OWN

    @property
    def variance(self) -> float:
        """Variance of the mean."""
        return self.spread**2 / self.size


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One mean minus another, with Welch's test of whether it is zero."""

    value: float
    error: float
    """Standard error."""
    freedom: float
    """Degrees of freedom by Welch and Satterthwaite; NaN if both SDs are zero."""
    p: float
    """Two-sided, of this difference alone."""


def difference(first: Sample, second: Sample) -> Difference:
    """The first mean minus the second; if both SDs are zero, p is 1 for equal means and 0 for others."""
    value = first.mean - second.mean
    error, freedom, p = _welch(value, (first.variance, second.variance), (first.freedom, second.freedom))
    return Difference(value=value, error=float(error), freedom=float(freedom), p=float(p))


def holm(values: Sequence[float]) -> list[float]:
    """The p of each of several tests after Holm's correction, which bounds the family-wise error; NaN counts as 1.

    Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    known = [1.0 if math.isnan(value) else value for value in values]
    corrected, least = [0.0] * len(known), 0.0
    for rank, index in enumerate(sorted(range(len(known)), key=known.__getitem__)):
        least = max(least, min(1.0, (len(known) - rank) * known[index]))
        corrected[index] = least
    return corrected


def cheapest(
    first: Sample, second: Sample, costs: tuple[float, float], *, level: float = LEVEL
) -> tuple[int, int] | None:
    """The seeds to add to each side that bring p below `level` at the least cost.

    `costs` holds the cost of one seed of each side. Among equal costs, the fewest seeds win, then the most even
    numbers. Assumes that means and SDs stay as they are. Each side ends with at least two seeds, so that it has an SD
    of its own. Returns None if no number up to `MOST_SEEDS` a side settles the difference.
    """
    sizes = [np.arange(max(side.size, 2), max(side.size, MOST_SEEDS, 2) + 1) for side in (first, second)]
    first_size, second_size = np.meshgrid(*sizes, indexing="ij")
    *_, p = _welch(
        first.mean - second.mean,
        (first.spread**2 / first_size, second.spread**2 / second_size),
        (first_size - 1, second_size - 1),
    )
    settled = p < level
    if not settled.any():
        return None
    more_first, more_second = first_size - first.size, second_size - second.size
    cost = more_first * costs[0] + more_second * costs[1]
    total, imbalance = more_first + more_second, abs(first_size - second_size)
    choices = list(zip(cost[settled], total[settled], imbalance[settled], strict=True))
    best = min(range(len(choices)), key=choices.__getitem__)
    return int(more_first[settled][best]), int(more_second[settled][best])


Numbers = float | npt.NDArray[np.floating] | npt.NDArray[np.integer]


def _welch(
    value: float, variances: tuple[Numbers, Numbers], freedoms: tuple[Numbers, Numbers]
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Standard error, degrees of freedom and two-sided p, from the variances of two means and their freedoms.

    Works on numbers and on arrays, elementwise.
    """
    from scipy.special import stdtr  # imported here because plan and status must start in a second

    first, second = map(np.asarray, variances)  # in NumPy a division by zero raises nothing
    error = np.sqrt(first + second)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = (first + second) ** 2 / (first**2 / freedoms[0] + second**2 / freedoms[1])
        p = 2 * stdtr(freedom, -np.abs(value) / error)
    return error, freedom, np.where(error == 0, float(value == 0), p)


def pooled(samples: Iterable[Sample]) -> tuple[float, float]:
    """The pooled SD and its degrees of freedom."""
    samples = list(samples)
    freedom = sum(sample.freedom for sample in samples)
    return math.sqrt(sum(sample.freedom * sample.spread**2 for sample in samples) / freedom), freedom


# -------------------------------------------------------------------------------- the comparisons of a table


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two entries of a table that the table claims to differ."""

    within: str
    """Name of the column or row that both share; empty in a table without columns."""
    names: tuple[str, str]
    metric: str
    places: tuple[Place, Place]
    entries: tuple[Entry, Entry]
    samples: tuple[Sample | None, Sample | None]
    """None for an entry without results, or with one seed and no SD to assume."""
    corrected_p: float | None = None
    """The two-sided p after Holm's correction over all comparisons of the table; None without a `difference`."""

    @property
    def settled(self) -> bool:
        """Whether the corrected p is below `LEVEL`."""
        return self.corrected_p is not None and self.corrected_p < LEVEL

    @property
    def label(self) -> str:
        """Such as `MTOP: Set against Random Init`."""
        return f"{f'{self.within}: ' if self.within else ''}{' against '.join(self.names)}"

    @property
    def difference(self) -> Difference | None:
        """The difference of the two means; None unless both samples are known."""
        first, second = self.samples
        return None if first is None or second is None else difference(first, second)


def comparisons(table: Table, cells: Sequence[Cell], statuses: Mapping[Artifact, Status]) -> list[Comparison]:
    """The differences that a table claims, in the first metric of each task.

    With a baseline or ceiling, each row is compared with those, column by column. A table with neither claims an order:
    each row is compared with the next or, if a column holds several tasks, each column with the next. Only entries of
    the same data and metric are compared. With `best_of`, the entries are at the value that the table shows. Holm's
    correction counts comparisons without a difference too, so that a missing result never makes another settled.

    Raises `InputError` if an entry folds fields besides `fold`: its SD would not be one over seeds.
    """
    entries = table.entries(cells, statuses)
    for place, entry in entries.items():
        _check_folds_seeds_only(table, place, entry)
    samples = _samples(table, entries)
    compared = []
    for first, second in _pairs(table, entries):
        if entries[first].measured == entries[second].measured:
            shared = 1 if first[1] == second[1] else 0
            compared.append(
                Comparison(
                    within=" ".join(map(label_text, first[shared])),
                    names=(" ".join(map(label_text, first[1 - shared])), " ".join(map(label_text, second[1 - shared]))),
                    metric=entries[first].metrics[0],
                    places=(first, second),
                    entries=(entries[first], entries[second]),
                    samples=(samples[first], samples[second]),
                )
            )
    differences = [comparison.difference for comparison in compared]
    corrected = holm([1.0 if each is None else each.p for each in differences])
    return [
        dataclasses.replace(comparison, corrected_p=None if difference is None else p)
        for comparison, difference, p in zip(compared, differences, corrected, strict=True)
    ]


def _pairs(table: Table, entries: Mapping[Place, Entry]) -> list[tuple[Place, Place]]:
    """The places to compare, before their data and metrics are."""
    rows = list(dict.fromkeys(row for row, _ in entries))
    columns = list(dict.fromkeys(column for _, column in entries))
    anchors = [anchor for anchor in (table.baseline, table.ceiling) if anchor is not None]
    if anchors:
        pairs = [
            ((row, column), (anchor, column))
            for column in columns
            for row in rows
            for anchor in anchors
            if row != anchor and (row, anchor) != (table.baseline, table.ceiling)
        ]
        return [(first, second) for first, second in pairs if first in entries and second in entries]
    return [pair for places in lanes(entries) for pair in itertools.pairwise(places)]


def _check_folds_seeds_only(table: Table, place: Place, entry: Entry) -> None:
    """Raise `InputError` if the cells of an entry differ in fields besides `fold`."""
    names = {name for cell in entry.cells for name in cell.fields} - {table.fold}
    folded = sorted(name for name in names if len({hashable(cell.fields.get(name)) for cell in entry.cells}) > 1)
    if folded:
        row, column = place
        raise InputError(
            f"table {table.title!r}: entry {' '.join(map(label_text, (*row, *column)))!r} folds {', '.join(folded)} "
            f"besides {table.fold}; its SD would not be one over {table.fold}s"
        )


def _samples(table: Table, entries: Mapping[Place, Entry]) -> dict[Place, Sample | None]:
    """The sample of each entry; an entry of one seed borrows an SD from the table or the paper if either has one."""
    printed_table: PrintedTable = {} if table.published is None else read_printed(table.published)
    printed = {(row, column): printed_entry(printed_table, row, column) for row, column in entries}
    own = {}
    for place, entry in entries.items():
        values = entry.values(entry.metrics[0])
        if len(values) > 1:
            own[place] = Sample(
                mean=mean(values),
                size=len(values),
                spread=spread(values),
                freedom=len(values) - 1,
            )
    samples: dict[Place, Sample | None] = {**own}
    for place, entry in entries.items():
        if place in own:
            continue
        samples[place] = None
        comparable = [other for other in entries if entries[other].measured == entry.measured]
        sample = Sample(mean=entry.mean(entry.metrics[0]), size=1, spread=0.0, freedom=0.0)
        if not entry.values(entry.metrics[0]):
            continue
        if known := [own[other] for other in comparable if other in own]:
            borrowed, freedom = pooled(known)
            samples[place] = dataclasses.replace(sample, spread=borrowed, freedom=freedom, origin=Origin.POOLED)
        elif spreads := _spreads([printed[place]]) or _spreads(printed[p] for p in comparable):
            borrowed = math.sqrt(statistics.fmean(each**2 for each in spreads)) / 100
            freedom = len(spreads) * (PRINTED_SEEDS - 1)
            samples[place] = dataclasses.replace(sample, spread=borrowed, freedom=freedom, origin=Origin.PAPER)
    return samples


def _spreads(printed: Iterable[PrintedEntry | None]) -> list[float]:
    """The printed SDs of the first metric, in percent."""
    return [entry.spreads[0] for entry in printed if entry is not None and entry.spreads is not None]
