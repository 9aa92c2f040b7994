"""Cost and state of a sweep, from the store alone."""

import dataclasses

import pytest

from raysynth import Dataset, Finetune, FullInit, Pretrain, RandomInit, T5Config, downstream_tasks, synthetic_tasks
from raysynth.report.cost import remaining, speeds
from raysynth.report.status import print_plan, print_status
from raysynth.run.measure import measure
from raysynth.specs.identity import in_order, name
from raysynth.store.store import Outcome, Store

MODEL = T5Config(vocab_size=512, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1)
TASK = dataclasses.replace(downstream_tasks["python_ast"], num_steps=1_000)
RANDOM = [Finetune(task=TASK, init=RandomInit(MODEL), seed=seed) for seed in range(3)]
SOURCE = Pretrain(
    data=Dataset(
        task=dataclasses.replace(
            synthetic_tasks["set"],
            tokens=dataclasses.replace(
                synthetic_tasks["set"].tokens,
                last=400,
                separator=402,
                word_separator=403,
                empty=404,
                yes=(405,),
                no=(406,),
            ),
        )
    ),
    model=MODEL,
    num_steps=5_000,
)
FULL = Finetune(task=TASK, init=FullInit(SOURCE))
ALL = in_order([*RANDOM, FULL])


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def done(store, artifact, seconds):
    store.record(artifact, result={}, provenance={"seconds_per_step": seconds})


def test_steps_and_hours_are_those_that_records_tell(store):
    cost = remaining(store.statuses(ALL), store)
    assert (cost.steps, cost.hours, cost.unknown) == (4 * 1_000 + 5_000, 0.0, 5)
    done(store, RANDOM[0], 3.6)
    cost = remaining(store.statuses(ALL), store)
    assert (cost.steps, cost.hours, cost.unknown) == (3 * 1_000 + 5_000, pytest.approx(3.0), 1)
    store.progress(RANDOM[1], step=400, num_steps=1_000, seconds_per_step=3.6)
    cost = remaining(store.statuses(ALL), store)
    assert (cost.steps, cost.hours) == (2 * 1_000 + 600 + 5_000, pytest.approx(2.6))


def test_days_and_money_are_told_where_asked(store, capsys):
    done(store, RANDOM[0], 86.4)
    print_plan(store.statuses(in_order(RANDOM)), store, num_workers=4, price=8.0)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == "to do: 2,000 training steps, 48.00 device-hours, 0.50 days on 4 workers, 384.00 at 8 an hour"


def test_what_diverged_is_not_planned_again_and_blocks(store, capsys):
    store.progress(SOURCE, step=70, num_steps=5_000, seconds_per_step=None)
    store.fail(SOURCE, outcome=Outcome.DIVERGED, error="diverged: the loss is nan by step 70", log="")
    statuses = store.statuses(ALL)
    assert remaining(statuses, store).steps == 4 * 1_000
    assert print_status(statuses, store) == 1
    told = capsys.readouterr()
    assert "1 diverged" in told.out
    assert f"{name(SOURCE)} at step 70 on " in told.out
    assert f"log: {store.place}/{name(SOURCE)}/failure.json" in told.out
    assert f"failed: {name(SOURCE)}: diverged: the loss is nan by step 70" in told.err
    assert f"blocked: {name(FULL)}: waiting for {name(SOURCE)}" in told.err


def test_status_tells_who_runs_how_fast_and_who_waits(store, capsys):
    store.progress(SOURCE, step=1_000, num_steps=5_000, seconds_per_step=0.9)
    assert print_status(store.statuses(ALL), store) == 0
    told = capsys.readouterr().out
    assert "step 1,000 of 5,000 on " in told
    assert "1.11 steps/s, 1 h 0 min left at most" in told
    assert f"waiting     1 for {name(SOURCE)} (interrupted)" in told


def test_measured_speeds_fill_in_what_no_record_tells(store):
    """Timed for real, on a local Ray."""
    statuses = store.statuses(in_order(RANDOM))
    assert set(speeds(statuses, store)) == {None}
    measure(statuses, store, None)
    told = dict(zip(statuses, speeds(statuses, store), strict=True))
    assert told[TASK.data] is None
    assert len({told[artifact] for artifact in RANDOM}) == 1
    assert 0 < told[RANDOM[0]] < 60
    assert remaining(statuses, store).unknown == 0
