"""What to run next: the differences that a sweep's seeds do not settle, and the cheapest seeds that would."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysynth.errors import InputError, brief
from raysynth.report.cost import Cost, Times, cost, duration, speeds
from raysynth.report.significance import LEVEL, MOST_SEEDS, Comparison, Origin, cheapest, comparisons
from raysynth.report.tables import Entry, Place, Table
from raysynth.specs.finetuning import Finetune
from raysynth.specs.grid import Cell, hashable
from raysynth.specs.identity import Artifact, in_order
from raysynth.store.store import State, Status, Store

# -------------------------------------------------------------------------------- what to run next


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Seeds to add for a comparison that is not settled."""

    comparison: Comparison
    add: tuple[int, int] | None
    """Number of seeds for each side; None if no number up to `MOST_SEEDS` a side would settle it."""
    cost: Cost | None
    """Cost of these seeds and of those of their inputs that the store lacks; None if there are none to add."""

    @property
    def text(self) -> str:
        """The seeds to add by the name of their side, such as `Set +2, Random Init +1`."""
        if self.add is None:
            return f"more than {MOST_SEEDS} a side"
        sides = zip(self.comparison.names, self.add, strict=True)
        text = ", ".join(f"{name} +{num_seeds}" for name, num_seeds in sides if num_seeds)
        if self.add[0] == self.add[1]:
            text = f"both +{self.add[0]}"
        return f"{text} first, for an SD" if self.comparison.difference is None else text


@dataclass(frozen=True, kw_only=True)
class Addition:
    """Seeds to add to all combinations of some values of a grid's other fields."""

    where: dict[str, tuple[Any, ...]]
    """The values by field."""
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class NextSeeds:
    """Where the comparisons of a table stand, and the seeds to add."""

    settled: tuple[Comparison, ...]
    proposals: tuple[Proposal, ...]
    """One per comparison that is not settled: cheapest first, or fewest steps first if a speed is unknown.

    Those that no number of seeds would settle come last.
    """
    waiting: tuple[Comparison, ...]
    """Comparisons with an entry that has no results."""
    cost: Cost
    """Cost of all proposed seeds together, each counted once."""
    additions: tuple[Addition, ...]
    """Proposed seeds that the grid lacks."""


def propose_seeds(table: Table, cells: Sequence[Cell], statuses: Mapping[Artifact, Status], store: Store) -> NextSeeds:
    """Find the comparisons of a table that are not settled, and for each the cheapest seeds that would settle it.

    A seed costs its fine-tuning and those of its inputs that the store lacks, so a pre-training too if the trial makes
    one for every seed. The choice weighs the sides by the cost of their next seed; the costs returned are those of all
    seeds proposed. Seeds of the grid that are not done come first, then whole numbers above the grid's.

    Raises `InputError` as `comparisons` does, and if the folded field holds anything but whole numbers.
    """
    settled, unsettled, waiting = [], [], []
    for comparison in comparisons(table, cells, statuses):
        if not all(entry.values(comparison.metric) for entry in comparison.entries):
            waiting.append(comparison)
        elif comparison.settled:
            settled.append(comparison)
        else:
            unsettled.append(comparison)
    supplies = {
        place: _Supply(table, entry, statuses)
        for comparison in unsettled
        for place, entry in zip(comparison.places, comparison.entries, strict=True)
    }

    firsts = {place: supply.finetunes(1) for place, supply in supplies.items()}
    prices = _Prices(itertools.chain(*firsts.values()), statuses, store)
    costs = {place: prices.cost_of(first) for place, first in firsts.items()}
    # What Holm's correction asks of the next difference: each proposal alone is enough, and so are several together.
    level = LEVEL / max(len(unsettled) + len(waiting), 1)
    choices = [_choice(comparison, [costs[place] for place in comparison.places], level) for comparison in unsettled]

    chosen = [
        [
            finetune
            for place, num_seeds in zip(comparison.places, choice or (0, 0), strict=True)
            for finetune in supplies[place].finetunes(num_seeds)
        ]
        for comparison, choice in zip(unsettled, choices, strict=True)
    ]
    prices = _Prices(itertools.chain(*chosen), statuses, store)
    proposals = [
        Proposal(comparison=comparison, add=choice, cost=None if choice is None else prices.cost_of(finetunes))
        for comparison, choice, finetunes in zip(unsettled, choices, chosen, strict=True)
    ]
    return NextSeeds(
        settled=tuple(settled),
        proposals=tuple(_cheapest_first(proposals)),
        waiting=tuple(waiting),
        cost=prices.cost_of(itertools.chain(*chosen)),
        additions=tuple(_merged(_additions(proposals, supplies))),
    )


