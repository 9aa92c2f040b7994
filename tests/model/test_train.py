"""Training: a killed run ends with the bits of one never killed, and eight devices give the loss of one."""

import dataclasses
import gc
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from raysynth import (
    Best,
    Constant,
    Dataset,
    Finetune,
    FirstAbove,
    FullInit,
    InputError,
    Pretrain,
    RandomInit,
    StatisticInit,
    T5Config,
    downstream_tasks,
    synthetic_tasks,
    token_space,
)
from raysynth.data import batches
from raysynth.data.layout import Block, PadToLongest
from raysynth.data.text_pairs import generate_text
from raysynth.downstream.python_ast import PythonAST
from raysynth.model import devices as devices_module
from raysynth.model import optimizer, train
from raysynth.model.checkpoints import params_digest, read_params
from raysynth.model.devices import named_key, place, replicated
from raysynth.model.evaluate import decode_texts
from raysynth.model.t5 import T5, init_params
from raysynth.specs.identity import name
from raysynth.store.store import Store
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.streams import Purpose
from raysynth.tokens.vocabulary import Vocabulary

TOKENS = token_space(num_pieces=156)
MODEL = T5Config(
    vocab_size=256, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1, mlp_dim=32
)
DATA = Dataset(
    task=dataclasses.replace(synthetic_tasks["identity"], min_length=2, max_length=10, tokens=TOKENS),
    num_examples=200,
    num_validation=48,
)
PRETRAIN = Pretrain(
    data=DATA,
    model=MODEL,
    num_steps=12,
    eval_every=3,
    num_eval_examples=40,
    batch_size=8,
    input_length=12,
    target_length=12,
    selection=Best("token_accuracy"),
)
TASK = dataclasses.replace(
    downstream_tasks["python_ast"],
    data=dataclasses.replace(
        downstream_tasks["python_ast"].data,
        texts=PythonAST(max_source_chars=16),
        vocabulary=dataclasses.replace(downstream_tasks["python_ast"].data.vocabulary, num_pieces=156),
        num_train=300,
        num_validation=24,
        num_test=20,
    ),
    num_steps=6,
    eval_every=3,
    batch_size=8,
    input_length=16,
    target_length=24,
    decode_length=24,
)


def quiet(progress):
    """Take no notice."""


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """A synthetic data set's directory, written without Ray."""
    from raysynth.data.manifest import Manifest, write_manifest
    from raysynth.data.shard_files import shard_bytes, write_shard
    from raysynth.downstream.rows import Split

    store = Store(str(tmp_path_factory.mktemp("store")))
    sources = DATA.task.sample(np.random.default_rng(0), 248)
    splits = {}
    for split, rows in ((Split.VALIDATION, np.arange(48)), (Split.TRAIN, np.arange(48, 248))):
        part = sources.take(rows)
        content = shard_bytes(part, DATA.task.solve(part))
        splits[split] = (write_shard(store, "d", f"{split}-0.parquet", content, len(part)),)
    write_manifest(Manifest(splits=splits, prefix=()), store, "d")
    return store.local_root / "d"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    store = Store(str(tmp_path_factory.mktemp("texts")))
    generate_text(TASK.data, store, {})
    return store.local_root / name(TASK.data)


