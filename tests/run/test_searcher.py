"""The searcher hands out what can start, and tells ends apart."""

import math
import threading
import time

import pytest
from ray.tune.search import Searcher

from raysynth import Dataset, Finetune, FullInit, Pretrain, RandomInit, T5Config, downstream_tasks, synthetic_tasks
from raysynth.errors import InputError, StoreError, WorkerError
from raysynth.run import schedule as schedule_module
from raysynth.run import surroundings
from raysynth.run.schedule import MAX_RETRIES
from raysynth.run.searcher import MAX_DEATHS, Dependencies
from raysynth.run.surroundings import Run
from raysynth.specs.identity import in_order, name
from raysynth.store import leases
from raysynth.store.store import Outcome, State, Store
from tests.records import provenance, weights_result

TASK = downstream_tasks["code_translation"]
MODEL = T5Config(emb_dim=16)


def pretrain(task):
    return Pretrain(data=Dataset(task=synthetic_tasks[task]), model=MODEL)


SET, IDENTITY = pretrain("set"), pretrain("identity")
FULL_SET = Finetune(task=TASK, init=FullInit(SET))
FULL_IDENTITY = Finetune(task=TASK, init=FullInit(IDENTITY))
RANDOM = Finetune(task=TASK, init=RandomInit(MODEL))
DATA = {TASK.data, SET.data, IDENTITY.data}
TRAINED = [artifact for artifact in in_order([FULL_SET, FULL_IDENTITY, RANDOM]) if artifact not in DATA]

SUCCEEDED = {"outcome": Outcome.SUCCEEDED}
RAISED = {"outcome": Outcome.FAILED, "error": "ValueError: no", "again": True}
FINAL = {"outcome": Outcome.FAILED, "error": "a wrong field", "again": False}
DIVERGED = {"outcome": Outcome.DIVERGED, "error": "the loss is nan", "again": False}


class Events(list):
    """An observer that keeps the events it receives."""

    def finished(self, artifact):
        self.append(f"finished {artifact}")

    def failed(self, artifact, error):
        self.append(f"failed {artifact}: {error}")

    def noted(self, artifact, note):
        self.append(f"{artifact}: {note}")


class Bench:
    """A searcher over a real store, with the living nodes and the events that it reported."""

    def __init__(self, store, driver, artifacts, done=DATA, awaited=(), most_at_once=lambda: math.inf, **more):
        self.store, self.driver, self.events, self.nodes, self.trials = store, driver, Events(), {"n1", "n2"}, {}
        self.run = Run(store=store, driver=driver, observer=self.events, **more)
        self.searcher = Dependencies(
            artifacts,
            set(done),
            awaited=set(awaited),
            run=self.run,
            hosts=lambda: self.nodes,
            most_at_once=most_at_once,
        )

    def suggest(self):
        trial = f"t{len(self.trials)}"
        answer = self.searcher.suggest(trial)
        if not isinstance(answer, dict):
            return answer
        self.trials[trial] = answer["artifact"]
        return answer["artifact"]

    def end(self, artifact, result=None, node=None):
        """The last trial of an artifact ends with a result, or its process dies on a node."""
        trial = [trial for trial, made in self.trials.items() if made == name(artifact)][-1]
        if node is not None:
            self.searcher.on_trial_result(trial, {"node": node})
        self.searcher.on_trial_complete(trial, result, error=result is None)


@pytest.fixture
def bench(tmp_path):
    store = Store(str(tmp_path))
    with leases.driver(store) as driver:
        yield lambda artifacts, **more: Bench(store, driver, artifacts, **more)


def test_a_child_waits_for_its_own_parent_and_no_other(bench):
    bench = bench(TRAINED)
    assert {bench.suggest() for _ in range(3)} == {name(SET), name(IDENTITY), name(RANDOM)}
    assert bench.suggest() is None
    bench.end(IDENTITY, SUCCEEDED)
    assert bench.suggest() == name(FULL_IDENTITY)
    assert bench.suggest() is None
    bench.end(SET, SUCCEEDED)
    assert bench.suggest() == name(FULL_SET)
    assert bench.suggest() is None, "one that runs may have to start again"
    for artifact in (RANDOM, FULL_SET, FULL_IDENTITY):
        bench.end(artifact, SUCCEEDED)
    assert bench.suggest() == Searcher.FINISHED
    assert not bench.searcher.failures


def test_what_is_needed_by_others_starts_first(bench):
    assert bench([RANDOM, SET, FULL_SET]).suggest() == name(SET)


def test_a_done_parent_is_not_made_again(bench):
    assert bench([FULL_SET], done=DATA | {SET}).suggest() == name(FULL_SET)


