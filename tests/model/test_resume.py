"""A killed run goes on from whole files only: whatever is done to them, its bits are those of an undisturbed run."""

import dataclasses
import os
import random
import shutil

import pytest

from raysynth import Best, FirstAbove
from raysynth.model.resume import evaluated_steps, resume, write_evaluation
from raysynth.model.train import pretrain
from raysynth.observer import Silent
from raysynth.specs.identity import name
from raysynth.specs.recipes import AtStep
from raysynth.store.checkpoint_files import LIST, problem
from raysynth.store.sealed import seal
from tests.model.tiny import PRETRAIN, Killed, KillsAtEvaluation, KillsAtProgress, one_step_a_call

NAME = name(PRETRAIN)


class Notes(Silent):
    def __init__(self):
        self.lines = []

    def noted(self, artifact, note):
        assert artifact == NAME
        assert "\n" not in note
        self.lines.append(note)


def train(synthetic, directory, observer=None):
    return pretrain(PRETRAIN, data=synthetic, directory=directory, observer=observer or Silent())


@pytest.fixture(scope="module")
def whole(synthetic, tmp_path_factory):
    """The result of an undisturbed run."""
    return train(synthetic, tmp_path_factory.mktemp("whole")).result


@pytest.fixture(scope="module")
def killed(synthetic, tmp_path_factory):
    """The directory of a run that was killed when it had evaluated its last step and not saved it."""
    directory = tmp_path_factory.mktemp("killed")
    with pytest.raises(Killed):
        train(synthetic, directory, KillsAtEvaluation(12))
    return directory


@pytest.fixture
def copy(killed, tmp_path):
    """A copy of that directory to damage."""
    return shutil.copytree(killed, tmp_path / "copy")


def flip(file, position):
    content = bytearray(file.read_bytes())
    content[position % len(content)] ^= 0x40
    file.write_bytes(content)


def truncate(file, length):
    file.write_bytes(file.read_bytes()[: length % file.stat().st_size])


def delete(file, _):
    file.unlink()


def append(file, number):
    file.write_bytes(file.read_bytes() + bytes([number % 256]))


def assert_same_bits(synthetic, directory, whole, *, note):
    """Resume, and compare with the undisturbed run; `note` is a part of the only note, None if there must be none."""
    notes = Notes()
    assert train(synthetic, directory, notes).result == whole
    assert [note in line for line in notes.lines] == ([] if note is None else [True]), notes.lines
    assert [entry.name for entry in (directory / "checkpoints").iterdir() if entry.name.isdecimal()] == [
        str(whole.selected_step)
    ]
    assert (
        problem(directory / "checkpoints" / str(whole.selected_step), step=whole.selected_step, artifact=NAME) is None
    )


# -------------------------------------------------------------------------------- checkpoints


def test_an_undisturbed_resume_notes_nothing(synthetic, copy, whole):
    assert {"6", "9"} <= {entry.name for entry in (copy / "checkpoints").iterdir()}
    assert_same_bits(synthetic, copy, whole, note=None)


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [
        (flip, "params/d/*"),
        (truncate, "optimizer/ocdbt.process_0/d/*"),
        (delete, "_CHECKPOINT_METADATA"),
        (flip, LIST),
        (append, "params/_METADATA"),
    ],
)
def test_a_damaged_file_of_the_latest_checkpoint_falls_back_to_the_one_before(damage, pattern, synthetic, copy, whole):
    damage(next((copy / "checkpoints/9").glob(pattern)), 70)
    assert_same_bits(synthetic, copy, whole, note="; training goes on from step 6")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(60))
def test_any_damage_to_any_files_of_a_killed_run(seed, synthetic, copy, whole):
    rng = random.Random(seed)
    files = sorted(file for folder in ("checkpoints", "evaluations") for file in (copy / folder).rglob("*"))
    files = [file for file in files if file.is_file()]
    for file in rng.sample(files, rng.choice((1, 1, 1, 2, 5))):
        rng.choice((flip, truncate, delete, append))(file, rng.randrange(10**6))
    assert train(synthetic, copy).result == whole


@pytest.mark.parametrize("steps", [(6, 9), (6,)])
def test_damaged_checkpoints_of_several_steps(steps, synthetic, copy, whole):
    for step in steps:
        if (copy / f"checkpoints/{step}").exists():
            flip(next((copy / f"checkpoints/{step}/optimizer/ocdbt.process_0/d").iterdir()), 100)
    assert train(synthetic, copy).result == whole


