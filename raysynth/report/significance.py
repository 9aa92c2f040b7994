"""Whether seeds settle a difference of means, and the cheapest seeds that would: Welch's test and its arithmetic.

Each comparison stands alone, at two-sided 95 %. Of many differences that are not there, one in twenty passes; and to
add seeds until a test passes makes that more. So decide on the seeds once, run them, and say how many there are.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from raysynth.errors import InputError
from raysynth.report.published import Printed, printed
from raysynth.report.tables import Line, Table, printed_cell
from raysynth.specs.grid import Cell
from raysynth.store.store import Status

LEVEL = 0.05
"""A difference is settled where the two-sided p of Welch's test is below this."""
MOST_SEEDS = 30
"""No side is asked to have more seeds than these."""
PRINTED_SEEDS = 5
"""The paper's SDs are over this many (Appendix J)."""


# -------------------------------------------------------------------------------- arithmetic


class Origin(StrEnum):
    """Where the SD of a cell is from."""

    OWN = "own"
    POOLED = "pooled"
    """The pooled SD of the table's other cells of the same task and metric."""
    PAPER = "paper"
    """Printed for the cell, else the root mean square of those printed for the table's other cells of the task."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is known of a cell over seeds."""

    mean: float
    size: int
    """Seeds behind the mean."""
    spread: float
    """Standard deviation of one seed."""
    freedom: float
    """Degrees of freedom of the SD."""
    origin: Origin = Origin.OWN

    @property
    def variance(self) -> float:
        """Of the mean."""
        return self.spread**2 / self.size


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One mean minus another, with Welch's test of whether it is zero."""

    value: float
    error: float
    """Standard error."""
    freedom: float
    """Degrees of freedom by Welch and Satterthwaite; not a number where neither SD is above zero."""
    p: float
    """Two-sided."""

    @property
    def settled(self) -> bool:
        return self.p < LEVEL


def difference(one: Sample, other: Sample) -> Difference:
    """The difference of two means; where neither SD is above zero, p is 1 for equal means and 0 for others."""
    value = one.mean - other.mean
    error, freedom, p = _welch(value, one.variance, other.variance, one.freedom, other.freedom)
    return Difference(value=value, error=float(error), freedom=float(freedom), p=float(p))


def cheapest(one: Sample, other: Sample, costs: tuple[float, float]) -> tuple[int, int] | None:
    """The seeds to add to each side that settle the difference at the least cost, or None up to `MOST_SEEDS` a side.

    Means and SDs are taken to stay as they are, and each side to have an SD of its own, so two seeds at least. `costs`
    are those of a seed of each side; among equal costs the fewest seeds are taken, then the most even numbers.
    """
    sizes = [np.arange(max(side.size, 2), max(side.size, MOST_SEEDS, 2) + 1) for side in (one, other)]
    here, there = np.meshgrid(*sizes, indexing="ij")
    *_, p = _welch(one.mean - other.mean, one.spread**2 / here, other.spread**2 / there, here - 1, there - 1)
    more, elsewhere = here - one.size, there - other.size
    settled = p < LEVEL
    if not settled.any():
        return None
    cost = more * costs[0] + elsewhere * costs[1]
    choices = zip(cost[settled], (more + elsewhere)[settled], abs(here - there)[settled], strict=True)
    best = min(range(int(settled.sum())), key=list(choices).__getitem__)
    return int(more[settled][best]), int(elsewhere[settled][best])


def _welch(value: Any, one: Any, other: Any, freedom: Any, other_freedom: Any) -> tuple[Any, Any, Any]:
    """Standard error, degrees of freedom and two-sided p, from the variances of two means; arrays too."""
    from scipy.special import stdtr  # imported here because plan and status must start in a second

    one, other = np.asarray(one), np.asarray(other)  # a division by zero is then not an error
    error = np.sqrt(one + other)
    with np.errstate(divide="ignore", invalid="ignore"):
        both = (one + other) ** 2 / (one**2 / freedom + other**2 / other_freedom)
        p = 2 * stdtr(both, -np.abs(value) / error)
    return error, both, np.where(error > 0, p, float(value == 0))


def pooled(samples: Iterable[Sample]) -> tuple[float, float]:
    """The pooled SD and its degrees of freedom."""
    samples = list(samples)
    freedom = sum(sample.freedom for sample in samples)
    return math.sqrt(sum(sample.freedom * sample.spread**2 for sample in samples) / freedom), freedom


