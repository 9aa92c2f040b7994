"""Options that several verbs of the `raysynth` command share."""

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from raysynth.command_line import text
from raysynth.store.store import DEFAULT_STORES, WITH_WEIGHTS, Store, default_store


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add `--store`, which every verb that reads or writes a store takes."""
    parser.add_argument(
        "--store",
        metavar="URI",
        type=text,
        default=default_store(),
        help="a directory, or a URI that pyarrow's file systems accept "
        f"(default: RAYSYNTH_STORE, or else ./{DEFAULT_STORES}/full)",
    )


ARTIFACT = "its name, such as pretrain/set.seed0-1c575405, or a unique beginning of it, or its fingerprint"
"""The help text of an argument that names an artifact."""


def add_artifacts(
    parser: argparse.ArgumentParser, name: str, metavar: str, kinds: Iterable[str] = WITH_WEIGHTS, **others: Any
) -> None:
    """Add an argument that names an artifact of the store; a shell completes it with the names of these kinds."""

    def names(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        return Store(parsed_args.store).names(kinds)

    complete(parser.add_argument(name, metavar=metavar, **{"help": ARTIFACT, **others}), names)


def complete(action: argparse.Action, values: Callable[..., Iterable[str]]) -> None:
    """Have shells complete an argument with these values; argcomplete calls the function with `parsed_args`."""
    action.completer = values  # type: ignore[attr-defined]  # argcomplete looks for it
