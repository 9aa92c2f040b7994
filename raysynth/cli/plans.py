"""The verb that adds up what several sweeps cost."""

import argparse
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from raysynth.cli.options import add_store
from raysynth.command_line import Verbs, add_hosts, add_verb, path
from raysynth.errors import InputError, WorkerError, printable
from raysynth.report.cost import Times, cost, duration
from raysynth.specs.identity import Artifact, in_order
from raysynth.store.store import State, Status, Store
from raysynth.sweep.sweep import Sweep


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    summary = "show what is left of several sweeps; what they share counts once"
    parser = add_verb(verbs, "plan", _plan, summary)
    parser.add_argument("files", nargs="+", type=path, metavar="FILE", help="a sweep file, such as sweeps/table6.py")
    add_store(parser)
    add_hosts(parser)


def _plan(options: argparse.Namespace) -> int:
    from raysynth.sweep.command import times_of  # takes a while to load, and only this verb needs it

    store = Store(options.store)
    sweeps = []
    for number, file in enumerate(options.files):
        forget_namesakes(file, options.files[:number])
        sweeps.append(in_order([cell.artifact for cell in read_sweep(file).cells()]))
    statuses = store.statuses(in_order([artifact for artifacts in sweeps for artifact in artifacts]))
    times = times_of(statuses, store, options.on)
    rows = [
        _row(name, {artifact: statuses[artifact] for artifact in artifacts}, times, options)
        for name, artifacts in zip(_names(options.files), sweeps, strict=True)
    ]
    rows.append(_row("together", statuses, times, options))
    header = ["sweep", "to make", "done", "steps", "device time"]
    if options.workers > 1:
        header.append(f"{options.workers} workers")
    if options.price is not None:
        header.append(f"at {options.price:g} an hour")
    print(printable(store.uri))
    _print_columns([header, *rows])
    print("what several sweeps share counts once in the last row")
    for note in times.notes:
        print(note)
    total = cost(statuses, statuses, times)
    if total.unknown and options.on is None:
        print(f"the speed of {total.unknown} artifacts is unknown: --on MACHINE estimates it")
    return 0


def _names(files: list[Path]) -> list[str]:
    """What the rows of sweep files are called: without folders, if that tells them apart."""
    stems = [file.stem for file in files]
    return stems if len(set(stems)) == len(stems) else list(map(str, files))


def forget_namesakes(file: Path, earlier: Sequence[Path]) -> None:
    """Have a sweep file import the modules beside it, where the folders of earlier ones have some of the same name."""
    folder = file.resolve().parent
    others = {one.resolve().parent for one in earlier} - {folder}
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None)
        if place and Path(place).parent in others and (folder / Path(place).name).is_file():
            del sys.modules[name]


def read_sweep(file: Path) -> Sweep:
    """The sweep of a sweep file, which is executed; raises `InputError` if it cannot be or describes no sweep."""
    if not file.is_file():
        raise InputError(f"{file} is not a file")
    before = list(sys.path)
    sys.path.insert(0, str(file.resolve().parent))  # as for a script
    try:
        names = runpy.run_path(str(file))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    except (Exception, SystemExit) as error:
        raise InputError(f"{file}: {WorkerError.of(error)}") from error
    finally:
        sys.path[:] = before
    sweeps = {id(value): value for value in names.values() if isinstance(value, Sweep)}
    if len(sweeps) != 1:
        raise InputError(f"{file} must describe one sweep at its top level, got {len(sweeps)}")
    (sweep,) = sweeps.values()
    return sweep


def _row(name: str, statuses: Mapping[Artifact, Status], times: Times, options: argparse.Namespace) -> list[str]:
    total, num_done = cost(statuses, statuses, times), sum(each.state is State.DONE for each in statuses.values())
    hours = f"{total.hours:,.0f} h" if total.hours >= 10 else duration(3600 * total.hours)
    known = [hours]
    if options.workers > 1:
        known.append(duration(3600 * total.hours / options.workers))
    if options.price is not None:
        known.append(f"{total.hours * options.price:,.2f}")
    if total.unknown:
        known = [f"{each} + ?" if total.hours else "?" for each in known]
    return [printable(name), f"{len(statuses) - num_done:,}", f"{num_done:,}", f"{total.steps:,}", *known]


def _print_columns(rows: list[list[str]]) -> None:
    """Print rows of equally many cells: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        print("  ".join(cells).rstrip())
