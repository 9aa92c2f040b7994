"""Errors as one line for a user: long lists of names, first lines of messages, errors of workers."""

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from raysynth.errors import WorkerError, first_line, unknown

PACKAGE = Path(__file__).parents[1] / "raysynth"


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


def test_no_assert_guards_input():
    """Python's -O drops asserts, so those in the package state only what the package itself ensures."""
    asserts = {
        f"{file.relative_to(PACKAGE)}: {ast.unparse(node.test)}"
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Assert)
    }
    assert asserts <= {
        "weights/statistics.py: parameter.layer is not None",
        "run/generate_command.py: record is not None",
        "run/generate_command.py: isinstance(record.result, DataResult)",
        "run/board.py: self._events is not None",
        "run/board.py: isinstance(artifact, Pretrain | Finetune)",
    }


@pytest.mark.parametrize(
    "code",
    [
        "from raysynth import Dataset, synthetic_tasks; Dataset(task=synthetic_tasks['set'], num_examples=-1)",
        "from raysynth import Constant; Constant(-1.0)",
        "from raysynth.tokens.streams import Purpose, stream; stream(Purpose.SHARD, -1)",
        "from raysynth import synthetic_tasks; synthetic_tasks['sett']",
        "import numpy as np; from raysynth.tokens.ragged import Ragged; Ragged.of([[70_000]])",
    ],
)
def test_bad_input_is_refused_without_asserts(code):
    done = subprocess.run(
        [sys.executable, "-OO", "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("raysynth.errors.InputError: ")


@pytest.mark.parametrize("verb", [["run"], ["plan", "--measure"]], ids=str)
def test_a_sweep_without_docstrings_is_refused_in_one_line(verb, tmp_path):
    done = subprocess.run(
        [sys.executable, "-OO", "sweeps/quickstart.py", *verb, "--tiny", "--store", str(tmp_path / "new")],
        cwd=PACKAGE.parent,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: Ray does not start under python -OO")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()
