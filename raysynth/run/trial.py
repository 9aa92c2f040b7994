"""What Tune runs: one artifact, from its inputs in the store to its record."""

import os
from collections.abc import Mapping
from pathlib import Path

import ray
from ray import tune

from raysynth.run.make import attempt
from raysynth.run.surroundings import BoardSettings
from raysynth.specs.identity import Artifact
from raysynth.store.store import Store


def trial(
    config: dict[str, str],
    *,
    artifacts: Mapping[str, Artifact],
    store: Store,
    cache: Path,
    driver: str,
    checkpoint_seconds: float,
    board: BoardSettings,
) -> None:
    """Make the artifact that `config` names for the run that is called `driver`."""
    node = ray.get_runtime_context().get_node_id()
    tune.report({"node": node, "pid": os.getpid()})
    end = attempt(
        artifacts[config["artifact"]],
        store=store,
        cache=cache,
        report=lambda result: tune.report(result),
        node=node,
        driver=driver,
        checkpoint_seconds=checkpoint_seconds,
        board=board,
    )
    tune.report(end)
