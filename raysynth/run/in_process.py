"""Makes artifacts one after another in this process, without Ray: the same store, records and bits as with it."""

import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from raysynth.environment import num_threads, trial_variables
from raysynth.run.board import writes_events
from raysynth.run.make import attempt
from raysynth.run.make_data import check_tasks, draw, write_texts
from raysynth.run.schedule import Ended, Schedule, Work
from raysynth.run.spread import spread_here
from raysynth.run.surroundings import Guarded, Run, cache_directory, pass_on
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.identity import Artifact, name
from raysynth.store.records import Outcome
from raysynth.synthetic.base import SyntheticTask
from raysynth.synthetic.contract import has_own_code

THIS_PROCESS = "this process"
"""In place of an artifact's name in notes on the process that makes them all."""


def execute_in_process(
    artifacts: list[Artifact], done: set[Artifact], damaged: set[Dataset | TextDataset], run: Run
) -> Ended:
    """Make every artifact whose inputs can be made, and the `damaged` data sets again, one after another: data first.

    Raises, as an error with one line, whatever goes wrong beside the making of an artifact.
    """
    run = replace(run, observer=Guarded(run.observer, run.trouble))
    work = Work.of(artifacts, damaged)
    check_tasks(work.datasets, run)
    write_texts([*work.texts, *work.datasets], run)
    _note_hash_seed(work, run)
    schedule = Schedule(work.trained, (done - damaged) | set(work.texts), awaited=set(work.datasets), run=run)
    with run.trouble.caught():
        draw(work.datasets, run, schedule, spread=spread_here, stop=schedule.too_many_failed)
        if work.trained:
            _train(schedule, run)
    run.trouble.check()
    return Ended(failed=schedule.failures, outcomes=Counter({Outcome.SUCCEEDED: len(work.texts)}) + schedule.outcomes())


def _note_hash_seed(work: Work, run: Run) -> None:
    """Say what only a Ray session can do: give every process the same hash seed."""
    for dataset in work.datasets:
        if sys.flags.hash_randomization and isinstance(dataset.task, SyntheticTask) and has_own_code(dataset.task):
            run.observer.noted(
                name(dataset), "if its draw depends on the order of a set of texts, start Python with PYTHONHASHSEED=0"
            )


def _train(schedule: Schedule, run: Run) -> None:
    cache = _ready_jax(run)
    while not schedule.too_many_failed() and schedule.wait():
        artifact = schedule.start()
        if artifact is not None:
            run.observer.started(name(artifact))
            schedule.ended(artifact, _attempt(artifact, run, cache))


class _Over(BaseException):
    """Raised where a training reports, once the run must end: that is no failure of the artifact."""


def _attempt(artifact: Artifact, run: Run, cache: Path) -> dict[str, Any]:
    def report(result: dict[str, Any]) -> None:
        pass_on(name(artifact), result, run.observer)
        with run.trouble.caught():
            run.driver.beat()
        if run.trouble:
            raise _Over

    return attempt(
        artifact,
        store=run.store,
        cache=cache,
        report=report,
        node=None,
        driver=run.driver.name,
        checkpoint_seconds=run.checkpoint_seconds,
        board=run.board,
    )


def _ready_jax(run: Run) -> Path:
    """Let JAX start as in a trial; returns the directory for copies of inputs."""
    difference = _set_variables(run.cpus_per_trial)
    if difference:
        run.observer.noted(THIS_PROCESS, difference)
    if not writes_events():
        run.observer.noted(THIS_PROCESS, "tensorboardX is not installed, so there are no event files for TensorBoard")
    return cache_directory(run.store)


def _set_variables(num_cpus: int) -> str:
    """Set the environment variables with which a trial's process starts; returns what differs from that, in one line.

    They stay set, because they say how JAX runs in this process. They come too late where JAX runs already.
    """
    wanted = trial_variables(os.environ, num_cpus)
    if "jax" in sys.modules:
        from raysynth.model.process import has_started, uses_cpu

        if has_started():
            threads = num_threads(os.environ) or os.cpu_count() or 1
            if uses_cpu() and threads != int(wanted["NPROC"]):
                return (
                    f"JAX runs already with {threads} threads and a trial with Ray has {wanted['NPROC']}, so bits may "
                    f"differ: set NPROC={wanted['NPROC']} before JAX starts"
                )
            if not uses_cpu() and wanted["XLA_FLAGS"] != os.environ.get("XLA_FLAGS"):
                return f"JAX runs already, so bits may differ: set XLA_FLAGS='{wanted['XLA_FLAGS']}' before it starts"
            return ""
    os.environ.update(wanted)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return ""
