"""`raysynth verify`: whatever is damaged in a store is named with its remedy, and repaired without losing anything."""

import dataclasses
import hashlib
import json
import shutil

import pytest

from raysynth import T5_SMALL, Dataset, Finetune, FullInit, Pretrain, Pretrained, downstream_tasks, synthetic_tasks
from raysynth.cli import main
from raysynth.data.manifest import Manifest, Shard, write_manifest
from raysynth.downstream.rows import Split
from raysynth.specs.identity import name
from raysynth.store.checkpoint_files import LIST
from raysynth.store.marks import here
from raysynth.store.records import DataResult
from raysynth.store.sealed import seal
from raysynth.store.store import State, Store
from tests.records import provenance, weights_result

DATA = Dataset(task=synthetic_tasks["set"], num_examples=100)
SOURCE = Pretrain(data=DATA, model=T5_SMALL)
TUNED = Finetune(task=downstream_tasks["code_translation"], init=FullInit(SOURCE))
IMPORTED = Pretrained(name="mine", model=T5_SMALL)
BEGUN = dataclasses.replace(SOURCE, seed=7)
SHARD = b"rows of ids"


def entry(content):
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_checkpoint(store, artifact, step):
    files = {"params/d/0": b"weights", "params/manifest": b"list"}
    directory = f"{name(artifact)}/checkpoints/{step}"
    for file, content in files.items():
        store.write_bytes(f"{directory}/{file}", content)
    listed = {file: entry(content) for file, content in files.items()}
    store.write_bytes(f"{directory}/{LIST}", seal({"artifact": name(artifact), "step": step, "files": listed}))
    return [f"checkpoints/{step}/{file}" for file in (*files, LIST)]


