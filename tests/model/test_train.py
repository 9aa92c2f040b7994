"""Training: a killed run ends with the bits of one never killed, and eight devices give the loss of one."""

import dataclasses
import gc
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from raysynth import Best, Constant, Finetune, FirstAbove, FullInit, InputError, RandomInit, StatisticInit
from raysynth.data import batches
from raysynth.data.layout import Block, Packed, PadToLongest
from raysynth.model import devices as devices_module
from raysynth.model import optimizer
from raysynth.model.checkpoints import params_digest, read_params
from raysynth.model.devices import named_key, place, place_steps
from raysynth.model.evaluate import TextEvaluator
from raysynth.model.step import TrainState, train_steps
from raysynth.model.t5 import T5, init_params
from raysynth.model.train import finetune, finetune_start, pretrain, pretrain_start
from raysynth.observer import Silent
from raysynth.specs.identity import name
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.streams import Purpose
from raysynth.tokens.vocabulary import Vocabulary
from tests.model.tiny import MODEL, PRETRAIN, TASK, Killed, KillsAtEvaluation, KillsAtProgress, one_step_a_call

ROOT = Path(__file__).parents[2]
RATE = np.array([0.01], np.float32)


@pytest.fixture(scope="module")
def uninterrupted(synthetic, tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    training = pretrain(PRETRAIN, data=synthetic, directory=directory, observer=Silent())
    return directory, training


def reader_of(trained):
    """What reads the selected parameters of a training."""
    directory, training = trained
    return partial(read_params, directory / "checkpoints", training.result.selected_step)


@pytest.mark.parametrize(
    ("kills", "steps"), [(KillsAtProgress, (3, 4, 6, 7, 9, 10, 12)), (KillsAtEvaluation, (3, 6, 9, 12))]
)
def test_a_run_killed_around_every_checkpoint_ends_with_the_same_bits(kills, steps, synthetic, uninterrupted, tmp_path):
    for step in steps:
        with pytest.raises(Killed), one_step_a_call():
            pretrain(PRETRAIN, data=synthetic, directory=tmp_path, observer=kills(step))
    training = pretrain(PRETRAIN, data=synthetic, directory=tmp_path, observer=Silent())
    assert training.result == uninterrupted[1].result


def test_a_run_killed_between_two_calls_of_several_steps_ends_with_the_same_bits(synthetic, tmp_path):
    spec = dataclasses.replace(PRETRAIN, num_steps=45, eval_every=25, dropout_rate=0.1)
    with one_step_a_call():
        whole = pretrain(spec, data=synthetic, directory=tmp_path / "whole", observer=Silent()).result
    killed, steps = tmp_path / "killed", []
    for step in (20, 25, 30, 40):
        with pytest.raises(Killed):
            pretrain(spec, data=synthetic, directory=killed, observer=KillsAtProgress(step), checkpoint_seconds=0)
        steps += [int(checkpoint.name) for checkpoint in (killed / "checkpoints").iterdir()]
    assert {10, 20, 25, 30} <= set(steps)
    assert pretrain(spec, data=synthetic, directory=killed, observer=Silent()).result == whole


@pytest.mark.long
def test_a_fine_tuning_killed_around_every_checkpoint_ends_with_the_same_bits(texts, uninterrupted, tmp_path):
    run = Finetune(task=TASK, init=StatisticInit(PRETRAIN, group_by="parameter", statistic="mean_sd"))
    inputs = {"data": texts, "sources": {PRETRAIN: reader_of(uninterrupted)}}
    whole = finetune(run, **inputs, directory=tmp_path / "whole", observer=Silent())
    for step in (3, 6):
        for kills in (KillsAtProgress, KillsAtEvaluation):
            with pytest.raises(Killed):
                finetune(run, **inputs, directory=tmp_path / "killed", observer=kills(step))
    killed = finetune(run, **inputs, directory=tmp_path / "killed", observer=Silent())
    assert killed.result == whole.result
    predictions = [(tmp_path / run / "predictions.jsonl").read_bytes() for run in ("whole", "killed")]
    assert predictions[0] == predictions[1]


def test_an_evaluation_without_its_checkpoint_is_redone(synthetic, uninterrupted, tmp_path):
    with pytest.raises(Killed):
        pretrain(PRETRAIN, data=synthetic, directory=tmp_path, observer=KillsAtEvaluation(6))
    assert [step.name for step in (tmp_path / "checkpoints").iterdir()] == ["3"]
    (tmp_path / "evaluations" / "6.json").write_text('{"token_accuracy": 0.9999, "loss": 0.0}\n')
    training = pretrain(PRETRAIN, data=synthetic, directory=tmp_path, observer=Silent())
    assert training.result == uninterrupted[1].result


def test_only_the_selected_checkpoint_stays(uninterrupted):
    directory, training = uninterrupted
    assert [step.name for step in (directory / "checkpoints").iterdir()] == [str(training.result.selected_step)]


def test_the_result_says_what_was_selected(uninterrupted):
    result = uninterrupted[1].result
    evaluations = {int(step): e for step, e in result.evaluations.items()}
    assert sorted(evaluations) == [0, 3, 6, 9, 12]
    initial = evaluations.pop(0)  # is shown, and never selected
    assert initial["loss"] > evaluations[3]["loss"]
    assert result.selected_step == Best("token_accuracy").choose(evaluations)
    assert result.validation == evaluations[result.selected_step]
    params = read_params(uninterrupted[0] / "checkpoints", result.selected_step)
    assert result.params_sha256 == params_digest(params)


def test_a_settled_selection_ends_training(synthetic, tmp_path):
    spec = dataclasses.replace(PRETRAIN, selection=FirstAbove("token_accuracy", 0.0))
    result = pretrain(spec, data=synthetic, directory=tmp_path, observer=Silent()).result
    assert result.selected_step == result.last_step == 3


def test_another_seed_gives_other_parameters(synthetic, uninterrupted, tmp_path):
    other = dataclasses.replace(PRETRAIN, seed=1)
    training = pretrain(other, data=synthetic, directory=tmp_path, observer=Silent())
    assert training.result.params_sha256 != uninterrupted[1].result.params_sha256


def test_the_loss_falls(synthetic, tmp_path):
    spec = dataclasses.replace(PRETRAIN, num_steps=60, eval_every=30)
    result = pretrain(spec, data=synthetic, directory=tmp_path, observer=Silent()).result
    assert result.evaluations[60]["loss"] < result.evaluations[30]["loss"] < 1.01 * np.log(256)


class Recording(Silent):
    def __init__(self):
        self.reports = []

    def progress(self, artifact, progress):
        self.reports.append(("progress", artifact, progress))

    def evaluated(self, artifact, progress):
        self.reports.append(("evaluated", artifact, progress))


def test_the_next_batch_is_laid_out_before_a_report_waits_for_the_step(synthetic, monkeypatch, tmp_path):
    laid_out, to_blocks = [], Packed.to_blocks

    class Looks(KillsAtProgress):
        def progress(self, artifact, progress):
            assert len(laid_out) == (progress.step + 1 if progress.step else 0)
            super().progress(artifact, progress)

        def evaluated(self, artifact, progress):
            laid_out.clear()  # the evaluation before the first step lays out batches of its own

    monkeypatch.setattr(Packed, "to_blocks", lambda self, batch: laid_out.append(batch) or to_blocks(self, batch))
    with pytest.raises(Killed), one_step_a_call():
        pretrain(PRETRAIN, data=synthetic, directory=tmp_path, observer=Looks(2))
    assert len(laid_out) == 3


def test_an_observer_gets_the_scalars_of_the_paper(synthetic, tmp_path):
    observer = Recording()
    training = pretrain(PRETRAIN, data=synthetic, directory=tmp_path, observer=observer)
    tags = {event: set() for event in ("progress", "evaluated")}
    for event, artifact, progress in observer.reports:
        assert artifact == name(PRETRAIN)
        assert progress.num_steps == 12
        tags[event] |= progress.scalars.keys()
    assert tags["progress"] == {
        "train/loss",
        "train/token_accuracy",
        "learning_rate",
        "speed/tokens_per_second",
        "speed/seconds_per_step",
    }
    assert tags["evaluated"] == {"validation/token_accuracy", "validation/loss"}
    steps = [progress.step for _, _, progress in observer.reports]
    assert steps == sorted(steps)
    assert steps[0] == 0
    evaluated = {progress.step: progress for event, _, progress in observer.reports if event == "evaluated"}
    assert {step: dict(progress.scalars) for step, progress in evaluated.items()} == {
        step: {f"validation/{metric}": value for metric, value in scores.items()}
        for step, scores in training.result.evaluations.items()
    }


def test_finetuning_decodes_the_test_split_and_scores_it(synthetic, texts, uninterrupted, tmp_path):
    for init in (
        RandomInit(MODEL),
        FullInit(PRETRAIN),
        StatisticInit(PRETRAIN, group_by="parameter", statistic="mean_sd"),
    ):
        directory = tmp_path / init.name
        training = finetune(
            Finetune(task=TASK, init=init),
            data=texts,
            sources=dict.fromkeys(init.sources, reader_of(uninterrupted)),
            directory=directory,
            observer=Silent(),
        )
        lines = [json.loads(line) for line in (directory / "predictions.jsonl").read_text().splitlines()]
        assert len(lines) == training.result.num_test == 20
        assert training.result.test["exact_match"] == np.mean([line["right"] for line in lines])
        test = batches.read(texts, "test")
        assert [line["source"] for line in lines] == [source for source, _ in test.texts]
        assert [line["target"] for line in lines] == [target for _, target in test.texts]


def test_predictions_are_in_the_order_of_the_examples(texts):
    """Decoding a row by itself gives what decoding it in a batch of rows sorted by length gives."""
    test = batches.read(texts, "test")
    params = init_params(MODEL, jax.random.key(0))
    evaluator = TextEvaluator(
        network=T5(MODEL),
        recipe=TASK,
        layout=Packed.fitting(test, batch_size=16, input_length=16, target_length=24),
        examples=test,
        vocabulary=Vocabulary.load((texts / "spiece.model").read_bytes(), 100),
    )
    together = evaluator.predictions(params)
    assert len(together) == 20
    for row in (0, 7, 19):
        alone = dataclasses.replace(
            test,
            sources=test.sources.take(np.array([row])),
            targets=test.targets.take(np.array([row])),
            texts=test.texts[row : row + 1],
        )
        assert dataclasses.replace(evaluator, examples=alone).predictions(params) == [together[row]]


def test_a_finished_run_leaves_no_arrays_behind(synthetic, tmp_path):
    """Trials share reused processes, so what one keeps on the device the next could not have."""
    gc.collect()
    before = len(jax.live_arrays())
    pretrain(PRETRAIN, data=synthetic, directory=tmp_path, observer=Silent())
    gc.collect()
    assert len(jax.live_arrays()) <= before


# -------------------------------------------------------------------------------- devices


def losses_and_params(blocks, num_devices, monkeypatch):
    """The losses of three steps on that many devices, and the parameters after them."""
    monkeypatch.setattr(devices_module, "mesh", lambda: Mesh(np.array(jax.local_devices()[:num_devices]), ("data",)))
    state = TrainState.start(init_params(MODEL, jax.random.key(0)))
    network, key = T5(MODEL, dropout_rate=0.1), named_key(0, Purpose.PRETRAIN_DROPOUT)
    losses = []
    for _ in range(3):
        state, counts = train_steps(network, state, place_steps([blocks]), RATE, key, z_loss=1e-4, label_smoothing=0.0)
        losses.append(float(counts["loss"][0]))
    assert state.step == 3
    return losses, jax.tree.map(np.asarray, state.params)


def blocks_of(rows):
    rng = np.random.default_rng(0)
    examples = batches.Examples(
        sources=Ragged.of([rng.integers(2, 150, rng.integers(2, 11)) for _ in range(rows)]),
        targets=Ragged.of([rng.integers(2, 150, rng.integers(2, 11)) for _ in range(rows)]),
    )
    return PadToLongest(input_length=12, target_length=12).to_blocks(examples)


def test_eight_devices_give_the_loss_and_parameters_of_one(monkeypatch):
    assert jax.local_device_count() == 8
    blocks = blocks_of(16)
    one, params_one = losses_and_params(blocks, 1, monkeypatch)
    eight, params_eight = losses_and_params(blocks, 8, monkeypatch)
    np.testing.assert_allclose(eight, one, rtol=1e-5)
    for left, right in zip(jax.tree.leaves(params_one), jax.tree.leaves(params_eight), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-4)


def test_a_batch_that_devices_cannot_share_is_one_line():
    with pytest.raises(InputError, match="batch_size must be a multiple of this host's 8 devices, got 12"):
        place(blocks_of(12))


def test_the_layout_in_several_blocks_gives_the_update_of_one(monkeypatch):
    """A denser layout may split a step: its summed gradient is that of the whole."""
    (whole,) = blocks_of(16)
    parts = tuple(Block(*(array[rows] for array in whole[:2])) for rows in (slice(0, 8), slice(8, 16)))
    network = T5(MODEL)  # dropout masks depend on the layout, so they stay out of this comparison
    updates = []
    for blocks in ((whole,), parts):
        state = TrainState.start(init_params(MODEL, jax.random.key(0)))
        state, counts = train_steps(
            network,
            state,
            place_steps([blocks]),
            RATE,
            named_key(0, Purpose.PRETRAIN_DROPOUT),
            z_loss=0.0,
            label_smoothing=0.0,
        )
        updates.append((state.params, float(counts["loss"][0])))
    np.testing.assert_allclose(updates[0][1], updates[1][1], rtol=1e-6)
    for left, right in zip(*(jax.tree.leaves(params) for params, _ in updates), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-4)


def test_one_compilation_serves_every_learning_rate_step_and_seed(compilations):
    blocks = place_steps([blocks_of(8)])
    network = T5(MODEL, dropout_rate=0.2)
    drawn = [
        (TrainState.start(init_params(MODEL, jax.random.key(seed))), named_key(seed, Purpose.PRETRAIN_DROPOUT))
        for seed in range(4)
    ]
    settings = {"z_loss": 0.0, "label_smoothing": 0.0}
    with compilations() as compiled:
        train_steps(network, drawn[0][0], blocks, RATE, drawn[0][1], **settings)
    assert len(compiled) == 1
    with compilations() as compiled:
        for (state, key), learning_rate in zip(drawn[1:], (0.01, 0.003, 0.001), strict=True):
            state = dataclasses.replace(state, step=round(1 / learning_rate))
            train_steps(network, state, blocks, np.array([learning_rate], np.float32), key, **settings)
    assert not compiled


@pytest.mark.long
def test_results_do_not_depend_on_the_number_of_cores(synthetic, tmp_path):
    """XLA splits sums by thread, so a process that may use two cores must not do so unasked."""
    script = (
        "import pathlib, sys\n"
        "data, directory, root = map(pathlib.Path, sys.argv[1:])\n"
        "sys.path.insert(0, str(root))\n"
        "from raysynth.model.train import pretrain\n"
        "from raysynth.observer import Silent\n"
        "from tests.model.tiny import PRETRAIN\n"
        "training = pretrain(PRETRAIN, data=data, directory=directory, observer=Silent())\n"
        "print(training.result.params_sha256)\n"
    )
    digests = set()
    for cores in ("0", "0-7"):
        done = subprocess.run(
            ["taskset", "-c", cores, sys.executable, "-c", script, synthetic, tmp_path / cores, ROOT],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and "taskset" in done.stderr:
            pytest.skip("taskset is not installed")
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout.strip())
    assert len(digests) == 1


def test_learning_rate_of_the_recipe():
    assert optimizer.learning_rate(PRETRAIN.schedule, 0) == pytest.approx(0.01)
    assert optimizer.learning_rate(Constant(0.003), 77) == pytest.approx(0.003)


@pytest.mark.parametrize(
    ("init", "num_drawn"),
    [
        (RandomInit(MODEL), None),
        (FullInit(PRETRAIN), 1),
        (StatisticInit(PRETRAIN, group_by="parameter", statistic="mean_sd"), None),
    ],
    ids=["random", "full", "statistic"],
)
def test_what_a_fine_tuning_draws_is_not_the_start_of_its_source(init, num_drawn):
    source = pretrain_start(PRETRAIN)
    sources = dict.fromkeys(init.sources, source)
    start, other_seed = (
        flatten_dict(finetune_start(Finetune(task=TASK, init=init, seed=seed), sources), sep="/")
        for seed in (PRETRAIN.seed, PRETRAIN.seed + 1)
    )
    drawn = [path for path in start if not np.array_equal(start[path], other_seed[path])]
    assert len(drawn) == num_drawn if num_drawn else len(drawn) > 5
    for path in drawn:
        assert not np.array_equal(start[path], flatten_dict(source, sep="/")[path]), path
