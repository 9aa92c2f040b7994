"""Directories of one user: scratch that dead runs leave is removed, and what others can write is refused."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile

import pytest

from raysynth.errors import RayLost
from raysynth.run import private

KEEP = """
import time
from raysynth.run import private

with private.scratch() as path:
    print(path, flush=True)
    time.sleep(99)
"""


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch):
    """A directory for temporary files with a short path."""
    path = tempfile.mkdtemp(prefix="t", dir="/tmp")
    monkeypatch.setenv("TMPDIR", path)
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield path
    os.rmdir(path)


def test_scratch_is_ours_alone_and_gone_at_the_end(temporary):
    with private.scratch() as path:
        assert str(path).startswith(temporary)
        assert path.stat().st_mode & 0o777 == 0o700
        assert private.is_private(path)
    assert not path.exists()


def test_scratch_has_a_short_path_below_a_long_directory_too(tmp_path_factory, monkeypatch):
    long = tmp_path_factory.mktemp("x" * 80)
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with private.scratch() as path:
        assert len(str(path)) < 45


def test_what_a_killed_run_left_is_removed_with_its_processes_and_a_living_run_s_stays(temporary):
    runs = [subprocess.Popen([sys.executable, "-c", KEEP], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    living, dead = (run.stdout.readline().strip() for run in runs)
    left = subprocess.Popen(["sleep", "99"], env={"PLACE": f"{dead}/token"})
    try:
        runs[1].kill()
        runs[1].wait()
        with private.scratch():
            assert os.path.exists(living)
            assert not os.path.exists(dead)
            assert left.wait() == -signal.SIGKILL
    finally:
        left.kill()
        runs[0].kill()
        runs[0].wait()
    with private.scratch():
        assert not os.path.exists(living)


def test_the_log_of_a_lost_ray_stays_until_the_next_run(temporary):
    with contextlib.suppress(RayLost), private.scratch() as path:
        (path / "driver.log").write_text("C++")
        raise RayLost("gone", "")
    assert (path / "driver.log").exists()
    with private.scratch():
        assert not path.exists()
