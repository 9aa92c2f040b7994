"""The scratch directory of a run, which only its user may write, and what dead runs left behind."""

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from raysynth.errors import InputError, RayLost

_PREFIX = "raysynth-run-"
_LOCK = "lock"
"""The file of a scratch directory that its run keeps locked. The system unlocks it when the process ends."""
_MAX_PARENT = 25
"""Ray's sockets lie some 60 characters below the scratch directory, and a socket's path has at most 107."""
_MIN_AGE_SECONDS = 3600.0
"""A directory without a lock file is left by a run that was killed as it began, if it is this old."""


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory of this run's own, with a short path. Removes those of dead runs first.

    It is gone at the end of the run, unless that is a `RayLost`, whose log lies in it: then the next run removes it.
    """
    _clean()
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_parent()))
    lock = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    keep = False
    try:
        yield path
    except RayLost:
        keep = True
        raise
    finally:
        os.close(lock)
        if not keep:
            shutil.rmtree(path, ignore_errors=True)


def is_private(path: Path) -> bool:
    """Whether this is a directory, not a link, that is this user's and that nobody else can write."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _parents() -> list[str]:
    return [tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]


def _parent() -> str:
    """The directory for temporary files if its path is short enough for sockets below it, else another."""
    for parent in _parents():
        if len(os.fsencode(parent)) <= _MAX_PARENT and os.access(parent, os.W_OK | os.X_OK):
            return parent
    raise InputError(f"no directory for temporary files with at most {_MAX_PARENT} characters: set TMPDIR to one")


def _clean() -> None:
    """Remove the scratch directories of this user's dead runs, and end the processes that still work in them."""
    for path in {path for parent in _parents() for path in Path(parent).glob(f"{_PREFIX}*")}:
        if is_private(path) and _is_dead(path):
            end_processes(path)
            shutil.rmtree(path, ignore_errors=True)


def _is_dead(path: Path) -> bool:
    try:
        lock = os.open(path / _LOCK, os.O_RDWR)
    except OSError:
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime > _MIN_AGE_SECONDS
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def end_processes(path: Path) -> None:
    """End the processes that work in a run's scratch directory, known by its path."""
    limit = time.monotonic() + _KILL_SECONDS
    while (left := list(_processes(path))) and time.monotonic() < limit:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


_KILL_SECONDS = 3.0
"""Most time to wait until killed processes are gone."""


def _processes(path: Path) -> Iterator[int]:
    mark = f"{path}/"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid != os.geteuid() or int(process.name) == os.getpid():
                continue
            texts = [(process / file).read_bytes().decode(errors="replace") for file in ("cmdline", "environ")]
            # Ray's workers and agents write their titles over both; then their open logs tell.
            for file in (process / "fd").iterdir():
                with contextlib.suppress(OSError):  # closed meanwhile, as often in a process that starts
                    texts.append(os.readlink(file))
            if any(mark in text for text in texts):
                yield int(process.name)
