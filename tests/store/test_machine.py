"""What records hold of the machine and the code."""

import os
import subprocess
from pathlib import Path

import pytest

from raysynth import Sweep
from raysynth.environment import SWEEP_COMMIT, made_by, trial_variables
from raysynth.store.machine import commit, commit_of, described, processor
from raysynth.store.marks import provenance
from raysynth.store.records import Record, as_json
from tests.records import provenance as made_up
from tests.records import weights_result
from tests.report import grids
from tests.report.grids import grid

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC 9654: 96-Core
stepping\t: 1
flags\t\t: fpu sse2 fma avx f16c avx512_bf16 amx_tile rdseed

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimdhp sve bf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"


@pytest.mark.parametrize(
    ("cpuinfo", "text"),
    [
        (
            X86,
            "AMD EPYC 9654: 96-Core, cpu family 25, model 17, stepping 1, amx_tile avx avx512_bf16 f16c fma",
        ),
        (ARM, "CPU implementer 0x41, CPU part 0xd40, asimd asimdhp bf16 sve"),
        ("", ""),
        ("no colon\n: no key\n", ""),
    ],
    ids=["x86", "arm", "empty", "strange"],
)
def test_a_processor_is_its_model_and_its_instruction_sets(cpuinfo, text):
    assert described(cpuinfo) == text


def test_provenance_names_the_processor_and_the_commit():
    made = provenance(0.0)
    assert made.processor == processor() != ""
    assert made.commit == commit()
    assert {"jaxlib", "numba"} <= made.versions.keys()


def test_the_commit_is_the_last_one_of_the_package():
    head = subprocess.run(
        ["git", "log", "-1", "--format=%H", "--", "raysynth"], capture_output=True, text=True, check=False
    ).stdout.strip()
    assert (commit() or "").removesuffix("-dirty") == head


def test_the_commit_of_a_file_says_whether_its_repository_was_changed(tmp_path):
    def git(*command):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=tmp_path, check=True)

    file = tmp_path / "sweep.py"
    file.write_text("1")
    assert commit_of(file) is None
    git("init", "-q")
    git("add", "sweep.py")
    assert commit_of(file) is None
    git("commit", "-q", "-m", "one")
    (branch,) = (tmp_path / ".git" / "refs" / "heads").iterdir()
    head = branch.read_text().strip()
    (tmp_path / "results").write_text("untracked")
    assert commit_of(file) == head
    assert commit_of(tmp_path / "results") == f"{head}-dirty"
    file.write_text("2")
    assert commit_of(file) == f"{head}-dirty"
    assert commit_of(tmp_path / "none") is None
    with made_by(head):
        assert provenance(0.0).sweep_commit == trial_variables(os.environ)[SWEEP_COMMIT] == head
    assert provenance(0.0).sweep_commit is None


def test_the_file_of_a_sweep_is_that_of_its_trial():
    assert grid(random=1).file == Path(grids.__file__)
    assert Sweep(name="s", claim="c").file is None


def test_a_record_holds_the_variables_that_choose_programs(monkeypatch):
    variables = {"XLA_FLAGS": "--xla_dump_to=x", "LIBTPU_INIT_ARGS": "--xla_tpu_x=1", "JAX_PLATFORMS": "cpu"}
    monkeypatch.delenv("JAX_PJRT_CLIENT_CREATE_OPTIONS", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert provenance(0.0).variables == variables


def test_records_without_these_fields_are_read():
    record = Record(artifact="finetune/some", description={}, result=weights_result(), provenance=made_up())
    json = as_json(record)
    assert not {"processor", "threads", "commit", "sweep_commit", "variables", "backend"} & json["provenance"].keys()
    assert Record.read(json, "here") == record
