"""Which artifact starts next, and what the end of one means for the others: the same with Ray and without.

Pre-trainings and fine-tunings share one queue without a barrier, and what needs a failed artifact never starts.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from raysynth.errors import InputError
from raysynth.observer import Silent
from raysynth.run.surroundings import Run, Waits
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.identity import Artifact, blockers, name
from raysynth.store.leases import LOOK_SECONDS
from raysynth.store.records import Outcome
from raysynth.store.store import State

MAX_RETRIES = 2
"""How often one run tries an artifact again that raised an exception."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run makes, by how it is made."""

    texts: list[TextDataset]
    datasets: list[Dataset]
    trained: list[Artifact]

    @staticmethod
    def of(artifacts: Iterable[Artifact], damaged: Iterable[Dataset | TextDataset]) -> "Work":
        """The `artifacts`, and the `damaged` data sets again."""
        to_make = [*artifacts, *sorted(damaged, key=name)]
        return Work(
            texts=[artifact for artifact in to_make if isinstance(artifact, TextDataset)],
            datasets=[artifact for artifact in to_make if isinstance(artifact, Dataset)],
            trained=[artifact for artifact in to_make if not isinstance(artifact, Dataset | TextDataset)],
        )


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of a run's artifacts."""

    failed: Mapping[Artifact, str]
    """Those that failed or diverged, with the reason in one line."""
    outcomes: Counter[Outcome]


class Schedule(Silent):
    """Hands out artifacts whose inputs are all done, those first that most others wait for.

    An `Observer` of the data sets that are drawn meanwhile: `finished` and `failed` may be called from other threads.
    Ends count by type. Success frees what waits for the artifact. A preempted artifact starts again as often as the run
    allows, one that raised an exception `MAX_RETRIES` times. Bad input and a diverged loss are final.
    """

    def __init__(self, artifacts: Sequence[Artifact], done: set[Artifact], *, awaited: Set[Artifact], run: Run):
        """`awaited` are inputs that are made meanwhile."""
        waited_for: Counter[Artifact] = Counter(needed for artifact in artifacts for needed in artifact.inputs())
        self._waiting = sorted(artifacts, key=lambda artifact: -waited_for[artifact])
        self._done = set(done)
        self._awaited = {name(artifact): artifact for artifact in awaited}
        self._store, self._driver, self._observer = run.store, run.driver, run.observer
        self._trouble, self._max_failed, self._waits = run.trouble, run.max_failed, Waits(run)
        self._elsewhere: dict[Artifact, float] = {}
        """Artifacts that other runs make, and when this run last looked at them."""
        self._raised: Counter[Artifact] = Counter()
        self._ended: Counter[Outcome] = Counter()
        self._lock = threading.RLock()
        self.failures: dict[Artifact, str] = {}

    def too_many_failed(self) -> bool:
        """Whether the run must end because of its failures."""
        return self._max_failed is not None and len(self.failures) >= self._max_failed

    def wait(self) -> bool:
        """Wait until an artifact can start, which is then leased, or until none ever can; returns whether one can.

        Raises the run's trouble.
        """
        while True:
            self._trouble.check()
            with self._lock:
                if self._has_room() and self._next() is not None:
                    return True
                if not self._elsewhere and not self._awaited:
                    return False
            self._driver.beat()
            time.sleep(1)

    def start(self) -> Artifact | None:
        """Hand out the next artifact; None while none can start."""
        with self._lock:
            artifact = self._next() if self._has_room() else None
            if artifact is not None:
                self._waiting.remove(artifact)
            return artifact

    def _has_room(self) -> bool:
        """Whether one more artifact may start beside those that run."""
        return True

    def _next(self) -> Artifact | None:
        """Lease the first artifact whose inputs are done and that no other run makes."""
        self._look_elsewhere()
        while True:
            ready = (artifact for artifact in self._waiting if all(one in self._done for one in artifact.inputs()))
            artifact = next(ready, None)
            if artifact is None:
                return None
            if not self._driver.lease(artifact):
                self._waiting.remove(artifact)
                self._made_elsewhere(artifact)
            elif self._store.status(artifact).state is State.DONE:  # by another run, a moment ago
                self._waiting.remove(artifact)
                self._end(artifact, Outcome.SUCCEEDED, "")
            else:
                return artifact

    def _made_elsewhere(self, artifact: Artifact) -> None:
        self._elsewhere[artifact] = time.monotonic()
        self._waits.waiting(artifact)

    def _look_elsewhere(self) -> None:
        for artifact, looked in list(self._elsewhere.items()):
            if time.monotonic() - looked < LOOK_SECONDS:
                continue
            status = self._store.status(artifact)
            if status.state is not State.DONE and not self._driver.lease(artifact):
                self._made_elsewhere(artifact)
                continue
            del self._elsewhere[artifact]
            self._waits.over(artifact)
            if status.state is State.DONE:
                self._end(artifact, Outcome.SUCCEEDED, "")
            elif status.failure is not None:
                self._end(artifact, status.failure.outcome, status.failure.error)
            else:  # the other run is gone
                self._waiting.append(artifact)

    def ended(self, artifact: Artifact, last: Mapping[str, Any]) -> None:
        """Note how an attempt at an artifact ended, from what `raysynth.run.make.attempt` returned."""
        with self._lock:
            if last["outcome"] == Outcome.PREEMPTED:
                self._observer.noted(name(artifact), "another run took it over, because it thought this one dead")
                self._made_elsewhere(artifact)
            elif last.get("again") and self._raised[artifact] < MAX_RETRIES:
                self._raised[artifact] += 1
                self._again(artifact, last["error"])
            else:
                self._end(artifact, Outcome(last["outcome"]), last.get("error", ""))

    def _again(self, artifact: Artifact, why: str) -> None:
        self._observer.noted(name(artifact), f"{why}; it starts again from its last checkpoint")
        self._waiting.insert(0, artifact)

    def outcomes(self) -> Counter[Outcome]:
        """How often each outcome occurred so far."""
        with self._lock:
            blocked = sum(bool(blockers(artifact, self.failures)) for artifact in self._waiting)
            return self._ended + Counter({Outcome.BLOCKED: blocked})

    def _end(self, artifact: Artifact, outcome: Outcome, error: str) -> None:
        """Count the end of an artifact that this run leased, and release it."""
        self._count(artifact, outcome, error)
        self._driver.release(artifact)

    def _count(self, artifact: Artifact, outcome: Outcome, error: str) -> None:
        self._ended[outcome] += 1
        if outcome is Outcome.SUCCEEDED:
            self._done.add(artifact)
            self._observer.finished(name(artifact))
        else:
            self.failures[artifact] = error
            self._observer.failed(name(artifact), error)

    def finished(self, artifact: str) -> None:
        """Note that an awaited input is done."""
        with self._lock:
            self._count(self._awaited.pop(artifact), Outcome.SUCCEEDED, "")

    def failed(self, artifact: str, error: str) -> None:
        """Note that an awaited input could not be made."""
        with self._lock:
            self._count(self._awaited.pop(artifact), Outcome.FAILED, error)

    def check_all_made(self) -> None:
        """Raise `InputError` if inputs are still awaited; for the end of whatever makes them."""
        with self._lock:
            if self._awaited:
                raise InputError(f"{next(iter(self._awaited))} is not drawn, because Ray ended under it")
