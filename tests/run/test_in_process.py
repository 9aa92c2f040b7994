"""A run in one process: order, failures and leases are those of a run with Ray. No test here trains anything."""

import dataclasses
import os
import threading

import pytest

from raysynth import Dataset, Finetune, FullInit, Pretrain, RandomInit, synthetic_tasks, token_space
from raysynth.downstream import metrics
from raysynth.environment import DETERMINISTIC
from raysynth.errors import InputError, StoreError, WorkerError
from raysynth.model import process
from raysynth.observer import Silent
from raysynth.run import in_process, schedule
from raysynth.run.in_process import THIS_PROCESS, execute_in_process
from raysynth.run.schedule import MAX_RETRIES
from raysynth.run.spread import spread_here
from raysynth.run.surroundings import Run
from raysynth.specs.identity import in_order, name
from raysynth.store import leases
from raysynth.store.records import Outcome
from raysynth.store.store import State, Store
from tests.records import provenance, weights_result
from tests.tiny import MODEL, TASK

TOKENS = token_space(num_pieces=156)
SHORT = dataclasses.replace(synthetic_tasks["set"], min_length=4, max_length=8, tokens=TOKENS)
SET = Pretrain(data=Dataset(task=SHORT, num_examples=40, num_validation=8, shard_size=16), model=MODEL)
FULL = Finetune(task=TASK, init=FullInit(SET))
RANDOM = Finetune(task=TASK, init=RandomInit(MODEL))
TEXTS = {TASK.data}
"""Done, since making them takes seconds."""
ALL = [artifact for artifact in in_order([FULL, RANDOM]) if artifact not in TEXTS]

SUCCEEDED = {"outcome": Outcome.SUCCEEDED}
RAISED = {"outcome": Outcome.FAILED, "error": "ValueError: no", "again": True}
DIVERGED = {"outcome": Outcome.DIVERGED, "error": "the loss is nan", "again": False}


