"""What the terminal of a run shows of the time left, and on narrow terminals."""

import os
import pty
import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from raysynth.observer import Progress
from raysynth.run.estimate import Estimate, clock
from raysynth.specs.identity import name
from tests.report.grids import TASK, pretrain, trial

SOURCE, FULL, RANDOM = pretrain(0), trial("full", 0), [trial("random", seed) for seed in range(3)]
"""A pre-training of 5,000 steps, and fine-tunings of 1,000."""


def at(artifact, step, **scalars):
    num_steps = SOURCE.num_steps if artifact == SOURCE else TASK.num_steps
    return name(artifact), Progress(
        step=step, num_steps=num_steps, scalars={key.replace("__", "/"): value for key, value in scalars.items()}
    )


def follow(estimate, artifact, seconds_per_step, step):
    """Two reports of an artifact, of which the first one has compiled."""
    estimate.started(name(artifact))
    estimate.progress(*at(artifact, 0))
    estimate.progress(*at(artifact, 10, speed__seconds_per_step=100.0))
    estimate.progress(*at(artifact, step, speed__seconds_per_step=seconds_per_step))


def test_no_speed_no_estimate():
    estimate = Estimate([SOURCE, FULL])
    assert estimate.seconds_left() is None
    estimate.started(name(SOURCE))
    estimate.progress(*at(SOURCE, 10, speed__seconds_per_step=100.0))
    assert estimate.seconds_left() is None, "the first interval includes compilation"
    assert Estimate().seconds_left() == 0


def test_trainings_count_with_their_steps_at_measured_speeds():
    estimate = Estimate([SOURCE, *RANDOM], {RANDOM[0]: 0.5})
    follow(estimate, SOURCE, 0.1, 3_000)
    assert estimate.seconds_left_of(name(SOURCE)) == pytest.approx(2_000 * 0.1)
    assert estimate.seconds_left() == pytest.approx(2_000 * 0.1 + 3 * 1_000 * 0.5)
    estimate.started(name(RANDOM[0]))  # two at once from now on
    assert estimate.seconds_left() == pytest.approx((2_000 * 0.1 + 3 * 1_000 * 0.5) / 2)
    estimate.ended(name(SOURCE))
    estimate.ended(name(RANDOM[0]))
    assert estimate.seconds_left() >= 1_000 * 0.5


