"""LIME compared with a brute-force solver, the appendix's examples and ranges, and the paper's code."""

import json
import math
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from raysynth.data.show import of_task
from raysynth.errors import InputError
from raysynth.synthetic.lime import LIME, Mode
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import token_space

GOLDEN = Path(__file__).parents[1] / "golden" / "tasks"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"{GOLDEN} holds the paper's pairs and is absent")

COLON, SEPARATOR, RULE, OPEN, LOWER, MATH, CLOSE = range(32_000, 32_007)
AS_CODE = LIME(max_target=100)
"""Keeps long results, like the paper's code."""
SMALL = LIME(
    tokens=token_space(num_pieces=20),
    first_mark=20,
    min_rule_symbols=1,
    max_rule_symbols=3,
    num_lower_symbols=3,
    num_math_symbols=2,
    min_rule_math=1,
    max_rule_math=4,
    min_substitute=1,
    max_substitute=3,
)
"""Few symbols, so that most examples have several correct targets."""


def draw(task, count, seed=0):
    return task.draw(np.random.default_rng(seed), count)


def split(ids, mark):
    cuts = [-1, *(place for place, id in enumerate(ids) if id == mark), len(ids)]
    return [ids[start + 1 : end] for start, end in pairwise(cuts)]


def read(source, first_mark=32_000):
    """Rule, lower and math symbols, and the two parts in the input."""
    listed, first, second = split(source, first_mark + 1)
    assert listed[0] == first_mark + 2
    rule, rest = split(listed[1:], first_mark + 4)
    return rule, *split(rest, first_mark + 5), first, second


def read_case(ids, first_mark=32_000):
    case = {}
    for part in split(ids, first_mark + 6)[:-1]:
        assert part[1:3] == [first_mark, first_mark + 3]
        case[part[0]] = tuple(part[3:])
    return case


def put(rule, case):
    return [id for symbol in rule for id in case.get(symbol, (symbol,))]


def mode_of(source, first_mark=32_000):
    rule, _, _, first, second = read(source, first_mark)
    if first_mark not in second:
        return Mode.ABDUCT
    return Mode.DEDUCT if set(first) & set(rule) else Mode.INDUCT


def is_correct(source, target, first_mark=32_000):
    """Whether the target is correct, checked without the module."""
    rule_symbols, lower, math, first, second = read(source, first_mark)
    mode = mode_of(source, first_mark)
    if mode is Mode.ABDUCT:
        rule, result, case = first, second, read_case(target, first_mark)
    elif mode is Mode.DEDUCT:
        rule, result, case = first, target, read_case(second, first_mark)
    else:
        rule, result, case = target, first, read_case(second, first_mark)
    symbols_are_right = set(rule_symbols) <= set(rule) <= {*rule_symbols, *math}
    case_is_right = list(case) == rule_symbols and {*put(rule_symbols, case)} <= {*lower, *math}
    return symbols_are_right and case_is_right and put(rule, case) == result


def answers(task, source):
    """Every correct target within the task's bounds, by brute force."""
    mark = task.first_mark
    rule_symbols, _, math, first, second = read(source, mark)
    mode = mode_of(source, mark)
    if mode is Mode.DEDUCT:
        return [put(first, read_case(second, mark))]
    if mode is Mode.ABDUCT:
        lengths = range(task.min_substitute, task.max_substitute + 1)
        cases = []
        for chosen in product(lengths, repeat=len(rule_symbols)):
            length_of, place, case = dict(zip(rule_symbols, chosen, strict=True)), 0, {}
            for symbol in first:
                end = place + length_of.get(symbol, 1)
                if symbol in length_of:
                    case.setdefault(symbol, second[place:end])
                place = end
            if put(first, case) == second:
                cases.append([id for s in rule_symbols for id in (s, mark, mark + 3, *case[s], mark + 6)])
        return cases
    case = read_case(second, mark)

    def rules(result):
        if not result:
            yield []
        for symbol in (*rule_symbols, *math):
            head = list(case.get(symbol, (symbol,)))
            if result[: len(head)] == head:
                yield from ([symbol, *rest] for rest in rules(result[len(head) :]))

    return [rule for rule in rules(first) if set(rule_symbols) <= set(rule)]


# -------------------------------------------------------------------------------- answers


