"""What libraries write to standard error goes to a file."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from raysynth.command_line import screen


class Quiet:
    """Whether standard error comes back at the end."""

    stay = False
    """Threads of a library are left that may still write, so it does not."""


@contextlib.contextmanager
def stderr_to(log: Path | str) -> Iterator[Quiet]:
    """Turn file descriptor 2 to a file; `screen()` still writes where it led before."""
    quiet, terminal = Quiet(), screen()
    before = os.dup(2)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 2)
    os.close(file)
    try:
        yield quiet
    finally:
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
        if quiet.stay:
            sys.stderr = terminal
        else:
            os.dup2(before, 2)
        os.close(before)


@contextlib.contextmanager
def environment(changes: dict[str, str]) -> Iterator[None]:
    """Change environment variables for a while."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
