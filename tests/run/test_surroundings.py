"""What the parts of a run share: observers get one event at a time, and compiled programs are kept apart."""

import re
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from raysynth.observer import Silent
from raysynth.run import surroundings
from raysynth.run.surroundings import (
    Guarded,
    Trouble,
    compiled_directory,
    compiled_programs,
    processor_name,
    user_directory,
)

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
cpu MHz\t\t: 2596.096
flags\t\t: fpu sse4_2 avx2 avx512f
bogomips\t: 5192.27

processor\t: 1
vendor_id\t: AuthenticAMD
flags\t\t: fpu sse4_2 avx2 avx512f
"""


def test_a_directory_of_compiled_programs_has_a_name_of_what_runs_them(tmp_path, monkeypatch):
    directory = compiled_directory(tmp_path, 1)
    assert re.fullmatch(rf"compiled-{re.escape(metadata.version('jaxlib'))}-\w+-[0-9a-f]{{8}}-1", directory.name)
    others = {compiled_directory(tmp_path, 2), compiled_directory(tmp_path, None)}
    others.add(compiled_directory(tmp_path, 1, processor="x86_64-01234567"))
    monkeypatch.setattr(surroundings, "version", lambda package: "0.0.1")
    others.add(compiled_directory(tmp_path, 1))
    assert len(others - {directory}) == 4


@pytest.mark.parametrize(
    ("old", "new"),
    [("avx512f", "avx512f avx512_bf16"), ("model\t\t: 17", "model\t\t: 1"), ("vendor_id\t: Auth", "vendor_id\t: X")],
)
def test_a_processor_with_other_instructions_has_another_name(old, new):
    assert processor_name(CPUINFO) != processor_name(CPUINFO.replace(old, new))


def test_a_processors_clock_and_number_do_not_change_its_name():
    other = CPUINFO.replace("2596.096", "3100.000").replace("5192.27", "5192.30")
    assert processor_name(CPUINFO) == processor_name(other.partition("\n\n")[0])


def test_a_host_without_cpuinfo_has_a_name_too():
    assert re.fullmatch(r"\w+-[0-9a-f]{8}", processor_name(""))


def test_programs_are_written_where_a_later_process_looks(tmp_path, monkeypatch):
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with compiled_programs():
        directory = Path(jax.config.values["jax_compilation_cache_dir"])
        jax.jit(lambda x: jnp.sin(x) + 41.5)(jnp.arange(3.0)).block_until_ready()
    assert jax.config.values["jax_compilation_cache_dir"] == before
    assert directory.parent == user_directory()
    assert directory.is_relative_to(tmp_path)
    assert list(directory.iterdir())


class Counting(Silent):
    """Keeps how many events it was handling whenever one came."""

    def __init__(self):
        self.handling, self.seen = 0, []

    def finished(self, artifact):
        self.handling += 1
        self.seen.append(self.handling)
        time.sleep(0.01)
        self.handling -= 1


def test_events_of_several_threads_reach_an_observer_one_at_a_time():
    counting = Counting()
    observer = Guarded(counting, Trouble())
    threads = [threading.Thread(target=observer.finished, args=("a",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counting.seen == [1] * 4
