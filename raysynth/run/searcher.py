"""The searcher that Tune asks which artifact starts next.

Tune knows no dependencies between trials, so this searcher only suggests artifacts whose inputs are done.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence, Set
from typing import Any

from ray.tune.search import Searcher

from raysynth.run.deaths import Death
from raysynth.run.schedule import Schedule
from raysynth.run.surroundings import Run
from raysynth.specs.identity import Artifact, name
from raysynth.store.records import Outcome

MAX_DEATHS = 3
"""How often an artifact starts again whose process died on a host that lives; lost hosts have a limit of their own."""


class Dependencies(Searcher, Schedule):
    """Suggests what the schedule hands out, and tells the schedule how trials ended.

    What Tune calls raises nothing: an error there is the run's trouble, and then nothing more is suggested.
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
        host_name: Callable[[str], str] = str,
        most_at_once: Callable[[], float] = lambda: math.inf,
    ):
        """`awaited` are inputs that are made meanwhile; `hosts` returns the ids of the living nodes.

        `cause` returns how the process with a number ended, or the last one if the number is unknown; `host_name` what
        users call the node with an id, living or not; `most_at_once` how many artifacts may run as long as inputs are
        awaited.
        """
        Searcher.__init__(self)
        Schedule.__init__(self, artifacts, done, awaited=awaited, run=run)
        self._hosts, self._cause, self._host_name = hosts, cause, host_name
        self._most_at_once = most_at_once
        self._max_preemptions = run.max_preemptions
        self._running: dict[str, Artifact] = {}
        self._nodes: dict[str, str] = {}
        """The node of each trial that has reported it."""
        self._pids: dict[str, int] = {}
        """The process of each trial that has reported it."""
        self._deaths: dict[Artifact, list[str | None]] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **_: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next artifact's name; None while what is left waits for a running trial; `FINISHED` if nothing runs.

        Never let Tune wait for data: its idle actors hold the CPUs that generation needs. Call `wait` before the next
        experiment instead.
        """
        with self._lock, self._trouble.caught():
            artifact = None if self._trouble else self.start()
            if artifact is None:
                return None if self._running else Searcher.FINISHED
            self._running[trial_id] = artifact
            return {"artifact": name(artifact)}
        return Searcher.FINISHED

    def _has_room(self) -> bool:
        return not self._awaited or len(self._running) < self._most_at_once()

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
            else:
                self.ended(artifact, last)

    def _died(self, artifact: Artifact, node: str | None, pid: int | None) -> None:
        """Count a lost process. Whether its host died too is known only later, so recount all deaths each time."""
        deaths = self._deaths.setdefault(artifact, [])
        deaths.append(node)
        hosts = self._hosts()
        death = self._cause(pid)
        lost = [one for one in deaths if one is not None and one not in hosts]
        if len(lost) > self._max_preemptions:
            self._fail(artifact, self._lost_too_often(lost), death.log)
        elif death.is_final or len(deaths) - len(lost) > MAX_DEATHS:
            error = death.cause or "its process ended without a message"
            if len(deaths) > 1:
                error = f"its process died {len(deaths)} times: {error}"
            self._fail(artifact, error, death.log)
        else:
            self._again(artifact, death.cause or "its process or its host was lost")

    def _fail(self, artifact: Artifact, error: str, log: str) -> None:
        self._store.fail(artifact, outcome=Outcome.FAILED, error=error, log=log)
        self._end(artifact, Outcome.FAILED, error)

    def _lost_too_often(self, lost: list[str]) -> str:
        """What to say of an artifact that lost its host on these nodes, the last one last."""
        counts = Counter(map(self._host_name, lost))
        hosts = ", ".join(f"{host} {count} times" if count > 1 else host for host, count in counts.most_common(3))
        hosts += f" and {len(counts) - 3} others" if len(counts) > 3 else ""
        return (
            f"its host was lost {len(lost)} times ({hosts}), and --max-preemptions allows {self._max_preemptions}: see "
            "whether the training ends its hosts, for example for lack of memory"
        )

    def outcomes(self) -> Counter[Outcome]:
        """How often each outcome occurred so far; a process that died on a living host counts as none."""
        with self._lock:
            hosts = self._hosts()
            deaths = [node for nodes in self._deaths.values() for node in nodes]
            lost = sum(node is not None and node not in hosts for node in deaths)
            return super().outcomes() + Counter({Outcome.PREEMPTED: lost})

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that never happens: the store says what is done

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the store says what is done."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the store says what is done."""
