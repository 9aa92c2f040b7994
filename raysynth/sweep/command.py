"""The command line of a sweep file: plan, run, status, report."""

import argparse
import dataclasses
import datetime
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from raysynth.command_line import (
    Verbs,
    add_data,
    add_hosts,
    add_in_process,
    add_locations,
    add_verb,
    check_in_process,
    exit_status,
    leave_though_stuck,
    parse,
    positive,
    positive_real,
    text,
)
from raysynth.data.locations import locations, missing_files, own_names
from raysynth.data.sources import check_same_files
from raysynth.downstream.metrics import check_installed
from raysynth.downstream.rows import BadRows
from raysynth.environment import check_environment, cpus_per_trial, made_by
from raysynth.errors import InputError, printable
from raysynth.report.cost import Times, any_device, speeds
from raysynth.report.machines import machines
from raysynth.report.status import import_command, print_failures, print_plan, print_status
from raysynth.report.tables import REHEARSAL, Table
from raysynth.report.write import FORMATS, print_next, print_report, print_tables
from raysynth.run.measure import measure
from raysynth.run.on_machine import times_on
from raysynth.run.schedule import Ended
from raysynth.run.surroundings import MAX_PREEMPTIONS, BoardSettings, Run
from raysynth.specs import tiny
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.finetuning import Finetune
from raysynth.specs.grid import Cell
from raysynth.specs.identity import Artifact, in_order, name
from raysynth.specs.pretraining import Pretrained
from raysynth.store import leases
from raysynth.store.checkpoint_files import CHECKPOINT_SECONDS
from raysynth.store.machine import commit_of
from raysynth.store.store import DEFAULT_STORES, State, Status, Store, default_store
from raysynth.sweep import part
from raysynth.sweep.sweep import Sweep


def main(sweep: Sweep, arguments: Sequence[str] | None = None) -> int:
    """Run one verb of a sweep; returns the exit status. `arguments` defaults to those of the process."""
    options = parse(parser(sweep), arguments)
    return exit_status(lambda: int(options.run(read(sweep, options), options)))


# -------------------------------------------------------------------------------- parsers


