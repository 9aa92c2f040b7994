"""Metrics against independent implementations of their definitions, on random and on real texts."""

import re
import string
import unicodedata
from itertools import pairwise

import numpy as np
import pytest

from raysynth.downstream.chemistry import canonical_smiles
from raysynth.downstream.cnn_dailymail import CNNDailyMail
from raysynth.downstream.metrics import METRICS, exact_match, metrics, same_text, squad_normalized, token_accuracy
from raysynth.downstream.mtop import MTOP
from raysynth.downstream.retrosynthesis import USPTO50K
from raysynth.downstream.squad import SQuAD
from raysynth.errors import InputError


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
        (["a", "b"], [["x", "a"], ("c",)], 0.5),
    ],
)
def test_exact_match(predictions, targets, value):
    assert exact_match(predictions, targets) == value


@pytest.mark.parametrize("name", metrics)
@pytest.mark.parametrize(("predictions", "targets"), [([], []), (["a"], []), ([], ["a"]), (["a", "b"], ["a"])])
def test_a_metric_needs_a_prediction_for_each_target(name, predictions, targets):
    with pytest.raises(InputError, match=f"^{name} needs .* got {len(predictions)} for {len(targets)} targets$"):
        metrics[name](predictions, targets)


@pytest.mark.parametrize("name", metrics)
def test_a_metric_needs_a_right_answer(name):
    with pytest.raises(InputError, match=f"^{name} needs at least one right answer for each prediction$"):
        metrics[name](["a", "b"], [["a"], []])


def test_token_accuracy():
    assert token_accuracy(3, 4) == 0.75
    assert token_accuracy(0, 4) == 0
    assert token_accuracy(4, 4) == 1


@pytest.mark.parametrize(("correct", "weight"), [(0, 0), (5, 4), (-1, 4), (float("nan"), 4), (1, float("nan"))])
def test_token_accuracy_of_nothing_is_one_line(correct, weight):
    with pytest.raises(InputError, match=r"^token_accuracy needs"):
        token_accuracy(correct, weight)


def test_the_metrics_that_a_task_may_name():
    headings = {
        "exact_match": "EM",
        "token_f1": "F1",
        "squad_exact_match": "EM",
        "squad_f1": "F1",
        "rouge1": "ROUGE-1",
        "canonical_smiles_match": "EM",
    }
    assert {name: metric.heading for name, metric in metrics.items()} == headings
    assert list(METRICS) == ["token_accuracy", *headings]
    assert all(metric.name == name for name, metric in metrics.items())
    with pytest.raises(InputError, match="unknown metric 'bleu'; allowed: canonical_smiles_match, exact_match, "):
        metrics["bleu"]


# ------------------------------------------------------------------------------------------ independent implementations


