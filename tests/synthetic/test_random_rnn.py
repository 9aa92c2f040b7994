"""Random RNN: the documented networks, and tokens with the probabilities of a plain softmax."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from raysynth.data.show import of_task
from raysynth.errors import InputError
from raysynth.synthetic.random_rnn import RandomRNN
from raysynth.tokens.span_corruption import SpanCorruption
from raysynth.tokens.token_space import token_space
from tests.synthetic.test_dyck import restored

HIDDEN, SIZE = 16, 20
TASK = RandomRNN(
    tokens=token_space(num_pieces=SIZE + 2),
    objective=SpanCorruption(first_sentinel=SIZE + 101),
    hidden_size=HIDDEN,
    sequences_per_network=40,
    sequence_length=500,
)


def plain_network(rng, hidden, size):
    """W, A and C as real numbers: W, then A and C token by token, four numbers from each draw."""

    def normal(*shape):
        numbers = []
        while len(numbers) < math.prod(shape):
            bits = int(rng.random() * 2**52)
            for _ in range(4):
                numbers.append(NormalDist().inv_cdf(((bits & 8191) + 0.5) / 8192))
                bits >>= 13
        return np.array(numbers[: math.prod(shape)]).reshape(shape)

    w, a, c = normal(hidden, hidden), normal(size, hidden), normal(size, hidden)
    w *= 0.9 / np.abs(np.linalg.eigvals(w)).max()
    return w, a / math.sqrt(size), c / math.sqrt(hidden)


def probabilities(network, first_token, tokens):
    """The distribution of each next token, [length, size], in floating point with a softmax."""
    w, a, c = network
    state, last, rows = np.zeros(len(w)), first_token, []
    for token in tokens:
        state = a[last] + w @ state
        weights = np.exp(c @ state)
        rows.append(weights / weights.sum())
        last = token
    return np.array(rows)


@pytest.mark.parametrize("seed", [1, 2])
def test_tokens_have_the_probabilities_of_the_documented_network(seed):
    network = plain_network(np.random.default_rng(seed), HIDDEN, SIZE)
    sequences = [row.astype(int) - 2 for row in TASK.sample(np.random.default_rng(seed), 40)]
    # The first "last token" is not written; after some steps the state has forgotten it.
    surprise, variance, drawn, expected = 0.0, 0.0, np.zeros(SIZE), np.zeros(SIZE)
    predicted = observed = spread = 0.0
    for tokens in sequences:
        rows = probabilities(network, 0, tokens)[100:]
        logs, tokens = np.log(rows), tokens[100:]
        entropy = -(rows * logs).sum(1)
        surprise += (-logs[np.arange(len(tokens)), tokens] - entropy).sum()
        variance += ((rows * logs**2).sum(1) - entropy**2).sum()
        drawn += np.bincount(tokens, minlength=SIZE)
        expected += rows.sum(0)
        # The likeliest token comes as often as its probability says.
        best = rows.argmax(1)
        predicted += rows.max(1).sum()
        spread += (rows.max(1) * (1 - rows.max(1))).sum()
        observed += (tokens == best).sum()
    total = drawn.sum()
    assert abs(surprise) < 4 * math.sqrt(variance)
    assert abs(observed - predicted) < 4 * math.sqrt(spread)
    assert predicted > 1.5 * total / SIZE
    assert ((drawn - expected) ** 2 / expected).sum() < SIZE - 1 + 4 * math.sqrt(2 * (SIZE - 1))


def test_a_network_writes_its_number_of_sequences():
    first, second = TASK.sample(np.random.default_rng(1), 80).values.astype(int).reshape(2, 40 * 500)

    def pairs(tokens):
        return np.bincount(SIZE * (tokens[:-1] - 2) + tokens[1:] - 2, minlength=SIZE**2)

    def distance(one, other):
        return ((one - other) ** 2 / np.maximum(one + other, 1)).sum()

    assert distance(*map(pairs, first.reshape(2, -1))) < SIZE**2 + 5 * math.sqrt(2 * SIZE**2)
    assert distance(pairs(first), pairs(second)) > 2 * SIZE**2


def test_segments_and_examples():
    task = RandomRNN(tokens=token_space(num_pieces=412), objective=SpanCorruption(first_sentinel=511))
    rows = task.sample(np.random.default_rng(4), 5)
    assert rows.lengths.tolist() == [568, 568, 568, 344, 568]
    assert (rows.values.min(), rows.values.max()) == (2, 411)
    sources, targets = task.draw(np.random.default_rng(4), 5)
    assert (sources.lengths.max() + 1, targets.lengths.max() + 1) == (512, 114)
    moved = [[id + 31_588 if id > 411 else id for id in row.tolist()] for row in (sources[0], targets[0])]
    assert restored(*moved) == rows[0].tolist()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"spectral_radius": 1.0}, "RandomRNN.spectral_radius must be at most 0.95, got 1.0"),
        ({"hidden_size": 7}, "RandomRNN.hidden_size must be an integer of at least 8, got 7"),
        ({"hidden_size": 257}, "RandomRNN.hidden_size must be an integer of at most 256, got 257"),
        (
            {"tokens": token_space(num_pieces=12)},
            "RandomRNN.tokens must have a pool of at least 17 ids for hidden_size 64 and spectral_radius 0.9, got 10",
        ),
    ],
)
def test_a_wrong_field_is_one_line(fields, message):
    with pytest.raises(InputError) as error:
        RandomRNN(**fields)
    assert str(error.value) == message


def test_examples_can_be_shown():
    lines = of_task(RandomRNN().tiny(), num_examples=1, seed=0).splitlines()
    assert lines[0].startswith("Source (23 tokens): 1 2 ")
    assert "<s0>" in lines[1]
