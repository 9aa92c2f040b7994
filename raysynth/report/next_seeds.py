"""What to run next: the differences that a sweep's seeds do not settle, and the cheapest seeds that would."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from raysynth.errors import InputError
from raysynth.report.cost import Cost, cost, speeds
from raysynth.report.significance import LEVEL, MOST_SEEDS, Comparison, Origin, cheapest, comparisons
from raysynth.report.tables import Line, Table
from raysynth.specs.finetuning import Finetune
from raysynth.specs.grid import Cell
from raysynth.specs.identity import Artifact, in_order
from raysynth.store.store import State, Status, Store


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Seeds for a comparison that is not settled."""

    comparison: Comparison
    add: tuple[int, int] | None
    """Seeds for each side; None where no number up to `MOST_SEEDS` a side would settle it."""
    cost: Cost | None
    """Of these seeds, with those of their inputs that the store lacks; None where there are none."""

    @property
    def told(self) -> str:
        """The seeds to add, by the side's name."""
        if self.add is None:
            return f"none up to {MOST_SEEDS} a side would"
        one, other = self.add
        names = self.comparison.names
        told = ", ".join(f"{name} +{more}" for name, more in zip(names, self.add, strict=True) if more)
        told = f"both +{one}" if one == other else told
        return f"{told} first, for an SD" if self.comparison.difference is None else told


