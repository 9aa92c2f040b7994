"""Reading files of weights, and writing a directory of them as a whole."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysynth.errors import InputError, first_line
from raysynth.store.files import written_aside


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; raises `InputError` if it cannot be read or holds anything else."""
    text = read_bytes(file)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{file} must be a JSON object, found {type(content).__name__}")
    return content


def read_bytes(file: Path) -> bytes:
    """The content of a file; raises `InputError` if it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """Yield an empty directory beside `directory`, and rename it to `directory` when the block ends.

    An error in the block removes it, so `directory` is either complete or absent. Raises `InputError` if `directory`
    exists or cannot be written.
    """
    if directory.exists():
        raise InputError(f"{directory} exists already")
    try:
        with written_aside(directory) as aside:
            aside.mkdir()
            yield aside
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error.strerror}") from None
