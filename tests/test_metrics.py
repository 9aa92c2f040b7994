"""Metrics: shares in [0, 1], and one line for what has no share."""

import pytest

from raysynth.errors import InputError
from raysynth.metrics import exact_match, metrics, token_accuracy
from raysynth.specs import METRICS


@pytest.mark.parametrize(
    ("predictions", "targets", "value"),
    [
        (["a"], ["a"], 1.0),
        (["a"], ["b"], 0.0),
        (["a", "b", "c", "d"], ["a", "x", "c", ""], 0.5),
        ([" a\n"], ["a "], 1.0),
        (["a  b"], ["a b"], 0.0),
        (["A"], ["a"], 0.0),
        ([""], [""], 1.0),
    ],
)
def test_exact_match(predictions, targets, value):
    assert exact_match(predictions, targets) == value


@pytest.mark.parametrize(("predictions", "targets"), [([], []), (["a"], []), ([], ["a"]), (["a", "b"], ["a"])])
def test_exact_match_needs_a_prediction_for_each_target(predictions, targets):
    with pytest.raises(InputError, match=f"got {len(predictions)} for {len(targets)} targets$"):
        exact_match(predictions, targets)


def test_token_accuracy():
    assert token_accuracy(3, 4) == 0.75
    assert token_accuracy(0, 4) == 0
    assert token_accuracy(4, 4) == 1


@pytest.mark.parametrize(("correct", "weight"), [(0, 0), (5, 4), (-1, 4), (float("nan"), 4), (1, float("nan"))])
def test_token_accuracy_of_nothing_is_one_line(correct, weight):
    with pytest.raises(InputError, match=r"^token_accuracy needs"):
        token_accuracy(correct, weight)


def test_every_metric_that_a_task_may_name_is_here():
    assert set(metrics) | {"token_accuracy"} == set(METRICS)
    with pytest.raises(InputError, match="unknown metric 'bleu'; allowed: exact_match"):
        metrics["bleu"]
