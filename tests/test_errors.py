"""One line for a user: near names of many, and what a worker raised."""

import pickle

from raysynth.errors import WorkerError, unknown


def test_of_very_many_names_only_the_nearest_are_told():
    names = [f"finetune/task.seed{seed}-{seed:08x}" for seed in range(200)]
    line = str(unknown("artifact", "finetune/task.seed7", names))
    assert "did you mean 'finetune/task.seed7" in line
    assert "others" in line
    assert len(line) < 400


def test_what_a_worker_raised_names_the_place_and_crosses_processes():
    try:
        int("three")
    except ValueError as error:
        told = pickle.loads(pickle.dumps(WorkerError.of(error)))
    assert str(told).startswith("ValueError: invalid literal for int() with base 10: 'three' (test_errors.py, line ")
    assert 'int("three")' in told.log
