"""What a run's training shows on TensorBoard, and the command that starts it."""

import json
import os
import subprocess
import sys
import threading

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from raysynth import cli
from raysynth.cli.board import mirror_events
from raysynth.errors import Diverged
from raysynth.observer import Progress
from raysynth.run import weights_and_biases
from raysynth.run.board import Board
from raysynth.run.surroundings import BoardSettings
from raysynth.run.weights_and_biases import run_id
from raysynth.specs.identity import describe, name
from raysynth.store.store import Store
from tests.report.grids import pretrain, trial

METRICS = ("token_accuracy", "exact_match")


@pytest.fixture
def store(tmp_path):
    """A store with the event files of a pre-training and of a fine-tuning from it."""
    store = Store(str(tmp_path / "store"))
    for artifact in (pretrain(0), trial("full", 0)):
        with store.workspace(artifact) as workspace:
            with Board(artifact, workspace, store, [].append, lambda: None, BoardSettings(metrics=METRICS)) as board:
                scalars = {"train/loss": 2.0, "learning_rate": 0.1, "speed/seconds_per_step": 0.5}
                board.progress(name(artifact), Progress(step=1, num_steps=9, scalars=scalars))
                if artifact.kind == "finetune":
                    rows = [
                        {"source": f"*s*{row}", "target": "t\n", "prediction": "p", "right": row % 3 == 0}
                        for row in range(30)
                    ]
                    (workspace.path / "predictions.jsonl").write_text("\n".join(map(json.dumps, rows)))
                    board.write_test({"exact_match": 0.5}, 1)
            workspace.push()
    return store


def events(store, artifact):
    return EventAccumulator(str(store.local_root / name(artifact)), size_guidance={"tensors": 0}).Reload()


def test_pretraining_and_finetuning_have_prefixes_with_losses_first(store):
    assert sorted(events(store, pretrain(0)).Tags()["scalars"]) == [
        "pretrain/train/loss",
        "schedule/pretrain/learning_rate",
        "speed/pretrain/seconds_per_step",
    ]
    tuned = events(store, trial("full", 0)).Tags()["scalars"]
    assert sorted(tuned)[:2] == ["finetune/test/exact_match", "finetune/train/loss"]


@pytest.mark.parametrize("first_step", [0, 2])
def test_what_an_earlier_attempt_plotted_after_its_last_checkpoint_is_not_shown(tmp_path, first_step):
    store, artifact = Store(str(tmp_path)), pretrain(0)
    with store.workspace(artifact) as workspace:
        for steps in (range(5), range(first_step, 4)):
            with Board(artifact, workspace, store, [].append, lambda: None) as board:
                board.progress(name(artifact), Progress(step=steps[0], num_steps=9, scalars={}))
                for step in steps if steps[0] == 0 else steps[1:]:
                    board.progress(name(artifact), Progress(step=step, num_steps=9, scalars={"train/loss": 2.0}))
            if len(steps) == 5:
                (file,) = workspace.path.glob("events*")
                file.rename(file.with_name("events.out.tfevents.1"))  # the name has the second, which is the same
    assert [event.step for event in events(store, artifact).Scalars("pretrain/train/loss")] == [0, 1, 2, 3]


def test_hparams_have_the_columns_of_the_sweep_in_every_run(store):
    declared = []
    for artifact in (pretrain(0), trial("full", 0)):
        summaries = events(store, artifact)
        content = summaries.SummaryMetadata("_hparams_/experiment").plugin_data.content
        experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
        declared.append(
            ({info.name for info in experiment.hparam_infos}, {info.name.tag for info in experiment.metric_infos})
        )
    content = summaries.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["model"].string_value == "1+1 layers, width 16"
    assert (values["num_steps"].number_value, values["source_steps"].number_value) == (1_000, 5_000)
    assert declared[0] == declared[1]
    assert declared[0][1] == {
        *(f"finetune/test/{metric}" for metric in METRICS),
        "finetune/validation/token_accuracy",
        "pretrain/validation/token_accuracy",
    }


def test_some_predictions_right_and_wrong_are_texts(store):
    tensors = events(store, trial("full", 0))
    shown = {tag: tensors.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tensors.Tags()["tensors"]}
    wrong = next(text for tag, text in shown.items() if tag.startswith("finetune/predictions/wrong"))
    assert wrong.startswith(
        "    source:     *s*1\n    target:     t\\n\n    prediction: p\n    \n    source:     *s*2\n"
    )
    assert wrong.count("source:") == 5
    assert any(tag.startswith("finetune/predictions/right") for tag in shown)


