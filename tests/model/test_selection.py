"""Selection: rules on invented curves and by metrics of decoded text; and the predictions that a run writes."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from raysynth import Finetune, RandomInit
from raysynth.cli import main
from raysynth.data import batches
from raysynth.data.layout import PadToLongest
from raysynth.data.text_pairs import generate_text
from raysynth.downstream import metrics
from raysynth.errors import InputError
from raysynth.model.decode import generate
from raysynth.model.devices import place, replicated
from raysynth.model.evaluate import TextEvaluator
from raysynth.model.t5 import T5, init_params
from raysynth.model.train import finetune
from raysynth.observer import Silent
from raysynth.report.write import evaluation_share
from raysynth.run.make import make
from raysynth.specs.catalog import downstream_tasks
from raysynth.specs.datasets import TrainedVocabulary
from raysynth.specs.identity import name
from raysynth.specs.recipes import AtStep, Best, FirstAbove
from raysynth.store.store import Store
from tests.model.tiny import MODEL, Killed, KillsAtEvaluation, KillsAtProgress
from tests.records import record_data

# --------------------------------------------------------------------------------------------------- invented curves

CURVE = {40: 0.5, 10: 0.2, 20: 0.9, 70: 0.9, 60: 0.1, 100: 0.7}
"""With gaps, out of order, and with its best value twice."""


def evaluations(curve):
    return {step: {"token_accuracy": value, "squad_f1": 1 - value, "loss": 3.0} for step, value in curve.items()}


@pytest.mark.parametrize(
    ("rule", "step", "settled"),
    [
        (Best("token_accuracy"), 20, False),
        (Best("squad_f1"), 60, False),
        (FirstAbove("token_accuracy", 0.5), 20, True),
        (FirstAbove("token_accuracy", 0.9), 20, True),
        (FirstAbove("token_accuracy", 0.2), 10, True),
        (FirstAbove("token_accuracy", 0.91), 20, False),
        (AtStep(60), 60, True),
        (AtStep(50), None, False),
    ],
)
def test_a_rule_on_a_curve_with_gaps_and_ties(rule, step, settled):
    assert rule.choose(evaluations(CURVE)) == step
    assert rule.settled(evaluations(CURVE)) == settled
    assert rule.choose({}) is None
    assert not rule.settled({})


def test_the_best_step_is_the_first_of_the_highest_on_any_curve():
    rng = np.random.default_rng(0)
    for _ in range(200):
        steps = rng.choice(50, size=rng.integers(1, 20), replace=False)
        curve = {int(step): float(rng.integers(4)) / 4 for step in steps}
        highest = [step for step in curve if curve[step] == max(curve.values())]
        assert Best("token_accuracy").choose(evaluations(curve)) == min(highest)


# --------------------------------------------------------------------------------------------------- decoded metrics

WORDS = ["red", "blue", "green", "white", "black", "the gold", "grey", "pink"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with questions whose answer is the word that they name, each with more right answers."""
    folder, store = tmp_path_factory.mktemp("squad"), Store(str(tmp_path_factory.mktemp("store")))
    rng = np.random.default_rng(0)
    for file, count in (("train-v1.1.json", 300), ("dev-v1.1.json", 24)):
        questions = []
        for number in range(count):
            word = WORDS[rng.integers(len(WORDS))]
            answers = [{"text": word}, {"text": f"a {word}!"}, {"text": "any"}]
            questions.append({"id": f"{number}", "question": f"Say {word}", "answers": answers})
        document = {"data": [{"paragraphs": [{"context": "c", "qas": questions}]}]}
        (folder / file).write_text(json.dumps(document))
    generate_text(task().data, store, {"squad": str(folder)})
    record_data(task().data, store)
    return store


def task(**changes):
    squad = downstream_tasks["squad"]
    few = {"num_steps": 6, "eval_every": 2, "batch_size": 8, "input_length": 24, "target_length": 12}
    return dataclasses.replace(
        squad,
        data=dataclasses.replace(squad.data, vocabulary=TrainedVocabulary(num_pieces=108)),
        **few | {"decode_length": 8, "num_beams": 1, "learning_rate": 3e-2, "dropout_rate": 0.0} | changes,
    )


def finetuning(**changes):
    return Finetune(task=task(**changes), init=RandomInit(MODEL))


def fit(spec, store, directory, observer=None):
    data = store.local_root / name(spec.task.data)
    return finetune(spec, data=data, sources={}, directory=directory, observer=observer or Silent())


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    return directory, fit(finetuning(), store, directory)


def test_the_validation_split_is_decoded_and_selects(whole):
    directory, training = whole
    result = training.result
    curve = {int(step): value["squad_exact_match"] for step, value in result.evaluations.items()}
    assert sorted(curve) == [0, 2, 4, 6]
    del curve[0]  # which is never selected
    assert result.selected_step == min(step for step in curve if curve[step] == max(curve.values()))
    assert set(result.validation) == {"token_accuracy", "loss", "squad_exact_match", "squad_f1"}
    # This task is scored on its validation split, so both scores of the selected checkpoint agree.
    assert {metric: result.validation[metric] for metric in result.test} == result.test
    rows = [json.loads(line) for line in (directory / "predictions.jsonl").open()]
    assert result.num_test == len(rows) == 24
    assert all(len(row["references"]) == 3 for row in rows)
    for metric in ("squad_exact_match", "squad_f1"):
        scores = metrics.metrics[metric].scores(
            [row["prediction"] for row in rows], [row["references"] for row in rows]
        )
        assert scores == [row["scores"][metric] for row in rows]


