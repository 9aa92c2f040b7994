"""Options that several verbs of the `raysynth` command share."""

import argparse

from raysynth.command_line import text
from raysynth.store.store import DEFAULT_STORES, default_store


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