def parser(sweep: Sweep, kind: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser of a sweep file's command line."""
    parser = kind(
        # argparse fills in templates such as %(prog)s.
        description=printable(f"The sweep {sweep.name!r}: {sweep.claim}.").replace("%(", "% ("),
        epilog="`%(prog)s VERB --help` describes the options of a verb.",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for add in (_add_plan, _add_run, _add_status, _add_report):
        add(verbs)
    return parser


def _add_plan(verbs: Verbs) -> None:
    parser = add_verb(verbs, "plan", plan, "show every artifact with its state, its steps and what is left to do")
    _add_store(parser)
    add_locations(parser)
    parser.add_argument("--measure", action="store_true", help="first time a few steps of each unknown shape")
    parser.add_argument(
        "--address", type=text, help="with --measure: a running Ray cluster to time on (default: as for run)"
    )
    _add_cpus(parser, "with --measure: ")
    add_hosts(parser)


def _add_run(verbs: Verbs) -> None:
    parser = add_verb(verbs, "run", run, "make every artifact that is missing, then print the tables")
    _add_store(parser)
    add_data(parser)
    parser.add_argument(
        "--address",
        type=text,
        help="a running Ray cluster (default: RAY_ADDRESS, or else one is started on this machine)",
    )
    _add_cpus(parser)
    parser.add_argument(
        "--checkpoint-minutes",
        type=positive_real,
        default=CHECKPOINT_SECONDS / 60,
        metavar="M",
        help="write a checkpoint between evaluations once the last one is that old (default: 10)",
    )
    parser.add_argument(
        "--max-preemptions",
        type=positive,
        metavar="N",
        help=f"give an artifact up once its host was lost more often than that (default: {MAX_PREEMPTIONS})",
    )
    add_in_process(parser)
    parser.add_argument(
        "--wandb", metavar="PROJECT", type=text, help="also show every training in this project on Weights & Biases"
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failure")


def _add_status(verbs: Verbs) -> None:
    parser = add_verb(verbs, "status", status, "show what is running, waiting, failed and left to do")
    _add_store(parser)
    parser.add_argument(
        "--follow", type=positive_real, metavar="SECONDS", help="repeat this often while anything is running"
    )


def _add_report(verbs: Verbs) -> None:
    parser = add_verb(verbs, "report", report, "print the tables so far and write them to reports/ in the store")
    _add_store(parser)
    parser.add_argument(
        "--next", action="store_true", help="print instead which differences need more seeds, and the cheapest seeds"
    )
    parser.add_argument(
        "--format", choices=["text", *FORMATS], default="text", help="how to print the tables (default: text)"
    )


def _add_cpus(parser: argparse.ArgumentParser, when: str = "") -> None:
    parser.add_argument(
        "--cpus-per-trial",
        type=positive,
        metavar="N",
        help=f"{when}CPUs that a trial reserves and computes with; on a CPU, results depend on it (default: NPROC, or "
        "else 1)",
    )


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        metavar="URI",
        type=text,
        default=os.environ.get("RAYSYNTH_STORE") or None,
        help="a directory, or a URI that pyarrow's file systems accept "
        f"(default: RAYSYNTH_STORE, or else ./{DEFAULT_STORES}/full, with --tiny ./{DEFAULT_STORES}/tiny)",
    )
    parser.add_argument("--tiny", action="store_true", help="use a tiny model and few steps for the same grid")
    parser.add_argument(
        "--only",
        metavar="AXIS=VALUE",
        nargs="+",
        type=text,
        default=[],
        help="use only the cells with these values of these axes, such as task=mtop init=full,random seed=0",
    )
    parser.add_argument(
        "--set",
        metavar="FIELD=VALUE",
        nargs="+",
        type=text,
        default=[],
        help="replace fields of every fine-tuning, such as task.num_steps=800 init.source.num_steps=2000; after --tiny",
    )


# -------------------------------------------------------------------------------- verbs


@dataclass(frozen=True, kw_only=True)
class SweepInStore:
    """A sweep with what a store knows of its artifacts."""

    sweep: Sweep
    cells: list[Cell]
    store: Store
    statuses: dict[Artifact, Status]
    """The status of every fine-tuning and of everything that one needs, inputs first."""
    is_tiny: bool
    part: str = ""
    """What `--only` and `--set` say; empty for the sweep as it is written."""
    is_changed: bool = False
    """Whether `--set` replaces fields."""

    @property
    def tables(self) -> list[Table]:
        """The sweep's tables; those of tiny models and of parts say so and are not compared with the paper's."""
        tables = [table.rehearsed() if self.is_tiny else table for table in self.sweep.tables]
        if not self.part:
            return tables
        parts = [table.of_part(self.cells, self.part) for table in tables if table.has_cells(self.cells)]
        return [dataclasses.replace(table, published=None) for table in parts] if self.is_changed else parts

    def reread(self) -> "SweepInStore":
        """The same with the statuses as they are now."""
        return dataclasses.replace(self, statuses=self.store.statuses(self.statuses))

    def artifacts(self, state: State) -> list[Artifact]:
        """The artifacts in that state."""
        return [artifact for artifact, status in self.statuses.items() if status.state is state]

    @property
    def failures(self) -> dict[str, str]:
        """Why artifacts failed or diverged, by name."""
        return {name(each): status.failure.error for each, status in self.statuses.items() if status.failure}

    @property
    def states(self) -> dict[str, str]:
        """The state of every artifact by name, inputs first."""
        return {name(each): str(status.state) for each, status in self.statuses.items()}

    @property
    def is_new(self) -> bool:
        """Whether the store has nothing of the sweep."""
        return len(self.artifacts(State.NEW)) == len(self.statuses)


def read(sweep: Sweep, options: argparse.Namespace) -> SweepInStore:
    """The sweep in the store that the options name."""
    only, changes = part.pairs("--only", options.only), part.pairs("--set", options.set)
    cells = sweep.cells(size=tiny.tiny) if options.tiny else sweep.cells()
    if not cells:
        raise InputError(f"sweep {sweep.name!r} has no cells; add some with sweep.add")
    cells = part.change(part.select(cells, only), changes)
    store = Store(options.store or default_store("tiny" if options.tiny else "full"))
    if options.tiny:
        cells = _without_missing_imports(cells, store)
    statuses = store.statuses(in_order([cell.artifact for cell in cells]))
    return SweepInStore(
        sweep=sweep,
        cells=cells,
        store=store,
        statuses=statuses,
        is_tiny=bool(options.tiny),
        part=", ".join(filter(None, (part.as_text(only), f"set {part.as_text(changes)}" if changes else ""))),
        is_changed=bool(changes),
    )


def _without_missing_imports(cells: list[Cell], store: Store) -> list[Cell]:
    """The cells of a tiny sweep, except those that start from weights that have not been imported."""
    sources = {source for cell in cells for source in cell.artifact.init.sources}
    missing = {
        source for source in sources if isinstance(source, Pretrained) and store.status(source).state is not State.DONE
    }
    kept = [cell for cell in cells if not missing.intersection(cell.artifact.init.sources)]
    if len(kept) < len(cells):
        names = ", ".join(sorted(source.name for source in missing))
        if not kept:
            raise InputError(f"all fine-tunings start from {names}, which must be imported first")
        print(f"left out: {len(cells) - len(kept)} fine-tunings from {names}, not imported", file=sys.stderr)
    return kept


def plan(current: SweepInStore, options: argparse.Namespace) -> int:
    """Print every artifact with its state, steps and hours."""
    for option, value in {"--address": options.address, "--cpus-per-trial": options.cpus_per_trial}.items():
        if value and not options.measure:
            raise InputError(f"{option} needs --measure: only that uses a cluster")
    data = locations(options.data, own_names(current.statuses))
    is_device = machines[options.on].is_device if options.on else any_device
    if options.measure:
        check_environment(os.environ)
        num_cpus = cpus_per_trial(options.cpus_per_trial, os.environ)
        from raysynth.run import address  # imports Ray, which only this needs

        address.cluster(_ray_address(options))
        current.store.check_writable()
        measure(current.statuses, current.store, _ray_address(options), num_cpus, is_device=is_device)
    _print_part(current)
    times = times_of(current.statuses, current.store, options.on)
    print_plan(current.statuses, current.store, num_workers=options.workers, price=options.price, times=times)
    for line in _missing_files(current, data):
        print(printable(f"missing: {line}"))
    return 0


def times_of(statuses: Mapping[Artifact, Status], store: Store, machine: str | None) -> Times:
    """The times of trainings as far as the store knows them; the others by FLOPs if there is a machine's name."""
    if machine is None:
        return Times(seconds_per_step=speeds(statuses, store))
    return times_on(machine, statuses, store)


def _missing_files(current: SweepInStore, data: dict[str, str]) -> list[str]:
    """What the data sets that are not done lack on this machine, each line once."""
    to_make = [artifact for artifact, status in current.statuses.items() if status.record is None]
    lines = (
        line
        for dataset in to_make
        if isinstance(dataset, Dataset | TextDataset)
        for line in missing_files(dataset, data)
    )
    return list(dict.fromkeys(lines))


def status(current: SweepInStore, options: argparse.Namespace) -> int:
    """Print how far the sweep is, again and again with `--follow`; returns 1 if anything failed or diverged."""
    _print_part(current)
    if current.is_new:
        _print_nothing_yet(current.store)
    while options.follow and current.artifacts(State.RUNNING):
        print("\033[H\033[2J" if sys.stdout is not None and sys.stdout.isatty() else "", end="")
        _print_date()
        print_status(current.statuses, current.store)
        time.sleep(options.follow)
        current = current.reread()
    if options.follow:
        _print_date()
    return print_status(current.statuses, current.store)


def _print_date() -> None:
    print(f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}")


def report(current: SweepInStore, options: argparse.Namespace) -> int:
    """Print and write the tables so far, or print which seeds to add."""
    if current.is_new:
        _print_nothing_yet(current.store)
        if current.store.local_root is not None and not current.store.local_root.exists():
            return 0  # writing the report would create a misspelt directory
    if options.next:
        print_next(current.tables, current.cells, current.statuses, current.store)
    else:
        _print_report(current, options.format)
    return 0


def _print_part(current: SweepInStore) -> None:
    if current.part:
        print(printable(f"part of {current.sweep.name}: {current.part}"))


def _print_nothing_yet(store: Store) -> None:
    print(f"nothing of this sweep is in {printable(store.uri)} yet", file=sys.stderr)


def _print_report(current: SweepInStore, table_format: str = "text") -> None:
    sweep = current.sweep
    if current.part:  # the folder of the sweep's report is for all of the sweep
        print_tables(current.tables, current.cells, current.statuses, table_format)
        print("not written: reports/ is for the whole sweep, without --only and --set", file=sys.stderr)
        return
    print_report(
        f"{sweep.name}-tiny" if current.is_tiny else sweep.name,  # both may be in one store
        f"{REHEARSAL}: {sweep.claim}" if current.is_tiny else sweep.claim,
        current.tables,
        current.cells,
        current.statuses,
        current.store,
        table_format=table_format,
    )


def run(current: SweepInStore, options: argparse.Namespace) -> int:
    """Make what is missing, then report; returns 1 if anything failed or diverged.

    Artifacts that diverged in an earlier run are not tried again.
    """
    check_in_process(options)
    if options.in_process and options.max_preemptions:
        raise InputError("--in-process uses no hosts that could be lost; leave --max-preemptions out")
    data = locations(options.data, own_names(current.statuses))
    store = current.store
    for artifact, status in current.statuses.items():
        if isinstance(artifact, Dataset | TextDataset) and status.record is not None:
            check_same_files(artifact, status.record, data, store)
    diverged = {
        artifact: status.failure.error
        for artifact, status in current.statuses.items()
        if status.state is State.DIVERGED and status.failure is not None
    }
    missing = _missing(current, data)
    failed: dict[Artifact, str] = {}
    if missing:
        failed = _make(missing, current, data, options)
        current = current.reread()
    else:
        print(f"nothing to do: all {len(current.artifacts(State.DONE))} artifacts are in {printable(store.uri)}")
    _print_report(current)
    print_failures(diverged | failed, current.statuses)
    if diverged or failed:
        print(f"tracebacks: {printable(store.place)}/ARTIFACT/failure.json", file=sys.stderr)
    return 1 if diverged or failed else 0


def _missing(current: SweepInStore, data: dict[str, str]) -> list[Artifact]:
    """The artifacts to make, inputs first.

    Raises `InputError` if one of them needs weights that have not been imported, or files that are not there.
    """
    missing = [
        artifact for artifact, status in current.statuses.items() if status.state not in (State.DONE, State.DIVERGED)
    ]
    needed = {artifact for dependent in missing for artifact in dependent.inputs()}
    to_import = [artifact for artifact in missing if isinstance(artifact, Pretrained) and artifact in needed]
    if to_import:
        names = ", ".join(map(name, to_import))
        commands = "; ".join(import_command(artifact, current.store) for artifact in to_import)
        raise InputError(f"{names} is not in {current.store.uri}; import it: {commands}")
    if lines := _missing_files(current, data):
        raise InputError("; ".join(lines))
    return [artifact for artifact in missing if not isinstance(artifact, Pretrained)]


def _make(
    missing: list[Artifact], current: SweepInStore, data: dict[str, str], options: argparse.Namespace
) -> dict[Artifact, str]:
    """Make artifacts with Ray or in this process; returns those that failed or diverged, with the reason."""
    check_environment(os.environ)
    num_cpus = cpus_per_trial(options.cpus_per_trial, os.environ)
    from raysynth.run import weights_and_biases

    # These take a second to load, and only this verb needs them.
    from raysynth.run.estimate import Estimate
    from raysynth.run.make_data import damaged_inputs
    from raysynth.run.progress import Terminal
    from raysynth.run.sources import damaged_sources

    if options.wandb:
        weights_and_biases.check_installed()
    store, done = current.store, set(current.artifacts(State.DONE))
    execute = _in_process(missing) if options.in_process else _with_ray(options)
    store.check_writable()
    sources = damaged_sources(missing, done, store)
    for source, line in sources.items():
        print(f"{name(source)} is made again, because it is damaged: {line}", file=sys.stderr)
    missing, done = [*sources, *missing], done.difference(sources)
    damaged = damaged_inputs(missing, done, store)
    commit = None if current.sweep.file is None else commit_of(current.sweep.file)
    estimate = Estimate(missing, speeds(current.statuses, store))
    with (
        made_by(commit),
        leases.driver(store) as driver,
        Terminal(len(missing) + len(damaged), estimate) as terminal,
    ):
        for artifact in missing:
            if current.statuses[artifact].state is State.FAILED:
                store.forget_failure(artifact)
        print(f"{len(missing)} artifacts to make, {len(done)} done, in {printable(store.uri)}", file=sys.stderr)
        surroundings = Run(
            store=store,
            driver=driver,
            observer=terminal,
            locations=data,
            address=None if options.in_process else _ray_address(options),
            bad_rows=BadRows.SKIP if options.skip_bad_rows else BadRows.REFUSE,
            max_failed=1 if options.fail_fast else None,
            max_preemptions=options.max_preemptions or MAX_PREEMPTIONS,
            cpus_per_trial=num_cpus,
            checkpoint_seconds=60 * options.checkpoint_minutes,
            board=BoardSettings(metrics=_metrics(current), wandb_project=options.wandb),
        )
        ended = execute(missing, done, damaged, surroundings)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in ended.outcomes.items() if count)
    print(f"{counts}, in {printable(store.uri)}", file=sys.stderr)
    return dict(ended.failed)


def _metrics(current: SweepInStore) -> tuple[str, ...]:
    """The metrics of all the sweep's tasks, in order."""
    return tuple(dict.fromkeys(metric for cell in current.cells for metric in cell.artifact.task.metrics))


Execute = Callable[[list[Artifact], set[Artifact], set[Dataset | TextDataset], Run], Ended]
"""Makes artifacts, of which some are done and some data sets damaged."""


def _with_ray(options: argparse.Namespace) -> Execute:
    """Make artifacts with Ray, of which the address is checked first."""
    from raysynth.run import address

    address.cluster(_ray_address(options))
    from raysynth.run.execute import execute

    return execute


def _in_process(artifacts: Iterable[Artifact]) -> Execute:
    """Make artifacts in this process, whose libraries are checked first; a signal ends it soon, whatever it does."""
    check_installed({metric for one in artifacts if isinstance(one, Finetune) for metric in one.task.metrics})
    from raysynth.run.in_process import execute_in_process

    return leave_though_stuck()(execute_in_process)


def _ray_address(options: argparse.Namespace) -> str | None:
    return options.address or os.environ.get("RAY_ADDRESS")