@pytest.mark.parametrize("kills", [KillsAtProgress, KillsAtEvaluation])
def test_a_run_that_decodes_ends_with_the_same_bits_after_a_kill(store, whole, tmp_path, kills):
    with pytest.raises(Killed):
        fit(finetuning(), store, tmp_path, kills(4))
    assert fit(finetuning(), store, tmp_path).result == whole[1].result
    assert (tmp_path / "predictions.jsonl").read_text() == (whole[0] / "predictions.jsonl").read_text()


def test_a_deleted_evaluation_is_repeated(store, whole, tmp_path):
    with pytest.raises(Killed):
        fit(finetuning(), store, tmp_path, KillsAtProgress(6))
    assert (tmp_path / "checkpoints/4").exists()
    (tmp_path / "evaluations/4.json").unlink()
    assert fit(finetuning(), store, tmp_path).result == whole[1].result


def test_a_fixed_step_ends_training_and_decodes_nothing_on_the_way(store, tmp_path):
    result = fit(finetuning(selection=AtStep(4)), store, tmp_path).result
    assert (result.selected_step, result.last_step) == (4, 4)
    assert all(set(scores) == {"token_accuracy", "loss"} for scores in result.evaluations.values())


def test_fewer_validation_examples_may_be_decoded(store, tmp_path, monkeypatch):
    counts, decode = [], TextEvaluator.predictions

    def predictions(evaluator, params):
        texts = decode(evaluator, params)
        counts.append(len(texts))
        return texts

    monkeypatch.setattr(TextEvaluator, "predictions", predictions)
    fit(finetuning(num_eval_examples=10), store, tmp_path)
    assert counts == [10, 10, 10, 10, 24]  # before training, after steps 2, 4 and 6, and for the test scores


def test_decoding_is_divided_among_the_devices(store):
    test = batches.read(store.local_root / name(task().data), "test")
    block = PadToLongest(input_length=24, target_length=12).to_blocks(test.take(np.arange(16)))[0]
    placed = place((block,))[0].encoder_input_tokens
    network, params = T5(MODEL), jax.device_put(init_params(MODEL, jax.random.key(0)), replicated())
    sequences, _ = generate(network, params, placed, decode_length=8, num_beams=2)
    assert len(sequences.sharding.device_set) == 8
    assert {shard.data.shape for shard in sequences.addressable_shards} == {(2, 8)}


# --------------------------------------------------------------------------------------------------- predictions


@pytest.fixture(scope="module")
def run(store):
    """A finished run that got some answers right."""
    spec = finetuning(num_steps=400, eval_every=200)
    make(spec, store=store, cache=store.local_root, report=lambda result: None, node="here")
    assert store.status(spec).record.weights.test["squad_exact_match"] > 0
    return name(spec)


def test_predictions_show_source_target_prediction_and_references(store, run, capsys):
    assert main(["predictions", run, "--store", store.uri]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    rows = [json.loads(line) for line in (store.local_root / run / "predictions.jsonl").open()]
    starts = [index for index, line in enumerate(lines) if line.startswith("[")]
    assert len(starts) == 24
    for number, (position, row) in enumerate(zip(starts, rows, strict=True), start=1):
        assert lines[position : position + 6] == [
            f"[{number}] {'right' if row['right'] else 'wrong'}",
            f"  source:     {row['source']}",
            f"  target:     {row['target']}",
            f"  prediction: {row['prediction']}",
            f"  or:         {row['references'][1]}",
            "  or:         any",
        ]
        assert row["right"] == (row["scores"]["squad_exact_match"] == 1)
    assert last == f"{sum(row['right'] for row in rows)} of 24 right"


def test_the_report_states_the_share_of_evaluation(store, run):
    spec = finetuning(num_steps=400, eval_every=200)
    times = store.status(spec).record.provenance
    evaluation = times.evaluation_seconds + times.test_seconds
    share = evaluation / (evaluation + times.train_seconds)
    assert evaluation_share(store.statuses([spec])).startswith(f"evaluation: {100 * share:.1f} % of ")
    assert evaluation_share(store.statuses([task().data])) == ""


@pytest.mark.parametrize("kind", ["right", "wrong"])
def test_predictions_of_one_kind(store, run, kind, capsys):
    assert main(["predictions", run[-8:], "--store", store.uri, "--only", kind, "-n", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if line.startswith("[")]
    rows = [json.loads(line) for line in (store.local_root / run / "predictions.jsonl").open()]
    expected = [number for number, row in enumerate(rows, start=1) if row["right"] == (kind == "right")][:3]
    assert heads == [f"[{number}] {kind}" for number in expected]


def test_predictions_of_an_unknown_run_are_a_one_line_error(store, run, capsys):
    for arguments, line in (
        ([f"{run}0"], f"error: unknown artifact of {store.uri} '{run}0' (did you mean '{run}'?)"),
        ([run, "-n", "0"], "error: num_examples must be at least 1, got 0"),
        ([name(task().data)], f"error: {store.uri}: {name(task().data)} has no predictions; only a fine-tuning does"),
    ):
        assert main(["predictions", *arguments, "--store", store.uri]) == 2
        error = capsys.readouterr().err
        assert error.startswith(line)
        assert error.count("\n") == 1


def test_a_selection_rule_needs_one_of_the_tasks_metrics():
    with pytest.raises(InputError, match="unknown selection metric 'rouge1'"):
        task(selection=Best("rouge1"))


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: content.replace(b"true", b"false")])
def test_damaged_predictions_are_one_line(damage, store, run, capsys):
    file = store.local_root / run / "predictions.jsonl"
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert main(["predictions", run, "--store", store.uri]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {store.uri}: {run}/predictions.jsonl is damaged; `raysynth verify --store ")
    assert "--deep --repair" in error, "its size may be right"
    assert error.count("\n") == 1
    file.write_bytes(whole)
