"""Errors as one line for a user: long lists of names, first lines of messages, errors of workers."""

import pickle

import pytest

from raysynth.errors import WorkerError, first_line, unknown


def test_a_long_list_of_names_is_cut_to_the_nearest():
    names = [f"finetune/task.seed{seed}-{seed:08x}" for seed in range(200)]
    line = str(unknown("artifact", "finetune/task.seed7", names))
    assert "did you mean 'finetune/task.seed7" in line
    assert "others" in line
    assert len(line) < 400


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no such file"), "no such file"),
        (ValueError("bad header\nat byte 7\nof 9"), "bad header"),
        (ValueError("\n  bad header\r\n"), "bad header"),
        (ValueError(), "ValueError"),
        (ValueError(" \n"), "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_first_line_of_an_error(error, line):
    assert first_line(error) == line


def worker_error(error):
    """The `WorkerError` of a raised error, sent through pickle as Ray does."""
    try:
        raise error
    except type(error) as raised:
        return pickle.loads(pickle.dumps(WorkerError.of(raised)))


def test_a_worker_error_names_file_and_line_and_survives_pickling():
    received = worker_error(ValueError("invalid literal: 'three'\nmore"))
    assert str(received).startswith("ValueError: invalid literal: 'three' (test_errors.py, line ")
    assert "\n" not in str(received)
    assert "raise error" in received.log


def test_a_worker_error_without_a_message_names_its_class_once():
    assert str(worker_error(AssertionError())).startswith("AssertionError (test_errors.py, line ")
