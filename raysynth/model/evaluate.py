"""Evaluation of a model: teacher-forced token accuracy and loss, and decoded predictions with their scores."""

from dataclasses import dataclass
from functools import cached_property, partial

import jax
import numpy as np
import numpy.typing as npt

from raysynth.data.batches import Examples
from raysynth.data.layout import Packed, PadToLongest, evaluation_batches
from raysynth.downstream import metrics
from raysynth.model.decode import generate
from raysynth.model.devices import DeviceBlock, place
from raysynth.model.t5 import T5, Params, loss_and_counts, teacher_forced_logits
from raysynth.specs.finetuning import DownstreamTask, in_one_order
from raysynth.specs.recipes import Recipe
from raysynth.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Evaluates parameters of one network on the examples of one split."""

    network: T5
    recipe: Recipe
    layout: Packed
    examples: Examples
    num_examples: int | None = None
    """Only the first examples count; None takes all."""

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The rows of `examples` that count, [count] int64."""
        return self.examples.head(self.num_examples)

    def scores(self, params: Params) -> dict[str, float]:
        """Teacher-forced `token_accuracy`, and the mean `loss` per token."""
        recipe = self.recipe
        sums: dict[str, float] = {}
        for start in range(0, len(self.rows), recipe.batch_size):
            blocks = self.layout.to_blocks(self.examples.take(self.rows[start : start + recipe.batch_size]))
            for block in place(blocks):
                counts = eval_step(self.network, recipe.z_loss, recipe.label_smoothing, params, block)
                for name, value in counts.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
        return {
            "token_accuracy": metrics.token_accuracy(sums["correct"], sums["weight"]),
            "loss": sums["loss"] / sums["weight"],
        }


@dataclass(frozen=True, kw_only=True)
class TextEvaluator(Evaluator):
    """An evaluator for a downstream task, whose examples have texts."""

    recipe: DownstreamTask
    vocabulary: Vocabulary

    def all_scores(self, params: Params) -> dict[str, float]:
        """`scores`, and the mean of each of the task's metrics of decoded text."""
        return self.scores(params) | means(self.text_scores(self.predictions(params)))

    def predictions(self, params: Params) -> list[str]:
        """The decoded prediction for each row, in the order of `rows`."""
        task = self.recipe
        texts: dict[int, str] = {}
        layout = PadToLongest(input_length=task.input_length, target_length=task.target_length)
        for rows, block in evaluation_batches(self.examples, self.rows, task.batch_size, layout):
            sequences, _ = generate(
                self.network,
                params,
                place((block,))[0].encoder_input_tokens,
                decode_length=task.decode_length,
                num_beams=task.num_beams,
                length_penalty=task.length_penalty,
            )
            for row, ids in zip(rows, np.asarray(sequences), strict=False):  # the block may end in padding rows
                texts[int(row)] = self.vocabulary.decode(ids.tolist())
        return [texts[int(row)] for row in self.rows]

    @cached_property
    def answers(self) -> list[tuple[str, ...]]:
        """The right answers for each row: the data set's references if it has any, else the target.

        A target counts as it reads after encoding and decoding, because a model cannot produce text that no ids spell;
        T5's vocabulary has no braces, for example. References stay as they are, as in T5's evaluation of SQuAD.
        """
        if self.examples.references:
            return [self.examples.references[row] for row in self.rows]
        vocabulary = self.vocabulary
        return [(vocabulary.decode(vocabulary.encode(self.examples.texts[row][1])),) for row in self.rows]

    def text_scores(self, predictions: list[str]) -> dict[str, list[float]]:
        """The score of each prediction by each of the task's metrics of decoded text."""
        names = [metric for metric in in_one_order(self.recipe.metrics) if metric != "token_accuracy"]
        return {metric: metrics.metrics[metric].scores(predictions, self.answers) for metric in names}


def means(scores: dict[str, list[float]]) -> dict[str, float]:
    """The mean of each metric's scores."""
    return {metric: sum(values) / len(values) for metric, values in scores.items()}


@partial(jax.jit, static_argnums=(0, 1, 2))
def eval_step(
    network: T5, z_loss: float, label_smoothing: float, params: Params, block: DeviceBlock
) -> dict[str, jax.Array]:
    """The sums of `loss_and_counts` over one block, without dropout."""
    logits = teacher_forced_logits(network, params, block)
    return loss_and_counts(logits, block.decoder_target_tokens, z_loss=z_loss, label_smoothing=label_smoothing)