@pytest.fixture
def clock_at(monkeypatch):
    """A clock that tests set."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def finish(estimate, artifact, clock_at, *, compiles, takes, steps=1_000):
    """An artifact ends that takes this long to its tenth step, and then until its end."""
    estimate.started(name(artifact))
    estimate.progress(*at(artifact, 0))
    clock_at[0] += compiles
    estimate.progress(*at(artifact, 10, speed__seconds_per_step=compiles / 10))
    clock_at[0] += takes
    estimate.progress(*at(artifact, steps, speed__seconds_per_step=0.5))
    estimate.ended(name(artifact))


def test_evaluation_counts_for_trainings_to_come_and_compilation_does_not(clock_at):
    estimate = Estimate(RANDOM, {RANDOM[0]: 0.5})
    finish(estimate, RANDOM[0], clock_at, compiles=300, takes=990 * 0.5 + 20)
    assert estimate.seconds_left() == pytest.approx(2 * (1_000 * 0.5 + 20))
    finish(estimate, RANDOM[1], clock_at, compiles=1, takes=990 * 0.5 + 30)
    assert estimate.seconds_left() == pytest.approx(1_000 * 0.5 + 25)


def test_trainings_of_a_new_shape_count_with_evaluation_in_proportion_to_their_steps(clock_at):
    half = replace(RANDOM[1], task=replace(TASK, batch_size=TASK.batch_size // 2))
    estimate = Estimate([RANDOM[0], half], {RANDOM[0]: 0.5})
    finish(estimate, RANDOM[0], clock_at, compiles=300, takes=990 * 0.5 * 1.2)
    assert estimate.seconds_left() == pytest.approx(1_000 * 0.25 * 1.2)


def test_the_time_of_an_attempt_that_was_lost_does_not_count_beside_the_steps_of_the_next(clock_at):
    estimate = Estimate(RANDOM, {RANDOM[0]: 0.5})
    estimate.started(name(RANDOM[0]))
    estimate.progress(*at(RANDOM[0], 0))
    estimate.progress(*at(RANDOM[0], 10, speed__seconds_per_step=0.5))
    clock_at[0] += 10_000
    finish(estimate, RANDOM[0], clock_at, compiles=1, takes=990 * 0.5)
    assert estimate.seconds_left() == pytest.approx(2 * 1_000 * 0.5)


def test_one_slow_interval_does_not_make_a_slow_training():
    estimate = Estimate([SOURCE])
    follow(estimate, SOURCE, 0.1, 910)
    estimate.progress(*at(SOURCE, 1_010, speed__seconds_per_step=1.0))
    assert estimate.seconds_left() == pytest.approx(3_990 * (900 * 0.1 + 100 * 1.0) / 1_000)


def test_an_estimate_is_as_long_as_the_longest_chain():
    estimate = Estimate([SOURCE, FULL, *RANDOM], {RANDOM[0]: 0.001})
    follow(estimate, SOURCE, 1.0, 1_000)
    estimate.started(name(RANDOM[0]))
    assert estimate.seconds_left() == pytest.approx(4_000 * 1.0 + 1_000 * 0.001)


def test_what_a_failure_blocks_takes_no_time():
    estimate = Estimate([SOURCE, FULL, *RANDOM], {SOURCE: 1.0, RANDOM[0]: 0.5})
    estimate.failed(name(SOURCE))
    assert estimate.seconds_left() == pytest.approx(3 * 1_000 * 0.5)
    estimate.failed(name(RANDOM[0]))
    assert estimate.seconds_left() == pytest.approx(2 * 1_000 * 0.5)


def test_shapes_without_a_speed_are_compared_by_their_flops():
    twice = replace(RANDOM[1], task=replace(TASK, batch_size=2 * TASK.batch_size))
    estimate = Estimate([RANDOM[0], twice], {RANDOM[0]: 0.5})
    assert estimate.seconds_left() == pytest.approx(1_000 * 0.5 + 1_000 * 1.0)


def test_a_clock_has_hours():
    assert [clock(seconds) for seconds in (None, 112, 86_400)] == ["", "0:01:52", "1 day, 0:00:00"]


@pytest.mark.parametrize("columns", [40, 60, 90, 140])
def test_counts_and_time_left_fit_every_terminal(columns):
    script = (
        "from raysynth.observer import Progress\n"
        "from raysynth.run.estimate import Estimate\n"
        "from raysynth.run.progress import Terminal\n"
        "from raysynth.specs.identity import name\n"
        "from tests.report.grids import trial\n"
        "one = trial('full', 0)\n"
        "with Terminal(1234, Estimate([one], {one: 1.0})) as terminal:\n"
        "    terminal.progress(name(one), Progress(step=400, num_steps=1000, scalars={'train/loss': 2.0}))\n"
    )
    main, secondary = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    process = subprocess.Popen([sys.executable, "-c", script], stderr=secondary, env=environment)
    os.close(secondary)
    printed = b""
    try:
        while chunk := os.read(main, 65_536):
            printed += chunk
    except OSError:  # the other end is closed
        pass
    os.close(main)
    assert process.wait() == 0
    *_, artifact = [line for line in re.sub(r"\x1b\[[0-9;?]*\w", "", printed.decode()).splitlines() if "400" in line]
    assert "400/1000" in artifact
    assert "0:10:00" in artifact
    assert len(artifact.rstrip()) <= columns
    assert ("loss 2.000" in artifact) == (columns == 140)
    assert "0/1234" in re.sub(r"\x1b\[[0-9;?]*\w", "", printed.decode())
