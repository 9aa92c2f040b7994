"""The campaign of faults: a short one, and whether its judge can tell right ends from wrong ones."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.campaign import Broken, Ran, check
from tests.faults.damage import GARBAGE, HOWS, damage, files_by_kind, kind_of, other_files, other_results

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_a_short_campaign_breaks_nothing(tmp_path):
    """Eleven cases of all kinds, one of them with Ray."""
    command = [sys.executable, "-m", "tests.faults.campaign", "--seed", "822", "--num", "11", "--jobs", "2"]
    command += ["--folder", tmp_path]
    environment = {**os.environ, "XLA_FLAGS": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


# -------------------------------------------------------------------------------- the judge


@pytest.mark.parametrize(
    ("status", "err", "killed_by"),
    [
        (0, "7 succeeded, in /s", None),
        (2, "7 artifacts to make\nerror: store '/s' is not writable: No space left on device", None),
        (1, "failed: dataset/set-1: OSError: No space left on device", None),
        (130, "interrupted; run the same command again to continue", None),
        (-signal.SIGKILL, "", signal.SIGKILL),
    ],
)
def test_right_ends_pass(status, err, killed_by):
    check(Ran(status=status, out="", err=err), killed_by=killed_by)


@pytest.mark.parametrize(
    ("status", "err", "why"),
    [
        (1, "Traceback (most recent call last):\n  File ...\nOSError: full", "printed 'Traceback.*: OSError: full"),
        (0, "note\nTraceback (most recent call last):\n  File ...\nOSError: full", "printed 'Traceback"),
        (1, "7 artifacts to make", "without a line that says why"),
        (1, "", "without a line that says why"),
        (-signal.SIGSEGV, "", "died by SIGSEGV"),
        (-signal.SIGTERM, "", "died by SIGTERM"),
        (1, "[2026-11-27 09:00:00,123 C 1 2] worker.cc:12: Check failed", "printed"),
        (1, "*** SIGABRT received at time=1 ***\nerror: aborted", "printed"),
    ],
)
def test_wrong_ends_break_the_rule(status, err, why):
    with pytest.raises(Broken, match=why):
        check(Ran(status=status, out="", err=err))


def record(folder, result):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps({"result": result, "provenance": {"seconds": random.random()}}))


def test_results_are_compared_whatever_the_record_is(tmp_path):
    whole, store = tmp_path / "whole", tmp_path / "store"
    names = ["same", "other", "missing", "torn", "list"]
    for name in names:
        record(whole / "finetune" / name, {"loss": 0.1})
        record(store / "finetune" / name, {"loss": 0.1})
    record(store / "finetune" / "other", {"loss": 0.1 + 2**-55})
    (store / "finetune" / "missing" / "record.json").unlink()
    (store / "finetune" / "torn" / "record.json").write_text('{"result": {')
    (store / "finetune" / "list" / "record.json").write_text("[]")
    assert other_results(store, whole) == [f"finetune/{name}" for name in ("list", "missing", "other", "torn")]


def test_files_that_are_always_the_same_bytes_are_compared(tmp_path):
    for file in ("finetune/a/predictions.jsonl", "dataset/b/train-00000.parquet", "finetune/a/record.json"):
        for store in ("whole", "store"):
            (tmp_path / store / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / store / file).write_text(store if file.endswith((".jsonl", "record.json")) else "")
    assert other_files(tmp_path / "store", tmp_path / "whole") == [Path("finetune/a/predictions.jsonl")]


# -------------------------------------------------------------------------------- the damage


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("finetune/a-1/record.json", "record"),
        ("dataset/a-1/manifest.json", "data manifest"),
        ("dataset/a-1/train-00000.parquet", "shard"),
        ("dataset/a-1/draws/00000.parquet", "draw"),
        ("pretrain/a-1/checkpoints/2/params/d/12ab", "checkpoint arrays"),
        ("pretrain/a-1/checkpoints/2/checksums.json", "checkpoint list"),
        ("pretrain/a-1/checkpoints/2/params/_METADATA", "checkpoint metadata"),
        ("finetune/a-1/evaluations/2.json", "evaluation"),
        ("leases/finetune/a-1.json", "lease"),
        ("drivers/0123.json", "driver mark"),
        ("compiled/jit_step-12-cache", "compiled"),
        ("stray", "other"),
    ],
)
def test_every_file_has_a_kind(path, kind):
    assert kind_of(path) == kind


def test_damage_comes_from_the_seed_and_changes_a_file(tmp_path):
    original = tmp_path / "original"
    for name, result in (("dataset/a-1", 1), ("pretrain/b-2", 2), ("finetune/c-3", 3)):
        record(original / name, result)
        for file in ("evaluations/2.json", "checkpoints/2/params/d/12ab", "predictions.jsonl"):
            (original / name / file).parent.mkdir(parents=True, exist_ok=True)
            (original / name / file).write_text(f"{name} {file}")
    hows = set()
    for seed in range(60):
        contents = []
        for store in (tmp_path / "one", tmp_path / "other"):
            shutil.copytree(original, store)
            how, kind, file = damage(store, random.Random(seed))
            assert kind == kind_of(file.relative_to(store).as_posix())
            contents.append({path.relative_to(store): path.read_bytes() for path in store.rglob("*") if path.is_file()})
            shutil.rmtree(store)
        hows.add(how)
        assert contents[0] == contents[1]
        assert contents[0] != {
            path.relative_to(original): path.read_bytes() for path in original.rglob("*") if path.is_file()
        }
    assert hows == {*HOWS} - {"resealed"}
    assert all(isinstance(content, bytes) for content in GARBAGE)
    assert len(files_by_kind(original)) == 4
