"""Bootstrap intervals over seeds: how far the numbers of a table would move with other seeds.

Seeds are drawn with replacement within each entry, so an average over tasks or a gap closed is a stratified bootstrap.
Intervals of few seeds are too narrow: three seeds cannot show values beyond the three.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raysynth.report.next_seeds import NextSeeds
from raysynth.report.significance import Comparison
from raysynth.report.tables import Entry, Key, Place, Table
from raysynth.specs.grid import Cell, label_text
from raysynth.specs.identity import Artifact
from raysynth.store.store import Status
from raysynth.tokens.streams import Purpose, stream

COVERAGE = 0.95
NUM_RESAMPLES = 9_999
SEED = 0
"""All intervals are drawn with this seed, so equal results have equal intervals."""

Means = Sequence[npt.NDArray[np.floating]]
"""The mean of each stratum, or of each resample of it."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number of a table with its bootstrap interval; shares are in [0, 1]."""

    row: Key
    column: Key
    """Empty in a table without columns and for averages over columns."""
    what: str
    """A metric, "average" or "gap closed"."""
    value: float
    low: float
    high: float
    num_seeds: int
    """Seeds behind the row's number."""


def bootstrap(strata: Sequence[Sequence[float]], statistic: Callable[[Means], Any]) -> tuple[float, float] | None:
    """The percentile interval of a statistic of the strata's means; each stratum is resampled by itself.

    None if a stratum has fewer than two values, or if a value or the interval is not finite.
    """
    if any(len(values) < 2 for values in strata) or not all(np.isfinite(values).all() for values in strata):
        return None
    random = stream(Purpose.BOOTSTRAP, SEED)
    means = [
        np.asarray(values, np.float64)[random.integers(len(values), size=(NUM_RESAMPLES, len(values)))].mean(axis=1)
        for values in strata
    ]
    tail = (1 - COVERAGE) / 2
    # Not scipy.stats.bootstrap, which gives no interval if the gap is 0 in one resample.
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = statistic(means)
        draws = draws[~np.isnan(draws)]
        low, high = map(float, np.quantile(draws, [tail, 1 - tail])) if draws.size else (np.nan, np.nan)
    return (low, high) if np.isfinite([low, high]).all() else None


def intervals(table: Table, cells: Sequence[Cell], statuses: Mapping[Artifact, Status]) -> list[Interval]:
    """The intervals of a table's means, then of its averages over columns and of the gaps closed.

    Numbers without an interval are left out; so are the gaps of baseline and ceiling, which are 0 and 1 by definition.
    """
    entries = table.entries(cells, statuses)
    found = [
        _interval(row, column, metric, [entry.values(metric)], lambda means: means[0])
        for (row, column), entry in entries.items()
        for metric in entry.metrics
    ]
    rows = list(dict.fromkeys(row for row, _ in entries))
    columns = list(dict.fromkeys(column for _, column in entries))
    if table.columns and table.gap:
        found += [_interval(row, (), "average", _strata(row, columns, entries), _mean) for row in rows]
    if table.gap:
        anchors = [values for anchor in table.gap for values in _strata(anchor, columns, entries)]
        found += [
            _interval(row, (), "gap closed", [*_strata(row, columns, entries), *anchors], _gap_closed)
            for row in rows
            if row not in table.gap
        ]
    return [interval for interval in found if interval is not None]


def _interval(
    row: Key, column: Key, what: str, strata: Sequence[Sequence[float]], statistic: Callable[[Means], Any]
) -> Interval | None:
    ends = bootstrap(strata, statistic)
    if ends is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic([np.asarray(np.mean(values)) for values in strata]))
    if not np.isfinite(value):  # the gap is 0
        return None
    num_own = len(strata) // 3 if statistic is _gap_closed else len(strata)
    num_seeds = sum(len(values) for values in strata[:num_own])
    return Interval(row=row, column=column, what=what, value=value, low=ends[0], high=ends[1], num_seeds=num_seeds)


def _strata(row: Key, columns: Sequence[Key], entries: Mapping[Place, Entry]) -> list[list[float]]:
    """The values of a row's first metric by column; none for a column that the row lacks."""
    row_entries = [entries.get((row, column)) for column in columns]
    return [[] if entry is None else entry.values(entry.metrics[0]) for entry in row_entries]


def _mean(means: Means) -> Any:
    return sum(means) / len(means)


def _gap_closed(means: Means) -> Any:
    """The share of the way from baseline to ceiling: the means are those of the row, the baseline and the ceiling."""
    size = len(means) // 3
    row, baseline, ceiling = (_mean(means[start : start + size]) for start in (0, size, 2 * size))
    return (row - baseline) / (ceiling - baseline)


# -------------------------------------------------------------------------------- as text

INTERVAL_HEADER = ["row", "column", "of", "value", "low", "high", "seeds"]
COMPARISON_CSV_HEADER = [
    *("comparison", "metric", "difference", "low", "high", "standard_error", "p", "holm_p", "settled"),
    *("first_seeds", "second_seeds"),
]


def interval_rows(found: Sequence[Interval]) -> list[list[str]]:
    """The intervals with all digits, for a CSV file."""
    return [
        [
            " ".join(map(label_text, each.row)),
            " ".join(map(label_text, each.column)),
            each.what,
            *map(repr, (each.value, each.low, each.high, each.num_seeds)),
        ]
        for each in found
    ]


def comparison_rows(next_seeds: NextSeeds) -> list[list[str]]:
    """The comparisons of a table with all digits, for a CSV file; what is not known is empty."""
    unsettled = [proposal.comparison for proposal in next_seeds.proposals]
    return [_comparison_row(each) for each in (*next_seeds.settled, *unsettled, *next_seeds.waiting)]


def _comparison_row(comparison: Comparison) -> list[str]:
    values = [entry.values(comparison.metric) for entry in comparison.entries]
    ends = bootstrap(values, lambda means: means[0] - means[1])
    difference = comparison.difference
    numbers = [
        *((None, None) if ends is None else ends),
        *((None, None) if difference is None else (difference.error, difference.p)),
        comparison.corrected_p,
    ]
    value = float(np.mean(values[0]) - np.mean(values[1])) if all(values) else None
    return [
        *(comparison.label, comparison.metric),
        *("" if number is None else repr(number) for number in (value, *numbers)),
        str(comparison.settled),
        *(str(len(each)) for each in values),
    ]
