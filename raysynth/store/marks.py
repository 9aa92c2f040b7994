"""Marks of processes, by which others can tell whether they are alive, and the provenance of records."""

import importlib.metadata
import os
import platform
import socket
import time
from dataclasses import dataclass

from raysynth.store.records import Provenance, Running

ALIVE_SECONDS = 120
"""A process on another host counts as gone once its mark is this old."""

_PACKAGES = ("raysynth", "jax", "flax", "optax", "orbax-checkpoint", "ray", "numpy", "sentencepiece", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A sign of life of one process."""

    host: str
    pid: int
    time: float
    """Seconds since the epoch."""


def here() -> Mark:
    """The mark of this process, now."""
    return Mark(host=socket.gethostname(), pid=os.getpid(), time=time.time())


def alive(mark: Mark | Running) -> bool:
    """Whether the process that left a mark still runs, as far as this host can tell."""
    if mark.host != socket.gethostname():
        return time.time() - mark.time < ALIVE_SECONDS
    try:
        os.kill(mark.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return mark.pid != os.getpid()  # in a container, an earlier process may have had our own number


def provenance(started: float) -> Provenance:
    """Where and with which versions this process made something that it began at `started`, in epoch seconds."""
    return Provenance(
        host=socket.gethostname(),
        platform=platform.platform(),
        python=platform.python_version(),
        versions={package: importlib.metadata.version(package) for package in _PACKAGES},
        started=started,
        seconds=time.time() - started,
    )