@dataclass(frozen=True, kw_only=True)
class Addition:
    """Seeds to add to the product of some values of a grid's other fields."""

    where: dict[str, tuple[Any, ...]]
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Where the comparisons of a table stand."""

    settled: tuple[Comparison, ...]
    proposals: tuple[Proposal, ...]
    """Of those that are not settled; cheapest first, by steps where some speed is unknown, the hopeless last."""
    waiting: tuple[Comparison, ...]
    """Those with a cell that has no result."""
    cost: Cost
    """Of all proposed seeds together, each once."""
    additions: tuple[Addition, ...]
    """Seeds that the grid lacks."""


def next_seeds(table: Table, cells: Sequence[Cell], statuses: dict[Artifact, Status], store: Store) -> Outlook:
    """Where a table's comparisons stand, and for each that is not settled the seeds that cost the least.

    A seed costs its fine-tuning and whatever of its inputs is not in the store, so a new pre-training where the trial
    makes one for every seed. Sides are weighed by what their next seed costs; the costs told are those of all seeds
    proposed. Seeds that the grid has and the store lacks come first, then whole numbers above the grid's.

    Raises `InputError` as `comparisons` does, and where the folded field does not hold whole numbers.
    """
    told = comparisons(table, cells, statuses)
    waiting = [each for each in told if not all(line.results for line in each.lines)]
    settled = [each for each in told if each.difference is not None and each.difference.settled]
    unsettled = [each for each in told if each not in waiting and each not in settled]
    seeds = {id(line): _Seeds(table, line, statuses) for each in unsettled for line in each.lines}

    firsts = {key: [artifact for _, artifact in side.take(1)] for key, side in seeds.items()}
    prices = _Prices(itertools.chain(*firsts.values()), statuses, store)
    costs = {key: prices.of(first) for key, first in firsts.items()}
    plans = [_plan(each, [costs[id(line)] for line in each.lines]) for each in unsettled]

    chosen = [_chosen(each, plan, seeds) for each, plan in zip(unsettled, plans, strict=True)]
    prices = _Prices(itertools.chain(*chosen), statuses, store)
    proposals = [
        Proposal(comparison=each, add=plan, cost=None if plan is None else prices.of(artifacts))
        for each, plan, artifacts in zip(unsettled, plans, chosen, strict=True)
    ]
    by_steps = any(each.cost is not None and each.cost.unknown for each in proposals)
    return Outlook(
        settled=tuple(settled),
        proposals=tuple(sorted(proposals, key=lambda each: _rank(each.cost, by_steps))),
        waiting=tuple(waiting),
        cost=prices.of(itertools.chain(*chosen)),
        additions=tuple(_merged(_additions(proposals, seeds))),
    )


class _Prices:
    """What fine-tunings cost, with those of their inputs that the store lacks."""

    def __init__(self, artifacts: Iterable[Finetune], statuses: dict[Artifact, Status], store: Store):
        new = [artifact for artifact in in_order(artifacts) if artifact not in statuses]
        self._statuses = {**statuses, **store.statuses(new)}
        self._seconds = dict(zip(self._statuses, speeds(self._statuses, store), strict=True))

    def of(self, artifacts: Iterable[Finetune]) -> Cost:
        return cost(in_order(artifacts), self._statuses, self._seconds)


class _Seeds:
    """The seeds that a cell could have next, with their fine-tunings."""

    def __init__(self, table: Table, line: Line, statuses: dict[Artifact, Status]):
        self._point = line.points[0]
        self._fold = table.fold
        values = [point.fields[table.fold] for point in line.points]
        if not all(type(value) is int for value in values):
            raise InputError(
                f"table {table.title!r} folds {table.fold}, whose values must be whole numbers to tell the next one, "
                f"got {', '.join(map(repr, values))}"
            )
        self._pending = [
            (value, point.artifact)
            for value, point in zip(values, line.points, strict=True)
            if statuses[point.artifact].state not in (State.DONE, State.DIVERGED)
        ]
        self._above = max(values) + 1

    @property
    def where(self) -> dict[str, tuple[Any, ...]]:
        return {name: (value,) for name, value in self._point.fields.items() if name != self._fold}

    def take(self, count: int) -> list[tuple[int, Finetune]]:
        return list(itertools.islice(self._all(), count))

    def new(self, count: int) -> tuple[int, ...]:
        """Those of the next seeds that the grid does not have."""
        return tuple(seed for seed, _ in self.take(count)[len(self._pending) :])

    def _all(self) -> Iterator[tuple[int, Finetune]]:
        yield from self._pending
        for seed in itertools.count(self._above):
            yield seed, self._point.again(**{self._fold: seed})


def _plan(comparison: Comparison, costs: list[Cost]) -> tuple[int, int] | None:
    """Seeds to add to each side, at the costs of one; by steps unless all speeds are known."""
    one, other = comparison.samples
    if one is None or other is None:
        here, there = (0 if sample is not None else 1 for sample in comparison.samples)
        return here, there
    by_steps = any(each.unknown for each in costs)
    here, there = (float(each.steps) if by_steps else each.hours for each in costs)
    return cheapest(one, other, (here, there))


def _chosen(comparison: Comparison, plan: tuple[int, int] | None, seeds: dict[int, "_Seeds"]) -> list[Finetune]:
    sides = zip(comparison.lines, plan or (0, 0), strict=True)
    return [artifact for line, more in sides for _, artifact in seeds[id(line)].take(more)]


def _rank(cost: Cost | None, by_steps: bool) -> tuple[bool, float]:
    return cost is None, 0.0 if cost is None else cost.steps if by_steps else cost.hours


def _additions(proposals: list[Proposal], seeds: dict[int, "_Seeds"]) -> list[Addition]:
    """For each cell the most that a proposal asks for."""
    most: dict[int, int] = {}
    for each in proposals:
        for line, more in zip(each.comparison.lines, each.add or (0, 0), strict=True):
            most[id(line)] = max(more, most.get(id(line), 0))
    found = [Addition(where=seeds[key].where, seeds=seeds[key].new(count)) for key, count in most.items()]
    return [each for each in found if each.seeds]


def _merged(additions: list[Addition]) -> list[Addition]:
    """The same seeds of the same cells in fewer products."""
    for name in dict.fromkeys(name for each in additions for name in each.where):
        groups: dict[Any, list[Addition]] = {}
        for each in additions:
            rest = tuple((other, values) for other, values in each.where.items() if other != name)
            groups.setdefault((name in each.where, rest, each.seeds), []).append(each)
        additions = [
            group[0]
            if len(group) == 1
            else Addition(
                where={**group[0].where, name: tuple(value for each in group for value in each.where[name])},
                seeds=group[0].seeds,
            )
            for group in groups.values()
        ]
    return additions


# -------------------------------------------------------------------------------- as text

STANDING = ["comparison", "difference", "SE", "p", "seeds now"]
"""Of the rows that `standing` makes."""
HEADER = ["comparison", "add seeds", *STANDING[1:], "steps", "device-hours"]
"""Of the rows that `row` makes."""
NOTE = (
    "The seeds to add are the cheapest that settle a difference if means and SDs stay as they are; means move, so that "
    "is an even chance. A pooled SD is that of the table's other cells of the task, a paper SD is printed. Of "
    f"differences that are not there {100 * LEVEL:.0f} % pass, more if seeds are added until one does."
)


def standing(comparison: Comparison) -> list[str]:
    """A comparison as text; difference and standard error in percent, the latter with the origin of a borrowed SD."""
    found = comparison.difference
    one, other = (line.mean(comparison.metric) for line in comparison.lines)
    origins = {sample.origin for sample in comparison.samples if sample is not None} - {Origin.OWN}
    borrowed = f" ({', '.join(sorted(origins))} SD)" if origins else ""
    return [
        comparison.told,
        f"{100 * (one - other):+.1f}",
        "unknown" if found is None else f"{100 * found.error:.1f}{borrowed}",
        "" if found is None else "<0.001" if found.p < 0.001 else f"{found.p:.3f}",
        " : ".join(str(len(line.results)) for line in comparison.lines),
    ]


def row(proposal: Proposal) -> list[str]:
    """A proposal as text."""
    told, *numbers = standing(proposal.comparison)
    cost = proposal.cost
    if cost is None:
        return [told, proposal.told, *numbers, "", ""]
    return [told, proposal.told, *numbers, f"{cost.steps:,}", "unknown" if cost.unknown else f"{cost.hours:.2f}"]


def summary(outlook: Outlook) -> str:
    """How many comparisons are settled, in one line."""
    every = len(outlook.settled) + len(outlook.proposals) + len(outlook.waiting)
    waiting = f"; {len(outlook.waiting)} wait for a first result" if outlook.waiting else ""
    return f"{len(outlook.settled)} of {every} differences are settled at two-sided 95 %, each alone{waiting}"


def edits(table: Table, outlook: Outlook) -> list[str]:
    """Lines for the sweep's file that add the seeds which its grid lacks."""
    return [
        f"sweep.extend({ {name: list(values) for name, values in each.where.items()}!r}, "
        f"{table.fold}={_values(each.seeds)})"
        for each in outlook.additions
    ]


def _values(seeds: tuple[int, ...]) -> str:
    return repr(list(seeds)) if len(seeds) == 1 else f"range({seeds[0]}, {seeds[-1] + 1})"
