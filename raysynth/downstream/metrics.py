"""Test metrics of downstream tasks: the mean over examples of a score of one prediction, in [0, 1]."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from raysynth.downstream.chemistry import canonical_smiles
from raysynth.errors import InputError, Named

Target = str | Sequence[str]
"""The right answer, or several of which the one nearest to the prediction counts."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of decoded text against its right answer."""

    name: str
    score: Callable[[str, str], float]
    """Of one prediction and one right answer, in [0, 1]."""

    def scores(self, predictions: Sequence[str], targets: Sequence[Target]) -> list[float]:
        """The score of each prediction: the best over its right answers.

        Raises `InputError` for no targets, another number of predictions or a target without any answer.
        """
        if len(predictions) != len(targets) or not targets:
            raise InputError(
                f"{self.name} needs a prediction for each target, got {len(predictions)} for {len(targets)} targets"
            )
        answers = [(target,) if isinstance(target, str) else target for target in targets]
        if not all(answers):
            raise InputError(f"{self.name} needs at least one right answer for each prediction")
        return [
            max(float(self.score(prediction, answer)) for answer in several)
            for prediction, several in zip(predictions, answers, strict=True)
        ]

    def __call__(self, predictions: Sequence[str], targets: Sequence[Target]) -> float:
        """The mean score; raises `InputError` as `scores` does."""
        scores = self.scores(predictions, targets)
        return sum(scores) / len(scores)


def same(prediction: str, target: str) -> bool:
    """Whether two texts are equal but for white space at their ends; so does CodeXGLUE's evaluator count."""
    return prediction.strip() == target.strip()


def token_f1(prediction: str, target: str) -> float:
    """F1 of the two texts' words as bags, 0 where they share none; words are what white space separates.

    The paper scored MTOP and WebQSP with T5's question-answering F1 on texts as they are, without SQuAD's
    normalization (`semantic_parsing_metrics` in its code).
    """
    ours, theirs = prediction.split(), target.split()
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def squad_normalized(text: str) -> str:
    """A text as SQuAD's official evaluation (version 1.1) compares it.

    Lower case, without ASCII punctuation, without the words a, an and the, with single spaces.
    """
    text = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", text).split())


_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")


def rouge1(prediction: str, target: str) -> float:
    """F1 of unigrams as `rouge-score` counts them with T5's settings: no stemming, letters and digits only.

    T5 reports the median of a bootstrap over examples, which is random; `Metric` takes the mean, which that estimates.
    """
    return _rouge_scorer().score(target, prediction)["rouge1"].fmeasure


@cache
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # takes a second to load

    return RougeScorer(["rouge1"])


def same_molecules(prediction: str, target: str) -> bool:
    """Whether two SMILES are equal, or are the same molecules to RDKit; the paper compared strings."""
    if same(prediction, target):
        return True
    canonical = canonical_smiles(prediction)
    return canonical is not None and canonical == canonical_smiles(target)


exact_match = Metric(name="exact_match", score=same)

metrics: Named[Metric] = Named(
    "metric",
    {
        metric.name: metric
        for metric in (
            exact_match,
            Metric(name="token_f1", score=token_f1),
            Metric(name="squad_exact_match", score=lambda one, other: squad_normalized(one) == squad_normalized(other)),
            Metric(name="squad_f1", score=lambda one, other: token_f1(squad_normalized(one), squad_normalized(other))),
            Metric(name="rouge1", score=rouge1),
            Metric(name="canonical_smiles_match", score=same_molecules),
        )
    },
)
"""Metrics of decoded text by name."""


def token_accuracy(correct: float, weight: float) -> float:
    """The share of target tokens, `weight` in number, that were right, in [0, 1]; raises `InputError` for none."""
    if not weight > 0 or not 0 <= correct <= weight:
        raise InputError(f"token_accuracy needs 0 <= correct <= weight and weight > 0, got {correct} and {weight}")
    return float(correct / weight)


METRICS = (
    "token_accuracy",
    "exact_match",
    "token_f1",
    "squad_exact_match",
    "squad_f1",
    "rouge1",
    "canonical_smiles_match",
)
"""Metrics of a downstream task; `token_accuracy` is teacher-forced, the others score decoded text."""
