"""A sweep: a grid of fine-tunings, what remains of it, and one Tune experiment that makes the rest."""

import argparse
import dataclasses
import functools
import inspect
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raysynth.data.locations import locations
from raysynth.downstream.rows import BadRows
from raysynth.errors import InputError, exit_status, unknown
from raysynth.report.status import import_command, print_failures, print_plan, print_status
from raysynth.report.tables import Table
from raysynth.report.write import print_next, print_report
from raysynth.run.measure import measure
from raysynth.specs import tiny
from raysynth.specs.finetuning import Finetune
from raysynth.specs.grid import Cell, finetuning_at, labelled_points, select_points
from raysynth.specs.identity import Artifact, in_order, name
from raysynth.specs.pretraining import Pretrained
from raysynth.store import leases
from raysynth.store.store import State, Status, Store

DEFAULT_STORE = "results"


@dataclass
class Sweep:
    """Fine-tunings by named axes, and how to print them; `main` gives the file its verbs."""

    name: str
    claim: str
    """What the sweep shows, in a few words."""
    grids: list[tuple[Callable[..., Finetune], dict[str, Any]]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def add(self, trial: Callable[..., Finetune], **axes: Iterable[Any] | Mapping[str, Any]) -> None:
        """Call `trial` on the product of the axes; a mapping's keys name its points, its values are passed.

        Raises `InputError` for axes that `trial` does not take, or that are no lists.
        """
        for axis, values in axes.items():
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise InputError(f"axis {axis} must be a list or a mapping of values, got {values!r}")
        kept = {axis: values if isinstance(values, Mapping) else list(values) for axis, values in axes.items()}
        try:
            inspect.signature(trial).bind(**kept)
        except TypeError as error:
            takes = ", ".join(inspect.signature(trial).parameters)
            raise InputError(f"{trial.__name__} takes {takes}, got the axes {', '.join(axes)}: {error}") from None
        self.grids.append((trial, kept))

    def extend(self, where: Mapping[str, Sequence[Any]], **axes: Iterable[Any] | Mapping[str, Any]) -> None:
        """Add points of the grid again, at other values of some axes: more seeds for a few cells.

        `where` tells them by their names on the other axes. Raises `InputError` for a name that is not there.
        """
        found = [
            (trial, {**own, **{axis: select_points(own[axis], names) for axis, names in where.items()}, **axes})
            for trial, own in self.grids
            if {*where, *axes} <= own.keys()
        ]
        found = [(trial, own) for trial, own in found if all(own[axis] for axis in where)]
        for axis, names in where.items():
            for missing in set(names) - {label for _, own in found for label, _ in labelled_points(own[axis])}:
                raise InputError(
                    f"sweep {self.name!r} has no point to extend with {axis} {missing!r} and {dict(where)!r}"
                )
        self.grids += found

    def table(self, **layout: Any) -> None:
        """Print results as a table; the arguments are those of `Table`."""
        known = [entry.name for entry in dataclasses.fields(Table)]
        for argument in layout:
            if argument not in known:
                raise unknown("table argument", argument, known)
        self.tables.append(Table(**layout))

    def cells(self, *, size: Callable[[Finetune], Finetune] = lambda artifact: artifact) -> list[Cell]:
        """All points of the grid, each fine-tuning put through `size` (`tiny.tiny` for the tiny sweep)."""
        cells = []
        for trial, axes in self.grids:
            for combination in itertools.product(*map(labelled_points, axes.values())):
                fields = {axis: label for axis, (label, _) in zip(axes, combination, strict=True)}
                values = {axis: value for axis, (_, value) in zip(axes, combination, strict=True)}
                again = functools.partial(finetuning_at, trial, values, size)
                told = ", ".join(f"{axis}={label}" for axis, label in fields.items())
                try:
                    cell = Cell(fields=fields, artifact=again(), again=again)
                except InputError as error:
                    raise InputError(f"{error}, in the cell {told}") from None
                except Exception as error:
                    error.add_note(f"in the cell {told}")
                    raise
                same = next((other for other in cells if other.fields == fields), None)
                if same is None:
                    cells.append(cell)
                elif same != cell:  # grids may overlap, and a point counts once
                    raise InputError(f"two different fine-tunings are the cell {told}; give them another axis")
        for table in self.tables:
            table.check(cells)
        return cells

    def main(self, arguments: list[str] | None = None) -> None:
        """Run the verb on the command line and exit with its status."""
        sys.exit(main(self, sys.argv[1:] if arguments is None else arguments))


def main(sweep: Sweep, arguments: list[str]) -> int:
    """`plan`, `run`, `status` or `report`; returns the exit status."""
    options = _parser(sweep).parse_args(arguments)
    return exit_status(lambda: _verb(sweep, options))


def _verb(sweep: Sweep, options: argparse.Namespace) -> int:
    cells = sweep.cells(size=tiny.tiny if options.tiny else lambda artifact: artifact)
    store = Store(options.store or f"{DEFAULT_STORE}/{'tiny' if options.tiny else 'full'}")
    if options.tiny:
        cells = _rehearsed(cells, store)
    places = locations(options.data)
    statuses = store.statuses(in_order([cell.artifact for cell in cells]))
    if options.verb in ("status", "report") and all(status.state is State.NEW for status in statuses.values()):
        print(f"nothing of this sweep is in {store.uri} yet", file=sys.stderr)
        if options.verb == "report" and store.local_root is not None and not store.local_root.exists():
            return 0  # a misspelt place would be made
    if options.verb == "status":
        while options.follow and any(status.state is State.RUNNING for status in statuses.values()):
            print("\033[H\033[2J" if sys.stdout.isatty() else "", end="")
            print_status(statuses, store)
            time.sleep(options.follow)
            statuses = store.statuses(statuses)
        return print_status(statuses, store)
    if options.verb == "run":
        bad_rows = BadRows.SKIP if options.skip_bad_rows else BadRows.REFUSE
        max_failed = 1 if options.fail_fast else None
        return run(
            sweep,
            cells,
            statuses,
            store,
            data=places,
            address=options.address,
            bad_rows=bad_rows,
            max_failed=max_failed,
        )
    if options.verb == "plan":
        if options.measure:
            store.check_writable()
            measure(statuses, store, options.address)
        print_plan(statuses, store, num_workers=options.workers, price=options.price)
    elif options.next:
        print_next(sweep.tables, cells, statuses, store)
    else:
        print_report(sweep.name, sweep.claim, sweep.tables, cells, statuses, store)
    return 0


def _rehearsed(cells: list[Cell], store: Store) -> list[Cell]:
    """The cells of a tiny sweep without those that start from weights which nobody has imported."""
    sources = {source for cell in cells for source in cell.artifact.init.sources}
    absent = {
        source for source in sources if isinstance(source, Pretrained) and store.status(source).state is not State.DONE
    }
    kept = [cell for cell in cells if not absent.intersection(cell.artifact.init.sources)]
    if len(kept) < len(cells):
        names = ", ".join(sorted(source.name for source in absent))
        print(f"left out: {len(cells) - len(kept)} fine-tunings from {names}, not imported", file=sys.stderr)
    return kept


def _parser(sweep: Sweep) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=f"The sweep {sweep.name!r}: {sweep.claim}")
    parser.add_argument("verb", choices=("plan", "run", "status", "report"))
    parser.add_argument(
        "--store",
        metavar="URI",
        default=os.environ.get("RAYSYNTH_STORE"),
        help=f"a directory or any URI that pyarrow's file systems take (default: ./{DEFAULT_STORE}/full)",
    )
    parser.add_argument("--tiny", action="store_true", help="the same grid with a tiny model and few steps")
    parser.add_argument(
        "--data", metavar="TASK=PATH", action="append", default=[], help="where a downstream task's files are"
    )
    parser.add_argument(
        "--skip-bad-rows", action="store_true", help="leave out and count rows of those files that cannot be read"
    )
    parser.add_argument(
        "--address",
        default=os.environ.get("RAY_ADDRESS"),
        help="a running Ray cluster (default: RAY_ADDRESS, else one is started on this machine)",
    )
    parser.add_argument("--measure", action="store_true", help="plan: time a few steps of each unknown shape first")
    parser.add_argument("--workers", type=_positive(int), default=1, help="plan: hosts that work side by side")
    parser.add_argument("--price", type=_positive(float), help="plan: of an hour of one host, in any currency")
    parser.add_argument(
        "--follow", type=_positive(float), metavar="SECONDS", help="status: again so often while something runs"
    )
    parser.add_argument(
        "--next", action="store_true", help="report: the differences that need more seeds, and the cheapest such seeds"
    )
    parser.add_argument("--fail-fast", action="store_true", help="run: stop at the first failure")
    return parser


