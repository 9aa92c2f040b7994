"""Watches what a run's trials wait for: hosts that are up, starting, or not to be had."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raysynth.report.cost import duration
from raysynth.run.launcher import Launcher
from raysynth.run.surroundings import Run
from raysynth.store.leases import BEAT_SECONDS
from raysynth.store.records import Hosts

HOST_SECONDS = 300.0
"""A run whose trials all wait for a host says so once they have done so for this long."""

THE_CLUSTER = "the cluster"
"""In place of an artifact's name in notes on hosts."""


class HostWatch:
    """Tells the run's mark in the store which hosts there are, and the observer once that there is none."""

    def __init__(
        self,
        run: Run,
        resources: Mapping[str, float],
        *,
        nodes: Callable[[], list[dict[str, Any]]],
        launcher: Callable[[], Launcher],
    ):
        """`resources` are those of one trial; `nodes` returns what Ray knows of each node."""
        self._run, self._resources, self._nodes, self._launcher = run, resources, nodes, launcher
        self._looked = float("-inf")
        self._idle_since: float | None = None
        self._noted = False

    def look(self, *, running: int, waiting: Sequence[str]) -> None:
        """Note how many trials run and which artifacts' trials wait for a host; at most every `BEAT_SECONDS`."""
        now = time.monotonic()
        if now - self._looked < BEAT_SECONDS:
            return
        self._looked = now
        launcher = self._launcher()
        hosts = Hosts(
            up=sum(self._fits(node) for node in self._nodes()),
            starting=launcher.starting,
            running=running,
            waiting=tuple(waiting),
            error=launcher.error or None,
        )
        self._run.driver.tell(hosts)
        if running or not waiting:
            self._idle_since, self._noted = None, False
            return
        self._idle_since = now if self._idle_since is None else self._idle_since
        if now - self._idle_since >= HOST_SECONDS and not self._noted:
            self._noted = True
            wait = duration(now - self._idle_since)
            self._run.observer.noted(THE_CLUSTER, f"no training could start for {wait}: {hosts.text()}")

    def _fits(self, node: dict[str, Any]) -> bool:
        """Whether a trial could run on a node that has nothing else to do."""
        has = node["Resources"]
        return bool(node["Alive"]) and all(has.get(kind, 0) >= amount for kind, amount in self._resources.items())