class _Prices:
    """The cost of fine-tunings with those of their inputs that the store lacks."""

    def __init__(self, finetunes: Iterable[Finetune], statuses: Mapping[Artifact, Status], store: Store):
        new = [artifact for artifact in in_order(iter(finetunes)) if artifact not in statuses]
        self._statuses = {**statuses, **store.statuses(new)}
        self._times = Times(seconds_per_step=speeds(self._statuses, store))

    def cost_of(self, finetunes: Iterable[Finetune]) -> Cost:
        """The cost of what is not done of these fine-tunings, which must be among those that `__init__` got."""
        return cost(in_order(iter(finetunes)), self._statuses, self._times)


class _Supply:
    """The seeds that an entry can have next, without end: those of the grid that are not done, then new ones."""

    def __init__(self, table: Table, entry: Entry, statuses: Mapping[Artifact, Status]):
        self._cell = entry.cells[0]
        self._fold = table.fold
        seeds = [cell.fields[table.fold] for cell in entry.cells]
        if not all(type(seed) is int for seed in seeds):
            raise InputError(
                f"table {table.title!r} folds {table.fold}, whose values must be whole numbers to have a next one, "
                f"got {', '.join(map(brief, seeds))}"
            )
        self._pending = [
            cell.artifact for cell in entry.cells if statuses[cell.artifact].state not in (State.DONE, State.DIVERGED)
        ]
        self._first_new = max(seeds) + 1

    @property
    def where(self) -> dict[str, tuple[Any, ...]]:
        """The entry's values of the other fields."""
        return {name: (value,) for name, value in self._cell.fields.items() if name != self._fold}

    def finetunes(self, num_seeds: int) -> list[Finetune]:
        """The fine-tunings of the next seeds."""
        new = [self._cell.again(**{self._fold: seed}) for seed in self.new_seeds(num_seeds)]
        return [*self._pending[:num_seeds], *new]

    def new_seeds(self, num_seeds: int) -> range:
        """Those of the next seeds that the grid lacks."""
        return range(self._first_new, self._first_new + max(0, num_seeds - len(self._pending)))


def _choice(comparison: Comparison, costs: list[Cost], level: float) -> tuple[int, int] | None:
    """Number of seeds to add to each side, or None; `costs` holds the cost of one seed of each side.

    A side without an SD gets one seed first. Costs are hours, or steps if a speed is unknown.
    """
    first, second = comparison.samples
    if first is None or second is None:
        return int(first is None), int(second is None)
    by_steps = any(cost.unknown for cost in costs)
    first_cost, second_cost = (float(cost.steps) if by_steps else cost.hours for cost in costs)
    return cheapest(first, second, (first_cost, second_cost), level=level)


def _cheapest_first(proposals: list[Proposal]) -> list[Proposal]:
    """By hours, or by steps if a speed is unknown; proposals without seeds last."""
    by_steps = any(proposal.cost is not None and proposal.cost.unknown for proposal in proposals)

    def rank(proposal: Proposal) -> tuple[bool, float]:
        if proposal.cost is None:
            return True, 0.0
        return False, proposal.cost.steps if by_steps else proposal.cost.hours

    return sorted(proposals, key=rank)


