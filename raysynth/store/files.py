"""Files and directories on this machine that appear whole or not at all."""

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raysynth.errors import InputError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or a directory to; it gets its final name once the block succeeds.

    A file that is there already is replaced. A directory that is there already raises `OSError`. Whatever the block
    leaves behind when it fails is deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.aside")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with written_aside(path) as aside:
        aside.write_bytes(content)


def is_special(path: str | Path) -> bool:
    """Whether there is something at a path that is neither a file nor a directory, such as a named pipe."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # nothing there, or an error that reading it tells of
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def private_directory(path: Path) -> Path:
    """Make a directory that only this user can read and write, with its parents; returns it without symbolic links.

    Raises `InputError` if another user owns the directory or can replace it or one of its parents, or if it is a
    symbolic link or has one among its parents where others can write.
    """
    path = Path(os.path.abspath(path))
    place, is_shared = Path(path.anchor), False
    for number, part in enumerate(path.parts[1:], start=2):
        place = place / part
        try:
            if not os.path.lexists(place):
                with contextlib.suppress(FileExistsError):  # another process made it at the same time
                    place.mkdir(mode=0o700)
            state = place.lstat()
        except OSError as error:
            raise _not_private(path, f"{place}: {error.strerror}") from None
        if state.st_uid not in (0, os.getuid()):
            raise _not_private(path, f"{place} belongs to another user")
        if stat.S_ISLNK(state.st_mode):
            if is_shared or place == path:
                raise _not_private(path, f"{place} is a symbolic link")
            return private_directory(place.resolve().joinpath(*path.parts[number:]))
        if not stat.S_ISDIR(state.st_mode):
            raise _not_private(path, f"{place} is not a directory")
        is_shared = bool(state.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
        if is_shared and (place == path or not state.st_mode & stat.S_ISVTX):
            raise _not_private(path, f"other users can write to {place}")
    if state.st_uid != os.getuid():
        raise _not_private(path, f"{place} belongs to another user")
    place.chmod(0o700)
    return place


def _not_private(path: Path, why: str) -> InputError:
    return InputError(f"{path} cannot hold private files: {why}; remove it, or set TMPDIR to a directory of your own")
