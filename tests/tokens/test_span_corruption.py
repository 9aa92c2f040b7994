"""Span corruption compared with the paper's T5 code, plain Python and exact probabilities."""

import json
import math
from collections import Counter
from itertools import combinations, groupby
from pathlib import Path

import numpy as np
import pytest

from raysynth.errors import InputError
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.span_corruption import SpanCorruption, corrupted

GOLDEN = Path(__file__).parents[1] / "golden" / "tasks"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"{GOLDEN} holds the paper's masks and is absent")
T5 = SpanCorruption()


def rows_of(lengths):
    return Ragged.packed(np.arange(sum(lengths)) % 30_000 + 2, np.array(lengths))


def plain(tokens, noise, first_sentinel=32_099):
    """Replace each run of noise by the next sentinel, in plain Python."""
    corrupted_tokens, sentinel = [], first_sentinel
    for hidden, run in groupby(zip(tokens, noise, strict=True), key=lambda pair: pair[1]):
        if hidden:
            corrupted_tokens.append(sentinel)
            sentinel -= 1
        else:
            corrupted_tokens.extend(token for token, _ in run)
    return corrupted_tokens


def run_lengths(noise):
    return [len(list(run)) for hidden, run in groupby(noise) if hidden]


@needs_golden
def test_masks_of_the_papers_code_give_its_inputs_and_targets():
    with np.load(GOLDEN / "span_corruption.npz") as arrays:
        cases = len({key.split("/")[0] for key in arrays})
        assert cases == 10
        for case in range(cases):
            rows = Ragged.of([arrays[f"{case}/tokens"]])
            inputs, targets = corrupted(rows, arrays[f"{case}/noise_mask"].astype(bool), 32_099)
            np.testing.assert_array_equal(inputs[0], arrays[f"{case}/inputs_without_eos"])
            np.testing.assert_array_equal(targets[0], arrays[f"{case}/targets_without_eos"])


@needs_golden
def test_lengths_are_those_of_the_papers_code():
    facts = json.loads((GOLDEN / "span_corruption.json").read_text())
    for input_length, (segment, target) in facts["inputs_length_to_tokens_and_targets_length"].items():
        objective = SpanCorruption(input_length=int(input_length))
        assert (objective.segment_length, objective.target_length) == (segment, target)
    for case in facts["cases"]:
        assert T5.spans(case["length"]) == (case["noise_tokens"], case["spans"])


@needs_golden
def test_span_lengths_are_distributed_as_in_the_papers_code():
    theirs = json.loads((GOLDEN / "span_corruption.json").read_text())["noise_span_length_distribution_len568"]
    rows = rows_of([568] * 2_000)
    noise = T5.draw_noise(np.random.default_rng(1), rows).reshape(2_000, 568)
    ours = np.bincount([length for mask in noise for length in run_lengths(mask)], minlength=len(theirs["histogram"]))
    theirs = np.pad(np.array(theirs["histogram"]), (0, len(ours) - len(theirs["histogram"])))
    assert ours.sum() == theirs.sum() == 2_000 * 28
    common = (ours + theirs) > 40
    ours = np.append(ours[common], ours[~common].sum())
    theirs = np.append(theirs[common], theirs[~common].sum())
    statistic = ((ours - theirs) ** 2 / (ours + theirs)).sum()
    assert statistic < len(ours) - 1 + 4 * math.sqrt(2 * (len(ours) - 1))


def test_the_sentence_of_the_appendix():
    sentence = list("[({[]}[])]{[]}")
    noise = np.isin(np.arange(14), [1, 2, 6, 9, 13])
    ids = {mark: place + 2 for place, mark in enumerate("[](){}")}
    names = {id: mark for mark, id in ids.items()} | {32_099 - place: f"<s{place}>" for place in range(5)}
    inputs, targets = corrupted(Ragged.of([[ids[mark] for mark in sentence]]), noise, 32_099)
    assert " ".join(names[int(id)] for id in inputs[0]) == "[ <s0> [ ] } <s1> ] ) <s2> { [ ] <s3>"
    assert " ".join(names[int(id)] for id in targets[0]) == "<s0> ( { <s1> [ <s2> ] <s3> }"


def test_rows_are_corrupted_one_by_one():
    rng = np.random.default_rng(2)
    lengths = rng.integers(1, 60, 300)
    rows = rows_of(lengths)
    noise = rng.random(len(rows.values)) < 0.3
    inputs, targets = corrupted(rows, noise, 40_000)
    for row in range(300):
        mask = noise[rows.offsets[row] : rows.offsets[row + 1]]
        assert inputs[row].tolist() == plain(rows[row].tolist(), mask, 40_000)
        assert targets[row].tolist() == plain(rows[row].tolist(), ~mask, 40_000)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 20, 100, 567, 568])
def test_masks_have_the_promised_numbers_of_tokens_and_spans(length):
    tokens, spans = T5.spans(length)
    noise = T5.draw_noise(np.random.default_rng(3), rows_of([length] * 200)).reshape(200, length)
    for mask in noise:
        assert mask.sum() == tokens
        assert len(run_lengths(mask)) == spans
        assert not mask[0]
        assert mask[-1] == (length > 1)


def test_every_mask_is_as_likely_as_any_other():
    # 13 tokens, 6 of them noise in 3 spans: 10 ways to split 6 into 3 times 15 ways to split 7 into 3.
    objective = SpanCorruption(noise_density=0.45, mean_span=2.0, input_length=32)
    assert objective.spans(13) == (6, 3)
    draws = 30_000
    noise = objective.draw_noise(np.random.default_rng(4), rows_of([13] * draws)).reshape(draws, 13)
    counts = Counter(mask.tobytes() for mask in noise)
    ways = len(list(combinations(range(5), 2))) * len(list(combinations(range(6), 2)))
    assert len(counts) == ways == 150
    statistic = sum((count - draws / ways) ** 2 / (draws / ways) for count in counts.values())
    assert abs(statistic - 149) < 4 * math.sqrt(2 * 149)


def test_inputs_and_targets_have_t5_lengths():
    inputs, targets = T5.corrupt(np.random.default_rng(5), rows_of([568] * 20))
    assert set(inputs.lengths.tolist()) == {511}
    assert set(targets.lengths.tolist()) == {113}
    assert (T5.segment_length, T5.target_length, T5.last_sentinel) == (568, 114, 32_072)
    assert set(targets.values[targets.values >= 32_000].tolist()) == set(range(32_072, 32_100))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"noise_density": 0}, "SpanCorruption.noise_density must be a positive number, got 0"),
        ({"noise_density": 0.7}, "SpanCorruption: noise_density must be at most 0.5 and mean_span at least 1"),
        ({"input_length": 2}, "SpanCorruption.input_length must be an integer of at least 3, got 2"),
        ({"first_sentinel": 20}, "SpanCorruption.first_sentinel must leave room for 28 sentinels"),
    ],
)
def test_a_wrong_field_is_one_line(fields, message):
    with pytest.raises(InputError) as error:
        SpanCorruption(**fields)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
