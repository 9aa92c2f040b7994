"""Which artifact starts next: the searcher that Tune asks, over artifacts that wait for each other.

Tune knows no dependencies between trials, so a searcher hands out only artifacts whose inputs are done: pre-training
and fine-tuning share one queue with no barrier between them, and the children of a failed artifact never start.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from ray.tune.search import Searcher

from raysynth.specs.identity import Artifact, blockers, name
from raysynth.store.leases import LOOK_SECONDS, Driver
from raysynth.store.store import Outcome, State, Store

MAX_RETRIES = 2
"""How often an artifact that raised an exception is tried again in one run."""
MAX_DEATHS = 3
"""How often an artifact whose process died on a host that lives is started again; lost hosts do not count."""


class Watch(Protocol):
    """Who is told of what happens."""

    def finished(self, artifact: str) -> None: ...
    def failed(self, artifact: str, error: str) -> None: ...
    def warn(self, line: str) -> None: ...


class Dependencies(Searcher):
    """Suggests artifacts whose inputs are all done, those that most others wait for first.

    `made` and `unmade` may be called from other threads. Ends count by type: what succeeded frees those that wait for
    it, what was preempted starts again without limit, an exception is tried again `MAX_RETRIES` times, and bad input
    or a loss that diverged is final.
    """

    def __init__(
        self,
        artifacts: list[Artifact],
        done: set[Artifact],
        *,
        awaited: set[Artifact],
        store: Store,
        driver: Driver,
        watch: Watch,
        hosts: Callable[[], set[str]],
    ):
        """`awaited` are inputs that are made meanwhile; `hosts` gives the nodes that live."""
        super().__init__()
        waited_for = Counter(needed for artifact in artifacts for needed in artifact.inputs())
        self._waiting = sorted(artifacts, key=lambda artifact: -waited_for[artifact])
        self._done = set(done)
        self._awaited = set(awaited)
        self._store, self._driver, self._watch, self._hosts = store, driver, watch, hosts
        self._running: dict[str, Artifact] = {}
        self._on: dict[str, str] = {}
        """The node of each trial that has told it."""
        self._elsewhere: dict[Artifact, float] = {}
        """Artifacts that other runs make, and when they were last looked at."""
        self._raised: Counter[Artifact] = Counter()
        self._deaths: dict[Artifact, list[str | None]] = {}
        self._ended: Counter[Outcome] = Counter()
        self._lock = threading.RLock()
        self.failed: dict[Artifact, str] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **_: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        """The next artifact's name, None while all that is left waits for what runs, `FINISHED` when nothing runs.

        Tune must not wait for anything else: while it has no trial it sleeps, and keeps idle processes that hold the
        resources which the awaited data need. `wait` is for that, before the next experiment with this searcher.
        """
        with self._lock:
            artifact = self._next()
            if artifact is None:
                return None if self._running else Searcher.FINISHED
            self._waiting.remove(artifact)
            self._running[trial_id] = artifact
            return {"artifact": name(artifact)}

    def wait(self) -> bool:
        """Wait until something can start, which is leased then, or nothing ever can; returns which."""
        while True:
            with self._lock:
                if self._next() is not None:
                    return True
                if not self._elsewhere and not self._awaited:
                    return False
            self._driver.beat()
            time.sleep(1)

    def _next(self) -> Artifact | None:
        """The first artifact whose inputs are done and that no other run makes, leased."""
        self._look_elsewhere()
        while True:
            ready = (artifact for artifact in self._waiting if all(one in self._done for one in artifact.inputs()))
            artifact = next(ready, None)
            if artifact is None:
                return None
            if not self._driver.lease(artifact):
                self._waiting.remove(artifact)
                self._elsewhere[artifact] = time.monotonic()
            elif self._store.status(artifact).state is State.DONE:  # by another run, a moment ago
                self._waiting.remove(artifact)
                self._end(artifact, Outcome.SUCCEEDED, "")
            else:
                return artifact

    def _look_elsewhere(self) -> None:
        for artifact, looked in list(self._elsewhere.items()):
            if time.monotonic() - looked < LOOK_SECONDS:
                continue
            status = self._store.status(artifact)
            self._elsewhere[artifact] = time.monotonic()
            if status.state is State.DONE:
                del self._elsewhere[artifact]
                self._end(artifact, Outcome.SUCCEEDED, "")
            elif status.failure is not None and self._driver.lease(artifact):
                del self._elsewhere[artifact]
                self._end(artifact, Outcome(status.state.value), status.failure["error"])
            elif self._driver.lease(artifact):  # the other run is gone
                del self._elsewhere[artifact]
                self._waiting.append(artifact)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if "node" in result:
            self._on[trial_id] = result["node"]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        with self._lock:
            artifact = self._running.pop(trial_id, None)
            if artifact is None:
                return
            told, node = result or {}, self._on.pop(trial_id, None)
            if error or "outcome" not in told:
                self._died(artifact, node)
            elif told.get("again") and self._raised[artifact] < MAX_RETRIES:
                self._raised[artifact] += 1
                self._again(artifact, told["error"])
            else:
                self._end(artifact, Outcome(told["outcome"]), told.get("error", ""))

    def _died(self, artifact: Artifact, node: str | None) -> None:
        """A process was lost; that its host was lost too shows only later, so all losses are counted anew each time."""
        deaths = self._deaths.setdefault(artifact, [])
        deaths.append(node)
        hosts = self._hosts()
        if sum(death is None or death in hosts for death in deaths) > MAX_DEATHS:
            error = f"its process died {len(deaths)} times (out of memory?)"
            self._store.fail(artifact, outcome=Outcome.FAILED, error=error, log="")
            self._end(artifact, Outcome.FAILED, error)
        else:
            self._again(artifact, "its process or its host was lost")

    def _again(self, artifact: Artifact, why: str) -> None:
        self._watch.warn(f"{name(artifact)}: {why}; it starts again from its last checkpoint")
        self._waiting.insert(0, artifact)

    def outcomes(self) -> Counter[Outcome]:
        """How often each outcome has come so far; a process that died on a host that lives counts as none."""
        with self._lock:
            hosts = self._hosts()
            deaths = [node for nodes in self._deaths.values() for node in nodes]
            lost = sum(node is not None and node not in hosts for node in deaths)
            blocked = sum(bool(blockers(artifact, self.failed)) for artifact in self._waiting)
            return self._ended + Counter({Outcome.PREEMPTED: lost, Outcome.BLOCKED: blocked})

    def _end(self, artifact: Artifact, outcome: Outcome, error: str) -> None:
        self._ended[outcome] += 1
        if outcome is Outcome.SUCCEEDED:
            self._done.add(artifact)
            self._watch.finished(name(artifact))
        else:
            self.failed[artifact] = error
            self._watch.failed(name(artifact), error)
        self._driver.release(artifact)

    def made(self, artifact: Artifact) -> None:
        """An awaited input is done."""
        with self._lock:
            self._awaited.discard(artifact)
            self._end(artifact, Outcome.SUCCEEDED, "")

    def unmade(self, artifact: Artifact, error: str) -> None:
        """An awaited input could not be made."""
        with self._lock:
            self._awaited.discard(artifact)
            self._end(artifact, Outcome.FAILED, error)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for a restore that we never ask for: what is done is in the store

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is done is in the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: what is done is in the store."""
