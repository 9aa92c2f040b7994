"""One Ray session that makes artifacts: data sets with Ray Data, beside one Tune experiment for everything trained."""

import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.stopper import Stopper

from raysynth.errors import InputError
from raysynth.observer import Observer
from raysynth.report.cost import step_flops
from raysynth.run import deaths
from raysynth.run.address import cluster
from raysynth.run.aside import Aside
from raysynth.run.cluster import promised
from raysynth.run.hosts import HostWatch
from raysynth.run.launcher import Launcher, launcher
from raysynth.run.make_data import check_tasks, draw, write_texts
from raysynth.run.private import scratch
from raysynth.run.schedule import Ended, Work
from raysynth.run.searcher import Dependencies
from raysynth.run.session import logs, nodes, spread, training_session
from raysynth.run.surroundings import Guarded, Run, pass_on
from raysynth.run.trial import trial
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.identity import Artifact, name
from raysynth.store.records import Outcome


class _TuneEvents(tune.Callback):
    """Passes Tune's events on to the observer and keeps the run's mark in the store fresh."""

    def __init__(self, run: Run, hosts: HostWatch):
        self._observer: Observer = run.observer
        self._hosts = hosts
        self._driver, self._trouble = run.driver, run.trouble

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that never happens

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        with self._trouble.caught():
            self._hosts.look(
                running=sum(trial.status == Trial.RUNNING for trial in trials),
                waiting=[trial.config["artifact"] for trial in trials if trial.status == Trial.PENDING],
            )
            self._driver.beat()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._observer.started(trial.config["artifact"])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        pass_on(trial.config["artifact"], result, self._observer)


class _StopIf(Stopper):
    """Ends the experiment once a condition holds."""

    def __init__(self, condition: Callable[[], bool]):
        self._condition = condition

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its stoppers for a restore that never happens

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._condition()


def execute(artifacts: list[Artifact], done: set[Artifact], damaged: set[Dataset | TextDataset], run: Run) -> Ended:
    """Make every artifact whose inputs can be made, and the `damaged` data sets again.

    Synthetic data sets are drawn while others train: only what needs a data set waits for it. Raises, as an error with
    one line, whatever goes wrong in the thread that draws or in an observer.
    """
    run = replace(run, observer=Guarded(run.observer, run.trouble))
    work = Work.of(artifacts, damaged)
    check_tasks(work.datasets, run)
    with Aside() as aside:
        texts = aside.submit(write_texts, [*work.texts, *work.datasets], run)
        needs_ray = bool(work.datasets or work.trained)
        if not needs_ray or cluster(run.address) is not None:
            texts.result()  # now, so that a broken file costs none of a cluster's time
        if not needs_ray:
            return Ended(failed={}, outcomes=Counter({Outcome.SUCCEEDED: len(work.texts)}))
        largest = max(map(step_flops, work.trained), default=0.0)
        with training_session(run.address, run.store, run.cpus_per_trial, step_flops=largest) as cache:
            texts.result()
            return _execute(work, (done - damaged) | set(work.texts), run, cache)


def _execute(work: Work, done: set[Artifact], run: Run, cache: Path) -> Ended:
    """Make what needs a Ray session, in one."""
    may_come = promised()
    # Raises before anything is drawn.
    needed = trial_resources([*nodes(), *may_come], run.cpus_per_trial) if work.trained else {}
    is_drawing = threading.Event()
    is_drawing.set()
    searcher = Dependencies(
        work.trained,
        done,
        awaited=set(work.datasets),
        run=run,
        hosts=lambda: {node["NodeID"] for node in nodes() if node["Alive"]},
        cause=deaths.Reader(logs()),
        host_name=_host_name,
        # More hosts come because trials wait for them.
        most_at_once=lambda: beside_drawing(nodes(), needed) if is_drawing.is_set() and not may_come else math.inf,
    )
    drawing = threading.Thread(target=_draw_all, args=(work.datasets, run, searcher, is_drawing), daemon=True)
    drawing.start()
    while not searcher.too_many_failed() and searcher.wait():
        _tune(work.trained, searcher, run, cache)
    while drawing.is_alive() and not run.trouble and not searcher.too_many_failed():
        drawing.join(1)
    run.trouble.check()
    written = Counter({Outcome.SUCCEEDED: len(work.texts)})
    return Ended(failed=searcher.failures, outcomes=written + searcher.outcomes())


