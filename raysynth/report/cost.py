"""What a sweep costs, how far it is and what is wrong with it: read from the store alone, from any machine."""

import dataclasses
import hashlib
import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raysynth.specs import parameters
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import Artifact, blockers, describe, name
from raysynth.specs.models import Dtype
from raysynth.specs.pretraining import Pretrain, Pretrained, published_models
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


# -------------------------------------------------------------------------------- verbs


def print_plan(statuses: dict[Artifact, Status], store: Store, *, num_workers: int, price: float | None) -> None:
    """Print every artifact with its state, what it waits for, its steps and, where known, its hours."""
    kinds = Counter(artifact.kind for artifact in statuses)
    print(f"{store.uri}: " + ", ".join(f"{count} {_PLURALS[kind]}" for kind, count in kinds.items()))
    for (artifact, status), seconds in zip(statuses.items(), speeds(statuses, store), strict=True):
        line = f"{status.state:11} {name(artifact)}"
        if status.record is not None:
            skipped = status.record["result"].get("skipped_rows")
            print(f"{line}  {skipped} bad rows skipped" if skipped else line)
            continue
        if isinstance(artifact, Pretrained):
            line += f"  import it: {import_command(artifact, store)}"
        left = steps_left(artifact, status)
        if left:
            told = "hours unknown" if seconds is None else f"{left * seconds / 3600:.2f} hours"
            line += f"  {left:,} steps, {told}"
        if isinstance(artifact, Finetune) and (touched := parameters.touched(artifact.init)):
            line += f", sets {len(touched)} of {len(parameters.paths(artifact.model))} parameters"
        print(line)
        for needed in artifact.inputs():
            if statuses[needed].state is not State.DONE:
                print(f"            waits for {name(needed)}")
        if status.failure is not None:
            print(f"            {status.state} on {status.failure['host']}: {status.failure['error']}")
    print(f"to do: {remaining(statuses, store).told(num_workers, price)}")


_PLURALS = {
    "dataset": "data sets",
    "pretrain": "pre-trainings",
    "pretrained": "imported models",
    "finetune": "fine-tunings",
}


def print_status(statuses: dict[Artifact, Status], store: Store) -> int:
    """Print what is running, waiting, failed and left; returns 1 if anything failed or diverged."""
    counts = Counter(status.state for status in statuses.values())
    print(f"{store.uri}: " + ", ".join(f"{counts[state]} {state}" for state in State if counts[state]))
    for artifact, status in statuses.items():
        if status.progress is not None:
            print(f"{status.state:11} {name(artifact)}  {_progress(status.progress)}")
    waiting = Counter(
        needed
        for artifact, status in statuses.items()
        if status.state is State.NEW
        for needed in artifact.inputs()
        if statuses[needed].state is not State.DONE
    )
    for needed, count in waiting.items():
        print(f"waiting     {count} for {name(needed)} ({statuses[needed].state})")
    failures = {artifact: status.failure for artifact, status in statuses.items() if status.failure is not None}
    print_failures({artifact: failure["error"] for artifact, failure in failures.items()}, statuses)
    for artifact, failure in failures.items():
        step = "" if failure.get("step") is None else f" at step {failure['step']:,}"
        print(f"  {name(artifact)}{step} on {failure['host']}, log: {store.place}/{name(artifact)}/failure.json")
    print(f"to do: {remaining(statuses, store).told(1, None)}")
    return 1 if failures else 0


def _progress(mark: dict[str, Any]) -> str:
    """Where a running artifact is, how fast, and when it will end."""
    line = f"step {mark['step']:,} of {mark['num_steps']:,} on {mark['host']}, {time.time() - mark['time']:.0f} s ago"
    seconds = mark.get("seconds_per_step")
    if not seconds:
        return line
    left = (mark["num_steps"] - mark["step"]) * seconds
    return f"{line}, {1 / seconds:.3g} steps/s, {left / 3600:.0f} h {left / 60 % 60:.0f} min left at most"


def print_failures(failures: dict[Artifact, str], statuses: Iterable[Artifact]) -> None:
    """One line per distinct error with the artifacts that it hit, and one per cause with those that wait in vain."""
    groups: dict[str, list[Artifact]] = {}
    for artifact, error in failures.items():
        groups.setdefault(error, []).append(artifact)
    for error, group in groups.items():
        print(f"failed: {_names(group)}: {error}", file=sys.stderr)
    blocked: dict[Artifact, list[Artifact]] = {}
    for artifact in statuses:
        causes = blockers(artifact, failures)
        if causes and artifact not in failures:
            blocked.setdefault(causes[0], []).append(artifact)
    for cause, waiting in blocked.items():
        line = f"blocked: {_names(waiting)}: waiting for {name(cause)}, which failed: {failures[cause]}"
        print(line, file=sys.stderr)


def _names(artifacts: list[Artifact]) -> str:
    """The first few names, and how many there are besides."""
    told = ", ".join(map(name, artifacts[:_FIRST]))
    return told if len(artifacts) <= _FIRST else f"{told} and {len(artifacts) - _FIRST} others"


_FIRST = 5


def import_command(artifact: Pretrained, store: Store) -> str:
    """The command that brings a pretrained model into the store."""
    command = f"raysynth import DIR --name {artifact.name} --store {shlex.quote(store.uri)}"
    shape = dataclasses.replace(artifact.model, dtype=Dtype.DEVICE)
    if artifact.name not in published_models or shape != published_models[artifact.name]:
        command += " --model found"
    return command if artifact.model.dtype is Dtype.DEVICE else f"{command} --dtype {artifact.model.dtype}"
