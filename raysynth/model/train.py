"""One artifact on one host: build, restore, step, evaluate, select. No Ray, no store: the debugger's entry point.

Everything random comes from (seed, purpose) or (seed, purpose, step), and an evaluation is on disk before the
checkpoint of its step, so a run that is killed anywhere and started again ends with the same bits.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from raysynth.data import batches
from raysynth.data.batches import Order, StoredSplit, Stream
from raysynth.data.layout import Block
from raysynth.data.text_pairs import read_vocabulary
from raysynth.downstream import metrics
from raysynth.downstream.rows import Split
from raysynth.errors import Diverged, InputError
from raysynth.model import optimizer
from raysynth.model.checkpoints import Checkpoints, Evaluations, keep_only, params_digest, read_params
from raysynth.model.devices import device, named_key, place, replicated
from raysynth.model.evaluate import decode_texts, evaluate, layout_of, means, right_answers, scores_of
from raysynth.model.initialize import initialize
from raysynth.model.t5 import T5, Params, init_params, loss_and_counts
from raysynth.specs.finetuning import Finetune
from raysynth.specs.models import T5Config
from raysynth.specs.pretraining import Pretrain, Source
from raysynth.specs.recipes import Best, FirstAbove, Recipe
from raysynth.tokens.streams import Purpose, stream


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a run reports while it goes; scalars are those to plot at `step`."""

    step: int
    num_steps: int
    scalars: dict[str, float]


Report = Callable[[Progress], None]


def _unobserved() -> None:
    """Nobody asked to be told of checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished run knows: `result` is fixed by the description, `timing` is not."""

    result: dict[str, Any]
    timing: dict[str, float]


def pretrain(
    spec: Pretrain, *, data: Path, directory: Path, report: Report, saved: Callable[[], None] = _unobserved
) -> Outcome:
    """Pre-train on the data set in `data`, with checkpoints in `directory`, from random parameters.

    `saved` is called from another thread when a checkpoint is on disk; `directory` does not change until it returns.
    """
    train, validation = StoredSplit.open(data, Split.TRAIN), batches.read(data, Split.VALIDATION)
    params = pretrain_start(spec)
    key = named_key(spec.seed, Purpose.PRETRAIN_DROPOUT)
    order = Order(
        shard_rows=train.shard_rows, batch_size=spec.batch_size, purpose=Purpose.PRETRAIN_ORDER, seed=spec.seed
    )

    def evaluation(params: Params) -> dict[str, float]:
        rows = validation.head(spec.num_eval_examples)
        return evaluate(T5(spec.model), params, validation, rows, spec, layout_of(spec))

    run = _fit(spec, spec.model, key, params, train, order, evaluation, directory, report, saved)
    keep_only(directory / "checkpoints", run.selected)
    return Outcome(result=run.result(), timing=run.timing)


def finetune(
    spec: Finetune,
    *,
    data: Path,
    sources: Mapping[Source, tuple[Path, int]],
    directory: Path,
    report: Report,
    saved: Callable[[], None] = _unobserved,
) -> Outcome:
    """Initialize by the scheme, fine-tune, select, decode the test split and score it.

    `sources` are the directory and the selected step of each of the scheme's sources; `saved` is that of `pretrain`.
    """
    task = spec.task
    train, validation = StoredSplit.open(data, Split.TRAIN), batches.read(data, Split.VALIDATION)
    params = finetune_start(
        spec, {source: read_params(place / "checkpoints", step) for source, (place, step) in sources.items()}
    )
    key = named_key(spec.seed, Purpose.FINETUNE_DROPOUT)
    order = Order(
        shard_rows=train.shard_rows, batch_size=task.batch_size, purpose=Purpose.FINETUNE_ORDER, seed=spec.seed
    )
    vocabulary = read_vocabulary(data)
    network = T5(spec.model)
    decoded = isinstance(task.selection, Best | FirstAbove) and task.selection.metric != "token_accuracy"

    def evaluation(params: Params) -> dict[str, float]:
        rows = validation.head(task.num_eval_examples)
        scores = evaluate(network, params, validation, rows, task, layout_of(task))
        if decoded:
            predictions = decode_texts(network, params, validation, task, layout_of(task), vocabulary, rows)
            scores |= means(scores_of(task, predictions, right_answers(validation, rows, vocabulary)))
        return scores

    run = _fit(task, spec.model, key, params, train, order, evaluation, directory, report, saved)
    started = time.monotonic()
    params = jax.device_put(read_params(directory / "checkpoints", run.selected), replicated())
    test = batches.read(data, Split.TEST)
    rows = test.head(None)
    scores = evaluate(network, params, test, rows, task, layout_of(task))
    predictions = decode_texts(network, params, test, task, layout_of(task), vocabulary)
    answers = right_answers(test, rows, vocabulary)
    each = scores_of(task, predictions, answers)
    heading = next((metric for metric in task.metrics if metric in each), "exact_match")
    right = each.get(heading) or metrics.exact_match.scores(predictions, answers)
    write_lines(
        directory / "predictions.jsonl",
        (
            {
                "source": source,
                "target": answer[0],
                **({"references": answer} if test.references else {}),
                "prediction": prediction,
                "right": score == 1,
                "scores": {metric: values[row] for metric, values in each.items()},
            }
            for row, ((source, _), answer, prediction, score) in enumerate(
                zip(test.texts, answers, predictions, right, strict=True)
            )
        ),
    )
    scores |= means(each)
    test_metrics = {metric: scores[metric] for metric in task.metrics}
    keep_only(directory / "checkpoints", run.selected)
    timing = {**run.timing, "test_seconds": time.monotonic() - started}
    return Outcome(result={**run.result(), "test": test_metrics, "num_test": len(test)}, timing=timing)


