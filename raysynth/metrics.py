"""Test metrics of downstream tasks."""

from collections.abc import Callable, Sequence

from raysynth.errors import InputError, Named


def exact_match(predictions: Sequence[str], targets: Sequence[str]) -> float:
    """The share of predictions that equal their target but for white space at the ends, in [0, 1].

    So does CodeXGLUE's evaluator count. Raises `InputError` for no targets or another number of predictions.
    """
    if len(predictions) != len(targets) or not targets:
        raise InputError(
            f"exact_match needs a prediction for each target, got {len(predictions)} for {len(targets)} targets"
        )
    return sum(map(same, predictions, targets)) / len(targets)


def same(prediction: str, target: str) -> bool:
    """Whether a prediction counts as an exact match of its target."""
    return prediction.strip() == target.strip()


def token_accuracy(correct: float, weight: float) -> float:
    """The share of target tokens, `weight` in number, that were right, in [0, 1]; raises `InputError` for none."""
    if not weight > 0 or not 0 <= correct <= weight:
        raise InputError(f"token_accuracy needs 0 <= correct <= weight and weight > 0, got {correct} and {weight}")
    return float(correct / weight)


metrics: Named[Callable[[Sequence[str], Sequence[str]], float]] = Named("metric", {"exact_match": exact_match})
"""Metrics of decoded text by name: each takes predictions and targets."""