def test_checkpoints_of_another_run_or_step_are_not_trained_on(synthetic, copy, whole, tmp_path):
    other = dataclasses.replace(PRETRAIN, seed=1)
    with pytest.raises(Killed):
        pretrain(other, data=synthetic, directory=tmp_path / "other", observer=KillsAtEvaluation(12))
    shutil.rmtree(copy / "checkpoints/9")
    shutil.copytree(tmp_path / "other/checkpoints/9", copy / "checkpoints/9")
    assert_same_bits(
        synthetic, shutil.copytree(copy, tmp_path / "first"), whole, note=f" holds step 9 of {name(other)}"
    )
    shutil.rmtree(copy / "checkpoints/9")
    shutil.copytree(copy / "checkpoints/6", copy / "checkpoints/9")
    assert_same_bits(synthetic, copy, whole, note=f"checkpoints/9 holds step 6 of {NAME}")


def test_stray_files_and_folders_are_ignored(synthetic, copy, whole):
    for stray in ("checkpoints/.DS_Store", "checkpoints/9/.nfs0001", "checkpoints/12.json", "evaluations/x.json"):
        (copy / stray).write_text("x")
    leftover = copy / "evaluations/.12.json.0123.aside"
    leftover.write_text("{")
    for stray in ("evaluations/9.json.swp", "evaluations/7.json", "evaluations/ 9.json", "evaluations/-3.json"):
        (copy / stray).write_text("{}")
    for stray in ("checkpoints/old", "checkpoints/9 copy", "checkpoints/-1", "checkpoints/007", "checkpoints/11"):
        (copy / stray).mkdir()
    (copy / "checkpoints/12").write_text("")
    assert_same_bits(synthetic, copy, whole, note="checkpoints/12 is missing")
    assert not leftover.exists()


def test_a_checkpoint_that_is_damaged_while_training_goes_on_is_trained_again(synthetic, copy, whole):
    def damage():
        flip(next((copy / f"checkpoints/{whole.selected_step}/params/d").iterdir()), 5)

    with pytest.raises(OSError, match="has another content than was written; the next attempt trains it again"):
        pretrain(PRETRAIN, data=synthetic, directory=copy, observer=Silent(), saved=damage)
    assert_same_bits(synthetic, copy, whole, note="has another content than was written")


# -------------------------------------------------------------------------------- between evaluations


@pytest.fixture(scope="module")
def killed_between(synthetic, tmp_path_factory):
    """The directory of a run that saved after every step and was killed in step 9, before its third evaluation."""
    directory = tmp_path_factory.mktemp("between")
    with pytest.raises(Killed), one_step_a_call():
        pretrain(PRETRAIN, data=synthetic, directory=directory, observer=KillsAtProgress(9), checkpoint_seconds=0)
    return directory


@pytest.mark.parametrize(
    ("damaged", "start", "note"),
    [((), 8, None), ((8,), 7, "; training goes on from step 7"), ((7, 8), 6, "; training goes on from step 6")],
)
def test_a_run_goes_on_from_a_step_between_evaluations_with_the_same_bits(
    damaged, start, note, synthetic, killed_between, whole, tmp_path
):
    directory = shutil.copytree(killed_between, tmp_path / "copy")
    assert {"7", "8"} < {entry.name for entry in (directory / "checkpoints").iterdir()}
    for step in damaged:
        flip(next((directory / f"checkpoints/{step}/params/d").iterdir()), 70)
    copied = shutil.copytree(directory, tmp_path / "again")
    assert resume(copied, NAME, PRETRAIN, Silent()).step == start
    assert_same_bits(synthetic, directory, whole, note=note)


def test_lost_evaluations_before_a_step_between_are_computed_again(synthetic, killed_between, whole, tmp_path):
    directory = shutil.copytree(killed_between, tmp_path / "copy")
    truncate(directory / "evaluations/6.json", 20)
    assert_same_bits(synthetic, directory, whole, note="evaluations/6.json")


# -------------------------------------------------------------------------------- evaluations

SCORES = {"token_accuracy": 0.5, "loss": 1.0}


@pytest.mark.parametrize("step", [3, 6, 9])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"token_accuracy": 1.0, "loss": 0.0}',
        seal({"token_accuracy": 1.0, "loss": 0.0}),
        seal({"artifact": NAME, "step": 6, "scores": {**SCORES, "loss": "low"}}),
        seal({"artifact": NAME, "step": 6, "scores": {**SCORES, "token_accuracy": float("nan")}}),
        seal({"artifact": NAME, "step": 6, "scores": {"loss": 1.0}}),
        seal({"artifact": NAME, "step": 6, "scores": []}),
        seal({"artifact": NAME, "step": 12, "scores": SCORES}),
        seal({"artifact": "pretrain/other-00000000", "step": 6, "scores": SCORES}),
    ],
    ids=range(16),
)
def test_an_evaluation_that_is_not_what_was_written_counts_as_lost(step, content, copy, killed):
    (copy / f"evaluations/{step}.json").write_bytes(content)
    notes = Notes()
    trained = resume(copy, NAME, PRETRAIN, notes)
    assert len(notes.lines) == 1
    assert f"evaluations/{step}.json" in notes.lines[0]
    expected = resume(shutil.copytree(killed, copy.parent / "again"), NAME, PRETRAIN, Silent()).evaluations
    assert trained.evaluations == {one: expected[one] for one in (3, 6, 9) if one <= trained.step and one != step}
    assert not trained.is_evaluated or not trained.step
    assert trained.step == {3: 0, 6: 6, 9: 9}[step]