def fill(store):
    shard = Shard(file="train-00000.parquet", rows=3, sha256=hashlib.sha256(SHARD).hexdigest())
    manifest = Manifest(splits={Split.TRAIN: (shard,)}, prefix=())
    store.write_bytes(f"{name(DATA)}/{shard.file}", SHARD)
    write_manifest(manifest, store, name(DATA))
    store.record(DATA, result=DataResult(rows={"train": 3}, sha256=manifest.digest), provenance=provenance())
    for artifact in (SOURCE, TUNED, IMPORTED):
        files = write_checkpoint(store, artifact, 4)
        result = weights_result(selected_step=4)
        if artifact is TUNED:
            store.write_bytes(f"{name(TUNED)}/predictions.jsonl", b"{}\n")
            files.append("predictions.jsonl")
            sha256 = entry(b"{}\n")["sha256"]
            result = dataclasses.replace(result, test={"exact_match": 0.5}, num_test=1, predictions_sha256=sha256)
        if store.local_root is None:
            store.write_list(name(artifact), files, {})
        store.record(artifact, result=result, provenance=provenance())
    store.write_json(f"{name(SOURCE)}/evaluations/4.json", {"scores": {"loss": 1.5}})
    write_checkpoint(store, BEGUN, 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    store = Store(str(tmp_path_factory.mktemp("verify") / "store"))
    fill(store)
    return store


@pytest.fixture
def store(whole, tmp_path):
    """A copy of the store to damage."""
    shutil.copytree(whole.root, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def verify(store, capsys, *options):
    """The exit status and the output, in which every line of the table has its own line."""
    status = main(["verify", "--store", store.uri, *options])
    return status, capsys.readouterr().out


def test_a_whole_store_is_well(store, capsys):
    for options in ([], ["--deep"], ["--deep", "--repair"]):
        status, out = verify(store, capsys, *options)
        assert status == 0
        assert "all is well" in out


def edit(file, **fields):
    """Change fields of a sealed file, and seal it again."""

    def change(path):
        value = json.loads((path / file).read_text())
        value.pop("checksum")
        (path / file).write_bytes(seal(value | fields))

    return change


def write(file, content):
    def change(path):
        (path / file).write_bytes(content)

    return change


def delete(file):
    return lambda path: (path / file).unlink()


AGAIN, ASIDE = "the next run makes it again", "sets it aside"
CHECKPOINT = "checkpoints/4/params/d/0"


@pytest.mark.parametrize(
    ("artifact", "damage", "problem", "remedy"),
    [
        (DATA, write("record.json", b"{}"), "lacks its checksum", AGAIN),
        (DATA, write("record.json", b""), "not a whole JSON object", AGAIN),
        (DATA, edit("record.json", artifact="dataset/other-12345678"), "record of another artifact", AGAIN),
        (DATA, edit("record.json", description={}), "does not belong to the artifact's name", AGAIN),
        (DATA, edit("record.json", result={"rows": {"train": -1}, "sha256": ""}), "at least 0, got -1", AGAIN),
        (DATA, delete("manifest.json"), "manifest.json is missing", AGAIN),
        (DATA, write("manifest.json", b"[]"), "manifest.json is damaged", AGAIN),
        (DATA, edit("manifest.json", splits={}), "is not the one that the record names", AGAIN),
        (DATA, delete("train-00000.parquet"), "train-00000.parquet is missing", AGAIN),
        (SOURCE, delete(CHECKPOINT), f"{CHECKPOINT} is missing", AGAIN),
        (SOURCE, write(CHECKPOINT, b"weight"), f"{CHECKPOINT} has 6 bytes instead of 7", AGAIN),
        (SOURCE, delete(f"checkpoints/4/{LIST}"), "checksums.json is missing", AGAIN),
        (SOURCE, edit(f"checkpoints/4/{LIST}", step=5), "belongs to step 5", AGAIN),
        (SOURCE, edit(f"checkpoints/4/{LIST}", artifact="x"), "belongs to step 4 of x", AGAIN),
        (SOURCE, edit(f"checkpoints/4/{LIST}", params_sha256="f" * 64), "other parameters than", AGAIN),
        (SOURCE, edit(f"checkpoints/4/{LIST}", params_sha256=0), "must hold an artifact", AGAIN),
        (IMPORTED, delete(CHECKPOINT), f"{CHECKPOINT} is missing", "then import it again"),
        (TUNED, delete("predictions.jsonl"), "predictions.jsonl is missing", AGAIN),
        (SOURCE, write("evaluations/4.json", b"null"), "4.json is damaged", ASIDE),
        (SOURCE, write("running.json", b"[/]"), "running.json stayed behind", "deletes it"),
        (BEGUN, delete("checkpoints/2/params/d/0"), "checkpoints/2/params/d/0 is missing", ASIDE),
    ],
)
def test_damage_is_named_and_repaired(store, capsys, artifact, damage, problem, remedy):
    path = store.local_root / name(artifact)
    files_before = {file.read_bytes() for file in path.rglob("*") if file.is_file()}
    damage(path)
    files_after = {file.read_bytes() for file in path.rglob("*") if file.is_file()}
    status, out = verify(store, capsys)
    assert status == 1
    assert name(artifact) in out
    assert problem in out
    assert remedy in out
    assert verify(store, capsys, "--repair")[0] == 0
    assert verify(store, capsys, "--deep")[0] == 0
    if remedy == AGAIN:
        assert store.status(artifact).state is State.NEW
    left = {file.read_bytes() for file in store.local_root.rglob("*") if file.is_file()}
    assert files_before & files_after <= left, "nothing is lost"


@pytest.mark.parametrize(
    ("artifact", "file"), [(DATA, "train-00000.parquet"), (SOURCE, CHECKPOINT), (TUNED, "predictions.jsonl")]
)
def test_deep_finds_a_flipped_byte(store, capsys, artifact, file):
    path = store.local_root / name(artifact) / file
    content = bytearray(path.read_bytes())
    content[1] ^= 1
    path.write_bytes(content)
    assert verify(store, capsys)[0] == 0
    status, out = verify(store, capsys, "--deep")
    assert status == 1
    assert f"{file} has another content than was written" in out


def test_what_dead_runs_left_is_deleted(store, capsys):
    dead = vars(dataclasses.replace(here(), birth="1"))
    store.write_json("drivers/0123abcd.json", dead)
    store.write_bytes("drivers/89abcdef.json", b"{")
    store.write_json(f"leases/{name(SOURCE)}.json", {"driver": "0123abcd"})
    leftover = f"{name(DATA)}/.train-00000.parquet.{'0' * 32}.aside"
    store.write_bytes(leftover, b"half")
    status, out = verify(store, capsys)
    assert status == 1
    assert out.count("of a run that is gone") == 2
    assert out.count("is leased to a run that is gone") == 1
    assert leftover in out
    assert verify(store, capsys, "--repair")[0] == 0
    assert not store.files_below("drivers")
    assert not store.files_below("leases")
    assert not store.exists(leftover)
    assert store.status(SOURCE).state is State.DONE


def test_a_store_in_use_is_not_repaired(store, capsys):
    store.write_json("drivers/0123abcd.json", vars(here()))
    store.write_json(f"leases/{name(BEGUN)}.json", {"driver": "0123abcd"})
    assert main(["verify", "--store", store.uri, "--repair"]) == 2
    assert "works on the store; repair it later" in capsys.readouterr().err
    status, out = verify(store, capsys)
    assert status == 0
    assert "what it makes is left out" in out


def test_a_remote_list_is_written_again(bucket, capsys):
    store = Store(bucket("verify"))
    fill(store)
    assert verify(store, capsys, "--deep")[0] == 0
    for artifact in (DATA, SOURCE):
        store.write_bytes(f"{name(artifact)}/files.json", b"torn")
    status, out = verify(store, capsys)
    assert status == 1
    assert out.count("writes the list again") == 2
    assert verify(store, capsys, "--repair")[0] == 0
    assert verify(store, capsys, "--deep")[0] == 0
    store.write_bytes(f"{name(SOURCE)}/{CHECKPOINT}", b"weighty")
    assert verify(store, capsys, "--deep")[0] == 1
    assert verify(store, capsys, "--deep", "--repair")[0] == 0
    assert store.status(SOURCE).state is State.NEW
    assert store.read_bytes(f"set-aside/{name(SOURCE)}/{CHECKPOINT}") == b"weighty"


def test_no_store_is_one_line(tmp_path, capsys):
    assert main(["verify", "--store", str(tmp_path / "nowhere")]) == 2
    assert "there is no store at" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
