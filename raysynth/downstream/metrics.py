"""Test metrics of downstream tasks: means over examples of a score in [0, 1]."""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from raysynth.downstream.chemistry import canonical_smiles, rdkit
from raysynth.environment import is_installed
from raysynth.errors import InputError, Named

Target = str | Sequence[str]
"""The right answer, or several; of several, the one with the best score counts."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of decoded text against right answers."""

    name: str
    heading: str
    """The metric's name in the headings of the paper's tables."""
    score: Callable[[str, str], float]
    """Scores one prediction against one right answer, in [0, 1]."""

    def scores(self, predictions: Sequence[str], targets: Sequence[Target]) -> list[float]:
        """The score of each prediction: the best over its right answers.

        Raises `InputError` if there are no targets, if the numbers of predictions and targets differ, or if a target
        has no answer.
        """
        if len(predictions) != len(targets) or not targets:
            raise InputError(
                f"{self.name} needs a prediction for each target, got {len(predictions)} for {len(targets)} targets"
            )
        answers = [(target,) if isinstance(target, str) else target for target in targets]
        if not all(answers):
            raise InputError(f"{self.name} needs at least one right answer for each prediction")
        return [
            max(float(self.score(prediction, answer)) for answer in right_answers)
            for prediction, right_answers in zip(predictions, answers, strict=True)
        ]

    def __call__(self, predictions: Sequence[str], targets: Sequence[Target]) -> float:
        """The mean score over examples; raises `InputError` as `scores` does."""
        scores = self.scores(predictions, targets)
        return sum(scores) / len(scores)


def same_text(prediction: str, target: str) -> bool:
    """Whether two texts are equal apart from white space at their ends, as in CodeXGLUE's evaluator."""
    return prediction.strip() == target.strip()


def token_f1(prediction: str, target: str) -> float:
    """F1 of the words of two texts as multisets; 0 if they share no word. White space separates words.

    The paper scored MTOP and WebQSP with T5's question-answering F1 but without SQuAD's normalization
    (`semantic_parsing_metrics` in its code).
    """
    predicted, expected = prediction.split(), target.split()
    num_shared = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * num_shared / (len(predicted) + len(expected)) if num_shared else 0.0


def squad_normalized(text: str) -> str:
    """Normalize a text as SQuAD's official evaluation (version 1.1) does before comparison.

    The result is in lower case, without ASCII punctuation, without the words a, an and the, with single spaces.
    """
    text = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", text).split())


_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")


def squad_same_text(prediction: str, target: str) -> bool:
    """Whether two texts are equal after SQuAD's normalization."""
    return squad_normalized(prediction) == squad_normalized(target)


def squad_f1(prediction: str, target: str) -> float:
    """F1 of the words of two texts after SQuAD's normalization."""
    return token_f1(squad_normalized(prediction), squad_normalized(target))


def rouge1(prediction: str, target: str) -> float:
    """Unigram F1 from the package `rouge-score` with T5's settings: no stemming, only letters and digits count.

    T5 reports the median of a random bootstrap over examples. `Metric` reports the mean, which that median estimates.
    """
    return float(_rouge_scorer().score(target, prediction)["rouge1"].fmeasure)


def check_installed(names: Iterable[str]) -> None:
    """Raise `InputError` if one of these metrics needs a package that is not installed."""
    names = set(names)
    if "rouge1" in names and not is_installed("rouge_score"):
        raise InputError("rouge-score is needed for ROUGE: pip install rouge-score")
    if "canonical_smiles_match" in names:
        rdkit()


@cache
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # takes a second to load

    return RougeScorer(["rouge1"])


def same_molecules(prediction: str, target: str) -> bool:
    """Whether two SMILES are equal or RDKit gives them one canonical form; the paper compared only the strings."""
    if same_text(prediction, target):
        return True
    canonical = canonical_smiles(prediction)
    return canonical is not None and canonical == canonical_smiles(target)


exact_match = Metric(name="exact_match", heading="EM", score=same_text)

metrics: Named[Metric] = Named(
    "metric",
    {
        metric.name: metric
        for metric in (
            exact_match,
            Metric(name="token_f1", heading="F1", score=token_f1),
            Metric(name="squad_exact_match", heading="EM", score=squad_same_text),
            Metric(name="squad_f1", heading="F1", score=squad_f1),
            Metric(name="rouge1", heading="ROUGE-1", score=rouge1),
            Metric(name="canonical_smiles_match", heading="EM", score=same_molecules),
        )
    },
)
"""The metrics of decoded text by name."""

METRICS: tuple[str, ...] = ("token_accuracy", *metrics)
"""The names of all metrics; `token_accuracy` is teacher-forced, the others score decoded text."""


def token_accuracy(correct: float, weight: float) -> float:
    """The share of the `weight` target tokens that were predicted right, in [0, 1].

    Raises `InputError` if there are no target tokens.
    """
    if not weight > 0 or not 0 <= correct <= weight:
        raise InputError(f"token_accuracy needs 0 <= correct <= weight and weight > 0, got {correct} and {weight}")
    return float(correct / weight)
