"""Trains one artifact on one host: build, restore, step, evaluate, select. Needs no Ray and no store.

All randomness derives from (purpose, seed) or (purpose, seed, step), and an evaluation is on disk before its step's
checkpoint and every later one. A run that is killed at any point and started again therefore ends with the same bits,
wherever the checkpoints between evaluations were written.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from raysynth.data.batches import Order, StoredSplit, Stream
from raysynth.data.layout import Packed
from raysynth.data.stored_dataset import StoredDataset
from raysynth.downstream import metrics
from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.model import optimizer
from raysynth.model.calls import calls, steps_per_call
from raysynth.model.checkpoints import Checkpoints, keep_only, params_digest, read_params
from raysynth.model.devices import named_key, place_steps, replicated
from raysynth.model.evaluate import Evaluator, TextEvaluator, means
from raysynth.model.initialize import initialize
from raysynth.model.reporter import Reporter
from raysynth.model.resume import Evaluations, evaluated_steps, initial_scores, resume, write_evaluation
from raysynth.model.settings import settings
from raysynth.model.step import TrainState, check_finite, train_steps
from raysynth.model.t5 import T5, Params, init_params
from raysynth.observer import Observer
from raysynth.specs.finetuning import Finetune, in_one_order
from raysynth.specs.identity import name
from raysynth.specs.pretraining import Pretrain, Source
from raysynth.specs.recipes import Best, FirstAbove, Recipe
from raysynth.store.checkpoint_files import CHECKPOINT_SECONDS, add_digest
from raysynth.store.checksums import checksum
from raysynth.store.files import write_whole
from raysynth.store.records import Timing, WeightsResult
from raysynth.tokens.streams import Purpose


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished run produced."""

    result: WeightsResult
    """Depends on the description alone."""
    timing: Timing
    """Seconds of its parts."""


def _do_nothing() -> None:
    """Default for `saved`: does nothing."""


