"""What a sweep plans, how far it is and what failed, as lines for a terminal."""

import dataclasses
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from raysynth.report.cost import remaining, speeds, steps_left
from raysynth.specs import parameters
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import Artifact, blockers, name
from raysynth.specs.models import Dtype
from raysynth.specs.pretraining import Pretrained, published_models
from raysynth.store.store import State, Status, Store

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