def test_event_files_are_copied_once(store, tmp_path):
    copies = tmp_path / "copies"
    assert mirror_events(store, copies) == 2
    (copy,) = copies.glob("pretrain/*/events*")
    (original,) = store.local_root.glob("pretrain/*/events*")
    assert copy.read_bytes() == original.read_bytes()
    os.utime(copy, (0, 0))
    assert mirror_events(store, copies) == 2
    assert copy.stat().st_mtime == 0
    with original.open("ab") as more:
        more.write(b"more")
    mirror_events(store, copies)
    assert copy.read_bytes() == original.read_bytes()


def test_the_command_starts_tensorboard_on_the_store(store):
    script = (
        "import os, sys\nfrom raysynth import cli\n"
        "os.execv = lambda program, command: sys.exit(print(command[1:]))\n"
        "cli.main(['tensorboard', '--store', sys.argv[1], '--port', '7007'])\n"
    )
    command = [sys.executable, "-c", script, store.uri]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    root = str(store.local_root)
    assert done.stdout == f"{['-P', '-m', 'tensorboard.main', '--logdir', root, '--port', '7007']}\n"


def test_no_store_is_one_line(tmp_path, capsys):
    assert cli.main(["tensorboard", "--store", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: there is no store at ")


def wandb_board(store, notes, last=lambda board: None):
    artifact = trial("random", 0)
    settings = BoardSettings(wandb_project="p")
    with (
        store.workspace(artifact) as workspace,
        Board(artifact, workspace, store, notes.append, lambda: None, settings) as board,
    ):
        for step in (1, 2):
            board.progress(name(artifact), Progress(step=step, num_steps=9, scalars={"train/loss": 2.0 / step}))
        last(board)


def test_weights_and_biases_offline_has_one_run_an_artifact(store, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    notes = []
    for _ in range(2):  # the second time after an interruption
        wandb_board(store, notes)
    assert not [note for note in notes if "note" in note]
    runs = list((tmp_path / "wandb").glob("offline-run-*"))
    assert {run.name.split("-", 3)[3] for run in runs} == {run_id(trial("random", 0))}


class FailingWandb:
    """Stands in for the package; every call fails."""

    def __getattr__(self, name):
        raise RuntimeError("no network\nat all")


def test_what_fails_on_weights_and_biases_is_noted_and_fails_nothing(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", FailingWandb())
    notes = []

    def write_texts(board):
        row = {"source": "s", "target": "t", "prediction": "p", "right": True}
        (store.local_root / name(trial("random", 0)) / "predictions.jsonl").write_text(json.dumps(row))
        board.write_test({"exact_match": 0.5}, 2)

    wandb_board(store, notes, write_texts)
    told = [note["note"] for note in notes if "note" in note]
    assert told == ["nothing more goes to Weights & Biases: RuntimeError: no network"]


class KeepingWandb:
    """Stands in for the package and keeps what it is told."""

    def __init__(self):
        self.told = []
        self.Settings = dict

    def init(self, **arguments):
        self.told.append(arguments)
        return self

    def define_metric(self, *_, **__):
        pass

    def log(self, values):
        self.told.append(values)

    def finish(self, exit_code):
        self.told.append(exit_code)


def test_a_run_on_weights_and_biases_has_the_description_and_the_steps(store, monkeypatch):
    package = KeepingWandb()
    monkeypatch.setitem(sys.modules, "wandb", package)
    wandb_board(store, [])
    begun, *values, last = package.told
    artifact = trial("random", 0)
    assert (begun["project"], begun["id"], begun["resume"]) == ("p", run_id(artifact), "allow")
    assert begun["config"] == describe(artifact)
    assert values == [{"step": step, "finetune/train/loss": 2.0 / step} for step in (1, 2)]
    assert last == 0


def test_a_service_that_never_takes_the_rest_does_not_hold_up_the_next_training(store, monkeypatch):
    package, answered = KeepingWandb(), threading.Event()
    monkeypatch.setattr(package, "finish", lambda exit_code: answered.wait(60), raising=False)
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.setattr(weights_and_biases, "FINISH_SECONDS", 0.2)
    notes = []
    wandb_board(store, notes)
    answered.set()
    assert {"note": "Weights & Biases has not taken everything in 0.2 seconds"} in notes


def diverge(board):
    raise Diverged("the loss is nan")


def test_a_training_that_fails_has_a_failed_run_on_weights_and_biases(store, monkeypatch):
    package = KeepingWandb()
    monkeypatch.setitem(sys.modules, "wandb", package)
    with pytest.raises(Diverged):
        wandb_board(store, [], diverge)
    assert package.told[-1] == 1


def test_weights_and_biases_asks_nothing_on_a_terminal(store, monkeypatch):
    package = KeepingWandb()
    monkeypatch.setattr(package, "init", lambda **_: {}[os.environ["WANDB_SILENT"]], raising=False)
    monkeypatch.setitem(sys.modules, "wandb", package)
    notes = []
    wandb_board(store, notes)
    assert {"note": "nothing more goes to Weights & Biases: KeyError: 'true'"} in notes
    assert "WANDB_SILENT" not in os.environ