def test_the_appendix_examples():
    a, b, c, d, e, times, plus, equals, A, B, C = range(10, 21)
    task = LIME(min_substitute=1)
    listed = [RULE, A, B, C, LOWER, a, b, c, d, e, MATH, times, plus, equals, SEPARATOR]
    rule = [A, times, A, plus, B, equals, C]
    case = [A, COLON, OPEN, a, CLOSE, B, COLON, OPEN, b, CLOSE, C, COLON, OPEN, d, plus, e, CLOSE]
    result = [a, times, a, plus, b, equals, d, plus, e]
    triples = [(result, case, rule), (rule, result, case), (rule, case, result)]
    sources = Ragged.of([*listed, *first, SEPARATOR, *second] for first, second, _ in triples)
    targets = Ragged.of(target for *_, target in triples)
    assert task.fits(sources, targets).all()
    solved = task.solve(sources)
    assert solved[0].tolist() == rule
    assert solved[2].tolist() == result
    assert task.fits(sources, solved).all()
    texts = [task.readable(source, target) for source, target in zip(sources, targets, strict=True)]
    assert texts[2][0].startswith(
        "<RuleSymbols> A B C <LowerSymbols> a b c d e <MathSymbols> * + = <s> A * A + B = C <s>"
    )
    assert texts[2][1] == "a * a + b = d + e"
    assert texts[1][1] == "A : [ a ] B : [ b ] C : [ d + e ]"


@pytest.mark.parametrize("task", [LIME(), SMALL, LIME().tiny()], ids=["default", "small", "tiny"])
def test_every_drawn_target_is_correct(task):
    sources, targets = draw(task, 2_000, 7)
    for source, target in zip(sources, targets, strict=True):
        assert is_correct(source.tolist(), target.tolist(), task.first_mark)
    assert task.fits(sources, targets).all()


@pytest.mark.parametrize(("task", "count"), [(LIME(), 60), (SMALL, 600)], ids=["default", "small"])
def test_answers_are_correct(task, count):
    sources, targets = draw(task, count, 11)
    num_ambiguous = 0
    for source, target, answer in zip(sources, targets, task.solve(sources), strict=True):
        correct = answers(task, source.tolist())
        assert target.tolist() in correct
        assert answer.tolist() in correct
        num_ambiguous += len(correct) > 1
    assert num_ambiguous > 50 if task is SMALL else num_ambiguous < 6


def test_few_examples_have_several_correct_targets():
    sources, targets = draw(LIME(), 3_000, 12)
    same = [a.tolist() == b.tolist() for a, b in zip(LIME().solve(sources), targets, strict=True)]
    assert np.mean(same) > 0.98


def test_wrong_targets_do_not_fit():
    sources, targets = draw(LIME(), 900, 13)
    wrong = Ragged(np.where(targets.position == 0, sources.values[0], targets.values), targets.offsets)
    assert not LIME().fits(sources, wrong).any()
    shorter = Ragged.of(target[:-1] for target in targets)
    assert not LIME().fits(sources, shorter).any()


# -------------------------------------------------------------------------------- draws


def test_lengths_are_the_appendix_ranges():
    # With end of sequence. The longest possible inputs have 214 tokens: five substitutes of eight symbols each.
    lengths = [rows.lengths + 1 for rows in draw(LIME(), 200_000, 5)]
    assert lengths[0].min() == 68
    assert 200 < lengths[0].max() <= 214
    assert (lengths[1].min(), lengths[1].max()) == (7, 74)
    longest = LIME(min_rule_symbols=5, min_rule_math=19, min_substitute=8, modes=("induct",), max_target=100)
    sources, _ = draw(longest, 200)
    assert sources.lengths.max() + 1 == 214
    assert draw(AS_CODE, 400_000)[1].lengths.max() + 1 > 97


def test_modes_have_equal_shares_and_work_alone():
    modes = [mode_of(source.tolist()) for source in draw(LIME(), 6_000)[0]]
    for mode in Mode:
        assert abs(modes.count(mode) - 2_000) < 4 * math.sqrt(6_000 * 2 / 9)
        assert {mode_of(row.tolist()) for row in draw(LIME(modes=(mode,)), 50)[0]} == {mode}


