"""Several runs on one store share its work: each artifact is leased to one run at a time."""

import contextlib
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysynth.errors import InputError, StoreError
from raysynth.specs.identity import Artifact
from raysynth.store.marks import ALIVE_SECONDS, Watch, here
from raysynth.store.records import Hosts, RunMark, as_json
from raysynth.store.store import Store, directory_of, is_plain
from raysynth.store.typed import read_object

LOOK_SECONDS = 3.0
"""Least time between two looks at an artifact that another run makes."""
SETTLE_SECONDS = 1.0
"""After this long, every run can see a written file."""
BEAT_SECONDS = 10.0
"""Least time between two signs of life."""

_LEASES = "leases"
"""The directory of all leases in the store."""
_DRIVERS = "drivers"
"""The directory of the marks of all runs in the store."""
_NAME = "[0-9a-f]{8}"
"""What a run is called."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """Which run makes an artifact."""

    driver: str
    """The name of the run: its mark's file without the suffix."""

    @staticmethod
    def read(value: Any, place: str) -> "Lease":
        """The lease in a JSON value; errors name `place`."""
        lease = read_object(Lease, value, place)
        if not re.fullmatch(_NAME, lease.driver):
            raise InputError(f"{place} is damaged: no run is called {lease.driver!r}")
        return lease


class Driver:
    """One run that works on a store, perhaps beside others.

    Each run has a file that a thread renews as a sign of life. A lease names the run that makes an artifact, and holds
    while that run is alive. No operation common to all file systems lets exactly one writer win, so a run that is not
    alone writes its lease, waits, and reads it again: the last writer has it.

    Marks and leases that are damaged count as absent.
    """

    def __init__(self, store: Store):
        self._store = store
        self._name = uuid.uuid4().hex[:8]
        self._started = time.time()
        self._hosts: Hosts | None = None
        self._watch = Watch()
        self._last_try = self._last_beat = float("-inf")
        self._leased: set[str] = set()
        """The names of the artifacts that this run has leased."""
        self._lock = threading.RLock()
        self._left = threading.Event()
        self._error: Exception | None = None

    @property
    def name(self) -> str:
        """What leases call this run."""
        return self._name

    @property
    def file(self) -> str:
        """Where this run leaves its mark."""
        return _mark_file(self._name)

    def tell(self, hosts: Hosts | None) -> None:
        """Have the next sign of life say which hosts the run has."""
        self._hosts = hosts

    def beat(self) -> None:
        """Show a sign of life, at most every `BEAT_SECONDS`, and write leases again that were lost or damaged.

        Raises `StoreError` once no sign of life could be written for so long that other runs think this one dead.
        """
        with self._lock:
            if self._left.is_set():
                return
            if time.monotonic() - self._last_try < BEAT_SECONDS:
                if self._error is not None:  # of the last try, in whichever thread
                    raise self._error
                return
            self._last_try = time.monotonic()
            try:
                mark = RunMark(**vars(here()), started=self._started, hosts=self._hosts)
                self._store.write_json(self.file, as_json(mark))
                for where in self._leased:
                    if self._lease(where) is None:
                        self._store.write_json(_file(where), {"driver": self._name})
            except Exception as error:
                if isinstance(error, StoreError) and time.monotonic() - self._last_beat <= ALIVE_SECONDS:
                    return
                self._error = error
                raise
            self._last_beat, self._error = time.monotonic(), None

    def keep_beating(self) -> None:
        """Show signs of life until this run leaves; for a thread of its own. `beat` raises what went wrong here."""
        while not self._left.wait(BEAT_SECONDS):
            with contextlib.suppress(Exception):  # the next try may succeed; until then `beat` raises this in the run
                self.beat()

    def others(self) -> list[RunMark]:
        """The marks of the other living runs. Deletes those of dead ones."""
        marks = []
        for file, mark in marks_of_runs(self._store).items():
            if file == self.file:
                continue
            if mark is not None and self._watch.alive(file, mark):
                marks.append(mark)
            else:
                self._store.delete(file)
        return marks

    def lease(self, artifact: Artifact) -> bool:
        """Whether this run may make the artifact. If so, no other run may until it is released."""
        where = directory_of(artifact)
        if (holder := self._holder(where)) != self._name:
            if holder is not None:
                return False
            self._store.write_json(_file(where), {"driver": self._name})
            if self.others():
                time.sleep(SETTLE_SECONDS)
                if self._holder(where) != self._name:
                    return False
        with self._lock:
            self._leased.add(where)
        return True

    def holder(self, artifact: Artifact) -> str:
        """Which run holds the lease of an artifact, in words."""
        holder = self._holder(directory_of(artifact))
        mark = None if holder is None else self._store.read_if_whole(_mark_file(holder), RunMark.read)
        if holder is None or mark is None:
            return "another run"
        age_seconds = self._watch.silence_seconds(_mark_file(holder), mark)
        return f"another run, process {mark.pid} on {mark.host}, whose last sign of life is {age_seconds:.0f} s old"

    def release(self, artifact: Artifact) -> None:
        """Let other runs have the artifact, if this run holds it."""
        self._release(directory_of(artifact))

    def _release(self, where: str) -> None:
        with self._lock:
            if where in self._leased and self._lease(where) == self._name:
                self._store.delete(_file(where))
            self._leased.discard(where)

    def tidy(self) -> None:
        """Delete the leases that dead runs left on artifacts that are done. Others are taken over when needed."""
        for where in self.dead_leases():
            if self._store.exists(f"{where}/record.json"):
                self._store.delete(_file(where))

    def dead_leases(self) -> list[str]:
        """The names of the artifacts that are leased to runs that are gone."""
        return [where for where in leased_artifacts(self._store) if self._holder(where) is None]

    def leave(self) -> None:
        """Release what is still leased, and withdraw the mark of this run."""
        self._left.set()
        with self._lock, contextlib.suppress(StoreError):  # what stays is known to be of a run that is gone
            for where in list(self._leased):
                self._release(where)
            self._store.delete(self.file)

    def _holder(self, where: str) -> str | None:
        """The living run that holds a lease, or None."""
        holder = self._lease(where)
        if holder is None or holder == self._name:
            return holder
        mark = self._store.read_if_whole(_mark_file(holder), RunMark.read)
        return holder if mark is not None and self._watch.alive(_mark_file(holder), mark) else None

    def _lease(self, where: str) -> str | None:
        return _leased_to(self._store, where)


