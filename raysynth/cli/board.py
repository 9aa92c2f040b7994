"""The verb that shows a store on TensorBoard."""

import argparse
import os
import sys
from pathlib import Path

from raysynth.cli.options import add_store
from raysynth.command_line import Verbs, add_verb, port
from raysynth.environment import is_installed
from raysynth.errors import InputError
from raysynth.run.surroundings import cache_directory
from raysynth.store.files import private_directory
from raysynth.store.store import Store


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    summary = "start TensorBoard on a store; of a remote one, on copies of its event files"
    parser = add_verb(verbs, "tensorboard", _tensorboard, summary)
    add_store(parser)
    parser.add_argument("--port", type=port, default=6006, help="of the page on this machine (default: 6006)")


def _tensorboard(options: argparse.Namespace) -> int:
    if not is_installed("tensorboard"):
        raise InputError("TensorBoard is not installed: pip install tensorboard")
    store = Store(options.store)
    if not store.has_root:
        raise InputError(f"there is no store at {store.uri}")
    directory = store.local_root
    if directory is None:
        directory = private_directory(cache_directory(store) / "tensorboard")
        num_files = mirror_events(store, directory)
        print(
            f"{num_files} event files of {store.uri} are copied to {directory}; start again to see what is newer",
            file=sys.stderr,
        )
    command = [sys.executable, "-P", "-m", "tensorboard.main", "--logdir", str(directory), "--port", str(options.port)]
    sys.stdout.flush()
    os.execv(sys.executable, command)


def mirror_events(store: Store, directory: Path) -> int:
    """Copy a store's event files to a directory, those only whose size has changed; returns the number of all."""
    files = {
        path: size
        for kind in ("pretrain", "finetune")
        for path, size in store.files_below(kind).items()
        if ".tfevents." in path.rpartition("/")[2]
    }
    for path, size in files.items():
        file = directory / path
        if not file.is_file() or file.stat().st_size != size:
            file.parent.mkdir(parents=True, exist_ok=True)
            store.read_file(path, file)
    return len(files)