def test_symbols_are_distinct_and_uniform():
    sources, _ = draw(LIME(), 20_000, 3)
    counts = np.zeros(32, np.int64)
    for source in sources:
        rule, lower, math_symbols, _, _ = read(source.tolist())
        drawn = [*rule, *lower, *math_symbols]
        assert len(set(drawn)) == len(drawn)
        assert (len(lower), len(math_symbols)) == (24, 20)
        assert 2 <= min(drawn) <= max(drawn) <= 31_999
        np.add.at(counts, [id // 1000 for id in drawn], 1)
    expected = np.full(32, counts.sum() / 31_998 * 1000)
    expected[0] *= 998 / 1000
    assert ((counts - expected) ** 2 / expected).sum() < 62  # chi-square, 31 degrees of freedom, p 0.001


def test_a_seed_gives_the_same_rows():
    first, again = draw(LIME(), 40, 1), draw(LIME(), 40, 1)
    for a, b in zip(first, again, strict=True):
        assert (a.values.tolist(), a.offsets.tolist()) == (b.values.tolist(), b.offsets.tolist())
    assert first[0].values.tolist() != draw(LIME(), 40, 2)[0].values.tolist()
    assert LIME().sample(np.random.default_rng(1), 40).values.tolist() == first[0].values.tolist()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modes": ()}, "LIME.modes must name at least one mode"),
        ({"modes": ("inducd",)}, "unknown LIME mode 'inducd' (did you mean 'induct'?)"),
        ({"min_substitute": 9}, "LIME.min_substitute must not exceed max_substitute (8), got 9"),
        ({"tokens": token_space(num_pieces=40)}, "LIME needs 49 distinct tokens, but tokens has 38"),
        ({"first_mark": 31_999}, "LIME.first_mark must lie above the drawn ids (31999)"),
        ({"max_target": 10}, "LIME.max_target must be at least 19, got 10"),
    ],
)
def test_a_wrong_field_is_one_line(fields, message):
    with pytest.raises(InputError) as error:
        LIME(**fields)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_malformed_input_is_one_line():
    with pytest.raises(InputError, match=r"^LIME: input 1 must read <rule> ids"):
        LIME().solve(Ragged.of([draw(LIME(), 1)[0][0], [5, 6, 7]]))


def test_small_vocabularies_contain_every_id():
    sources, targets = draw(SMALL, 500)
    assert max(sources.values.max(), targets.values.max()) <= SMALL.largest_id == 26
    assert LIME().largest_id == 32_006


def test_examples_can_be_shown():
    lines = of_task(LIME(), num_examples=2, seed=0).splitlines()
    assert [line.split()[0] for line in lines if line] == ["Source", "Target"] * 2
    assert "<RuleSymbols> A" in lines[0]


# -------------------------------------------------------------------------------- the paper's code


def golden(arrays, mode):
    return [
        Ragged(*(arrays[f"lime_{mode}/{part}/{field}"] for field in ("values", "offsets")))
        for part in ("input", "output")
    ]


@pytest.mark.parametrize("mode", Mode)
def test_pairs_of_the_papers_code(golden_folder, mode):
    with np.load(golden_folder / "tasks/task_pairs.npz") as arrays:
        sources, targets = golden(arrays, mode)
    assert {mode_of(source.tolist()) for source in sources} == {mode}
    assert AS_CODE.fits(sources, targets).all()
    solved = AS_CODE.solve(sources)
    same = [a.tolist() == b.tolist() for a, b in zip(solved, targets, strict=True)]
    assert AS_CODE.fits(sources, solved).all()
    assert np.mean(same) >= {"induct": 0.98, "deduct": 1.0, "abduct": 0.94}[mode]


@needs_golden
@pytest.mark.parametrize("mode", Mode)
def test_draws_are_distributed_as_in_the_papers_code(mode):
    sources, targets = draw(LIME(modes=(mode,), max_target=100), 20_000, 21)
    rule = [len(read(source.tolist())[0]) for source in sources]
    fields = json.loads((GOLDEN / "task_stats.json").read_text())["tasks"][f"lime_{mode}"]["fields"]
    with np.load(GOLDEN / "task_histograms.npz") as histograms:
        for field, values in {
            "input_len": sources.lengths,
            "output_len": targets.lengths,
            "upper": np.array(rule),
        }.items():
            error = math.sqrt((fields[field]["std"] ** 2 + values.var()) / 20_000)
            assert abs(values.mean() - fields[field]["mean"]) <= 4 * error, field
            theirs = histograms[f"lime_{mode}/{field}"]
            ours = np.bincount(values, minlength=len(theirs))
            theirs = np.pad(theirs, (0, len(ours) - len(theirs)))
            assert np.abs(np.cumsum(ours / ours.sum()) - np.cumsum(theirs / theirs.sum())).max() < 0.02, field
