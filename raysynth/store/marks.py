"""Marks of processes, by which others can tell whether they are alive, and the provenance of records."""

import contextlib
import importlib.metadata
import os
import platform
import socket
import time
from dataclasses import dataclass

from raysynth.environment import recorded_variables
from raysynth.store.machine import commit, processor
from raysynth.store.records import Provenance, Running

ALIVE_SECONDS = 120
"""A process on another host counts as gone once its mark is this old."""

_PACKAGES = (
    *("raysynth", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "safetensors", "tensorstore"),
    *("numpy", "numba", "scipy", "sentencepiece", "pyarrow", "ray", "rdkit", "rouge-score"),
    *("jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu"),
)
"""Those whose version can matter to a result; the last ones are not everywhere."""


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
        versions=_versions(),
        started=started,
        seconds=time.time() - started,
        processor=processor(),
        commit=commit(),
        variables=recorded_variables(),
    )


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
