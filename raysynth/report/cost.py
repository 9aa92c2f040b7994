"""What a sweep costs, how far it is and what is wrong with it: read from the store alone, from any machine."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import Artifact, describe
from raysynth.specs.pretraining import Pretrain
from raysynth.specs.recipes import Recipe
from raysynth.store.store import State, Status, Store

# -------------------------------------------------------------------------------- cost


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What remains of a sweep."""

    steps: int
    hours: float
    """Of one host, as far as speeds are known."""
    unknown: int
    """Artifacts of unknown speed."""

    def told(self, num_workers: int, price: float | None) -> str:
        """In one line, for so many hosts side by side at a price per hour and host."""
        days = f", {self.hours / 24 / num_workers:.2f} days on {num_workers} workers" if num_workers > 1 else ""
        money = f", {self.hours * price:,.2f} at {price:g} an hour" if price is not None else ""
        if self.unknown and not self.hours:
            return f"{self.steps:,} training steps, device-hours unknown (plan --measure tells)"
        rest = f" and {self.unknown} artifacts whose speed is unknown (plan --measure)" if self.unknown else ""
        return f"{self.steps:,} training steps, {self.hours:.2f} device-hours{days}{money}{rest}"


def remaining(statuses: dict[Artifact, Status], store: Store) -> Cost:
    """The cost of what is neither done nor diverged."""
    return cost(statuses, statuses, dict(zip(statuses, speeds(statuses, store), strict=True)))


def cost(
    artifacts: Iterable[Artifact], statuses: Mapping[Artifact, Status], seconds: Mapping[Artifact, float | None]
) -> Cost:
    """The cost of those that are neither done nor diverged, at so many seconds per step of each."""
    left = {
        artifact: steps_left(artifact, statuses[artifact])
        for artifact in artifacts
        if statuses[artifact].state not in (State.DONE, State.DIVERGED)
    }
    return Cost(
        steps=sum(left.values()),
        hours=sum(steps * (seconds[artifact] or 0.0) for artifact, steps in left.items()) / 3600,
        unknown=sum(bool(steps) and seconds[artifact] is None for artifact, steps in left.items()),
    )


def steps_left(artifact: Artifact, status: Status) -> int:
    """Training steps between where an artifact is and its last one, which selection may make needless."""
    recipe = recipe_of(artifact)
    if recipe is None or status.state is State.DONE:
        return 0
    return recipe.num_steps - (status.progress or {}).get("step", 0)


def speeds(statuses: dict[Artifact, Status], store: Store) -> list[float | None]:
    """Seconds per step of each artifact: of the slowest record of its shape, else as measured, else None."""
    known: dict[Any, float] = {}
    for artifact, status in statuses.items():
        seconds = (status.record or {}).get("provenance", {}).get("seconds_per_step")
        if seconds is not None:
            known[_shape(artifact)] = max(seconds, known.get(_shape(artifact), 0.0))
    measured: dict[str, float | None] = {}
    told: list[float | None] = []
    for artifact, status in statuses.items():
        file = speed_file(artifact)
        if _shape(artifact) in known or file is None or status.state is State.DONE:
            told.append(known.get(_shape(artifact)))
            continue
        if file not in measured:
            measured[file] = (store.read_json(file) or {}).get("seconds_per_step")
        told.append(measured[file])
    return told


def recipe_of(artifact: Artifact) -> Recipe | None:
    """How an artifact is trained, if it is."""
    if isinstance(artifact, Finetune):
        return artifact.task
    return artifact if isinstance(artifact, Pretrain) else None


def _shape(artifact: Artifact) -> tuple[Any, ...] | None:
    """What the speed of a step depends on."""
    recipe = recipe_of(artifact)
    if recipe is None:
        return None
    data = artifact.task.data if isinstance(artifact, Finetune) else artifact.data.task
    return artifact.model, recipe.batch_size, recipe.input_length, recipe.target_length, data


def speed_file(artifact: Artifact) -> str | None:
    """Where the measured speed of an artifact's model, batch and lengths is kept, if it is trained."""
    recipe = recipe_of(artifact)
    if recipe is None:
        return None
    shape = [describe(artifact.model), recipe.batch_size, recipe.input_length, recipe.target_length]
    return f"speeds/{hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:8]}.json"
