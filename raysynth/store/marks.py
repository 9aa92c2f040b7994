"""Marks of living processes, and the provenance of a record."""

import importlib.metadata
import os
import platform
import socket
import time
from typing import Any

ALIVE_SECONDS = 120
"""A run or trial on another host that has shown no sign of life for this long counts as gone."""


def here() -> dict[str, Any]:
    """This process, as a mark that others can check."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}


def provenance(started: float) -> dict[str, Any]:
    """Where, when and with which versions an artifact was made."""
    packages = ("raysynth", "jax", "flax", "optax", "orbax-checkpoint", "ray", "numpy", "sentencepiece", "pyarrow")
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "started": started,
        "seconds": time.time() - started,
    }


def alive(mark: dict[str, Any]) -> bool:
    """Whether the process that left a mark still runs, as far as can be told from here."""
    if mark["host"] != socket.gethostname():
        return time.time() - mark["time"] < ALIVE_SECONDS
    try:
        os.kill(mark["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return mark["pid"] != os.getpid()  # in a container an earlier process may have had our own number