# -------------------------------------------------------------------------------- initial parameters


def pretrain_start(spec: Pretrain) -> Params:
    """The random parameters that a pre-training starts from."""
    return init_params(spec.model, named_key(spec.seed, Purpose.PRETRAIN_INIT))


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


# -------------------------------------------------------------------------------- fitting


@dataclass(frozen=True, kw_only=True)
class _Run:
    selected: int
    last: int
    evaluations: Evaluations
    digest: str
    timing: dict[str, float]

    def result(self) -> dict[str, Any]:
        return {
            "selected_step": self.selected,
            "last_step": self.last,
            "validation": self.evaluations[self.selected],
            "evaluations": {str(step): self.evaluations[step] for step in sorted(self.evaluations)},
            "params_sha256": self.digest,
        }


def _fit(
    recipe: Recipe,
    model: Any,
    key: jax.Array,
    params: Params,
    train: StoredSplit,
    order: Order,
    evaluation: Callable[[Params], dict[str, float]],
    directory: Path,
    report: Report,
    saved: Callable[[], None],
) -> _Run:
    layout = layout_of(recipe)
    network = T5(model, dropout_rate=recipe.dropout_rate)
    evaluations = read_evaluations(directory / "evaluations")

    def evaluated(step: int, params: Params) -> None:
        evaluations[step] = evaluation(params)
        _check_finite(evaluations[step]["loss"], step)
        checkpoints.wait()
        write_json(directory / "evaluations" / f"{step}.json", evaluations[step])

    params = jax.device_put(params, replicated())
    state = jax.device_put(optimizer.init(params), replicated())
    with (
        Checkpoints(
            directory / "checkpoints", selection=recipe.selection, evaluations=evaluations, saved=saved
        ) as checkpoints,
        Stream(train, order) as training_examples,
    ):
        step = checkpoints.latest or 0
        for later in [other for other in evaluations if other > step]:
            del evaluations[later]  # its checkpoint was never finished; the step is redone
        if step:
            params, state = checkpoints.restore(step, params=params, optimizer=state)
            if step not in evaluations:  # somebody deleted it
                evaluated(step, params)
        watch = _Watch(recipe, first_step=step, report=report)
        while step < recipe.num_steps and not recipe.selection.settled(evaluations):
            blocks = layout.to_blocks(training_examples.examples(step))
            rate = np.float32(optimizer.learning_rate(recipe.schedule, step))
            params, state, counts = train_step(
                network, recipe.z_loss, recipe.label_smoothing, params, state, place(blocks), rate, key, np.uint32(step)
            )
            step += 1
            watch.stepped(step, blocks, counts, rate)
            if step % recipe.eval_every == 0 or step == recipe.num_steps:
                with watch.evaluating():
                    evaluated(step, params)
                    watch.evaluated(step, evaluations[step])
                    checkpoints.save(step, params=params, optimizer=state)
        checkpoints.wait()

    selected = recipe.selection.choose(evaluations)
    if selected is None:
        raise InputError(f"{recipe.selection} chose none of the evaluated steps {sorted(evaluations)}")
    chosen = read_params(directory / "checkpoints", selected)
    return _Run(
        selected=selected, last=step, evaluations=evaluations, digest=params_digest(chosen), timing=watch.timing()
    )


def _check_finite(loss: float, step: int) -> None:
    """Raise `Diverged` for a loss that is no number or infinite."""
    if not math.isfinite(loss):
        raise Diverged(f"diverged: the loss is {loss} by step {step:,}; try a lower learning rate")