class Events(Silent):
    """An observer that keeps what it is told, one line an event."""

    def __init__(self):
        self.lines = []

    def started(self, artifact):
        self.lines.append(f"started {artifact}")

    def finished(self, artifact):
        self.lines.append(f"finished {artifact}")

    def failed(self, artifact, error):
        self.lines.append(f"failed {artifact}: {error}")

    def noted(self, artifact, note):
        self.lines.append(f"noted {artifact}: {note}")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run in a store of its own; the variables that it sets for JAX are put back."""
    for variable in ("NPROC", "PJRT_NPROC", "XLA_FLAGS", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))
    store = Store(str(tmp_path))
    with leases.driver(store) as driver:
        yield Run(store=store, driver=driver, observer=Events())


@pytest.fixture
def ends(monkeypatch):
    """How attempts at artifacts end, by artifact, the last end for all later ones; nothing is trained."""
    ends = {}

    def attempt(artifact, *, store, **_):
        end = ends[artifact].pop(0) if len(ends.get(artifact, ())) > 1 else ends.get(artifact, [SUCCEEDED])[0]
        if end is SUCCEEDED:
            store.record(artifact, result=weights_result(), provenance=provenance())
        return end

    monkeypatch.setattr(in_process, "attempt", attempt)
    return ends


def test_artifacts_are_made_one_after_another_inputs_first(run, ends):
    ended = execute_in_process(ALL, TEXTS, set(), run)
    assert ended.outcomes == {Outcome.SUCCEEDED: 4}
    assert not ended.failed
    made = [artifact for artifact in (SET.data, SET) for _ in range(2)]
    events = [line.split()[1] for line in run.observer.lines]
    assert events[:4] == [name(artifact) for artifact in made]
    assert {*events[4:]} == {name(FULL), name(RANDOM)}
    assert not list(run.store.files_below("leases")), "everything is released"


def test_what_needs_a_failed_artifact_is_blocked_and_the_others_go_on(run, ends):
    ends[SET] = [RAISED]
    ended = execute_in_process(ALL, TEXTS, set(), run)
    assert ended.failed == {SET: "ValueError: no"}
    assert ended.outcomes == {Outcome.SUCCEEDED: 2, Outcome.FAILED: 1, Outcome.BLOCKED: 1}
    assert run.observer.lines.count(f"started {name(SET)}") == MAX_RETRIES + 1
    assert run.store.status(RANDOM).state is State.DONE


def test_what_raised_once_is_tried_again_and_what_diverged_is_not(run, ends):
    ends |= {SET: [RAISED, SUCCEEDED], RANDOM: [DIVERGED]}
    ended = execute_in_process(ALL, TEXTS, set(), run)
    assert ended.failed == {RANDOM: "the loss is nan"}
    assert ended.outcomes == {Outcome.SUCCEEDED: 3, Outcome.DIVERGED: 1}
    assert run.observer.lines.count(f"started {name(RANDOM)}") == 1


def test_a_run_may_end_at_the_first_failure(run, ends):
    ends[SET] = [DIVERGED]
    ended = execute_in_process(ALL, TEXTS, set(), dataclasses.replace(run, max_failed=1))
    assert ended.failed == {SET: "the loss is nan"}
    assert f"started {name(RANDOM)}" not in run.observer.lines


def test_a_data_set_that_cannot_be_made_fails_alone(run, ends):
    one = dataclasses.replace(synthetic_tasks["first_token"], min_length=1, max_length=1, tokens=TOKENS)
    few = Pretrain(data=Dataset(task=one, num_examples=40_000), model=MODEL)
    artifacts = [few.data, few, Finetune(task=TASK, init=FullInit(few)), RANDOM]
    ended = execute_in_process(artifacts, TEXTS, set(), run)
    assert ended.failed.keys() == {few.data}
    assert "distinct inputs" in ended.failed[few.data]
    assert run.store.status(few.data).state is State.FAILED
    assert ended.outcomes == {Outcome.SUCCEEDED: 1, Outcome.FAILED: 1, Outcome.BLOCKED: 2}


def test_what_another_run_makes_is_awaited_and_not_made(run, ends, monkeypatch):
    monkeypatch.setattr(schedule, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(leases, "SETTLE_SECONDS", 0.0)
    with leases.driver(run.store) as other:
        assert other.lease(RANDOM)

        def make():
            run.store.record(RANDOM, result=weights_result(), provenance=provenance())
            other.release(RANDOM)

        timer = threading.Timer(0.5, make)
        timer.start()
        ended = execute_in_process([RANDOM], TEXTS, set(), run)
        timer.join()
    assert ended.outcomes == {Outcome.SUCCEEDED: 1}
    assert f"started {name(RANDOM)}" not in run.observer.lines


def test_an_observer_that_fails_ends_the_run_and_is_no_failure_of_the_artifact(run, monkeypatch):
    class Breaks(Silent):
        def noted(self, artifact, note):
            if artifact == name(RANDOM):
                raise KeyError("[/bold]")

    def attempt(artifact, *, report, **_):
        report({"note": "a line"})
        pytest.fail("the training goes on")

    monkeypatch.setattr(in_process, "attempt", attempt)
    with pytest.raises(WorkerError, match=r"KeyError: '\[/bold\]'"):
        execute_in_process([RANDOM], TEXTS, set(), dataclasses.replace(run, observer=Breaks()))
    assert run.store.status(RANDOM).failure is None


def test_a_store_that_fails_ends_the_run_in_one_line(run, monkeypatch):
    def attempt(artifact, *, report, **_):
        monkeypatch.setattr(run.driver.__class__, "beat", fail)
        report({"note": "a line"})

    def fail(*_):
        raise StoreError("/disk: cannot write x: No space left on device")

    monkeypatch.setattr(in_process, "attempt", attempt)
    with pytest.raises(StoreError, match="No space left"):
        execute_in_process([RANDOM], TEXTS, set(), run)


# -------------------------------------------------------------------------------- JAX


def notes_on_this_process(run):
    return [line for line in run.observer.lines if line.startswith(f"noted {THIS_PROCESS}")]


def test_jax_starts_as_in_a_trial(run, ends, monkeypatch):
    monkeypatch.setattr(process, "has_started", lambda: False)
    monkeypatch.delenv("NPROC")
    monkeypatch.delenv("PJRT_NPROC")
    execute_in_process([RANDOM], TEXTS, set(), run)
    assert os.environ["NPROC"] == os.environ["PJRT_NPROC"] == "1"
    assert os.environ["XLA_FLAGS"].split().count(DETERMINISTIC) == 1
    assert not notes_on_this_process(run)


def test_one_line_says_that_jax_runs_already_with_more_threads(run, ends, monkeypatch):
    monkeypatch.setattr(process, "has_started", lambda: True)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.delenv("NPROC")
    monkeypatch.delenv("PJRT_NPROC")
    execute_in_process([RANDOM], TEXTS, set(), run)
    (line,) = notes_on_this_process(run)
    assert "JAX runs already with 4 threads and a trial with Ray has 1, so bits may differ: set NPROC=1" in line
    assert "NPROC" not in os.environ, "records tell the truth"


# -------------------------------------------------------------------------------- data and packages


def test_answers_are_in_order_and_any_exception_has_one_line():
    ticks = []
    assert spread_here(lambda item: item * 2, range(3), tick=lambda *counts: ticks.append(counts)) == [0, 2, 4]
    assert ticks == [(0, 3), (1, 3), (2, 3), (3, 3)]

    def exits(_):
        raise SystemExit(3)

    def refuses(_):
        raise InputError("a line")

    with pytest.raises(WorkerError, match="SystemExit: 3"):
        spread_here(exits, [0], tick=lambda *_: None)
    with pytest.raises(InputError, match="a line"):
        spread_here(refuses, [0], tick=lambda *_: None)


def test_a_task_of_ones_own_hears_of_the_hash_seed(run, ends, monkeypatch):
    monkeypatch.setattr(in_process, "has_own_code", lambda task: True)
    execute_in_process([SET.data], set(), set(), run)
    assert any("PYTHONHASHSEED=0" in line for line in run.observer.lines)


def test_a_missing_package_of_a_metric_is_one_line_before_anything_runs(monkeypatch):
    monkeypatch.setattr(metrics, "is_installed", lambda package: False)
    metrics.check_installed(["token_accuracy", "exact_match"])
    with pytest.raises(InputError, match=r"^rouge-score is needed for ROUGE: pip install rouge-score$"):
        metrics.check_installed(["rouge1"])
