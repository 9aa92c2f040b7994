"""Which artifact starts next: the searcher that Tune asks, over artifacts that wait for each other.

Tune knows no dependencies between trials, so this searcher only suggests artifacts whose inputs are done.
Pre-trainings and fine-tunings share one queue without a barrier, and what needs a failed artifact never starts.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from typing import Any

from ray.tune.search import Searcher

from raysynth.errors import InputError
from raysynth.observer import Silent
from raysynth.run.deaths import Death
from raysynth.run.surroundings import Run, Waits
from raysynth.specs.identity import Artifact, blockers, name
from raysynth.store.leases import LOOK_SECONDS
from raysynth.store.records import Outcome
from raysynth.store.store import State

MAX_RETRIES = 2
"""How often one run tries an artifact again that raised an exception."""
MAX_DEATHS = 3
"""How often an artifact starts again whose process died on a host that lives; lost hosts do not count."""


class Dependencies(Searcher, Silent):
    """Suggests artifacts whose inputs are all done, those first that most others wait for.

    An `Observer` of the data sets that are drawn meanwhile: `finished` and `failed` may be called from other threads.
    Ends count by type. Success frees what waits for the artifact. A preempted artifact starts again without limit, one
    that raised an exception `MAX_RETRIES` times. Bad input and a diverged loss are final. What Tune calls raises
    nothing: an error there is the run's trouble, and then nothing more is suggested.
    """

    def __init__(
        self,
        artifacts: Sequence[Artifact],
        done: set[Artifact],
        *,
        awaited: Set[Artifact],
        run: Run,
        hosts: Callable[[], set[str]],
        cause: Callable[[int | None], Death] = lambda pid: Death(),
    ):
        """`awaited` are inputs that are made meanwhile; `hosts` returns the ids of the living nodes.

        `cause` returns how the process with a number ended, or the last one if the number is unknown.
        """
        super().__init__()
        waited_for: Counter[Artifact] = Counter(needed for artifact in artifacts for needed in artifact.inputs())
        self._waiting = sorted(artifacts, key=lambda artifact: -waited_for[artifact])
        self._done = set(done)
        self._awaited = {name(artifact): artifact for artifact in awaited}
        self._store, self._driver, self._observer, self._hosts = run.store, run.driver, run.observer, hosts
        self._trouble, self._waits = run.trouble, Waits(run)
        self._cause = cause
        self._running: dict[str, Artifact] = {}
        self._nodes: dict[str, str] = {}
        """The node of each trial that has reported it."""
        self._pids: dict[str, int] = {}
        """The process of each trial that has reported it."""
        self._elsewhere: dict[Artifact, float] = {}
        """Artifacts that other runs make, and when this run last looked at them."""
        self._raised: Counter[Artifact] = Counter()
        self._deaths: dict[Artifact, list[str | None]] = {}
        self._ended: Counter[Outcome] = Counter()
        self._lock = threading.RLock()
        self.failures: dict[Artifact, str] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **_: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next artifact's name; None while everything left waits for a running trial; `FINISHED` if nothing runs.

        Never let Tune wait for data: its idle actors hold the CPUs that generation needs. Call `wait` before the next
        experiment instead.
        """
        with self._lock, self._trouble.caught():
            artifact = None if self._trouble else self._next()
            if artifact is None:
                return None if self._running else Searcher.FINISHED
            self._waiting.remove(artifact)
            self._running[trial_id] = artifact
            return {"artifact": name(artifact)}
        return Searcher.FINISHED

    def wait(self) -> bool:
        """Wait until an artifact can start, which is then leased, or until none ever can; returns whether one can.

        Raises the run's trouble.
        """
        while True:
            self._trouble.check()
            with self._lock:
                if self._next() is not None:
                    return True
                if not self._elsewhere and not self._awaited:
                    return False
            self._driver.beat()
            time.sleep(1)

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

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if "node" in result:
            self._nodes[trial_id] = result["node"]
            if "pid" in result:
                self._pids[trial_id] = result["pid"]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        with self._lock, self._trouble.caught():
            artifact = self._running.pop(trial_id, None)
            if artifact is None:
                return
            last, node, pid = result or {}, self._nodes.pop(trial_id, None), self._pids.pop(trial_id, None)
            if error or "outcome" not in last:
                self._died(artifact, node, pid)
            elif last["outcome"] == Outcome.PREEMPTED:
                self._observer.noted(name(artifact), "another run took it over, because it thought this one dead")
                self._made_elsewhere(artifact)
            elif last.get("again") and self._raised[artifact] < MAX_RETRIES:
                self._raised[artifact] += 1
                self._again(artifact, last["error"])
            else:
                self._end(artifact, Outcome(last["outcome"]), last.get("error", ""))

    def _died(self, artifact: Artifact, node: str | None, pid: int | None) -> None:
        """Count a lost process. Whether its host died too is known only later, so recount all deaths each time."""
        deaths = self._deaths.setdefault(artifact, [])
        deaths.append(node)
        hosts = self._hosts()
        death = self._cause(pid)
        if death.is_final or sum(one is None or one in hosts for one in deaths) > MAX_DEATHS:
            error = death.cause or "its process ended without a message"
            if len(deaths) > 1:
                error = f"its process died {len(deaths)} times: {error}"
            self._store.fail(artifact, outcome=Outcome.FAILED, error=error, log=death.log)
            self._end(artifact, Outcome.FAILED, error)
        else:
            self._again(artifact, death.cause or "its process or its host was lost")

    def _again(self, artifact: Artifact, why: str) -> None:
        self._observer.noted(name(artifact), f"{why}; it starts again from its last checkpoint")
        self._waiting.insert(0, artifact)

    def outcomes(self) -> Counter[Outcome]:
        """How often each outcome occurred so far; a process that died on a living host counts as none."""
        with self._lock:
            hosts = self._hosts()
            deaths = [node for nodes in self._deaths.values() for node in nodes]
            lost = sum(node is not None and node not in hosts for node in deaths)
            blocked = sum(bool(blockers(artifact, self.failures)) for artifact in self._waiting)
            return self._ended + Counter({Outcome.PREEMPTED: lost, Outcome.BLOCKED: blocked})

    def _end(self, artifact: Artifact, outcome: Outcome, error: str) -> None:
        """Count the end of an artifact that this searcher leased, and release it."""
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

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that never happens: the store says what is done

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the store says what is done."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the store says what is done."""
