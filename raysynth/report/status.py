"""Prints what a sweep plans, how far it is and what failed."""

import dataclasses
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from raysynth.errors import printable
from raysynth.report.cost import Times, cost, duration, remaining, seconds_left, speeds, steps_left
from raysynth.specs import parameters
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.distinctions import distinctions
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import Artifact, blockers, name
from raysynth.specs.models import Dtype
from raysynth.specs.pretraining import Pretrained, published_models
from raysynth.store.leases import holders, living_runs
from raysynth.store.records import DataResult, RunMark, Running
from raysynth.store.store import State, Status, Store

# -------------------------------------------------------------------------------- plan


def print_plan(
    statuses: Mapping[Artifact, Status],
    store: Store,
    *,
    num_workers: int,
    price: float | None,
    times: Times | None = None,
) -> None:
    """Print every artifact with its state, its inputs that are not done, its steps and, if known, its time.

    The last line is the cost of all, with the time on `num_workers` hosts and money at `price` per host-hour. `times`
    are by default those that the store knows.
    """
    kinds = Counter(artifact.kind for artifact in statuses)
    counts = [f"{count} {_NOUNS[kind]}{'s' if count > 1 else ''}" for kind, count in kinds.items()]
    print(f"{printable(store.uri)}: {', '.join(counts)}")
    times = times or Times(seconds_per_step=speeds(statuses, store))
    # An input is another object in each artifact that needs it, and so would be named again for each.
    names = {artifact: name(artifact) for artifact in statuses}
    told = distinctions(statuses)
    for artifact, status in statuses.items():
        print(printable(f"{status.state:11} {_told(artifact, told)}{_plan_details(artifact, status, times, store)}"))
        if status.record is not None:
            continue
        for needed in artifact.inputs():
            if statuses[needed].state is not State.DONE:
                print(f"            waits for {names[needed]}")
        if status.failure is not None:
            print(printable(f"            {status.state} on {status.failure.host}: {status.failure.error}"))
    for note in times.notes:
        print(note)
    to_do = cost(statuses, statuses, times)
    print(f"to do: {to_do.text(num_workers=num_workers, price=price)}")


def _told(artifact: Artifact, told: Mapping[Artifact, str]) -> str:
    """The artifact's name, with what tells it from others of the sweep that the name does not say."""
    return f"{name(artifact)} ({told[artifact]})" if artifact in told else name(artifact)


_NOUNS = {
    "dataset": "data set",
    "pretrain": "pre-training",
    "pretrained": "imported model",
    "finetune": "fine-tuning",
}


def _plan_details(artifact: Artifact, status: Status, times: Times, store: Store) -> str:
    """What follows the artifact's name on its line of the plan."""
    if status.record is not None:
        result = status.record.result
        skipped = isinstance(result, DataResult) and result.skipped_rows
        return f"  {skipped} bad rows skipped" if skipped else ""
    details = ""
    if isinstance(artifact, Pretrained):
        details += f"  import it: {import_command(artifact, store)}"
    left = steps_left(artifact, status)
    if left:
        seconds = seconds_left(artifact, status, times)
        details += f"  {left:,} steps, {'time unknown' if seconds is None else duration(seconds)}"
    if isinstance(artifact, Finetune) and (touched := parameters.touched(artifact.init)):
        details += f", sets {len(touched)} of {len(parameters.paths(artifact.model))} parameters"
    return details


def import_command(artifact: Pretrained, store: Store) -> str:
    """The shell command that brings a pretrained model into the store."""
    command = f"raysynth import DIR --name {artifact.name} --store {shlex.quote(store.uri)}"
    shape = dataclasses.replace(artifact.model, dtype=Dtype.DEVICE)
    if artifact.name not in published_models or shape != published_models[artifact.name]:
        command += " --model found"
    return command if artifact.model.dtype is Dtype.DEVICE else f"{command} --dtype {artifact.model.dtype}"


# -------------------------------------------------------------------------------- status


def print_status(statuses: Mapping[Artifact, Status], store: Store) -> int:
    """Print what is running, waiting, failed and left; returns 1 if anything failed or diverged."""
    counts = Counter(status.state for status in statuses.values())
    print(f"{printable(store.uri)}: " + ", ".join(f"{counts[state]} {state}" for state in State if counts[state]))
    told = distinctions(statuses)
    for artifact, status in statuses.items():
        if status.progress is not None:
            print(printable(f"{status.state:11} {_told(artifact, told)}  {_progress(status.progress)}"))
    num_waiting = Counter(
        needed
        for artifact, status in statuses.items()
        if status.state is State.NEW
        for needed in artifact.inputs()
        if statuses[needed].state is not State.DONE
    )
    runs = living_runs(store)
    since = min((mark.started for mark in runs.values() if mark.started), default=None)
    for needed, count in num_waiting.items():
        print(f"waiting     {count} for {name(needed)} ({statuses[needed].state}){_waited(since)}")
    for line in _ready(statuses, store, runs, since):
        print(printable(line))
    failures = {artifact: status.failure for artifact, status in statuses.items() if status.failure is not None}
    print_failures({artifact: failure.error for artifact, failure in failures.items()}, statuses)
    for artifact, failure in failures.items():
        step = "" if failure.step is None else f" at step {failure.step:,}"
        line = f"  {name(artifact)}{step} on {failure.host}, log: {store.place}/{name(artifact)}/failure.json"
        print(printable(line))
    print(f"to do: {remaining(statuses, store).text()}")
    return 1 if failures else 0


