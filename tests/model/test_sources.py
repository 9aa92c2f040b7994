"""Fine-tunings start from the weights that the source's record names, or not at all."""

import dataclasses
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from raysynth import Finetune, FullInit, InputError, RandomInit, pretrained
from raysynth.cli import main
from raysynth.data.text_pairs import generate_text
from raysynth.errors import StoreError
from raysynth.model.checkpoints import Checkpoints, read_params
from raysynth.model.step import TrainState
from raysynth.model.t5 import init_params
from raysynth.model.train import pretrain
from raysynth.observer import Silent
from raysynth.run.make import make
from raysynth.run.sources import damaged_sources, source_params
from raysynth.specs.identity import name
from raysynth.specs.recipes import Best
from raysynth.store.checkpoint_files import LIST, add_digest, write_list
from raysynth.store.store import State, Store
from raysynth.weights.t5x import write_t5x
from tests.model.tiny import DATA, MODEL, PRETRAIN, TASK
from tests.records import record_data

RUN = Finetune(task=TASK, init=FullInit(PRETRAIN))
OTHER = dataclasses.replace(PRETRAIN, seed=1)


def make_quietly(artifact, store):
    make(artifact, store=store, cache=Path(store.root) / "unused", report=lambda result: None, node="here")


@pytest.fixture(scope="module")
def trained(synthetic, tmp_path_factory):
    """A store with two pre-trainings and the data set of a fine-tuning."""
    store = Store(str(tmp_path_factory.mktemp("trained")))
    shutil.copytree(synthetic, store.local_root / name(DATA))
    record_data(DATA, store)
    generate_text(TASK.data, store, {})
    record_data(TASK.data, store)
    for source in (PRETRAIN, OTHER):
        make_quietly(source, store)
    return store


@pytest.fixture
def store(trained, tmp_path):
    """A copy to damage."""
    shutil.copytree(trained.root, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def checkpoint_of(source, store):
    return store.local_root / name(source) / "checkpoints" / str(store.status(source).record.weights.selected_step)


def flip_params(checkpoint):
    (file,) = (checkpoint / "params/d").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


def cut_params(checkpoint):
    (file,) = (checkpoint / "params/d").iterdir()
    os.truncate(file, file.stat().st_size // 2)


def replace_by_another(checkpoint):
    """Put another run's checkpoint in place, with a list that says it belongs there."""
    others = checkpoint.parents[2] / name(OTHER).removeprefix("pretrain/") / "checkpoints"
    (other,) = others.iterdir()
    shutil.rmtree(checkpoint)
    shutil.copytree(other, checkpoint)
    write_list(checkpoint, artifact=name(PRETRAIN), step=int(checkpoint.name))


DAMAGES = [
    (flip_params, "has another content than was written"),
    (cut_params, " bytes instead of "),
    (shutil.rmtree, "is missing"),
    (lambda checkpoint: shutil.rmtree(checkpoint.parent), "is missing"),
    (lambda checkpoint: (checkpoint / LIST).write_text("{}"), "is damaged: it lacks its checksum"),
    (lambda checkpoint: (checkpoint / "params/_METADATA").unlink(), "_METADATA is missing"),
    (lambda checkpoint: write_list(checkpoint, artifact=name(OTHER), step=12), f" holds step 12 of {name(OTHER)}"),
    (lambda checkpoint: add_digest(checkpoint, "f" * 64), "holds other parameters than the record says"),
]


@pytest.mark.parametrize(("damage", "line"), DAMAGES)
def test_a_damaged_source_counts_as_not_done_before_a_run_starts(damage, line, store):
    damage(checkpoint_of(PRETRAIN, store))
    damaged = damaged_sources([RUN], {PRETRAIN, OTHER}, store)
    assert list(damaged) == [PRETRAIN]
    assert line in damaged[PRETRAIN]
    assert store.status(PRETRAIN).state is State.NEW
    assert store.status(OTHER).state is State.DONE
    assert not damaged_sources([RUN], set(), store)


def test_what_cannot_be_read_is_not_taken_for_damaged(store, monkeypatch):
    def refuse(file):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StoreError, match=f"cannot read {name(PRETRAIN)}: .*Permission denied"):
        damaged_sources([RUN], {PRETRAIN}, store)
    monkeypatch.undo()
    assert store.status(PRETRAIN).state is State.DONE


def test_whole_sources_stay_done(store):
    assert not damaged_sources([RUN, Finetune(task=TASK, init=RandomInit(MODEL))], {PRETRAIN, OTHER}, store)
    assert store.status(PRETRAIN).state is State.DONE


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        DAMAGES[0],
        pytest.param(*DAMAGES[1], marks=pytest.mark.long),
        (replace_by_another, "holds other parameters than the record says"),
    ],
)
def test_a_source_that_is_damaged_when_it_is_used_is_made_again_by_the_next_run(damage, line, store):
    digest = store.status(PRETRAIN).record.weights.params_sha256
    damage(checkpoint_of(PRETRAIN, store))
    with pytest.raises(InputError, match=f"{line}.*; the next run makes it again"):
        make_quietly(RUN, store)
    assert store.status(RUN).state is not State.DONE
    with pytest.raises(InputError, match="is no longer done, because it was damaged: the next run makes it again"):
        make_quietly(RUN, store)
    make_quietly(PRETRAIN, store)
    assert store.status(PRETRAIN).record.weights.params_sha256 == digest
    make_quietly(RUN, store)
    assert store.status(RUN).state is State.DONE


