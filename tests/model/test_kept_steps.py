"""A pre-training keeps the checkpoints of several steps, each with the bits of a pre-training that ends there."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from raysynth import AtStep, Finetune, FullInit, InputError, SourceAt, load
from raysynth.cli import main
from raysynth.data.text_pairs import generate_text
from raysynth.model.resume import resume
from raysynth.model.train import pretrain
from raysynth.observer import Silent
from raysynth.run.make import make
from raysynth.run.sources import damaged_sources, source_params
from raysynth.specs.identity import name
from raysynth.store.checkpoint_files import problem
from raysynth.store.store import State, Store
from raysynth.weights.checks import flat
from raysynth.weights.formats import read
from tests.model.tiny import DATA, PRETRAIN, TASK, Killed, KillsAtEvaluation, KillsAtProgress, one_step_a_call
from tests.records import record_data

KEPT = dataclasses.replace(PRETRAIN, selection=AtStep(6), keep_steps=(3, 9))
"""Its selection is settled at step 6, and nothing but `keep_steps` asks for steps 3 and 9."""
RUNS = [Finetune(task=TASK, init=FullInit(source)) for source in (SourceAt(KEPT, step=3), SourceAt(KEPT, step=9), KEPT)]


def train(spec, synthetic, directory, observer=None, seconds=600.0):
    return pretrain(
        spec, data=synthetic, directory=directory, observer=observer or Silent(), checkpoint_seconds=seconds
    ).result


def steps_in(directory):
    return {entry.name for entry in (directory / "checkpoints").iterdir() if entry.name.isdecimal()}


@pytest.fixture(scope="module")
def whole(synthetic, tmp_path_factory):
    """The directory and the result of an undisturbed run."""
    directory = tmp_path_factory.mktemp("whole")
    return directory, train(KEPT, synthetic, directory)


def test_kept_steps_have_the_bits_of_pretrainings_that_end_there(synthetic, whole, tmp_path):
    directory, result = whole
    assert (result.selected_step, result.last_step) == (6, 9)
    assert steps_in(directory) == {"3", "6", "9"}
    for step in (3, 6, 9):
        ended = dataclasses.replace(PRETRAIN, num_steps=step, selection=AtStep(step))
        alone = train(ended, synthetic, tmp_path / str(step))
        assert (alone.params_sha256, alone.evaluations) == (
            result.digests[step],
            {one: scores for one, scores in result.evaluations.items() if one <= step},
        )
        assert alone.kept_params_sha256 is None
        assert problem(directory / f"checkpoints/{step}", step=step, artifact=name(KEPT)) is None


@pytest.mark.long
@pytest.mark.parametrize(
    ("kill", "seconds"),
    [(KillsAtEvaluation(3), 600), (KillsAtProgress(8), 0), (KillsAtProgress(9), 600), (KillsAtEvaluation(9), 0)],
)
def test_a_killed_run_ends_with_the_same_bits(kill, seconds, synthetic, whole, tmp_path):
    with pytest.raises(Killed), one_step_a_call():
        train(KEPT, synthetic, tmp_path, kill, seconds)
    assert train(KEPT, synthetic, tmp_path) == whole[1]
    assert steps_in(tmp_path) == {"3", "6", "9"}


def test_a_run_does_not_go_on_from_a_step_after_a_kept_one_that_is_damaged(synthetic, whole, tmp_path):
    with pytest.raises(Killed), one_step_a_call():
        train(KEPT, synthetic, tmp_path, KillsAtProgress(8), 0)
    assert {"3", "6", "7"} <= steps_in(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints/3")
    copy = shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-copy")
    assert resume(copy, name(KEPT), KEPT, Silent()).step == 0
    assert train(KEPT, synthetic, tmp_path) == whole[1]


# -------------------------------------------------------------------------------- in a store


def make_quietly(artifact, store):
    make(artifact, store=store, cache=Path(store.root) / "unused", report=lambda result: None, node="here")


@pytest.fixture(scope="module")
def trained(synthetic, tmp_path_factory):
    """A store with the pre-training and the data set of fine-tunings."""
    store = Store(str(tmp_path_factory.mktemp("trained")))
    shutil.copytree(synthetic, store.local_root / name(DATA))
    record_data(DATA, store)
    generate_text(TASK.data, store, {})
    record_data(TASK.data, store)
    make_quietly(KEPT, store)
    return store


@pytest.fixture
def store(trained, tmp_path):
    """A copy to damage."""
    shutil.copytree(trained.root, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def test_finetunings_start_from_their_step(store, whole):
    record = store.status(KEPT).record
    assert record.result == whole[1]
    used = Path(store.root) / "unused"
    by_step = {step: flat(source_params(SourceAt(KEPT, step=step), store, used)) for step in KEPT.keep_steps}
    kernel = "encoder/layers_0/mlp/wi/kernel"
    assert not np.array_equal(by_step[3][kernel], by_step[9][kernel])
    loaded = load(SourceAt(KEPT, step=9), store=store.uri)
    assert loaded.step == 9
    np.testing.assert_array_equal(flat(loaded.params)[kernel], by_step[9][kernel])
    assert load(KEPT, store=store.uri).step == 6
    for run in RUNS:
        make_quietly(run, store)
    assert len({store.status(run).record.weights.params_sha256 for run in RUNS}) == 3


def test_the_weights_of_a_kept_step_are_shown_and_exported(store, tmp_path, capsys):
    where = ["--store", store.uri]
    shown = {}
    for step in (3, 6, 9):
        assert main(["stats", name(KEPT), *where, "--step", str(step)]) == 0
        shown[step] = capsys.readouterr().out
        assert f"{name(KEPT)}, step {step}\n" in shown[step]
    assert main(["stats", name(KEPT), *where]) == 0
    assert capsys.readouterr().out == shown[6]
    assert len(set(shown.values())) == 3
    assert main(["export", name(KEPT), *where, "--format", "t5x", "--step", "9", str(tmp_path / "out")]) == 0
    expected = flat(load(SourceAt(KEPT, step=9), store=store.uri).params)
    exported = flat(read(tmp_path / "out")[1])
    assert exported.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(exported[path], value)
    capsys.readouterr()
    assert main(["stats", name(KEPT), *where, "--step", "4"]) == 2
    assert capsys.readouterr().err == f"error: {name(KEPT)} keeps the weights of step 3, 6, 9 only, got 4\n"


def test_a_damaged_kept_checkpoint_is_found_and_made_again(store, whole, capsys):
    file = next((store.local_root / name(KEPT) / "checkpoints/9/params/d").iterdir())
    content = bytearray(file.read_bytes())
    content[70] ^= 0x40
    file.write_bytes(content)
    assert main(["verify", "--store", store.uri, "--deep"]) == 1
    assert "checkpoints/9/params/d" in capsys.readouterr().out
    with pytest.raises(InputError, match="has another content than was written; the next run makes it again"):
        make_quietly(RUNS[1], store)
    assert store.status(KEPT).state is State.NEW
    make_quietly(KEPT, store)
    assert store.status(KEPT).record.result == whole[1]
    file = store.local_root / name(KEPT) / "checkpoints/3/params/_METADATA"
    file.unlink()
    assert "_METADATA is missing" in damaged_sources([RUNS[1]], {KEPT}, store)[KEPT]
    assert store.status(KEPT).state is State.NEW


def test_a_remote_store_copies_the_kept_checkpoints(store, whole, bucket, tmp_path):
    remote = Store(bucket("kept"))
    for artifact in (DATA, KEPT):
        files = [file for file in store.files_below(name(artifact)) if not file.endswith("/record.json")]
        for file in files:
            remote.write_bytes(file, store.read_bytes(file))
        remote.write_list(name(artifact), [file.removeprefix(f"{name(artifact)}/") for file in files], {})
        remote.write_bytes(f"{name(artifact)}/record.json", store.read_bytes(f"{name(artifact)}/record.json"))
    assert main(["verify", "--store", remote.uri, "--deep"]) == 0
    remote.delete(f"{name(KEPT)}/files.json")
    assert main(["verify", "--store", remote.uri, "--repair"]) == 0
    source_params(SourceAt(KEPT, step=3), remote, tmp_path / "cache")
    assert not damaged_sources([RUNS[0]], {KEPT}, remote)
