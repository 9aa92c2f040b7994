"""Watches over the processes of a Ray session, whose loss Ray itself notices after a minute, or never."""

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import ray

from raysynth.command_line import end_at_once

LOOK_SECONDS = 0.5
"""Between two looks at the processes."""
SILENT_SECONDS = 10.0
"""A cluster that does not answer for this long is lost."""
END_SECONDS = 8.0
"""Ray has this long to shut down."""

_LEAVE_SECONDS = 4.0
"""The main thread has this long to notice that Ray is lost."""

_NEEDED = {"gcs_server": "Ray's control process (GCS)", "raylet": "Ray's scheduler (raylet)"}
"""The processes without which a session cannot go on, by Ray's name."""


class Watch:
    """Interrupts the main thread when Ray is lost: then `fault` says why, in one line."""

    def __init__(self, address: str | None):
        self._address = address
        self._node: Any = None
        self._ending = threading.Lock()
        self._is_over, self._done = threading.Event(), threading.Event()
        self.fault: str | None = None
        self.ended = False
        """Whether Ray began to shut down."""

    def start(self) -> None:
        """Begin to watch the session that `ray.init` has opened."""
        self._node = ray._private.worker._global_node
        _keep_handlers()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        find = self._lost_here if self._address is None else _LostCluster(self._address, self._node)
        while not self._is_over.wait(LOOK_SECONDS):
            fault = find()
            if fault is not None and not self._is_over.is_set():
                self.fault = fault
                # A real signal to the thread, because a waiting lock is left for nothing else.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                if not self._is_over.wait(_LEAVE_SECONDS):  # it may wait for an answer of Ray's, for a minute
                    end_at_once(f"error: {fault}; run the same command again to continue", 1)
                return

    def _lost_here(self) -> str | None:
        for name, called in _NEEDED.items():
            for process in self._node.all_processes.get(name, ()):
                status = process.process.poll()
                if status is not None:
                    return f"{called} {ended(status)}"
        return None

    def shut_down(self) -> bool:
        """Shut Ray down, once; returns whether it did so in time."""
        with self._ending:
            self._is_over.set()
            if self.ended:
                return self._done.is_set()
            self.ended = True
            thread = threading.Thread(target=self._shut_down, daemon=True)
            thread.start()
            began = time.monotonic()
            while not self._done.wait(0.02) and time.monotonic() - began < self._end_seconds():
                _keep_handlers()
            _keep_handlers()
            return self._done.is_set()

    def _end_seconds(self) -> float:
        """How long Ray may take to shut down: without its processes it never does."""
        is_lost = self.fault is not None or (self._address is None and self._node is not None and self._lost_here())
        return 1.0 if is_lost else END_SECONDS

    def _shut_down(self) -> None:
        with contextlib.suppress(Exception):
            ray.shutdown()
        self._done.set()


def _keep_handlers() -> None:
    """Give SIGTERM its Python handler again, which Ray's C++ part replaces as it starts and takes away as it ends."""
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGTERM)
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


class _LostCluster:
    """Finds out whether a cluster, or this machine's part of it, is gone."""

    def __init__(self, address: str, node: Any):
        self._address = address
        self._raylet: str = node.raylet_socket_name
        self._answered = time.monotonic()
        self._looked = time.monotonic()

    def __call__(self) -> str | None:
        now = time.monotonic()
        if now - self._looked < 4 * LOOK_SECONDS:
            return None
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=SILENT_SECONDS / 2).close()
            with socket.socket(socket.AF_UNIX) as raylet:
                raylet.connect(self._raylet)
        except OSError:
            pass
        else:
            self._answered = time.monotonic()
        self._looked = time.monotonic()
        if self._looked - self._answered > SILENT_SECONDS:
            return f"the Ray cluster at {self._address} no longer answers"
        return None


def ended(status: int) -> str:
    """How a process ended, in words, by the status that `subprocess` gives."""
    if status >= 0:
        return f"ended with status {status}"
    return f"was killed by {_signal(-status)}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_TAIL_BYTES = 64 * 2**10


def tail(file: Path) -> str:
    """The last lines of a log, or nothing."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""