class _Watch:
    """Times the steps and reports now and then, without making the device wait for every step."""

    def __init__(self, recipe: Recipe, *, first_step: int, report: Report):
        self._recipe = recipe
        self._report = report
        self._every = max(1, min(recipe.num_steps // 100, recipe.eval_every))
        self._stretches: list[tuple[int, float]] = []
        """Steps and seconds between two reports; the first one holds the compilation."""
        self._evaluation_seconds = 0.0
        self._begin(first_step)
        report(Progress(step=first_step, num_steps=recipe.num_steps, scalars={}))

    def _begin(self, step: int) -> None:
        self._counts: dict[str, jax.Array] | None = None
        self._tokens = 0
        self._since_step, self._since = step, time.monotonic()

    def stepped(self, step: int, blocks: tuple[Block, ...], counts: dict[str, jax.Array], rate: float) -> None:
        """Take note of a step; reports at every hundredth of the run, and fetches sums from the device only then."""
        self._counts = counts if self._counts is None else jax.tree.map(jnp.add, self._counts, counts)
        self._tokens += sum(int(np.count_nonzero(array)) for block in blocks for array in block)
        if step % self._every and step != self._recipe.num_steps:
            return
        sums = {name: float(value) for name, value in self._counts.items()}
        _check_finite(sums["loss"], step)
        steps, seconds = step - self._since_step, time.monotonic() - self._since
        self._stretches.append((steps, seconds))
        scalars = {
            "train/loss": sums["loss"] / sums["weight"],
            "train/token_accuracy": sums["correct"] / sums["weight"],
            "learning_rate": float(rate),
            "speed/tokens_per_second": self._tokens / seconds,
            "speed/seconds_per_step": seconds / steps,
        }
        self._report(Progress(step=step, num_steps=self._recipe.num_steps, scalars=scalars))
        self._begin(step)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Keeps evaluation and checkpoint out of the seconds per step."""
        started = time.monotonic()
        yield
        spent = time.monotonic() - started
        self._evaluation_seconds += spent
        self._since += spent

    def evaluated(self, step: int, evaluation: dict[str, float]) -> None:
        """Report an evaluation."""
        scalars = {f"validation/{name}": value for name, value in evaluation.items()}
        self._report(Progress(step=step, num_steps=self._recipe.num_steps, scalars=scalars))

    def timing(self) -> dict[str, float]:
        """Seconds in all and in evaluation, and per step without the first stretch."""
        timing = {
            "evaluation_seconds": self._evaluation_seconds,
            "train_seconds": sum(seconds for _, seconds in self._stretches),
        }
        if self._stretches[1:]:
            steps, seconds = map(sum, zip(*self._stretches[1:], strict=True))
            timing["seconds_per_step"] = seconds / steps
        return timing


# -------------------------------------------------------------------------------- steps


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3, 4))
def train_step(
    network: T5,
    z_loss: float,
    label_smoothing: float,
    params: Params,
    state: Any,
    blocks: tuple[Block, ...],
    learning_rate: jax.Array,
    key: jax.Array,
    step: jax.Array,
) -> tuple[Params, Any, dict[str, jax.Array]]:
    """One update on the summed loss of all blocks; learning rate and step are arrays, so one compilation serves all."""
    key = jax.random.fold_in(key, step)

    def loss(params: Params, block: Block, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        logits = network.apply({"params": params}, *block, rngs={"dropout": key})
        counts = loss_and_counts(logits, block.decoder_target_tokens, z_loss=z_loss, label_smoothing=label_smoothing)
        return counts["loss"], counts

    gradients, counts = None, None
    for index, block in enumerate(blocks):
        part, told = jax.grad(loss, has_aux=True)(params, block, jax.random.fold_in(key, np.uint32(index)))
        gradients = part if gradients is None else jax.tree.map(jnp.add, gradients, part)
        counts = told if counts is None else jax.tree.map(jnp.add, counts, told)
    params, state = optimizer.update(gradients, state, params, learning_rate)
    return params, state, counts


def time_step(recipe: Recipe, model: T5Config, *, num_steps: int = 5) -> dict[str, Any]:
    """Seconds of a training step on a batch of the full lengths on this host, without compilation; and the device."""
    rng = stream(Purpose.TIMED_BATCH, 0)
    block = Block(
        rng.integers(2, model.vocab_size, (recipe.batch_size, recipe.input_length), dtype=np.int32),
        rng.integers(2, model.vocab_size, (recipe.batch_size, recipe.target_length), dtype=np.int32),
    )
    blocks, network = place((block,)), T5(model, dropout_rate=recipe.dropout_rate)
    key = named_key(0, Purpose.TIMED_DROPOUT)
    params = jax.device_put(init_params(model, named_key(0, Purpose.TIMED_INIT)), replicated())
    state = jax.device_put(optimizer.init(params), replicated())
    started = 0.0
    for step in range(num_steps + 2):
        params, state, counts = train_step(
            network, recipe.z_loss, recipe.label_smoothing, params, state, blocks, np.float32(0), key, np.uint32(step)
        )
        if step == 1:  # the first one compiles, the second one has the donated arrays' layout
            jax.block_until_ready(counts)
            started = time.perf_counter()
    jax.block_until_ready((params, counts))
    seconds = (time.perf_counter() - started) / num_steps
    return {"seconds_per_step": seconds, "device": device()}


# -------------------------------------------------------------------------------- files


def read_evaluations(directory: Path) -> Evaluations:
    """The evaluations done so far, by step."""
    return {int(file.stem): json.loads(file.read_text()) for file in sorted(directory.glob("*.json"))}


def write_json(file: Path, value: Any) -> None:
    write_lines(file, [value])


def write_lines(file: Path, values: Any) -> None:
    """Write one JSON value a line, aside first and renamed when whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(".aside")
    aside.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))
    os.replace(aside, file)