@settings()
def pretrain(
    spec: Pretrain,
    *,
    data: Path,
    data_sha256: str | None = None,
    directory: Path,
    observer: Observer,
    saved: Callable[[], None] = _do_nothing,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> TrainingResult:
    """Pre-train from random parameters on the data set in `data`, with checkpoints in `directory`.

    `data_sha256` is the digest that the data set's record has; None trusts the manifest.
    `saved` is called from another thread when a checkpoint is on disk; `directory` does not change until it returns.
    `checkpoint_seconds` is the time after which a checkpoint is written between evaluations too.
    Raises `Diverged` if a loss is not finite, and `InputError` for damaged data or checkpoints.
    """
    dataset = StoredDataset.open(data, data_sha256)
    train, validation = dataset.split(Split.TRAIN), dataset.split(Split.VALIDATION)
    layout = Packed.of(spec, train.read_ids([0]))
    params = pretrain_start(spec)
    evaluator = Evaluator(
        network=T5(spec.model),
        recipe=spec,
        layout=layout,
        examples=validation.read(),
        num_examples=spec.num_eval_examples,
    )
    model = _train(
        spec,
        spec,
        params=params,
        dropout_key=named_key(spec.seed, Purpose.PRETRAIN_DROPOUT),
        examples=train,
        order=_order(train, spec, Purpose.PRETRAIN_ORDER, spec.seed),
        layout=layout,
        evaluate=evaluator.scores,
        directory=directory,
        observer=observer,
        saved=saved,
        checkpoint_seconds=checkpoint_seconds,
    )
    result = model.result()
    _keep_used(directory, result)
    return TrainingResult(result=result, timing=model.timing)


@settings()
def finetune(
    spec: Finetune,
    *,
    data: Path,
    data_sha256: str | None = None,
    sources: Mapping[Source, Callable[[], Params]],
    directory: Path,
    observer: Observer,
    saved: Callable[[], None] = _do_nothing,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> TrainingResult:
    """Initialize by the scheme, fine-tune, select a step, and score its decoded predictions on the test split.

    `sources` read the parameters of each of the scheme's sources. `data_sha256`, `saved`, `checkpoint_seconds` and what
    is raised are as in `pretrain`.
    """
    task, dataset = spec.task, StoredDataset.open(data, data_sha256)
    train, validation = dataset.split(Split.TRAIN), dataset.split(Split.VALIDATION)
    layout = Packed.of(task, train.read_ids([0]))
    params = finetune_start(spec, {source: read() for source, read in sources.items()})
    evaluator = TextEvaluator(
        network=T5(spec.model),
        recipe=task,
        layout=layout,
        examples=validation.read(),
        num_examples=task.num_eval_examples,
        vocabulary=dataset.vocabulary(),
    )
    needs_text = isinstance(task.selection, Best | FirstAbove) and task.selection.metric != "token_accuracy"
    model = _train(
        spec,
        task,
        params=params,
        dropout_key=named_key(spec.seed, Purpose.FINETUNE_DROPOUT),
        examples=train,
        order=_order(train, task, Purpose.FINETUNE_ORDER, spec.seed),
        layout=layout,
        evaluate=evaluator.all_scores if needs_text else evaluator.scores,
        directory=directory,
        observer=observer,
        saved=saved,
        checkpoint_seconds=checkpoint_seconds,
    )
    started = time.monotonic()
    test = dataclasses.replace(evaluator, examples=dataset.split(Split.TEST).read(), num_examples=None)
    predictions = directory / "predictions.jsonl"
    test_scores = _test(test, model.params, predictions)
    result = model.result()
    _keep_used(directory, result)
    return TrainingResult(
        result=dataclasses.replace(
            result,
            test=test_scores,
            num_test=len(test.examples),
            predictions_sha256=checksum(predictions).sha256,
        ),
        timing=dataclasses.replace(model.timing, test_seconds=time.monotonic() - started),
    )


@settings()
def pretrain_start(spec: Pretrain) -> Params:
    """The random parameters that a pre-training starts from."""
    return init_params(spec.model, named_key(spec.seed, Purpose.PRETRAIN_INIT))


@settings()
def finetune_start(spec: Finetune, sources: Mapping[Source, Params]) -> Params:
    """The parameters that a fine-tuning starts from: random ones, of which the init scheme replaces some.

    `sources` are the parameters of each of the scheme's sources. They share no random numbers with the result, even if
    their seed is the same.
    """
    return initialize(
        spec.init,
        init_params(spec.model, named_key(spec.seed, Purpose.FINETUNE_INIT)),
        dict(sources),
        named_key(spec.seed, Purpose.SCHEME),
    )


def _order(examples: StoredSplit, recipe: Recipe, purpose: Purpose, seed: int) -> Order:
    return Order(shard_rows=examples.shard_rows, batch_size=recipe.batch_size, purpose=purpose, seed=seed)


def _test(test: TextEvaluator, params: Params, predictions_file: Path) -> dict[str, float]:
    """The value of each of the task's metrics on the test split; writes its predictions, one JSON line each."""
    params = jax.device_put(params, replicated())
    token_scores = test.scores(params)
    predictions = test.predictions(params)
    text_scores = test.text_scores(predictions)
    task_metrics = in_one_order(test.recipe.metrics)
    main_metric = next((metric for metric in task_metrics if metric in text_scores), "exact_match")
    main_scores = text_scores.get(main_metric) or metrics.exact_match.scores(predictions, test.answers)
    _write_json_lines(
        predictions_file,
        (
            {
                "source": source,
                "target": answers[0],
                **({"references": answers} if test.examples.references else {}),
                "prediction": prediction,
                "right": score == 1,
                "scores": {metric: values[row] for metric, values in text_scores.items()},
            }
            for row, ((source, _), answers, prediction, score) in enumerate(
                zip(test.examples.texts, test.answers, predictions, main_scores, strict=True)
            )
        ),
    )
    scores = token_scores | means(text_scores)
    return {metric: scores[metric] for metric in task_metrics}


# -------------------------------------------------------------------------------- training


@dataclass(frozen=True, kw_only=True)
class _TrainedModel:
    selected_step: int
    last_step: int
    evaluations: Evaluations
    params: Params
    """Those of the selected step, as NumPy arrays."""
    kept_digests: dict[int, str]
    """Of the parameters of each step to keep."""
    timing: Timing

    def result(self) -> WeightsResult:
        return WeightsResult(
            selected_step=self.selected_step,
            last_step=self.last_step,
            validation=self.evaluations[self.selected_step],
            evaluations={step: self.evaluations[step] for step in sorted(self.evaluations)},
            params_sha256=params_digest(self.params),
            kept_params_sha256=self.kept_digests or None,
        )


def _keep_used(directory: Path, result: WeightsResult) -> None:
    """Delete all checkpoints but those in use, whose lists then name their parameters as the record will."""
    keep_only(directory / "checkpoints", result.digests)
    for step, digest in result.digests.items():
        add_digest(directory / "checkpoints" / str(step), digest)


def _train(
    spec: Pretrain | Finetune,
    recipe: Recipe,
    *,
    params: Params,
    dropout_key: jax.Array,
    examples: StoredSplit,
    order: Order,
    layout: Packed,
    evaluate: Callable[[Params], dict[str, float]],
    directory: Path,
    observer: Observer,
    saved: Callable[[], None],
    checkpoint_seconds: float,
) -> _TrainedModel:
    """Train from `params`, or from the latest checkpoint in `directory`, until the recipe or its selection is done."""
    network = T5(spec.model, dropout_rate=recipe.dropout_rate)
    artifact, evaluated = name(spec), set(evaluated_steps(recipe))
    most = steps_per_call(spec.model, layout.shape)
    before = resume(directory, artifact, recipe, observer)
    if not before.is_evaluated:
        scores = evaluate(jax.device_put(read_params(directory / "checkpoints", before.step), replicated()))
        check_finite(scores["loss"], before.step)
        write_evaluation(directory, artifact=artifact, step=before.step, scores=scores)
        before = resume(directory, artifact, recipe, observer)
    evaluations = before.evaluations
    reporter = Reporter(artifact, recipe, first_step=before.step, observer=observer)
    initial = initial_scores(directory, artifact, recipe.selection, observer)
    if initial is None:
        with reporter.evaluating():
            initial = evaluate(jax.device_put(params, replicated()))
            check_finite(initial["loss"], 0)
            write_evaluation(directory, artifact=artifact, step=0, scores=initial)
            reporter.evaluated(0, initial)

    def evaluate_state(state: TrainState) -> None:
        evaluations[state.step] = evaluate(state.params)
        check_finite(evaluations[state.step]["loss"], state.step)
        checkpoints.wait()
        write_evaluation(directory, artifact=artifact, step=state.step, scores=evaluations[state.step])

    state = TrainState.start(params)
    with (
        Checkpoints(
            directory / "checkpoints",
            artifact=artifact,
            selection=recipe.selection,
            keep_steps=recipe.keep_steps,
            evaluations=evaluations,
            saved=saved,
            seconds=checkpoint_seconds,
        ) as checkpoints,
        Stream(examples, order) as stream,
    ):
        if before.step:
            state = checkpoints.restore(before.step, like=state)
        upcoming_calls = calls(
            lambda step: layout.to_blocks(stream.examples(step)),
            first_step=state.step,
            num_steps=recipe.num_steps,
            most=most,
            ends=evaluated,
        )
        placed_calls = ((call, place_steps(call.batches, most)) for call in upcoming_calls)
        upcoming = next(placed_calls, None)
        while upcoming is not None and not recipe.finished(state.step, evaluations):
            call, placed = upcoming
            learning_rates = optimizer.learning_rates(recipe.schedule, call.first_step, call.last_step)
            state, counts = train_steps(
                network,
                state,
                placed,
                learning_rates,
                dropout_key,
                z_loss=recipe.z_loss,
                label_smoothing=recipe.label_smoothing,
            )
            upcoming = next(placed_calls, None)  # laid out and transferred while the device computes
            reporter.after_call(call, counts, learning_rates[-1])
            if state.step in evaluated:
                with reporter.evaluating():
                    evaluate_state(state)
                    reporter.evaluated(state.step, evaluations[state.step])
                    checkpoints.save(state)
            elif checkpoints.is_due:
                checkpoints.save(state)
        checkpoints.wait()

    selected = recipe.selection.choose(evaluations)
    if selected is None:
        raise InputError(f"{recipe.selection} chose none of the evaluated steps {sorted(evaluations)}")
    try:
        selected_params = read_params(directory / "checkpoints", selected)
        kept = {step: params_digest(read_params(directory / "checkpoints", step)) for step in recipe.keep_steps}
    except InputError as error:  # damaged since it was written
        raise OSError(f"{error}; the next attempt trains it again") from error
    return _TrainedModel(
        selected_step=selected,
        last_step=state.step,
        evaluations={0: initial, **evaluations},
        params=selected_params,
        kept_digests=kept,
        timing=reporter.timing(),
    )


# -------------------------------------------------------------------------------- files


def _write_json_lines(file: Path, values: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line."""
    write_whole(file, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode())
