"""A trial takes what the cluster has, and what goes wrong beside Tune ends the run in one line."""

import contextlib
import dataclasses
import math
import runpy
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from raysynth import Dataset, InputError, synthetic_tasks
from raysynth.errors import StoreError, WorkerError
from raysynth.observer import Silent
from raysynth.run import execute as execute_module
from raysynth.run import make_data
from raysynth.run.execute import Ended, beside_drawing, execute, trial_resources
from raysynth.run.surroundings import Run
from raysynth.store import leases
from raysynth.store.store import Store
from raysynth.sweep.command import main


@pytest.mark.parametrize(
    ("nodes", "wanted"),
    [
        ([{"Alive": True, "Resources": {"CPU": 2.0}}], {"CPU": 1}),
        (
            [{"Alive": True, "Resources": {"CPU": 8.0}}, {"Alive": True, "Resources": {"CPU": 96.0, "TPU": 4.0}}],
            {"CPU": 1, "TPU": 4.0},
        ),
        ([{"Alive": True, "Resources": {"CPU": 8.0}}, {"Alive": False, "Resources": {"TPU": 4.0}}], {"CPU": 1}),
        ([{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 4.0}}], {"CPU": 1, "GPU": 1}),
    ],
)
def test_a_trial_takes_a_whole_tpu_host_or_one_gpu_or_one_cpu(nodes, wanted):
    assert trial_resources(nodes) == wanted


