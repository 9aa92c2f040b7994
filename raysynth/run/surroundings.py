"""What all parts of a run share: where it works, who watches, what has gone wrong in it and what it waits for."""

import contextlib
import hashlib
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raysynth.downstream.rows import BadRows
from raysynth.environment import num_threads
from raysynth.errors import InputError, WorkerError
from raysynth.observer import Observer, Progress
from raysynth.specs.identity import Artifact, name
from raysynth.store.checkpoint_files import CHECKPOINT_SECONDS
from raysynth.store.files import private_directory
from raysynth.store.leases import Driver
from raysynth.store.store import Store

MAX_PREEMPTIONS = 100
"""How often the host of one artifact may be lost by default: more often, it is the artifact that costs the hosts."""
NOTE_SECONDS = 10.0
"""A wait that is longer says once what it waits for."""


class Trouble:
    """The first error in one of a run's threads, or where Tune calls the run: it ends the run.

    Nobody waits for a thread's exceptions, and Tune prints those of its callbacks at length. So both leave them here,
    and whoever waits looks here.
    """

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def __bool__(self) -> bool:
        return self._error is not None

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Keep an exception of the block, unless it is Ctrl-C."""
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._error = self._error or error

    def check(self) -> None:
        """Raise the error, if there is one, as one that has one line."""
        if self._error is None:
            return
        if isinstance(self._error, InputError | WorkerError):
            raise self._error
        raise WorkerError.of(self._error) from self._error


class Guarded:
    """An observer that passes events on to another one, whose exceptions end the run.

    Events come from several threads, since data are drawn while others train; the other observer gets one at a time.
    """

    def __init__(self, observer: Observer, trouble: Trouble):
        self._observer, self._trouble = observer, trouble
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        with self._lock, self._trouble.caught():
            yield

    def started(self, artifact: str) -> None:
        with self._guard():
            self._observer.started(artifact)

    def progress(self, artifact: str, progress: Progress) -> None:
        with self._guard():
            self._observer.progress(artifact, progress)

    def evaluated(self, artifact: str, progress: Progress) -> None:
        with self._guard():
            self._observer.evaluated(artifact, progress)

    def finished(self, artifact: str) -> None:
        with self._guard():
            self._observer.finished(artifact)

    def failed(self, artifact: str, error: str) -> None:
        with self._guard():
            self._observer.failed(artifact, error)

    def noted(self, artifact: str, note: str) -> None:
        with self._guard():
            self._observer.noted(artifact, note)


def pass_on(artifact: str, result: Mapping[str, Any], observer: Observer) -> None:
    """Tell an observer what a trial reports of its artifact."""
    if "progress" in result:
        observer.progress(artifact, Progress(**result["progress"]))
    if "note" in result:
        observer.noted(artifact, result["note"])


@dataclass(frozen=True, kw_only=True)
class BoardSettings:
    """What the trials of a run show on TensorBoard and on Weights & Biases."""

    metrics: tuple[str, ...] = ()
    """Those of the sweep's fine-tunings: columns of the HParams page, which all runs of the page must have alike."""
    wandb_project: str | None = None
    """The project on Weights & Biases; None sends nothing there."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run's surroundings: where it works, who watches, and what it does when something goes wrong."""

    store: Store
    driver: Driver
    observer: Observer
    locations: Mapping[str, str] = field(default_factory=dict)
    """Where the files of downstream tasks and text corpora are, by name."""
    address: str | None = None
    """Of a running Ray cluster; None starts Ray on this machine."""
    bad_rows: BadRows = BadRows.REFUSE
    max_failed: int | None = None
    """The run ends once this many artifacts have failed; None never ends it early."""
    max_preemptions: int = MAX_PREEMPTIONS
    """How often the host of one artifact may be lost."""
    cpus_per_trial: int = 1
    """CPUs that a trial reserves, and threads that it computes with on a CPU."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """A trial writes a checkpoint between evaluations too once its last one is that old."""
    board: BoardSettings = BoardSettings()
    trouble: Trouble = field(default_factory=Trouble)


def user_directory() -> Path:
    """Where this host keeps what it can make again for this user, such as compiled programs; made if need be.

    Not in a store: compiled programs are executed, and a store may come from someone else. Raises `InputError` where
    another user could write there.
    """
    return private_directory(Path(tempfile.gettempdir()) / f"raysynth-cache-{os.geteuid()}")


def cache_directory(store: Store) -> Path:
    """Where this host keeps its copies of a store's inputs; raises as `user_directory`."""
    return private_directory(user_directory() / hashlib.sha256(store.uri.encode()).hexdigest()[:16])


@contextlib.contextmanager
def compiled_programs() -> Iterator[None]:
    """Keep the programs that JAX compiles in the block for later processes of this user on this host. Imports JAX.

    Runs on other stores find them too. Raises as `user_directory`.
    """
    from raysynth.model.compiled_programs import compiled_programs_in

    with compiled_programs_in(compiled_directory(user_directory(), num_threads(os.environ))):
        yield


def compiled_directory(place: Path, threads: int | None, processor: str | None = None) -> Path:
    """Where programs are that were compiled for a number of threads, which None means all of, and a processor.

    JAX looks at neither. The version of jaxlib is a part of the name too: what one version wrote can crash another.
    `processor` is this host's by default, as `processor_name` gives it.
    """
    return place / f"compiled-{version('jaxlib')}-{processor or processor_name()}-{threads or 'all'}"


_PROCESSOR_FIELDS = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
"""What Linux says of a processor that decides which instructions it runs and how XLA arranges them."""


def processor_name(cpuinfo: str | None = None) -> str:
    """A name for this host's processor: equal only for hosts that run the same instructions.

    `cpuinfo` is the text of /proc/cpuinfo, which None reads.
    """
    if cpuinfo is None:
        with contextlib.suppress(OSError):
            cpuinfo = Path("/proc/cpuinfo").read_text()
    first, _, _ = (cpuinfo or "").partition("\n\n")
    pairs = [[part.strip() for part in line.split(":", 1)] for line in first.splitlines() if ":" in line]
    told = [pair for pair in pairs if pair[0] in _PROCESSOR_FIELDS] or [[platform.processor()]]
    return f"{platform.machine()}-{hashlib.sha256(repr(told).encode()).hexdigest()[:8]}"


class Waits:
    """Says once of each artifact that another run makes how long this run has waited for it, and for whom."""

    def __init__(self, run: Run):
        self._run = run
        self._since: dict[Artifact, float] = {}
        self._noted: set[Artifact] = set()

    def waiting(self, artifact: Artifact) -> None:
        """Note that this run waits for an artifact, or does so still."""
        since = self._since.setdefault(artifact, time.monotonic())
        if time.monotonic() - since >= NOTE_SECONDS and artifact not in self._noted:
            self._noted.add(artifact)
            self._run.observer.noted(name(artifact), f"waits for {self._run.driver.holder(artifact)}")

    def over(self, artifact: Artifact) -> None:
        """Note that the wait for an artifact is over."""
        self._since.pop(artifact, None)
        self._noted.discard(artifact)