def _waited(since: float | None) -> str:
    return "" if since is None else f", for {duration(max(0.0, time.time() - since))}"


def _ready(
    statuses: Mapping[Artifact, Status], store: Store, runs: Mapping[str, RunMark], since: float | None
) -> Iterator[str]:
    """A line for each reason why artifacts whose inputs are done do not run, with the longest wait from `since` on."""
    ready = [
        artifact
        for artifact, status in statuses.items()
        if status.state in (State.NEW, State.INTERRUPTED)
        and not isinstance(artifact, Pretrained)
        and all(statuses[needed].state is State.DONE for needed in artifact.inputs())
    ]
    leased = holders(store) if ready and runs else {}
    groups: dict[str, list[Artifact]] = {}
    for artifact in ready:
        holder = leased.get(name(artifact)) if leased else None
        groups.setdefault(_reason(artifact, runs, holder), []).append(artifact)
    for reason, group in groups.items():
        waits = [max(since, _ready_at(artifact, statuses)) for artifact in group] if since is not None else []
        yield f"waiting     {len(group)} {reason}{_waited(min(waits, default=None))}: {_names(group)}"


def _reason(artifact: Artifact, runs: Mapping[str, RunMark], holder: str | None) -> str:
    """What an artifact that is ready waits for, in words; `holder` is the run that its lease names."""
    if not runs:
        return "for a run: none works on this store"
    has_begun = holder is not None and holder in runs
    run = runs[holder] if has_begun and holder is not None else next(iter(runs.values()))
    what = f"process {run.pid} on {run.host}"
    is_data = isinstance(artifact, Dataset | TextDataset)
    if has_begun and (is_data or run.hosts is None or name(artifact) not in run.hosts.waiting):
        return f"for {what}, which has begun with it"
    if is_data or run.hosts is None:
        return f"for {what}, which makes others first"
    return f"for a free host ({run.hosts.text()})"


def _ready_at(artifact: Artifact, statuses: Mapping[Artifact, Status]) -> float:
    """When an artifact's last input was made, or when it last ran, in seconds since the epoch; 0 if it never could."""
    records = [record for needed in artifact.inputs() if (record := statuses[needed].record) is not None]
    progress = statuses[artifact].progress
    times = [record.provenance.started + record.provenance.seconds for record in records]
    return max([*times, 0.0 if progress is None else progress.time])


def _progress(progress: Running) -> str:
    """Where a running artifact is, how fast it goes and when it will end at the latest."""
    age_seconds = time.time() - progress.time
    line = f"step {progress.step:,} of {progress.num_steps:,} on {progress.host}, {duration(age_seconds)} ago"
    if not progress.seconds_per_step:
        return line
    left = duration((progress.num_steps - progress.step) * progress.seconds_per_step)
    return f"{line}, {1 / progress.seconds_per_step:.3g} steps/s, {left} left at most"


# -------------------------------------------------------------------------------- failures


def print_failures(failures: Mapping[Artifact, str], artifacts: Iterable[Artifact]) -> None:
    """Print to standard error one line per distinct error with the artifacts that it hit.

    Then print one line per cause with those of `artifacts` that it blocks. `failures` holds the errors by artifact.
    """
    groups: dict[str, list[Artifact]] = {}
    for artifact, error in failures.items():
        groups.setdefault(error, []).append(artifact)
    for error, group in groups.items():
        print(printable(f"failed: {_names(group)}: {error}"), file=sys.stderr)
    blocked: dict[Artifact, list[Artifact]] = {}
    for artifact in artifacts if failures else ():
        causes = blockers(artifact, failures)
        if causes and artifact not in failures:
            blocked.setdefault(causes[0], []).append(artifact)
    for cause, waiting in blocked.items():
        line = f"blocked: {_names(waiting)}: waiting for {name(cause)}, which failed: {failures[cause]}"
        print(printable(line), file=sys.stderr)


_NUM_NAMES = 5
"""The most artifacts that a line about failures names."""


def _names(artifacts: list[Artifact]) -> str:
    """The first few names, and the number of others."""
    names = ", ".join(map(name, artifacts[:_NUM_NAMES]))
    return names if len(artifacts) <= _NUM_NAMES else f"{names} and {len(artifacts) - _NUM_NAMES} others"