def _host_name(node_id: str) -> str:
    """The address of a node, living or not."""
    return next((str(node["NodeManagerAddress"]) for node in nodes() if node["NodeID"] == node_id), node_id)


def _draw_all(datasets: Sequence[Dataset], run: Run, searcher: Dependencies, busy: threading.Event) -> None:
    """Make the data sets that the searcher awaits. Whatever goes wrong here is the run's trouble."""
    with run.trouble.caught():
        draw(datasets, run, searcher, spread=spread, busy=busy, ray_is_lost=lambda: not ray.is_initialized())
        searcher.check_all_made()


def _tune(artifacts: Sequence[Artifact], searcher: Dependencies, run: Run, cache: Path) -> None:
    function = tune.with_parameters(
        trial,
        artifacts={name(artifact): artifact for artifact in artifacts},
        store=run.store,
        cache=cache,
        driver=run.driver.name,
        checkpoint_seconds=run.checkpoint_seconds,
        board=run.board,
    )
    resources = trial_resources([*nodes(), *promised()], run.cpus_per_trial)
    address = cluster(run.address)
    hosts = HostWatch(
        run, resources, nodes=nodes, launcher=lambda: Launcher() if address is None else launcher(address)
    )
    with scratch() as room:  # Tune's own state is never restored
        tuner = tune.Tuner(
            tune.with_resources(function, resources),
            tune_config=tune.TuneConfig(search_alg=searcher, num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=str(room),
                verbose=0,
                callbacks=[_TuneEvents(run, hosts)],
                stop=_StopIf(lambda: bool(run.trouble) or searcher.too_many_failed()),
            ),
        )
        tuner.fit()
    run.driver.tell(None)


def beside_drawing(hosts: list[dict[str, Any]], needed: Mapping[str, float]) -> float:
    """How many trials with these resources leave a CPU to draw data with.

    Any number where they need devices, because hosts with devices have CPUs to spare. Trials that hold all CPUs would
    keep data from being drawn, and what trains on them from starting, until nothing else is left to do.
    """
    if needed.keys() != {"CPU"}:
        return math.inf
    num_cpus = sum(host["Resources"].get("CPU", 0) for host in hosts if host["Alive"])
    return int((num_cpus - 1) // needed["CPU"])


def trial_resources(hosts: list[dict[str, Any]], num_cpus: int = 1) -> dict[str, float]:
    """The Ray resources of one trial: `num_cpus` CPUs, and all TPU chips of a host (only one process can hold them) or
    else a GPU, if the cluster has some.

    Raises `InputError` for a TPU slice of several hosts, recognized by the resource that Ray gives its first host, and
    if no host has enough CPUs beside the device.
    """
    slices = (re.fullmatch(r"TPU-(.+)-(\d+)-head", resource) for host in hosts for resource in host["Resources"])
    for match in filter(None, slices):
        generation, size = match[1], int(match[2])
        if size > 8:
            raise InputError(
                f"the TPU slice {generation}-{size} has several hosts, and a trial trains on one: "
                f"use slices of one host, such as {size // 8} of {generation}-8"
            )

    resources = [host["Resources"] for host in hosts if host["Alive"]]
    device, num_devices = "CPU", 0.0
    if num_chips := max((host.get("TPU", 0) for host in resources), default=0):
        device, num_devices = "TPU", num_chips
    elif any(host.get("GPU", 0) for host in resources):
        device, num_devices = "GPU", 1
    most_cpus = max((host.get("CPU", 0) for host in resources if host.get(device, 0) >= num_devices), default=None)
    if num_cpus > 1 and most_cpus is not None and most_cpus < num_cpus:
        raise InputError(
            f"--cpus-per-trial (or else NPROC) must be at most {most_cpus:.0f}, the most CPUs of a host for trials, "
            f"got {num_cpus}"
        )
    return {"CPU": num_cpus} | ({device: num_devices} if num_devices else {})