@pytest.mark.parametrize("end", [FINAL, DIVERGED])
def test_the_child_of_a_failed_parent_never_starts(bench, end):
    bench = bench([SET, FULL_SET])
    assert bench.suggest() == name(SET)
    bench.end(SET, end)
    assert bench.suggest() == Searcher.FINISHED
    assert bench.searcher.failures == {SET: end["error"]}
    assert bench.events == [f"failed {name(SET)}: {end['error']}"]
    assert bench.searcher.outcomes() == {end["outcome"]: 1, Outcome.BLOCKED: 1}


def test_an_exception_is_tried_again_a_few_times(bench):
    bench = bench([SET])
    for _ in range(MAX_RETRIES + 1):
        assert bench.suggest() == name(SET)
        bench.end(SET, RAISED)
    assert bench.suggest() == Searcher.FINISHED
    assert bench.searcher.failures == {SET: "ValueError: no"}


def test_lost_hosts_are_made_good(bench):
    bench = bench([SET])
    for turn in range(20):
        assert bench.suggest() == name(SET)
        bench.nodes = {f"n{turn}"}  # still thought alive when the process is lost
        bench.end(SET, node=f"n{turn}")
        bench.nodes = {"n"}
    assert bench.suggest() == name(SET)
    bench.end(SET, SUCCEEDED)
    assert not bench.searcher.failures
    assert bench.searcher.outcomes() == {Outcome.PREEMPTED: 20, Outcome.SUCCEEDED: 1}


def test_an_artifact_that_costs_too_many_hosts_fails_with_their_names(bench):
    bench = bench([SET, FULL_SET], max_preemptions=5)
    for turn in range(6):
        assert bench.suggest() == name(SET)
        bench.nodes = {"n"}
        bench.end(SET, node="n1" if turn else "n2")
    assert bench.suggest() == Searcher.FINISHED
    line = "its host was lost 6 times (n1 5 times, n2), and --max-preemptions allows 5"
    assert bench.searcher.failures[SET].startswith(line)
    assert bench.events[-1].startswith(f"failed {name(SET)}: {line}")
    assert bench.store.status(SET).failure.error.startswith(line)
    assert bench.searcher.outcomes() == {Outcome.FAILED: 1, Outcome.PREEMPTED: 6, Outcome.BLOCKED: 1}


def test_lost_hosts_and_dead_processes_have_limits_of_their_own(bench):
    bench = bench([SET], max_preemptions=5)
    for turn in range(MAX_DEATHS + 5):
        assert bench.suggest() == name(SET)
        bench.nodes = {"n2"}
        bench.end(SET, node="n1" if turn < 5 else "n2")
    assert bench.suggest() == name(SET)
    bench.end(SET, SUCCEEDED)
    assert not bench.searcher.failures


def test_a_process_that_keeps_dying_on_a_host_that_lives_fails(bench):
    bench = bench([SET])
    for _ in range(MAX_DEATHS + 1):
        assert bench.suggest() == name(SET)
        bench.end(SET, node="n1")
    assert bench.suggest() == Searcher.FINISHED
    assert "died 4 times" in bench.searcher.failures[SET]
    assert bench.store.status(SET).state is State.FAILED
    assert bench.searcher.outcomes() == {Outcome.FAILED: 1}


def test_what_needs_an_awaited_input_starts_once_that_is_made(bench):
    bench = bench([SET, IDENTITY], done=DATA - {SET.data}, awaited={SET.data})
    assert bench.suggest() == name(IDENTITY)
    assert bench.suggest() is None
    bench.end(IDENTITY, SUCCEEDED)
    assert bench.suggest() == Searcher.FINISHED, "Tune must not hold resources while data are on their way"
    threading.Timer(0.5, lambda: bench.searcher.finished(name(SET.data))).start()
    assert bench.searcher.wait()
    assert bench.suggest() == name(SET)
    bench.end(SET, SUCCEEDED)
    assert not bench.searcher.wait()


def test_few_run_as_long_as_inputs_are_awaited(bench):
    bench = bench([SET, IDENTITY, RANDOM], done=DATA - {SET.data}, awaited={SET.data}, most_at_once=lambda: 1)
    assert bench.suggest() == name(IDENTITY)
    assert bench.suggest() is None
    bench.end(IDENTITY, SUCCEEDED)
    assert bench.suggest() == name(RANDOM)
    assert bench.suggest() is None
    bench.searcher.finished(name(SET.data))
    assert bench.suggest() == name(SET)


def test_nothing_runs_beside_what_needs_the_only_cpu(bench):
    bench = bench([SET, IDENTITY], done=DATA - {SET.data}, awaited={SET.data}, most_at_once=lambda: 0)
    assert bench.suggest() == Searcher.FINISHED
    began = time.monotonic()
    threading.Timer(0.5, lambda: bench.searcher.finished(name(SET.data))).start()
    assert bench.searcher.wait()
    assert time.monotonic() - began >= 0.5
    assert {bench.suggest(), bench.suggest()} == {name(SET), name(IDENTITY)}


