"""Random RNN: sequences that random linear recurrent networks write, under T5's span corruption.

arXiv 2605.10129 trains language models on such data before natural text. The rule and the numbers are those of public
code (guox18/formal-language-prepretraining at 3097f35), which trains decoders on whole sequences; for T5 a sequence is
cut into segments whose spans are restored, as Dyck's are.

Networks compute with whole numbers, so bits depend neither on the order of a sum nor on the processor. All numbers have
fixed units: entries of A and of the state 1 / 512 of the standard deviation of A, those of C 1 / 512 of theirs, and
those of W 1 / 8192. Next tokens are drawn by rejection, which needs comparisons in place of the softmax: a uniform
token v is taken with probability exp(logit of v - bound), where the bound is |C's longest row| |h|.
"""

import dataclasses
import math
from functools import cache
from statistics import NormalDist
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from raysynth.errors import InputError
from raysynth.fields import positive, spec, whole
from raysynth.synthetic.span_task import SpanTask
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Ids, Ragged

Shorts = npt.NDArray[np.int16]

_UNIT = 512
"""Units of a standard deviation."""
_NUM_NORMALS = 1 << 13
_W_BITS = 13
_LARGEST_STATE = 16_383
"""States are cut off at 32 standard deviations of A's entries (their own one is 2.3), so that sums fit into 32 bits."""
_NUM_SQUARINGS = 15
_MAX_SQUARED_LENGTH = 20.0
"""Of a mean state: with longer ones logits are large, and hardly any drawn token is taken."""


@spec
class RandomRNN(SpanTask):
    """Restore the spans removed from what a random linear recurrent network writes.

    The state h, [hidden_size], is zero at first. At each step h becomes A[:, last token] + W h, and the next token is
    drawn from softmax(C h); the first "last token" is uniform and not written. Entries of A are normal with variance
    1 / size of the pool, those of C with variance 1 / hidden_size. Those of W are normal too, and W is then scaled to
    `spectral_radius`. Normal numbers are the midpoints of 8,192 intervals of equal probability.

    A network writes `sequences_per_network` sequences; then the next one is drawn, so 400,000 examples come from 1,000
    networks. Each shard of a data set begins with a new one. A sequence is cut into segments of 568 tokens, the last
    one of 344; each is one example, with an input of up to 512 tokens and a target of up to 114, end of sequence
    included. The larger the pool, the closer all tokens are to equally likely: A's entries shrink with it.
    """

    name: ClassVar[str] = "random_rnn"

    hidden_size: int = 64
    spectral_radius: float = 0.9
    sequences_per_network: int = 100
    sequence_length: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        # A smaller W may have a radius of 0, or so small a one that the scaled W does not fit into 16 bits.
        whole(self, "hidden_size", minimum=8, maximum=256)
        positive(self, "spectral_radius")
        whole(self, "sequences_per_network")
        whole(self, "sequence_length", minimum=2, maximum=100_000)
        if self.spectral_radius > 0.95:
            raise InputError(f"RandomRNN.spectral_radius must be at most 0.95, got {self.spectral_radius}")
        least = math.ceil(self.hidden_size / (1 - self.spectral_radius**2) / _MAX_SQUARED_LENGTH)
        if self.tokens.size < least:
            raise InputError(
                f"RandomRNN.tokens must have a pool of at least {least} ids for hidden_size {self.hidden_size} and "
                f"spectral_radius {self.spectral_radius}, got {self.tokens.size}"
            )

    def tiny(self) -> "RandomRNN":
        """Networks with 8 numbers of state, and 10 sequences of 60 tokens each in segments of 26."""
        objective = dataclasses.replace(self.objective, input_length=24)
        return dataclasses.replace(
            self, hidden_size=8, sequences_per_network=10, sequence_length=60, objective=objective
        )

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """`count` segments of one sequence after another, before corruption."""
        rows = self._segments(self.sequence_length, count)
        _draw_sequences(
            rng,
            _normals(),
            float(self.spectral_radius),
            self.hidden_size,
            self.sequences_per_network,
            self.sequence_length,
            self.tokens.first,
            self.tokens.size,
            rows.values,
        )
        return rows


