"""What the memory settings of trials do to a process of glibc's."""

import os
import platform
import subprocess
import sys

import pytest

from raysynth.environment import memory_variables

PROGRAM = """
import resource, threading
import numpy as np
faults = []
def work():
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(50_000_000, np.float32)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(*faults)
"""
"""Prints the page faults of four arrays of 200 MB that a thread makes and drops one after another."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_a_large_step_gets_the_memory_of_the_one_before_without_page_faults():
    environment = {**os.environ, **memory_variables(step_flops=1e11)}
    output = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True).stdout
    first, *others = map(int, output.split())
    assert first >= 50
    assert max(others) < 10


def test_small_steps_keep_an_arena_for_each_thread():
    assert "MALLOC_ARENA_MAX" not in memory_variables(step_flops=1e9)