@pytest.mark.parametrize(
    ("num_cpus", "nodes", "wanted"),
    [
        (4, [{"CPU": 2.0}, {"CPU": 4.0}], {"CPU": 4}),
        (4, [{"CPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}], {"CPU": 4, "GPU": 1}),
        (96, [{"CPU": 8.0}, {"CPU": 96.0, "TPU": 4.0}], {"CPU": 96, "TPU": 4.0}),
    ],
)
def test_a_trial_reserves_the_cpus_that_it_computes_with(num_cpus, nodes, wanted):
    assert trial_resources([{"Alive": True, "Resources": node} for node in nodes], num_cpus) == wanted


@pytest.mark.parametrize(
    ("nodes", "most"),
    [([{"CPU": 2.0}, {"CPU": 4.0}], 4), ([{"CPU": 64.0}, {"CPU": 8.0, "GPU": 2.0}], 8), ([{}, {"CPU": 2.0}], 2)],
)
def test_more_cpus_than_any_host_has_are_refused_in_one_line(nodes, most):
    with pytest.raises(InputError) as error:
        trial_resources([{"Alive": True, "Resources": node} for node in nodes], 9)
    line = f"--cpus-per-trial (or else NPROC) must be at most {most}, the most CPUs of a host for trials, got 9"
    assert str(error.value) == line


@pytest.mark.parametrize("head", ["TPU-v4-32-head", "TPU-v5litepod-16-head"])
def test_a_slice_of_several_hosts_is_refused(head):
    nodes = [{"Alive": True, "Resources": {"CPU": 240.0, "TPU": 4.0, head: 1.0}}]
    with pytest.raises(
        InputError, match=r"has several hosts, and a trial trains on one: use slices of one host, such as"
    ):
        trial_resources(nodes)


@pytest.mark.parametrize("head", ["TPU-v3-8-head", "TPU-v4-8-head", "TPU-v6e-8-head"])
def test_a_slice_of_one_host_is_taken_whole(head):
    nodes = [{"Alive": True, "Resources": {"CPU": 240.0, "TPU": 4.0, head: 1.0}}]
    assert trial_resources(nodes) == {"CPU": 1, "TPU": 4.0}


@pytest.mark.parametrize(
    ("cpus", "needed", "most"),
    [
        ([2], {"CPU": 1}, 1),
        ([2], {"CPU": 2}, 0),
        ([1], {"CPU": 1}, 0),
        ([8, 8], {"CPU": 2}, 7),
        ([16], {"CPU": 1, "GPU": 1}, math.inf),
        ([0, 96], {"CPU": 1, "TPU": 8}, math.inf),
    ],
)
def test_trials_leave_a_cpu_to_draw_data_with(cpus, needed, most):
    gone = {"Alive": False, "Resources": {"CPU": 64}}
    hosts = [{"Alive": True, "Resources": {"CPU": count} if count else {}} for count in cpus]
    assert beside_drawing([gone, *hosts], needed) == most


DATA = Dataset(task=synthetic_tasks["set"], num_examples=100)


class Breaks(Silent):
    """An observer that cannot show what happens."""

    def started(self, artifact):
        raise KeyError("[/bold]")


def storage_fails(*_, **__):
    raise StoreError("/disk: cannot write x: No space left on device")


def exits(*_, **__):
    raise SystemExit(3)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose Ray session does nothing, and that draws nothing."""

    @contextlib.contextmanager
    def no_session(*_, **__):
        yield tmp_path

    monkeypatch.setattr(execute_module, "training_session", no_session)
    monkeypatch.setattr(execute_module, "nodes", list)
    monkeypatch.setattr(make_data, "_draw", lambda *_: None)
    store = Store(str(tmp_path))
    with leases.driver(store) as driver:
        yield Run(store=store, driver=driver, observer=Silent())


@pytest.mark.parametrize(
    ("break_it", "error", "line"),
    [
        (lambda patch, run: patch.setattr(run.driver.__class__, "lease", storage_fails), StoreError, "No space left"),
        (lambda patch, run: patch.setattr(run.store.__class__, "status", storage_fails), StoreError, "No space left"),
        (lambda patch, run: patch.setattr(run.driver.__class__, "release", storage_fails), StoreError, "No space left"),
        (lambda patch, run: patch.setattr(execute_module, "draw", exits), WorkerError, "3"),
        (lambda patch, run: patch.setattr(execute_module, "draw", lambda *_, **__: {}), InputError, "is not drawn"),
        (lambda patch, run: object.__setattr__(run, "observer", Breaks()), WorkerError, "[/bold]"),
    ],
)
def test_whatever_goes_wrong_in_the_thread_that_draws_ends_the_run_in_one_line(run, monkeypatch, break_it, error, line):
    with monkeypatch.context() as patch:
        patch.setattr(run.store.__class__, "fail", storage_fails)
        break_it(patch, run)
        with pytest.raises(error) as caught:
            execute([DATA], set(), set(), run)
    assert line in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_drawing_needs_no_cpu_while_all_that_is_left_is_drawn_elsewhere(run, monkeypatch):
    others = dataclasses.replace(DATA, seed=1)
    theirs, seen, busy = {others}, [], threading.Event()
    lease = run.driver.lease
    monkeypatch.setattr(run.driver, "lease", lambda dataset: dataset not in theirs and lease(dataset))
    monkeypatch.setattr(make_data, "_draw", lambda dataset, *_: seen.append((dataset.seed, busy.is_set())))

    def wait(_):
        seen.append(("waits", busy.is_set()))
        theirs.clear()

    monkeypatch.setattr(make_data.time, "sleep", wait)
    assert make_data.draw([others, DATA], run, Silent(), spread=None, busy=busy) == {}
    assert seen == [(0, True), ("waits", False), (1, True)]
    assert not busy.is_set()


def broken_file(datasets, run):
    time.sleep(0.2)
    raise InputError("mtop.tsv line 3: no tab")


@pytest.mark.parametrize(("address", "num_sessions"), [(None, 1), ("10.0.0.1:6379", 0)])
def test_a_broken_file_ends_a_run_and_costs_none_of_a_clusters_time(run, monkeypatch, address, num_sessions):
    sessions, no_session = [], execute_module.training_session

    def counted(*arguments, **options):
        sessions.append(arguments)
        return no_session(*arguments, **options)

    monkeypatch.setattr(execute_module, "training_session", counted)
    monkeypatch.setattr(execute_module, "write_texts", broken_file)
    monkeypatch.setattr(execute_module, "cluster", lambda address: address)
    with pytest.raises(InputError, match="line 3: no tab"):
        execute([DATA], set(), set(), dataclasses.replace(run, address=address))
    assert len(sessions) == num_sessions


def test_the_options_of_trials_reach_the_run(monkeypatch, tmp_path):
    runs = []

    def records(missing, done, damaged, run):
        runs.append(run)
        return Ended(failed={}, outcomes=Counter())

    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr(execute_module, "execute", records)
    sweep = runpy.run_path(str(Path(__file__).parents[2] / "sweeps" / "quickstart.py"))["sweep"]
    command = ["run", "--tiny", "--store", str(tmp_path)]
    for options in ([], ["--cpus-per-trial", "2", "--checkpoint-minutes", "0.5", "--max-preemptions", "7"]):
        assert main(sweep, [*command, *options]) == 0
    assert [(run.cpus_per_trial, run.checkpoint_seconds, run.max_preemptions) for run in runs] == [
        (1, 600, 100),
        (2, 30, 7),
    ]


def test_a_run_without_ray_takes_no_limit_on_lost_hosts(tmp_path, capsys):
    sweep = runpy.run_path(str(Path(__file__).parents[2] / "sweeps" / "quickstart.py"))["sweep"]
    command = ["run", "--tiny", "--store", str(tmp_path), "--in-process", "--max-preemptions", "7"]
    assert main(sweep, command) == 2
    line = "error: --in-process uses no hosts that could be lost; leave --max-preemptions out"
    assert capsys.readouterr().err.strip() == line