def _positive(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
        return value

    read.__name__ = f"positive {kind.__name__}"
    return read


# -------------------------------------------------------------------------------- verbs


def run(
    sweep: Sweep,
    cells: list[Cell],
    statuses: dict[Artifact, Status],
    store: Store,
    *,
    data: dict[str, str],
    address: str | None,
    bad_rows: BadRows,
    max_failed: int | None,
) -> int:
    """Make what is missing, then report; returns 1 if anything failed or diverged.

    What diverged in an earlier run is not tried again. Stops once `max_failed` artifacts have failed.
    """
    done = {artifact for artifact, status in statuses.items() if status.state is State.DONE}
    diverged = {
        artifact: status.failure["error"] for artifact, status in statuses.items() if status.state is State.DIVERGED
    }
    missing = [artifact for artifact in statuses if artifact not in done and artifact not in diverged]
    needed = {artifact for other in missing for artifact in other.inputs()}
    absent = [artifact for artifact in missing if isinstance(artifact, Pretrained)]
    if wanted := [artifact for artifact in absent if artifact in needed]:
        names, commands = map(name, wanted), (import_command(artifact, store) for artifact in wanted)
        raise InputError(f"{', '.join(names)} is not in {store.uri}; import it: {'; '.join(commands)}")
    missing = [artifact for artifact in missing if artifact not in absent]
    failed: dict[Artifact, str] = {}
    if not missing:
        print(f"nothing to do: all {len(done)} artifacts are in {store.uri}")
    else:
        store.check_writable()
        with leases.driver(store) as driver:
            for artifact in missing:
                if statuses[artifact].state is State.FAILED:
                    store.forget_failure(artifact)
            print(f"{len(missing)} artifacts to make, {len(done)} done, in {store.uri}", file=sys.stderr)
            from raysynth.run.execute import execute  # Ray is imported only where something runs

            ended = execute(
                missing,
                done,
                store,
                driver,
                data=data,
                address=address,
                bad_rows=bad_rows,
                max_failed=max_failed,
            )
        failed = ended.failed
        counts = ", ".join(f"{count} {outcome}" for outcome, count in ended.outcomes.items() if count)
        print(f"{counts}, in {store.uri}", file=sys.stderr)
        statuses = store.statuses(statuses)
    print_report(sweep.name, sweep.claim, sweep.tables, cells, statuses, store)
    print_failures(diverged | failed, statuses)
    if diverged or failed:
        print(f"tracebacks: {store.place}/ARTIFACT/failure.json", file=sys.stderr)
    return 1 if diverged or failed else 0