def test_a_damaged_copy_of_a_remote_source_is_fetched_again(store, bucket, tmp_path):
    remote = Store(bucket("sources"))
    for file in (store.local_root / name(PRETRAIN)).rglob("*"):
        if file.is_file():
            remote.write_bytes(str(file.relative_to(store.local_root)), file.read_bytes())
    with remote.workspace(PRETRAIN) as workspace:
        shutil.copytree(store.local_root / name(PRETRAIN) / "checkpoints", workspace.path / "checkpoints")
        workspace.push()
    whole = source_params(PRETRAIN, remote, tmp_path / "cache")
    assert not damaged_sources([RUN], {PRETRAIN}, remote)
    flip_params(next((tmp_path / "cache" / name(PRETRAIN) / "checkpoints").iterdir()))
    again = source_params(PRETRAIN, remote, tmp_path / "cache")
    path = ("encoder", "layers_0", "mlp", "wi", "kernel")
    for key in path:
        whole, again = whole[key], again[key]
    np.testing.assert_array_equal(whole, again)
    (file,) = (checkpoint_of(PRETRAIN, store) / "params/d").iterdir()
    remote.write_bytes(str(file.relative_to(store.local_root)), b"short")
    damaged = damaged_sources([RUN], {PRETRAIN}, remote)
    assert "is missing or has another size than was written" in damaged[PRETRAIN]
    assert remote.status(PRETRAIN).state is State.NEW


def test_a_remote_run_that_lost_a_file_starts_again(synthetic, bucket, tmp_path, store):
    remote = Store(bucket("resumed"))
    digest = store.status(PRETRAIN).record.weights.params_sha256
    with remote.workspace(PRETRAIN) as workspace:
        pretrain(PRETRAIN, data=synthetic, directory=workspace.path, observer=Silent(), saved=workspace.push)
        workspace.push()
    listed = remote.read_json(f"{name(PRETRAIN)}/files.json")["files"]
    remote.delete(f"{name(PRETRAIN)}/{next(file for file in listed if '/params/d/' in file)}")
    with remote.workspace(PRETRAIN) as workspace:
        again = pretrain(PRETRAIN, data=synthetic, directory=workspace.path, observer=Silent(), saved=workspace.push)
    assert again.result.params_sha256 == digest


# -------------------------------------------------------------------------------- imports


def test_damaged_imported_weights_name_the_command_that_heals_them(tmp_path, capsys):
    store, artifact = Store(str(tmp_path / "store")), pretrained("mine", model=MODEL)
    write_t5x(tmp_path / "release", MODEL, init_params(MODEL, jax.random.key(0)))
    command = ["import", str(tmp_path / "release"), "--name", "mine", "--model", "found", "--store", store.uri]
    assert main(command) == 0
    run = Finetune(task=TASK, init=FullInit(artifact))
    generate_text(TASK.data, store, {})
    record_data(TASK.data, store)
    for damage in (flip_params, shutil.rmtree):
        damage(checkpoint_of(artifact, store))
        line = f"; import it again: raysynth import DIR --name mine --store {store.uri}"
        with pytest.raises(InputError, match=line):
            damaged_sources([run], {artifact}, store)
        with pytest.raises(InputError, match=line):
            make_quietly(run, store)
        assert store.status(artifact).state is State.DONE
        assert main(command) == 0
        assert "nothing to do" not in capsys.readouterr().out
        assert not damaged_sources([run], {artifact}, store)
    assert main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    make_quietly(run, store)


# -------------------------------------------------------------------------------- names of directories


@pytest.mark.parametrize(
    "directory", ["lab [v2]", "a*b", "x{1}", "q?", "100%", "two  words", "ünï", "gs:", "s3:", "back\\slash", "[", "#1"]
)
def test_a_directory_may_have_any_name(directory, tmp_path):
    place = tmp_path / directory / "checkpoints"
    (tmp_path / "axb").mkdir()  # what a pattern would also match
    evaluations = {}

    def checkpoints():
        return Checkpoints(
            place, artifact="a", selection=Best("loss"), evaluations=evaluations, saved=lambda: None, seconds=600
        )

    with checkpoints() as kept:
        for step in (1, 2, 3):
            evaluations[step] = {"loss": 1.0}
            arrays = jax.device_put((np.full(3, step, np.int32), np.int32(step)))
            state = TrainState(params={"a": arrays[0]}, optimizer={"c": arrays[1]}, step=step)
            kept.save(state)
        kept.wait()
    with checkpoints() as kept:
        state = kept.restore(3, like=state)
        assert (kept.latest, state.optimizer["c"]) == (3, 3)
    np.testing.assert_array_equal(read_params(place, 1)["a"], np.full(3, 1))
    assert sorted(entry.name for entry in place.iterdir()) == ["1", "2", "3"]


def test_training_in_a_directory_with_brackets_gives_the_same_bits(synthetic, store, tmp_path):
    directory = tmp_path / "lab [v2]"
    result = pretrain(PRETRAIN, data=synthetic, directory=directory, observer=Silent()).result
    assert result == store.status(PRETRAIN).record.result
