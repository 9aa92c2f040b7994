"""Stack compared with a plain solver, and the shares of its operations."""

import math
from collections import Counter

import numpy as np
import pytest

from raysynth.data.show import of_task
from raysynth.errors import InputError
from raysynth.synthetic.stack import Stack
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import T5_TOKENS, token_space

POP = 32_097


def solved(ids, pop=POP):
    stack = []
    for id in ids:
        if id == pop:
            stack.pop()
        else:
            stack.append(id)
    return stack[::-1]


@pytest.mark.parametrize(
    "task",
    [
        Stack(),
        Stack(tokens=T5_TOKENS, min_length=10, max_length=220),
        Stack(tokens=token_space(num_pieces=14), min_length=1, max_length=12, push_share=0.5),
    ],
    ids=["default", "paper", "small"],
)
def test_targets_are_those_of_the_plain_solver(task):
    sources, targets = task.draw(np.random.default_rng(1), 500)
    assert (sources.lengths.min(), sources.lengths.max()) == (task.min_length, task.max_length)
    pop = task.tokens.separator
    assert [row.tolist() for row in targets] == [solved(row.tolist(), pop) for row in sources]
    assert targets.lengths.min() >= 1
    drawn = sources.values[sources.values != pop]
    assert task.tokens.first <= drawn.min() <= drawn.max() <= task.tokens.last


def test_operations_follow_the_rule():
    early, late, pushed = [], [], Counter()
    for ids in Stack().sample(np.random.default_rng(2), 3_000):
        stack = []
        for i, id in enumerate(ids.tolist()):
            if len(stack) > 1 and i < 63:
                (early if i < 42 else late).append(id != POP)
            elif len(stack) <= 1:
                assert id != POP
            else:
                assert id == POP
            if id == POP:
                stack.pop()
            else:
                assert id not in stack
                stack.append(id)
                pushed[id] += 1
    for seen, expected in ((early, 0.75), (late, 0.25)):
        assert abs(np.mean(seen) - expected) < 4 * math.sqrt(0.1875 / len(seen))
    expected = pushed.total() / 99
    assert set(pushed) == set(range(2, 101))
    # Tokens that are on the stack are left out, which only makes the counts more equal.
    assert sum((count - expected) ** 2 / expected for count in pushed.values()) < 98 + 4 * math.sqrt(2 * 98)


def test_inputs_of_ones_own_are_solved_or_one_line():
    assert Stack().solve([5, 6, POP, 7, 8]).tolist() == [8, 7, 5]
    assert Stack().solve([5, POP]).tolist() == [32_096]
    with pytest.raises(InputError, match=r"^Stack: input 1 must not pop an empty stack$"):
        Stack().solve(Ragged.of([[5], [5, POP, POP]]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"push_share": -1}, "Stack.push_share must lie between 0 and 1, got -1"),
        ({"max_length": 100}, "Stack.max_length (100) needs a pool of 100 distinct tokens, but tokens has 99"),
    ],
)
def test_a_wrong_field_is_one_line(fields, message):
    with pytest.raises(InputError) as error:
        Stack(**fields)
    assert str(error.value) == message


def test_examples_can_be_shown():
    source, target = of_task(Stack(), num_examples=1, seed=0).splitlines()
    assert source.startswith("Source (64 tokens): a b ")
    assert source.endswith(" pop")
    assert target.startswith("Target (")