def _additions(proposals: list[Proposal], supplies: Mapping[Place, _Supply]) -> list[Addition]:
    """The new seeds of each entry, as many as the proposal that asks for the most."""
    most: dict[Place, int] = {}
    for proposal in proposals:
        for place, num_seeds in zip(proposal.comparison.places, proposal.add or (0, 0), strict=True):
            most[place] = max(num_seeds, most.get(place, 0))
    additions = [
        Addition(where=supplies[place].where, seeds=tuple(supplies[place].new_seeds(num_seeds)))
        for place, num_seeds in most.items()
    ]
    return [addition for addition in additions if addition.seeds]


def _merged(additions: list[Addition]) -> list[Addition]:
    """The same seeds of the same cells in fewer additions, by joining those that differ in one field only."""
    for name in dict.fromkeys(name for addition in additions for name in addition.where):
        groups: dict[Any, list[Addition]] = {}
        for addition in additions:
            others = tuple((field, *map(hashable, values)) for field, values in addition.where.items() if field != name)
            groups.setdefault((name in addition.where, others, addition.seeds), []).append(addition)
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

COMPARISON_HEADER = ["comparison", "difference", "SE", "p", "Holm p", "seeds now"]
"""Header for the rows of `comparison_row`."""
PROPOSAL_HEADER = ["comparison", "add seeds", *COMPARISON_HEADER[1:], "steps", "device time"]
"""Header for the rows of `proposal_row`."""
NOTE = (
    "The seeds to add are the cheapest that settle a difference if means and SDs stay as they are; estimates move, so "
    "expect success about half the time. A pooled SD is that of the table's other entries of the task, a paper SD is "
    f"the printed one. Settled means a p below {LEVEL:g} after Holm's correction over all comparisons of the table; "
    "the uncorrected p is that of one comparison alone. Seeds added until a difference is settled find more false ones."
)


def comparison_row(comparison: Comparison) -> list[str]:
    """A comparison as text; difference and standard error in percent, with the origin of a borrowed SD."""
    difference = comparison.difference
    first, second = (entry.mean(comparison.metric) for entry in comparison.entries)
    origins = {sample.origin for sample in comparison.samples if sample is not None} - {Origin.OWN}
    borrowed = f" ({', '.join(sorted(origins))} SD)" if origins else ""
    return [
        comparison.label,
        f"{100 * (first - second):+.1f}",
        "unknown" if difference is None else f"{100 * difference.error:.1f}{borrowed}",
        _p_text(None if difference is None else difference.p),
        _p_text(comparison.corrected_p),
        " : ".join(str(len(entry.results)) for entry in comparison.entries),
    ]


def _p_text(p: float | None) -> str:
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def proposal_row(proposal: Proposal) -> list[str]:
    """A proposal as text: its comparison, the seeds to add and their cost."""
    label, *numbers = comparison_row(proposal.comparison)
    cost = proposal.cost
    if cost is None:
        return [label, proposal.text, *numbers, "", ""]
    device_time = "unknown" if cost.unknown else duration(3600 * cost.hours)
    return [label, proposal.text, *numbers, f"{cost.steps:,}", device_time]


def summary(next_seeds: NextSeeds) -> str:
    """How many comparisons are settled, in one line."""
    num_settled, num_waiting = len(next_seeds.settled), len(next_seeds.waiting)
    num_comparisons = num_settled + len(next_seeds.proposals) + num_waiting
    waiting = f"; {num_waiting} wait for a first result" if num_waiting else ""
    return (
        f"{num_settled} of {num_comparisons} differences are settled at two-sided 95 % after Holm's correction over "
        f"all {num_comparisons}{waiting}"
    )


def extend_lines(table: Table, next_seeds: NextSeeds) -> list[str]:
    """Lines of Python for the sweep's file that add the seeds that its grid lacks."""
    return [
        f"sweep.extend({ {name: list(values) for name, values in addition.where.items()}!r}, "
        f"{table.fold}={_seeds_as_python(addition.seeds)})"
        for addition in next_seeds.additions
    ]


def _seeds_as_python(seeds: tuple[int, ...]) -> str:
    return repr(list(seeds)) if len(seeds) == 1 else f"range({seeds[0]}, {seeds[-1] + 1})"