@cache
def _normals() -> Shorts:
    """Normal numbers of equal probability, [8192], in units of 1 / 512 of their standard deviation."""
    quantile = NormalDist().inv_cdf
    upper = [round(_UNIT * quantile((2 * i + 1) / (2 * _NUM_NORMALS))) for i in range(_NUM_NORMALS // 2, _NUM_NORMALS)]
    return np.array([-value for value in reversed(upper)] + upper, np.int16)


@compiled
def _fill_normal(rng: np.random.Generator, normals: Shorts, out: Shorts) -> None:
    """Fill a flat array with normal numbers, four from each drawn number."""
    for start in range(0, len(out), 4):
        bits = int(rng.random() * 4_503_599_627_370_496.0)  # 52 bits, 13 for each
        for place in range(start, min(start + 4, len(out))):
            out[place] = normals[bits & (_NUM_NORMALS - 1)]
            bits >>= 13


@compiled
def _spectral_radius(matrix: Shorts, size: int) -> float:
    """The spectral radius of a flat matrix, [size x size]: the limit of |W^n|^(1 / n), here for n = 2^15.

    Entries of the powers are whole numbers below 2^20, with a common exponent. The roots at the end are square roots,
    which every processor rounds alike.
    """
    power = matrix.astype(np.int64).reshape(size, size)
    square = np.zeros((size, size), np.int64)
    exponent = 0
    for _ in range(_NUM_SQUARINGS):
        square[:] = 0
        for i in range(size):
            for k in range(size):
                for j in range(size):
                    square[i, j] += power[i, k] * power[k, j]
        exponent *= 2
        while np.abs(square).max() >= 1 << 20:
            square >>= 1
            exponent += 1
        power[:] = square
    norm = math.sqrt(float((power * power).sum()))
    for _ in range(_NUM_SQUARINGS):
        if exponent % 2:
            norm *= 2
            exponent -= 1
        norm = math.sqrt(norm)
        exponent //= 2
    return norm * 2.0**exponent


@compiled
def _happens(rng: np.random.Generator, x: float) -> bool:
    """True with probability exp(-x), from comparisons of uniform numbers alone (von Neumann 1951)."""
    while True:
        last = min(x, 1.0)
        num_falling = 0
        while True:
            drawn = rng.random()
            if drawn >= last:
                break
            last = drawn
            num_falling += 1
        if num_falling % 2:
            return False
        x -= 1.0
        if x <= 0.0:
            return True


@compiled
def _dot(left: Shorts, right: Shorts) -> int:
    total = np.int32(0)
    for i in range(len(left)):
        total = np.int32(total + np.int32(left[i]) * np.int32(right[i]))
    return int(total)


@compiled
def _draw_sequences(
    rng: np.random.Generator,
    normals: Shorts,
    spectral_radius: float,
    hidden_size: int,
    sequences_per_network: int,
    sequence_length: int,
    first: int,
    num_tokens: int,
    values: Ids,
) -> None:
    """Fill `values`, [total] ids, with sequences of that length; the last may be cut off."""
    w = np.empty(hidden_size * hidden_size, np.int16)
    a = np.empty(num_tokens * hidden_size, np.int16)
    c = np.empty(num_tokens * hidden_size, np.int16)
    w_rows = w.reshape(hidden_size, hidden_size)
    a_rows, c_rows = a.reshape(num_tokens, hidden_size), c.reshape(num_tokens, hidden_size)
    state, new_state = np.zeros(hidden_size, np.int16), np.zeros(hidden_size, np.int16)
    longest = 0
    logit_unit = _UNIT * _UNIT * math.sqrt(float(hidden_size)) * math.sqrt(float(num_tokens))
    token = 0
    for i in range(len(values)):
        if i % (sequences_per_network * sequence_length) == 0:
            _fill_normal(rng, normals, w)
            scale = (1 << _W_BITS) * spectral_radius / _spectral_radius(w, hidden_size)
            for j in range(len(w)):
                w[j] = int(np.rint(w[j] * scale))
            _fill_normal(rng, normals, a)
            _fill_normal(rng, normals, c)
            longest = 0
            for row in range(num_tokens):
                longest = max(longest, _dot(c_rows[row], c_rows[row]))
        if i % sequence_length == 0:
            state[:] = 0
            token = int(rng.random() * num_tokens)
        for j in range(hidden_size):
            total = a_rows[token, j] + ((_dot(w_rows[j], state) + (1 << (_W_BITS - 1))) >> _W_BITS)
            new_state[j] = min(max(total, -_LARGEST_STATE), _LARGEST_STATE)
        state, new_state = new_state, state
        squares = 0
        for j in range(hidden_size):
            squares += int(state[j]) * int(state[j])
        bound = math.sqrt(float(longest) * float(squares))
        token = int(rng.random() * num_tokens)
        while not _happens(rng, (bound - float(_dot(c_rows[token], state))) / logit_unit):
            token = int(rng.random() * num_tokens)
        values[i] = first + token
