"""Evaluation of a model: teacher-forced token accuracy and loss, and decoded predictions with their scores."""

from functools import partial

import jax
import numpy as np

from raysynth.data.batches import Examples
from raysynth.data.layout import Block, PadToLongest, evaluation_batches
from raysynth.downstream import metrics
from raysynth.model.decode import generate
from raysynth.model.devices import place
from raysynth.model.t5 import T5, Params, loss_and_counts
from raysynth.specs.finetuning import DownstreamTask
from raysynth.specs.recipes import Recipe
from raysynth.tokens.vocabulary import Vocabulary


def right_answers(examples: Examples, rows: np.ndarray, vocabulary: Vocabulary) -> list[tuple[str, ...]]:
    """What counts as right for each of the rows: the data set's references, else the target.

    What no sequence of ids can spell counts as its closest spelling: T5's vocabulary has no braces, for one. References
    stay as they are, as in T5's evaluation of SQuAD.
    """
    if examples.references:
        return [examples.references[row] for row in rows]
    return [(vocabulary.decode(vocabulary.encode(examples.texts[row][1])),) for row in rows]


def scores_of(task: DownstreamTask, predictions: list[str], answers: list[tuple[str, ...]]) -> dict[str, list[float]]:
    """The score of every prediction by each of the task's metrics of decoded text."""
    names = [metric for metric in task.metrics if metric != "token_accuracy"]
    return {metric: metrics.metrics[metric].scores(predictions, answers) for metric in names}


def means(scores: dict[str, list[float]]) -> dict[str, float]:
    return {metric: sum(values) / len(values) for metric, values in scores.items()}


def layout_of(recipe: Recipe) -> PadToLongest:
    return PadToLongest(input_length=recipe.input_length, target_length=recipe.target_length)


@partial(jax.jit, static_argnums=(0, 1, 2))
def eval_step(network: T5, z_loss: float, label_smoothing: float, params: Params, block: Block) -> dict[str, jax.Array]:
    """Summed loss, right tokens and tokens of one block, without dropout."""
    logits = network.apply({"params": params}, *block)
    return loss_and_counts(logits, block.decoder_target_tokens, z_loss=z_loss, label_smoothing=label_smoothing)


def evaluate(
    network: T5, params: Params, examples: Examples, rows: np.ndarray, recipe: Recipe, layout: PadToLongest
) -> dict[str, float]:
    """Teacher-forced token accuracy and mean loss per token over the given rows."""
    sums: dict[str, float] = {}
    for _, block in evaluation_batches(examples, rows, recipe.batch_size, layout):
        counts = eval_step(network, recipe.z_loss, recipe.label_smoothing, params, place((block,))[0])
        for name, value in counts.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return {
        "token_accuracy": metrics.token_accuracy(sums["correct"], sums["weight"]),
        "loss": sums["loss"] / sums["weight"],
    }


def decode_texts(
    network: T5,
    params: Params,
    examples: Examples,
    task: DownstreamTask,
    layout: PadToLongest,
    vocabulary: Vocabulary,
    rows: np.ndarray | None = None,
) -> list[str]:
    """The decoded prediction for each of the rows, in their order; None decodes all."""
    rows = examples.head(None) if rows is None else rows
    texts: dict[int, str] = {}
    for part, block in evaluation_batches(examples, rows, task.batch_size, layout):
        sequences, _ = generate(
            network,
            params,
            place((block,))[0].encoder_input_tokens,
            decode_length=task.decode_length,
            num_beams=task.num_beams,
            length_penalty=task.length_penalty,
        )
        for row, ids in zip(part, np.asarray(sequences), strict=False):  # the block may end in padding rows
            texts[int(row)] = vocabulary.decode(ids.tolist())
    return [texts[int(row)] for row in rows]
