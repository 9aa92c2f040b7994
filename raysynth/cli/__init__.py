"""The `raysynth` command: tasks and data sets, artifacts of a store, costs of sweeps, clusters."""

import argparse
import importlib.metadata
from collections.abc import Sequence

from raysynth.cli import artifacts, board, clusters, plans, tasks
from raysynth.command_line import exit_status, parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status. `arguments` defaults to those of the process."""
    parser = argparse.ArgumentParser(
        prog="raysynth",
        description="Synthetic pre-training: tasks, data, weights.",
        epilog="`%(prog)s VERB --help` describes the options of a verb.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for module in (tasks, artifacts, board, plans, clusters):
        module.add_verbs(verbs)
    options = parse(parser, arguments)
    return exit_status(lambda: int(options.run(options)))


def _version() -> str:
    try:
        return importlib.metadata.version("raysynth")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
