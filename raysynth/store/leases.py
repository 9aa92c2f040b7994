"""Several runs on one store: each artifact is leased to one of them."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyarrow import fs

from raysynth.specs.identity import Artifact, name
from raysynth.store.marks import alive, here
from raysynth.store.store import Store

LOOK_SECONDS = 3.0
"""At least this long between two looks at an artifact that another run makes."""
SETTLE_SECONDS = 1.0
"""A file written this long ago is seen by all."""


class Driver:
    """A run that works on a store, perhaps beside others.

    Each run has a file that it touches now and then. A lease names the run that makes an artifact and holds while that
    run is alive. File systems have no common way to let only one writer win, so a lease that is contended is written,
    left for a while and read again: the last writer has it.
    """

    def __init__(self, store: Store):
        self._store = store
        self._name = uuid.uuid4().hex[:8]
        self._beaten = float("-inf")

    @property
    def file(self) -> str:
        return f"drivers/{self._name}.json"

    def beat(self) -> None:
        """Show a sign of life, at most every ten seconds."""
        if time.monotonic() - self._beaten > 10:
            self._store.write_json(self.file, here())
            self._beaten = time.monotonic()

    def others(self) -> list[dict[str, Any]]:
        """The marks of the other runs that are alive; those of dead ones are deleted."""
        marks = []
        selector = fs.FileSelector(f"{self._store.root}/drivers", allow_not_found=True)
        for info in self._store.filesystem.get_file_info(selector):
            file = f"drivers/{info.base_name}"
            if file == self.file or not file.endswith(".json"):
                continue
            mark = self._store.read_json(file)
            if mark is not None and alive(mark):
                marks.append(mark)
            elif mark is not None:
                self._store.delete(file)
        return marks

    def lease(self, artifact: Artifact) -> bool:
        """Whether this run may make the artifact; if so, others may not until it is released."""
        file = f"{name(artifact)}/lease.json"
        if (holder := self._holder(file)) is not None:
            return holder == self._name
        self._store.write_json(file, {"driver": self._name})
        if not self.others():
            return True
        time.sleep(SETTLE_SECONDS)
        return self._holder(file) == self._name

    def release(self, artifact: Artifact) -> None:
        """Let others have the artifact."""
        self._store.delete(f"{name(artifact)}/lease.json")

    def _holder(self, file: str) -> str | None:
        """The living run that holds a lease, or None."""
        lease = self._store.read_json(file)
        if lease is None:
            return None
        if lease["driver"] == self._name:
            return self._name
        mark = self._store.read_json(f"drivers/{lease['driver']}.json")
        return lease["driver"] if mark is not None and alive(mark) else None


@contextmanager
def driver(store: Store) -> Iterator[Driver]:
    """Take part in the store's work for one run."""
    taking_part = Driver(store)
    taking_part.beat()
    if taking_part.others():
        time.sleep(SETTLE_SECONDS)  # a lease that one of them is writing, not knowing of us, is there after this
    try:
        yield taking_part
    finally:
        store.delete(taking_part.file)