@pytest.fixture(scope="module")
def uninterrupted(synthetic, tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    outcome = train.pretrain(PRETRAIN, data=synthetic, directory=directory, report=quiet)
    return directory, outcome


class Killed(Exception):
    """Stands for the power cut."""


def killed_at(step, *, after_evaluation):
    def report(progress):
        evaluated = any(tag.startswith("validation/") for tag in progress.scalars)
        if progress.step == step and evaluated == after_evaluation:
            raise Killed

    return report


@pytest.mark.parametrize("after_evaluation", [False, True])
def test_a_run_killed_around_every_checkpoint_ends_with_the_same_bits(
    after_evaluation, synthetic, uninterrupted, tmp_path
):
    for step in (3, 6, 9, 12) if after_evaluation else (3, 4, 6, 7, 9, 10, 12):
        with pytest.raises(Killed):
            train.pretrain(
                PRETRAIN,
                data=synthetic,
                directory=tmp_path,
                report=killed_at(step, after_evaluation=after_evaluation),
            )
    outcome = train.pretrain(PRETRAIN, data=synthetic, directory=tmp_path, report=quiet)
    assert outcome.result == uninterrupted[1].result


@pytest.mark.long
def test_a_fine_tuning_killed_around_every_checkpoint_ends_with_the_same_bits(texts, uninterrupted, tmp_path):
    run = Finetune(task=TASK, init=StatisticInit(PRETRAIN, group_by="parameter", statistic="mean_sd"))
    given = {"data": texts, "sources": {PRETRAIN: (uninterrupted[0], uninterrupted[1].result["selected_step"])}}
    whole = train.finetune(run, **given, directory=tmp_path / "whole", report=quiet)
    for step in (3, 6):
        for after_evaluation in (False, True):
            report = killed_at(step, after_evaluation=after_evaluation)
            with pytest.raises(Killed):
                train.finetune(run, **given, directory=tmp_path / "killed", report=report)
    assert train.finetune(run, **given, directory=tmp_path / "killed", report=quiet).result == whole.result
    one, other = ((tmp_path / run / "predictions.jsonl").read_bytes() for run in ("whole", "killed"))
    assert one == other


def test_an_evaluation_without_its_checkpoint_is_redone(synthetic, uninterrupted, tmp_path):
    with pytest.raises(Killed):
        train.pretrain(PRETRAIN, data=synthetic, directory=tmp_path, report=killed_at(6, after_evaluation=True))
    assert [step.name for step in (tmp_path / "checkpoints").iterdir()] == ["3"]
    (tmp_path / "evaluations" / "6.json").write_text('{"token_accuracy": 0.9999, "loss": 0.0}\n')
    outcome = train.pretrain(PRETRAIN, data=synthetic, directory=tmp_path, report=quiet)
    assert outcome.result == uninterrupted[1].result


def test_only_the_selected_checkpoint_stays(uninterrupted):
    directory, outcome = uninterrupted
    assert [step.name for step in (directory / "checkpoints").iterdir()] == [str(outcome.result["selected_step"])]


def test_the_result_tells_what_was_selected(uninterrupted):
    result = uninterrupted[1].result
    evaluations = {int(step): e for step, e in result["evaluations"].items()}
    assert sorted(evaluations) == [3, 6, 9, 12]
    assert result["selected_step"] == Best("token_accuracy").choose(evaluations)
    assert result["validation"] == evaluations[result["selected_step"]]
    params = read_params(uninterrupted[0] / "checkpoints", result["selected_step"])
    assert result["params_sha256"] == params_digest(params)


def test_a_settled_selection_ends_training(synthetic, tmp_path):
    spec = dataclasses.replace(PRETRAIN, selection=FirstAbove("token_accuracy", 0.0))
    result = train.pretrain(spec, data=synthetic, directory=tmp_path, report=quiet).result
    assert result["selected_step"] == result["last_step"] == 3


def test_another_seed_gives_other_parameters(synthetic, uninterrupted, tmp_path):
    other = dataclasses.replace(PRETRAIN, seed=1)
    outcome = train.pretrain(other, data=synthetic, directory=tmp_path, report=quiet)
    assert outcome.result["params_sha256"] != uninterrupted[1].result["params_sha256"]


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
    source = train.pretrain_start(PRETRAIN)
    sources = dict.fromkeys(init.sources, source)
    start, other_seed = (
        flatten_dict(train.finetune_start(Finetune(task=TASK, init=init, seed=seed), sources), sep="/")
        for seed in (PRETRAIN.seed, PRETRAIN.seed + 1)
    )
    drawn = [path for path in start if not np.array_equal(start[path], other_seed[path])]
    assert len(drawn) == num_drawn if num_drawn else len(drawn) > 5
    for path in drawn:
        assert not np.array_equal(start[path], flatten_dict(source, sep="/")[path]), path


def test_the_loss_falls(synthetic, tmp_path):
    spec = dataclasses.replace(PRETRAIN, num_steps=60, eval_every=30)
    result = train.pretrain(spec, data=synthetic, directory=tmp_path, report=quiet).result
    assert result["evaluations"]["60"]["loss"] < result["evaluations"]["30"]["loss"] < 1.01 * np.log(256)


def test_progress_tells_the_scalars_of_the_paper(synthetic, tmp_path):
    told = []
    train.pretrain(PRETRAIN, data=synthetic, directory=tmp_path, report=told.append)
    tags = {tag for progress in told for tag in progress.scalars}
    assert {
        "train/loss",
        "validation/token_accuracy",
        "learning_rate",
        "speed/tokens_per_second",
        "speed/seconds_per_step",
    } <= tags
    assert [progress.step for progress in told] == sorted(progress.step for progress in told)


def test_finetuning_decodes_the_test_split_and_scores_it(synthetic, texts, uninterrupted, tmp_path):
    source = (uninterrupted[0], uninterrupted[1].result["selected_step"])
    for init in (
        RandomInit(MODEL),
        FullInit(PRETRAIN),
        StatisticInit(PRETRAIN, group_by="parameter", statistic="mean_sd"),
    ):
        directory = tmp_path / init.name
        outcome = train.finetune(
            Finetune(task=TASK, init=init),
            data=texts,
            sources=dict.fromkeys(init.sources, source),
            directory=directory,
            report=quiet,
        )
        lines = [json.loads(line) for line in (directory / "predictions.jsonl").read_text().splitlines()]
        assert len(lines) == outcome.result["num_test"] == 20
        assert outcome.result["test"]["exact_match"] == np.mean([line["right"] for line in lines])
        test = batches.read(texts, "test")
        assert [line["source"] for line in lines] == [source for source, _ in test.texts]
        assert [line["target"] for line in lines] == [target for _, target in test.texts]


def test_decoded_texts_stand_in_the_order_of_the_examples(texts):
    """A model that always ends at once predicts nothing; one row at a time gives what batches give."""
    test = batches.read(texts, "test")
    vocabulary = Vocabulary.load((texts / "spiece.model").read_bytes(), 100)
    params = init_params(MODEL, jax.random.key(0))
    layout = PadToLongest(input_length=16, target_length=24)
    together = decode_texts(T5(MODEL), params, test, TASK, layout, vocabulary)
    for row in (0, 7, 19):
        alone = dataclasses.replace(
            test,
            sources=test.sources.take(np.array([row])),
            targets=test.targets.take(np.array([row])),
            texts=test.texts[row : row + 1],
        )
        assert decode_texts(T5(MODEL), params, alone, TASK, layout, vocabulary) == [together[row]]


def test_a_finished_run_leaves_no_arrays_behind(synthetic, tmp_path):
    """Trials share reused processes, so what one keeps on the device the next could not have."""
    gc.collect()
    before = len(jax.live_arrays())
    train.pretrain(PRETRAIN, data=synthetic, directory=tmp_path, report=quiet)
    gc.collect()
    assert len(jax.live_arrays()) <= before


# -------------------------------------------------------------------------------- devices


def step_on(blocks, devices, monkeypatch):
    from jax.sharding import Mesh

    monkeypatch.setattr(devices_module, "mesh", lambda: Mesh(np.array(jax.local_devices()[:devices]), ("data",)))
    params = jax.device_put(init_params(MODEL, jax.random.key(0)), replicated())
    state = jax.device_put(optimizer.init(params), replicated())
    key = named_key(0, Purpose.PRETRAIN_DROPOUT)
    losses = []
    for step in range(3):
        params, state, counts = train.train_step(
            T5(MODEL, dropout_rate=0.1),
            1e-4,
            0.0,
            params,
            state,
            place(blocks),
            np.float32(0.01),
            key,
            np.uint32(step),
        )
        losses.append(float(counts["loss"]))
    return losses, jax.tree.map(np.asarray, params)


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
    one, params_one = step_on(blocks, 1, monkeypatch)
    eight, params_eight = step_on(blocks, 8, monkeypatch)
    np.testing.assert_allclose(eight, one, rtol=1e-5)
    for left, right in zip(jax.tree.leaves(params_one), jax.tree.leaves(params_eight), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-4)


def test_a_batch_that_devices_cannot_share_is_one_line():
    with pytest.raises(InputError, match="batch_size must be a multiple of this host's 8 devices, got 12"):
        place(blocks_of(12))


def test_the_layout_in_several_blocks_gives_the_update_of_one(monkeypatch):
    """A denser layout may split a step: its summed gradient is that of the whole."""
    (whole,) = blocks_of(16)
    parts = tuple(Block(*(array[rows] for array in whole)) for rows in (slice(0, 8), slice(8, 16)))
    network = T5(MODEL)  # dropout masks depend on the layout, so they stay out of this comparison
    updates = []
    for blocks in ((whole,), parts):
        params = init_params(MODEL, jax.random.key(0))
        params, _, counts = train.train_step(
            network,
            0.0,
            0.0,
            params,
            optimizer.init(params),
            blocks,
            np.float32(0.01),
            named_key(0, Purpose.PRETRAIN_DROPOUT),
            np.uint32(0),
        )
        updates.append((params, float(counts["loss"])))
    np.testing.assert_allclose(updates[0][1], updates[1][1], rtol=1e-6)
    for left, right in zip(*(jax.tree.leaves(params) for params, _ in updates), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-4)


def test_one_compilation_serves_every_learning_rate_step_and_seed():
    before = train.train_step._cache_size()
    (block,) = blocks_of(8)
    for seed, rate in ((0, 0.01), (1, 0.003), (2, 0.001)):
        params = init_params(MODEL, jax.random.key(seed))
        train.train_step(
            T5(MODEL, dropout_rate=0.2),
            0.0,
            0.0,
            params,
            optimizer.init(params),
            (block,),
            np.float32(rate),
            named_key(seed, Purpose.PRETRAIN_DROPOUT),
            np.uint32(seed),
        )
    assert train.train_step._cache_size() == before + 1


@pytest.mark.long
def test_results_do_not_depend_on_the_number_of_cores(synthetic, tmp_path):
    """XLA splits sums by thread, so a process that may use two cores must not do so unasked."""
    script = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[3]); import tests.model.test_train as t\n"
        "from raysynth.model import train\n"
        "data, directory = map(pathlib.Path, sys.argv[1:3])\n"
        "out = train.pretrain(t.PRETRAIN, data=data, directory=directory, report=t.quiet)\n"
        "print(out.result['params_sha256'])\n"
    )
    digests = set()
    for cores in ("0", "0-7"):
        done = subprocess.run(
            [
                "taskset",
                "-c",
                cores,
                sys.executable,
                "-c",
                script,
                synthetic,
                tmp_path / cores,
                str(__file__).rsplit("/", 1)[0],
            ],
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