# -------------------------------------------------------------------------------- a table's comparisons


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two cells of a table between which it claims a difference."""

    within: str
    """What the two have in common: a column or a row, by its name; empty in a table without columns."""
    names: tuple[str, str]
    metric: str
    lines: tuple[Line, Line]
    samples: tuple[Sample | None, Sample | None]
    """None of a cell without a result, or of one seed with no SD to assume."""

    @property
    def told(self) -> str:
        return f"{f'{self.within}: ' if self.within else ''}{' against '.join(self.names)}"

    @property
    def difference(self) -> Difference | None:
        one, other = self.samples
        return None if one is None or other is None else difference(one, other)


def comparisons(table: Table, points: Sequence[Cell], statuses: dict[Any, Status]) -> list[Comparison]:
    """The differences that a table claims, in the first metric of each task.

    Each row against the baseline and against the ceiling, column by column. A table with neither claims an order: each
    row against the next, or, where a column holds several tasks, each column against the next. Only cells on the same
    data and metric are compared; with `best_of`, they are those at the value that the table shows.

    Raises `InputError` where a cell folds other fields than `fold`, because an SD over those is none over seeds.
    """
    cells = table.cells(points, statuses)
    for (row, column), line in cells.items():
        _check_folds_seeds_only(table, (*row, *column), line)
    samples = _samples(table, cells, statuses)
    told = []
    for one, other in _pairs(table, cells):
        if _measured(table, cells[one]) == _measured(table, cells[other]):
            shared = 1 if one[1] == other[1] else 0
            told.append(
                Comparison(
                    within=" ".join(map(str, one[shared])),
                    names=(" ".join(map(str, one[1 - shared])), " ".join(map(str, other[1 - shared]))),
                    metric=_metric(table, cells[one]),
                    lines=(cells[one], cells[other]),
                    samples=(samples[one], samples[other]),
                )
            )
    return told


Place = tuple[tuple[Any, ...], tuple[Any, ...]]
"""Row and column."""


def _pairs(table: Table, cells: dict[Place, Line]) -> list[tuple[Place, Place]]:
    rows, columns = (list(dict.fromkeys(place[side] for place in cells)) for side in (0, 1))
    anchors = [anchor for anchor in (table.baseline, table.ceiling) if anchor is not None]
    if anchors:
        pairs = [
            ((row, column), (anchor, column))
            for column in columns
            for row in rows
            for anchor in anchors
            if row != anchor and (row, anchor) != (table.baseline, table.ceiling)
        ]
    elif all(len({_measured(table, cells[place]) for place in cells if place[1] == column}) == 1 for column in columns):
        present = [[(row, column) for row in rows if (row, column) in cells] for column in columns]
        pairs = [pair for places in present for pair in itertools.pairwise(places)]
    else:
        present = [[(row, column) for column in columns if (row, column) in cells] for row in rows]
        pairs = [pair for places in present for pair in itertools.pairwise(places)]
    return [(one, other) for one, other in pairs if one in cells and other in cells]


def _metric(table: Table, line: Line) -> str:
    """The metric that a cell is compared by: the first that the table shows."""
    return line.metrics[0] if table.columns else line.points[0].artifact.task.metrics[0]


def _measured(table: Table, line: Line) -> tuple[Any, str]:
    return line.points[0].artifact.task.data, _metric(table, line)


def _check_folds_seeds_only(table: Table, place: tuple[Any, ...], line: Line) -> None:
    others = {tuple((name, value) for name, value in p.fields.items() if name != table.fold) for p in line.points}
    if len(others) > 1:
        names = {name for one in others for name, value in one if len({dict(each)[name] for each in others}) > 1}
        raise InputError(
            f"table {table.title!r}: cell {' '.join(map(str, place))!r} folds {', '.join(sorted(names))} besides "
            f"{table.fold}; its SD is none over {table.fold}s"
        )


def _samples(table: Table, cells: dict[Place, Line], statuses: dict[Any, Status]) -> dict[Place, Sample | None]:
    """What is known of each cell, with the SD of cells of one seed assumed where there is something to go by."""
    paper = {} if table.published is None else printed(table.published)
    theirs = {place: printed_cell(paper, *place) for place in cells}
    own: dict[Place, Sample] = {}
    for place, line in cells.items():
        values = line.values(_metric(table, line))
        if len(values) > 1:
            own[place] = Sample(
                mean=statistics.fmean(values),
                size=len(values),
                spread=statistics.stdev(values),
                freedom=len(values) - 1,
            )
    samples: dict[Place, Sample | None] = dict(own)
    for place, line in cells.items():
        if place in own:
            continue
        samples[place] = None
        measured = _measured(table, line)
        beside = [other for other in cells if _measured(table, cells[other]) == measured]
        sample = Sample(mean=line.mean(_metric(table, line)), size=1, spread=0.0, freedom=0.0)
        if line.results and (known := [own[other] for other in beside if other in own]):
            spread, freedom = pooled(known)
            samples[place] = dataclasses.replace(sample, spread=spread, freedom=freedom, origin=Origin.POOLED)
        elif line.results and (spreads := _printed_spreads(theirs[place]) or _all_spreads(theirs, beside)):
            spread = math.sqrt(statistics.fmean(spread**2 for spread in spreads)) / 100
            freedom = len(spreads) * (PRINTED_SEEDS - 1)
            samples[place] = dataclasses.replace(sample, spread=spread, freedom=freedom, origin=Origin.PAPER)
    return samples


def _printed_spreads(there: Printed | None) -> list[float]:
    return [] if there is None or there.spreads is None else [there.spreads[0]]


def _all_spreads(theirs: dict[Place, Printed | None], places: list[Place]) -> list[float]:
    return [spread for place in places for spread in _printed_spreads(theirs[place])]