@pytest.mark.parametrize("steps", [(3,), (6,), (9,), (6, 9)])
def test_lost_evaluations_are_computed_again(steps, synthetic, copy, whole):
    for step in steps:
        truncate(copy / f"evaluations/{step}.json", 20)
    assert train(synthetic, copy).result == whole


# -------------------------------------------------------------------------------- which step counts


def a_run(directory, recipe, accuracies, kept):
    """Write evaluations, and checkpoints of the steps that are kept."""
    from raysynth.store.checkpoint_files import write_list

    for step, accuracy in accuracies.items():
        scores = {"token_accuracy": accuracy, "loss": 1.0}
        write_evaluation(directory, artifact="finetune/a", step=step, scores=scores)
    for step in kept:
        (directory / f"checkpoints/{step}").mkdir(parents=True)
        write_list(directory / f"checkpoints/{step}", artifact="finetune/a", step=step)


@pytest.mark.parametrize(
    ("selection", "accuracies", "kept", "step"),
    [
        (Best("token_accuracy"), [0.1, 0.2, 0.3, 0.4], [9, 12], 12),
        (Best("token_accuracy"), [0.5, 0.2, 0.3, 0.4], [9, 12], 0),  # step 3 is selected and gone
        (Best("token_accuracy"), [0.5, 0.2, 0.3, 0.4], [3, 9, 12], 12),
        (Best("token_accuracy"), [0.5, 0.2, 0.3, 0.4], [3, 9], 9),
        (Best("token_accuracy"), [0.5, 0.2, 0.3, 0.4], [3], 3),
        (Best("token_accuracy"), [0.5, 0.2, 0.6, 0.4], [3, 6, 12], 6),  # step 9 is selected and gone
        (FirstAbove("token_accuracy", 0.4), [0.1, 0.4, 0.5], [6, 9], 9),
        (FirstAbove("token_accuracy", 0.4), [0.1, 0.4, 0.5], [3, 9], 3),
        (AtStep(6), [0.1, 0.2, 0.3, 0.4], [3], 3),
        (AtStep(6), [0.1, 0.2, 0.3, 0.4], [12], 0),
        (Best("token_accuracy"), [], [3, 6], 3),
        (Best("token_accuracy"), [0.3], [6], 6),
        (Best("token_accuracy"), [0.3, 0.1], [3, 9], 9),
        (Best("token_accuracy"), [0.1], [], 0),
        (Best("token_accuracy"), [], [1, 2], 2),
        (Best("token_accuracy"), [0.1], [3, 4, 5], 5),
        (Best("token_accuracy"), [0.1], [4, 5], 0),  # step 3 is selected and gone
        (Best("token_accuracy"), [0.5, 0.2], [3, 7, 8], 8),
        (Best("token_accuracy"), [0.1], [3, 7, 8], 3),  # step 6 is not evaluated
        (AtStep(6), [0.1, 0.2], [6, 7, 8], 8),
        (AtStep(6), [0.1, 0.2], [7, 8], 0),
        (AtStep(6), [0.1], [4, 5], 5),
    ],
)
def test_a_step_counts_if_the_selected_checkpoint_is_whole_too(selection, accuracies, kept, step, tmp_path):
    recipe = dataclasses.replace(PRETRAIN, selection=selection)
    a_run(tmp_path, recipe, dict(zip((3, 6, 9, 12), accuracies, strict=False)), kept)
    assert resume(tmp_path, "finetune/a", recipe, Silent()).step == step
    left = {int(entry.name) for entry in tmp_path.glob("checkpoints/*")}
    assert left == {one for one in kept if one <= step}


def test_the_last_step_is_evaluated_too():
    assert evaluated_steps(dataclasses.replace(PRETRAIN, num_steps=7, eval_every=3)) == [3, 6, 7]
    assert evaluated_steps(dataclasses.replace(PRETRAIN, num_steps=6, eval_every=3)) == [3, 6]


def test_a_named_pipe_for_the_list_of_a_checkpoint_is_a_problem(tmp_path):
    os.mkfifo(tmp_path / LIST)
    assert problem(tmp_path, step=3) == f"{tmp_path / LIST} is damaged: it is no file"