def slow_normalized(text):
    """SQuAD's normalization, letter by letter."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    pieces, word = [], ""
    for letter in [*kept, " "]:  # articles stand alone between characters that are neither letter, digit nor underscore
        if letter.isalnum() or letter == "_" or unicodedata.category(letter) in ("Lo", "Nl", "No"):
            word += letter
        else:
            pieces += [" " if word in ("a", "an", "the") else word, letter]
            word = ""
    return " ".join("".join(pieces).split())


def slow_f1(predicted, expected):
    """The harmonic mean of precision and recall, with words matched one by one."""
    left, matched = list(expected), 0
    for word in predicted:
        if word in left:
            left.remove(word)
            matched += 1
    if not matched:
        return 0.0
    precision, recall = matched / len(predicted), matched / len(expected)
    return 2 * precision * recall / (precision + recall)


def slow_rouge1(prediction, target):
    words = [re.findall("[a-z0-9]+", text.lower()) for text in (prediction, target)]
    return slow_f1(*words)


SLOW = {
    "exact_match": lambda prediction, target: float(prediction.strip() == target.strip()),
    "token_f1": lambda prediction, target: slow_f1(prediction.split(), target.split()),
    "squad_exact_match": lambda prediction, target: float(slow_normalized(prediction) == slow_normalized(target)),
    "squad_f1": lambda prediction, target: slow_f1(
        slow_normalized(prediction).split(), slow_normalized(target).split()
    ),
    "rouge1": slow_rouge1,
}


def corrupted(rng, text, others):
    """A plausible prediction: the text with words dropped, repeated, reordered or taken from other texts."""
    words = text.split()
    match rng.integers(6):
        case 0:
            return text
        case 1:
            words = [word for word in words if rng.random() < 0.7]
        case 2:
            words = list(rng.permutation(words))
        case 3:
            words = words + words[: len(words) // 2]
        case 4:
            words = words[: len(words) // 2] + others[rng.integers(len(others))].split()
        case 5:
            return text.title().replace(" ", "  ") + rng.choice(["", ".", " the", "\n"])
    return " ".join(words)


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("task", ["squad", "mtop", "cnndm"])
def test_a_metric_is_its_definition_on_real_texts(name, task, shared):
    reader, split = {"squad": (SQuAD(), "train"), "mtop": (MTOP(), "test"), "cnndm": (CNNDailyMail(), "train")}[task]
    targets = [pair.target for pair in reader.read(str(shared / "data" / task))[split]][:1_000]
    rng = np.random.default_rng(0)
    several = [
        [target, *(targets[row] for row in rng.integers(len(targets), size=rng.integers(3)))] for target in targets
    ]
    predictions = [corrupted(rng, target, targets) for target in targets]
    slow = [
        max(SLOW[name](prediction, answer) for answer in answers)
        for prediction, answers in zip(predictions, several, strict=True)
    ]
    np.testing.assert_allclose(metrics[name].scores(predictions, several), slow, rtol=0, atol=1e-12)
    assert metrics[name](predictions, several) == pytest.approx(np.mean(slow), abs=1e-12)
    assert 0.1 < metrics[name](predictions, several) < 0.99


@pytest.mark.parametrize("name", SLOW)
def test_a_metric_is_its_definition_on_noise(name):
    rng = np.random.default_rng(1)
    letters = list("aAthe  \t\n.,'-_!$é中½ß[]()01 an the the ")
    texts = ["".join(rng.choice(letters, size=rng.integers(0, 14))) for _ in range(4_000)]
    for first, second in zip(texts[::2], texts[1::2], strict=True):
        for pair in ((first, second), (first, first)):
            assert metrics[name].score(*pair) == pytest.approx(SLOW[name](*pair), abs=1e-12), pair


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Denver Broncos!", "denver broncos"),
        ("a an the", ""),
        ("An apple a day", "apple day"),
        ("theatre", "theatre"),
        ("U.S.A.", "usa"),
        ("rock-and-roll", "rockandroll"),
        ("the-a", "thea"),
        ("“the end”", "“ end”"),
    ],
)
def test_squads_normalization(text, normal):
    assert squad_normalized(text) == normal


@pytest.mark.parametrize("name", ["token_f1", "squad_f1", "rouge1"])
def test_two_empty_texts_share_no_word(name):
    assert metrics[name]([""], [""]) == 0


def test_rouge_takes_no_stems_and_no_punctuation():
    rouge = metrics["rouge1"]
    assert rouge(["The dogs ran ."], ["the dog ran"]) == pytest.approx(2 / 3)
    assert rouge(["it's 3.5"], ["its 35"]) == 0
    assert rouge(["A-B"], ["b , a !"]) == 1


def test_rouge_is_what_t5_aggregates(shared):
    scoring, scorer = pytest.importorskip("rouge_score.scoring"), pytest.importorskip("rouge_score.rouge_scorer")
    targets = [pair.target for pair in CNNDailyMail().read(str(shared / "data/cnndm"))["train"]]
    predictions = targets[1:] + targets[:1]
    theirs, aggregator = scorer.RougeScorer(["rouge1", "rouge2", "rougeLsum"]), scoring.BootstrapAggregator()
    np.random.seed(0)  # the library draws from it
    for prediction, target in zip(predictions, targets, strict=True):
        prepared = [text.replace(" . ", " .\n") for text in (target, prediction)]
        aggregator.add_scores(theirs.score(*prepared))
    interval = aggregator.aggregate()["rouge1"]
    ours = metrics["rouge1"](predictions, targets)
    assert interval.low.fmeasure < ours < interval.high.fmeasure
    assert interval.mid.fmeasure == pytest.approx(ours, abs=1e-3)


# ------------------------------------------------------------------------------------------------------------ molecules


def test_molecules_are_compared_not_strings(shared):
    chemistry = pytest.importorskip("rdkit.Chem", reason="the extra `chemistry` is not installed")
    reactants = [pair.target for pair in USPTO50K().read(str(shared / "data/uspto50k"))["test"][:60]]
    rng = np.random.default_rng(0)
    for text in reactants:
        molecules = [chemistry.MolFromSmiles(part) for part in text.split(".")]
        rewritten = ".".join(chemistry.MolToSmiles(molecule, doRandom=True) for molecule in rng.permutation(molecules))
        assert metrics["canonical_smiles_match"].score(rewritten, text) == 1
        assert metrics["exact_match"].score(rewritten, text) == (rewritten == text)
    score = metrics["canonical_smiles_match"].score
    assert not any(score(first, second) for first, second in pairwise(reactants) if first != second)
    assert not score("C1CC", "CCC")
    assert score("C1CC", "C1CC")  # equal strings, although not a molecule
    assert not score("", "C")
    assert canonical_smiles("[CH3:2][CH2:1][OH:3]") == "CCO"


def test_texts_are_the_same_apart_from_white_space_at_their_ends():
    assert same_text("a\n", " a")
    assert not same_text("a", "b")
