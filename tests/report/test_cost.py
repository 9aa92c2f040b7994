"""Cost and state of a sweep, read from the store alone."""

import pytest

from raysynth.report.cost import duration, remaining, speed_file, speeds
from raysynth.report.status import print_plan, print_status
from raysynth.run.measure import measure
from raysynth.specs.identity import in_order, name
from raysynth.store.sealed import seal
from raysynth.store.store import Outcome
from tests.records import provenance, weights_result
from tests.report.grids import TASK, pretrain, trial

RANDOM = [trial("random", seed) for seed in range(3)]
SOURCE, FULL = pretrain(0), trial("full", 0)
ALL = in_order([*RANDOM, FULL])


def done(store, artifact, seconds):
    """Record an artifact that took so many seconds per step."""
    store.record(artifact, result=weights_result(), provenance=provenance(seconds_per_step=seconds))


def test_steps_and_hours_follow_from_the_records(store):
    cost = remaining(store.statuses(ALL), store)
    assert (cost.steps, cost.hours, cost.unknown) == (4 * 1_000 + 5_000, 0.0, 5)
    done(store, RANDOM[0], 3.6)
    cost = remaining(store.statuses(ALL), store)
    assert (cost.steps, cost.hours, cost.unknown) == (3 * 1_000 + 5_000, pytest.approx(3.0), 1)
    store.progress(RANDOM[1], step=400, num_steps=1_000, seconds_per_step=3.6)
    cost = remaining(store.statuses(ALL), store)
    assert (cost.steps, cost.hours) == (2 * 1_000 + 600 + 5_000, pytest.approx(2.6))


def test_the_plan_ends_with_days_and_money_if_asked(store, capsys):
    done(store, RANDOM[0], 86.4)
    print_plan(store.statuses(in_order(RANDOM)), store, num_workers=4, price=8.0)
    first, *_, line = capsys.readouterr().out.splitlines()
    assert first == f"{store.uri}: 1 data set, 3 fine-tunings"
    assert line == "to do: 2,000 training steps, 48 device-hours, 12 h on 4 workers, 384.00 at 8 an hour"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.04, "0.04 s"),
        (12.4, "12 s"),
        (112, "1.9 min"),
        (3_600, "60 min"),
        (9_000, "2.5 h"),
        (259_200, "3 days"),
    ],
)
def test_a_duration_has_the_unit_that_suits_it(seconds, text):
    assert duration(seconds) == text


def test_the_plan_of_a_few_seconds_says_seconds(store, capsys):
    done(store, RANDOM[0], 0.002)
    print_plan(store.statuses(in_order(RANDOM)), store, num_workers=1, price=None)
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "to do: 2,000 training steps, 4 s of device time"
    assert printed.count("  1,000 steps, 2 s\n") == 2


def test_what_diverged_is_not_planned_again_and_blocks(store, capsys):
    store.progress(SOURCE, step=70, num_steps=5_000, seconds_per_step=None)
    store.fail(SOURCE, outcome=Outcome.DIVERGED, error="diverged: the loss is nan by step 70", log="")
    statuses = store.statuses(ALL)
    assert remaining(statuses, store).steps == 4 * 1_000
    assert print_status(statuses, store) == 1
    printed = capsys.readouterr()
    assert "1 diverged" in printed.out
    assert f"{name(SOURCE)} at step 70 on " in printed.out
    assert f"log: {store.place}/{name(SOURCE)}/failure.json" in printed.out
    assert f"failed: {name(SOURCE)}: diverged: the loss is nan by step 70" in printed.err
    assert f"blocked: {name(FULL)}: waiting for {name(SOURCE)}" in printed.err


def test_status_says_what_runs_how_fast_and_what_waits(store, capsys):
    store.progress(SOURCE, step=1_000, num_steps=5_000, seconds_per_step=0.9)
    assert print_status(store.statuses(ALL), store) == 0
    out = capsys.readouterr().out
    assert "step 1,000 of 5,000 on " in out
    assert "1.11 steps/s, 60 min left at most" in out
    assert f"waiting     1 for {name(SOURCE)} (running)" in out


def test_measured_speeds_stand_in_for_those_of_records(store):
    """Timed for real, on a local Ray."""
    statuses = store.statuses(in_order(RANDOM))
    assert set(speeds(statuses, store).values()) == {None}
    measure(statuses, store, None)
    measured = speeds(statuses, store)
    assert measured[TASK.data] is None
    assert len({measured[artifact] for artifact in RANDOM}) == 1
    assert measured[RANDOM[0]] > 0
    assert remaining(statuses, store).unknown == 0


@pytest.mark.parametrize("content", [b"", b"null", seal({"seconds_per_step": "fast", "device": "cpu"})])
def test_a_damaged_speed_counts_as_unknown(store, content):
    store.write_bytes(speed_file(RANDOM[0]), content)
    assert speeds(store.statuses(RANDOM), store)[RANDOM[0]] is None