def test_what_needs_an_input_that_cannot_be_made_never_starts(bench):
    bench = bench([SET], done=DATA - {SET.data}, awaited={SET.data})
    bench.searcher.failed(name(SET.data), "too few inputs")
    assert bench.suggest() == Searcher.FINISHED
    assert bench.searcher.failures == {SET.data: "too few inputs"}


@pytest.fixture
def looks(monkeypatch):
    monkeypatch.setattr(schedule_module, "LOOK_SECONDS", 0.0)


def test_what_another_run_makes_is_awaited_and_not_made(bench, looks, monkeypatch):
    bench = bench([SET, FULL_SET])
    with monkeypatch.context() as patch:
        patch.setattr(bench.driver, "lease", lambda artifact: False)
        assert bench.suggest() == Searcher.FINISHED
        assert bench.suggest() == Searcher.FINISHED
        bench.store.record(SET, result=weights_result(), provenance=provenance())
    assert bench.suggest() == name(FULL_SET)


def test_what_a_dead_run_was_making_is_taken_over(bench, looks, monkeypatch):
    bench = bench([SET])
    with monkeypatch.context() as patch:
        patch.setattr(bench.driver, "lease", lambda artifact: False)
        assert bench.suggest() == Searcher.FINISHED
    assert bench.searcher.wait()
    assert bench.suggest() == name(SET)


def test_what_failed_in_another_run_is_failed_here(bench, looks, monkeypatch):
    bench = bench([SET, FULL_SET])
    with monkeypatch.context() as patch:
        patch.setattr(bench.driver, "lease", lambda artifact: False)
        assert bench.suggest() == Searcher.FINISHED
        bench.store.fail(SET, outcome=Outcome.DIVERGED, error="nan", log="")
    assert bench.suggest() == Searcher.FINISHED
    assert bench.searcher.failures == {SET: "nan"}


def test_a_wait_for_another_run_says_once_what_it_waits_for(bench, looks, monkeypatch):
    bench = bench([SET])
    monkeypatch.setattr(bench.driver, "lease", lambda artifact: False)
    assert bench.suggest() == Searcher.FINISHED
    assert not bench.events, "a short wait is silent"
    monkeypatch.setattr(surroundings, "NOTE_SECONDS", 0.0)
    for _ in range(3):
        assert bench.suggest() == Searcher.FINISHED
    assert bench.events == [f"{name(SET)}: waits for another run"]


def test_a_lease_that_another_run_took_is_awaited_like_any_other(bench, looks, monkeypatch):
    bench = bench([SET, FULL_SET])
    assert bench.suggest() == name(SET)
    with monkeypatch.context() as patch:
        patch.setattr(bench.driver, "lease", lambda artifact: False)
        bench.end(SET, {"outcome": Outcome.PREEMPTED})
        assert bench.suggest() == Searcher.FINISHED
        assert not bench.searcher.failures
        bench.store.record(SET, result=weights_result(), provenance=provenance())
    assert bench.suggest() == name(FULL_SET)


def fail(*_, **__):
    raise StoreError("s3://b: cannot read x: Connection timed out")


@pytest.mark.parametrize("operation", ["status", "fail"])
def test_a_storage_error_where_tune_calls_ends_the_run_in_one_line(bench, operation, monkeypatch):
    bench = bench([SET, IDENTITY])
    for _ in range(MAX_DEATHS):
        assert bench.suggest() == name(SET)
        bench.end(SET, node="n1")
    monkeypatch.setattr(bench.store.__class__, operation, fail)
    if operation == "fail":
        assert bench.suggest() == name(SET)
        bench.end(SET, node="n1")
    assert bench.suggest() == Searcher.FINISHED
    assert bench.run.trouble
    with pytest.raises(StoreError, match="Connection timed out"):
        bench.searcher.wait()


def test_a_wait_ends_when_a_thread_has_failed(bench):
    bench = bench([SET], done=DATA - {SET.data}, awaited={SET.data})

    def work():
        with bench.run.trouble.caught():
            {}["no such key"]

    threading.Timer(0.2, work).start()
    with pytest.raises(WorkerError, match=r"KeyError: 'no such key' \(test_searcher\.py, line \d+\)"):
        bench.searcher.wait()


def test_inputs_that_nobody_makes_are_an_error(bench):
    bench = bench([SET], done=DATA - {SET.data}, awaited={SET.data})
    with pytest.raises(InputError, match=f"{name(SET.data)} is not drawn"):
        bench.searcher.check_all_made()
    bench.searcher.finished(name(SET.data))
    bench.searcher.check_all_made()