@contextmanager
def driver(store: Store) -> Iterator[Driver]:
    """Take part in a store's work for the length of one run."""
    this_run = Driver(store)
    this_run.beat()
    try:
        if this_run.others():
            time.sleep(SETTLE_SECONDS)  # after this, leases are visible that others wrote before they knew of this run
        this_run.tidy()
        threading.Thread(target=this_run.keep_beating, name="signs of life", daemon=True).start()
        yield this_run
    finally:
        this_run.leave()


def marks_of_runs(store: Store) -> dict[str, RunMark | None]:
    """The marks of all runs, living or not, by their files; None for a damaged one."""
    files = [file for file in store.files_below(_DRIVERS) if re.fullmatch(rf"{_DRIVERS}/{_NAME}\.json", file)]
    return {file: store.read_if_whole(file, RunMark.read) for file in files}


def living_runs(store: Store) -> dict[str, RunMark]:
    """The marks of the runs that work on the store by the run's name, as far as one look can tell."""
    watch, marks = Watch(), marks_of_runs(store)
    living = {file: mark for file, mark in marks.items() if mark and watch.alive_at_first_sight(file, mark)}
    return {Path(file).stem: mark for file, mark in living.items()}


def holders(store: Store) -> dict[str, str]:
    """The run that holds each lease, living or not, by the name of the artifact."""
    runs = {where: _leased_to(store, where) for where in leased_artifacts(store)}
    return {where: run for where, run in runs.items() if run is not None}


def leased_artifacts(store: Store) -> dict[str, str]:
    """The file of every lease by the name of the artifact, whether the run that holds it lives or not."""
    files = [file for file in store.files_below(_LEASES) if is_plain(file)]
    matches = (re.fullmatch(rf"{_LEASES}/([^/]+/[^/]+)\.json", file) for file in files)
    return {match[1]: match[0] for match in matches if match}


def is_taken(store: Store, artifact: Artifact, driver: str) -> bool:
    """Whether the lease of an artifact names another run than that one, which it does if that one was thought dead."""
    return _leased_to(store, directory_of(artifact)) not in (None, driver)


def _leased_to(store: Store, where: str) -> str | None:
    """The run that the lease of an artifact names, living or not."""
    lease = store.read_if_whole(_file(where), Lease.read)
    return None if lease is None else lease.driver


def _file(where: str) -> str:
    """The lease of the artifact with a name. Leases lie in a directory of their own, so that one listing shows all."""
    return f"{_LEASES}/{where}.json"


def _mark_file(driver: str) -> str:
    return f"{_DRIVERS}/{driver}.json"
