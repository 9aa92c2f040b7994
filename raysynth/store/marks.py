"""Marks of processes, by which others can tell whether they are alive, and the provenance of records.

A number is reused, and clocks may be wrong by days. So a process of this machine is known by its number and the moment
at which it started, and one that this machine cannot see by whether its mark changes while this process watches.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import socket
import subprocess
import time
import uuid
from pathlib import Path

from raysynth.environment import SWEEP_COMMIT, recorded_variables
from raysynth.store.machine import commit, processor
from raysynth.store.records import Mark, Provenance

ALIVE_SECONDS = 120
"""A process that this machine cannot see counts as gone once its mark has not changed for this long."""

_PACKAGES = (
    *("raysynth", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "safetensors", "tensorstore"),
    *("numpy", "numba", "scipy", "sentencepiece", "pyarrow", "ray", "rdkit", "rouge-score"),
    *("jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu"),
)
"""Those whose version can matter to a result; the last ones are not everywhere."""

# -------------------------------------------------------------------------------- this process


def here() -> Mark:
    """The mark of this process, now."""
    pid = os.getpid()
    return Mark(host=socket.gethostname(), pid=pid, machine=_machine(), birth=_birth(pid) or "", time=time.time())


@functools.cache
def _machine() -> str:
    """The same text in two processes if and only if each can see the other by its number."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # not Linux, where there are no namespaces of process ids
        return socket.gethostname()


def _birth(pid: int) -> str | None:
    """When a process started, in whatever unit the system has; None if there is no such process, "" if unknown."""
    if Path("/proc/self/stat").exists():
        try:
            # The name of the program stands in parentheses, and may hold spaces and parentheses.
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            return None if fields[0] in _DEAD else fields[19]
        except (FileNotFoundError, ProcessLookupError):
            return "" if _is_hidden(pid) else None
        except (OSError, IndexError):
            return ""
    try:
        command, language = ["ps", "-o", "lstart=", "-p", str(pid)], {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        done = subprocess.run(command, env=language, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() or None


def _is_hidden(pid: int) -> bool:
    """Whether there is a process that the system does not show to this user."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False  # it is this user's, so it would be shown: it has just begun or just ended


_DEAD = ("Z", "X", "x")
"""States of processes that have ended and that their parents have not asked about."""


def scratch_name() -> str:
    """A name for a file or directory of this process's own, by which others can tell when it is not needed any more."""
    mark = here()
    return f"{_SCRATCH}{_digest(mark.machine)}-{mark.pid}-{_digest(mark.birth)}-{uuid.uuid4().hex}"


def is_dead_scratch(name: str) -> bool:
    """Whether a name is that of scratch of a process of this machine that is gone."""
    match = re.fullmatch(rf"{_SCRATCH}([0-9a-f]{{8}})-([0-9]{{1,18}})-([0-9a-f]{{8}})-[0-9a-f]{{32}}", name)
    if match is None or match[1] != _digest(_machine()):
        return False
    birth = _birth(int(match[2]))
    return birth is None or (birth != "" and _digest(birth) != match[3])


_SCRATCH = "raysynth-copy-"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


# -------------------------------------------------------------------------------- other processes


def runs(mark: Mark) -> bool | None:
    """Whether the process that left a mark runs on this machine; None if this machine cannot tell."""
    if mark.machine != _machine():
        return None
    birth = _birth(mark.pid)
    if birth is None:
        return False
    return birth == mark.birth if birth else None


class Watch:
    """Tells from changes of a mark whether a process lives that this machine cannot see.

    Only this machine's own monotonic time counts, so wrong clocks do no harm.
    """

    def __init__(self) -> None:
        self._last_change: dict[str, tuple[Mark, float]] = {}
        """Each mark by its file, and when it was first seen like this."""

    def is_new(self, file: str) -> bool:
        """Whether the mark in a file has never been looked at."""
        return file not in self._last_change

    def silence_seconds(self, file: str, mark: Mark) -> float:
        """For how long, as far as this process knows, the mark in a file has been as it is now."""
        last = self._last_change.get(file)
        if last is None or last[0] != mark:
            self._last_change[file] = mark, time.monotonic()
            return 0.0
        return time.monotonic() - last[1]

    def alive(self, file: str, mark: Mark) -> bool:
        """Whether the process that left a mark in a file lives; one that cannot be seen does until it falls silent."""
        silence_seconds = self.silence_seconds(file, mark)
        is_running = runs(mark)
        return silence_seconds < ALIVE_SECONDS if is_running is None else is_running

    def alive_at_first_sight(self, file: str, mark: Mark) -> bool:
        """`alive`, but a mark that is seen for the first time counts by its time, if clocks agree within two minutes.

        For a look that nothing depends on: if the other clock is wrong, a second look tells the truth.
        """
        if runs(mark) is None and self.is_new(file) and abs(time.time() - mark.time) > ALIVE_SECONDS:
            self._last_change[file] = mark, time.monotonic() - ALIVE_SECONDS
        return self.alive(file, mark)


def provenance(started: float) -> Provenance:
    """Where and with which versions this process made something that it began at `started`, in epoch seconds."""
    return Provenance(
        host=socket.gethostname(),
        platform=platform.platform(),
        python=platform.python_version(),
        versions=_versions(),
        started=started,
        seconds=time.time() - started,
        processor=processor(),
        commit=commit(),
        sweep_commit=os.environ.get(SWEEP_COMMIT) or None,
        variables=recorded_variables(),
    )


@functools.cache  # each look-up reads a file
def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
