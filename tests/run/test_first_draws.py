"""The first draws of a task of one's own, in a process of its own: whatever it does there is one line."""

import dataclasses
import itertools
import os
import random
import signal
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from raysynth import Dataset, InputError, Ragged, SyntheticTask, synthetic_tasks, token_space
from raysynth.run.first_draws import check_first_draws


@dataclass(frozen=True, kw_only=True)
class Tried(SyntheticTask):
    name: ClassVar[str] = "tried"
    first: Any = None
    """Returns the first id."""

    def draw(self, rng, count):
        rows = [[2 + int(self.first(rng)) % 20, *rng.integers(2, 9, 3)] for _ in range(count)]
        return Ragged.of(rows), Ragged.of(rows)


def check(first):
    task = Tried(tokens=token_space(num_pieces=28), first=first)
    check_first_draws(Dataset(task=task, num_examples=50, num_validation=5, shard_size=30), pytest.fail)


def kill(rng):
    os.kill(os.getpid(), signal.SIGKILL)


def exit_python(rng):
    raise SystemExit(1)


def interrupt(rng):
    raise KeyboardInterrupt


COUNTER = itertools.count()
OTHER = "must depend on nothing but rng and count, but drew other inputs when it was called again with the same$"


@pytest.mark.filterwarnings("ignore:os.fork")  # tests have JAX's threads, drivers do not
@pytest.mark.parametrize(
    ("first", "line"),
    [
        (lambda rng: random.random() * 20, OTHER),
        (lambda rng: np.random.rand() * 20, OTHER),
        (lambda rng: next(COUNTER), OTHER),
        (lambda rng: time.time_ns(), OTHER),
        (lambda rng: os.urandom(1)[0], OTHER),
        (lambda rng: np.random.default_rng().integers(20), OTHER),
        (lambda rng: os._exit(3), r"must return examples, but it ended its process \(exit status 3\)$"),
        (lambda rng: os._exit(0), r"must return examples, but it ended its process \(exit status 0\)$"),
        (kill, r"must return examples, but it ended its process \(SIGKILL\)$"),
        (exit_python, "must return examples, but it raised SystemExit$"),
        (interrupt, "must return examples, but it ended its process"),
    ],
)
def test_what_a_task_must_not_do_is_one_line(first, line):
    with pytest.raises(InputError, match=f"^tried.draw {line}") as caught:
        check(first)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_proper_task_passes_and_other_errors_are_left_to_the_workers():
    check(lambda rng: rng.integers(20))
    check(lambda rng: 1 / 0)


def test_a_task_of_the_package_is_not_tried(monkeypatch):
    monkeypatch.setattr(os, "fork", pytest.fail)
    check_first_draws(Dataset(task=dataclasses.replace(synthetic_tasks["set"], max_length=20)), pytest.fail)
