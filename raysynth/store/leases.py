"""Several runs on one store share its work: each artifact is leased to one run at a time."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from pyarrow import fs

from raysynth.specs.identity import Artifact, name
from raysynth.store.marks import Mark, alive, here
from raysynth.store.store import Store

LOOK_SECONDS = 3.0
"""Least time between two looks at an artifact that another run makes."""
SETTLE_SECONDS = 1.0
"""After this long, every run can see a written file."""
BEAT_SECONDS = 10.0
"""Least time between two signs of life."""

_LEASES = "leases"
"""The directory of all leases in the store."""


class Driver:
    """One run that works on a store, perhaps beside others.

    Each run has a file that it renews as a sign of life. A lease names the run that makes an artifact, and holds while
    that run is alive. No operation common to all file systems lets exactly one writer win, so a run that is not alone
    writes its lease, waits, and reads it again: the last writer has it.
    """

    def __init__(self, store: Store):
        self._store = store
        self._name = uuid.uuid4().hex[:8]
        self._last_beat = float("-inf")
        self._leased: set[str] = set()
        """The names of the artifacts that this run has leased."""

    @property
    def file(self) -> str:
        """Where this run leaves its mark."""
        return f"drivers/{self._name}.json"

    def beat(self) -> None:
        """Show a sign of life, at most every `BEAT_SECONDS`."""
        if time.monotonic() - self._last_beat > BEAT_SECONDS:
            self._store.write_json(self.file, vars(here()))
            self._last_beat = time.monotonic()

    def others(self) -> list[Mark]:
        """The marks of the other living runs. Deletes those of dead ones."""
        marks = []
        selector = fs.FileSelector(f"{self._store.root}/drivers", allow_not_found=True)
        for info in self._store.filesystem.get_file_info(selector):
            file = f"drivers/{info.base_name}"
            if file == self.file or not file.endswith(".json"):
                continue
            mark = self._mark(file)
            if mark is not None and alive(mark):
                marks.append(mark)
            elif mark is not None:
                self._store.delete(file)
        return marks

    def lease(self, artifact: Artifact) -> bool:
        """Whether this run may make the artifact. If so, no other run may until it is released."""
        where = name(artifact)
        if (holder := self._holder(_file(where))) is not None:
            return holder == self._name
        self._store.write_json(_file(where), {"driver": self._name})
        if self.others():
            time.sleep(SETTLE_SECONDS)
            if self._holder(_file(where)) != self._name:
                return False
        self._leased.add(where)
        return True

    def release(self, artifact: Artifact) -> None:
        """Let other runs have the artifact."""
        self._release(name(artifact))

    def _release(self, where: str) -> None:
        self._store.delete(_file(where))
        self._leased.discard(where)

    def tidy(self) -> None:
        """Delete the leases that dead runs left on artifacts that are done. Others are taken over when needed."""
        selector = fs.FileSelector(f"{self._store.root}/{_LEASES}", allow_not_found=True, recursive=True)
        for info in self._store.filesystem.get_file_info(selector):
            where = info.path.removeprefix(f"{self._store.root}/{_LEASES}/").removesuffix(".json")
            is_lease = info.type is fs.FileType.File and info.extension == "json"
            if is_lease and self._holder(_file(where)) is None and self._store.exists(f"{where}/record.json"):
                self._store.delete(_file(where))

    def leave(self) -> None:
        """Release what is still leased, and withdraw the mark of this run."""
        for where in list(self._leased):
            self._release(where)
        self._store.delete(self.file)

    def _holder(self, file: str) -> str | None:
        """The living run that holds a lease, or None."""
        lease = self._store.read_json(file)
        if lease is None:
            return None
        holder: str = lease["driver"]
        if holder == self._name:
            return holder
        mark = self._mark(f"drivers/{holder}.json")
        return holder if mark is not None and alive(mark) else None

    def _mark(self, file: str) -> Mark | None:
        value = self._store.read_json(file)
        return None if value is None else Mark(**value)


@contextmanager
def driver(store: Store) -> Iterator[Driver]:
    """Take part in a store's work for the length of one run."""
    this_run = Driver(store)
    this_run.beat()
    if this_run.others():
        time.sleep(SETTLE_SECONDS)  # after this, leases are visible that others wrote before they knew of this run
    this_run.tidy()
    try:
        yield this_run
    finally:
        this_run.leave()


def _file(where: str) -> str:
    """The lease of the artifact with a name. Leases lie in a directory of their own, so that one listing shows all."""
    return f"{_LEASES}/{where}.json"
