"""T5's span corruption: sentinels replace spans of a token sequence, and the target spells those spans out.

Raffel et al. 2020, section 3.1.4. The paper's code applied it to its artificial language and to Wikipedia text. The
example in Appendix E.2 names T5's objective but differs from it in two points: its target begins without a sentinel,
and it treats two neighbouring noise tokens as two spans. This module follows T5 in both.
"""

from functools import cache

import numpy as np

from raysynth.errors import InputError
from raysynth.fields import positive, share, spec, whole
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Bools, Ids, Ints, Ragged
from raysynth.tokens.token_space import LARGEST_ID


@spec
class SpanCorruption:
    """The objective with T5's numbers: 15% noise in spans of 3 tokens on average, inputs of 512 tokens.

    Sentinels count down from `first_sentinel`, anew in every example.
    """

    noise_density: float = 0.15
    mean_span: float = 3.0
    input_length: int = 512
    """Tokens of the longest input, end of sequence included."""
    first_sentinel: int = 32_099

    def __post_init__(self) -> None:
        share(self, "noise_density")
        positive(self, "noise_density", "mean_span")
        whole(self, "input_length", minimum=3, maximum=100_000)
        if self.noise_density > 0.5 or self.mean_span < 1:
            raise InputError("SpanCorruption: noise_density must be at most 0.5 and mean_span at least 1")
        if not self.spans(self.segment_length)[1] + 2 <= self.first_sentinel <= LARGEST_ID:
            raise InputError(
                f"SpanCorruption.first_sentinel must leave room for {self.spans(self.segment_length)[1]} sentinels "
                f"up to {LARGEST_ID}, got {self.first_sentinel}"
            )

    def spans(self, length: int) -> tuple[int, int]:
        """Number of noise tokens and of spans in a sequence of that length; a sequence of one token has none."""
        return _spans.py_func(length, self.noise_density, self.mean_span)  # in Python: importing Numba takes longer

    @property
    def segment_length(self) -> int:
        """Tokens of the longest sequence whose input fits in `input_length`: 568 for T5's 512."""
        return _segment_length(self)

    @property
    def target_length(self) -> int:
        """Tokens of the longest target, end of sequence included: 114 for T5's 512."""
        return self._lengths(self.segment_length)[1]

    @property
    def last_sentinel(self) -> int:
        """The lowest sentinel that an example may contain."""
        return self.first_sentinel - self.spans(self.segment_length)[1] + 1

    def _lengths(self, length: int) -> tuple[int, int]:
        """Tokens of the input and of the target, end of sequence included."""
        noise, spans = self.spans(length)
        return length - noise + spans + 1, noise + spans + 1

    def draw_noise(self, rng: np.random.Generator, rows: Ragged) -> Bools:
        """Draw which tokens are noise, [total] bool: spans of random lengths, each after a span of kept tokens.

        Uniformly drawn cuts split the noise tokens and the kept tokens into the same number of nonempty spans.
        """
        noise = np.zeros(len(rows.values), bool)
        _draw_noise(rng, rows.offsets, self.noise_density, self.mean_span, noise)
        return noise

    def corrupt(self, rng: np.random.Generator, rows: Ragged) -> tuple[Ragged, Ragged]:
        """Draw noise and return the inputs and targets, without end of sequence."""
        return corrupted(rows, self.draw_noise(rng, rows), self.first_sentinel)


@cache
def _segment_length(objective: SpanCorruption) -> int:
    length = 2
    while objective._lengths(length + 1)[0] <= objective.input_length:
        length += 1
    return length


def corrupted(rows: Ragged, noise: Bools, first_sentinel: int) -> tuple[Ragged, Ragged]:
    """Inputs, with a sentinel for each span of noise, [total] bool, and targets, with one for each span between."""
    return _with_sentinels(rows, noise, first_sentinel), _with_sentinels(rows, ~noise, first_sentinel)


def _with_sentinels(rows: Ragged, replaced: Bools, first_sentinel: int) -> Ragged:
    values, offsets = np.empty(len(rows.values), np.uint16), np.zeros(len(rows) + 1, np.int64)
    _put_sentinels(rows.values, rows.offsets, replaced, first_sentinel, values, offsets)
    return Ragged(values[: offsets[-1]].copy(), offsets)


@compiled
def _put_sentinels(
    values: Ids, offsets: Ints, replaced: Bools, first_sentinel: int, out: Ids, out_offsets: Ints
) -> None:
    end = 0
    for row in range(len(offsets) - 1):
        sentinel, in_span = first_sentinel, False
        for i in range(offsets[row], offsets[row + 1]):
            if not replaced[i]:
                out[end] = values[i]
                end += 1
            elif not in_span:
                out[end] = sentinel
                sentinel -= 1
                end += 1
            in_span = replaced[i]
        out_offsets[row + 1] = end


@compiled
def _spans(length: int, noise_density: float, mean_span: float) -> tuple[int, int]:
    if length < 2:
        return 0, 0
    num_noise = min(max(int(np.rint(length * noise_density)), 1), length - 1)
    num_spans = max(int(np.rint(num_noise / mean_span)), 1)
    return num_noise, min(num_spans, num_noise, length - num_noise)


@compiled
def _draw_noise(rng: np.random.Generator, offsets: Ints, noise_density: float, mean_span: float, noise: Bools) -> None:
    for row in range(len(offsets) - 1):
        length = offsets[row + 1] - offsets[row]
        num_noise, num_spans = _spans(length, noise_density, mean_span)
        kept_sizes = _part_sizes(rng, length - num_noise, num_spans)
        noise_sizes = _part_sizes(rng, num_noise, num_spans)
        start = offsets[row]
        for span in range(num_spans):
            start += kept_sizes[span]
            noise[start : start + noise_sizes[span]] = True
            start += noise_sizes[span]


@compiled
def _part_sizes(rng: np.random.Generator, total: int, num_parts: int) -> Ints:
    """Sizes of at least 1 that add up to `total`, [num_parts]; all such lists are equally likely."""
    sizes = np.ones(num_parts, np.int64)
    part = 0
    for position in range(1, total):
        # Knuth's algorithm S: cut here with the probability that makes all choices of cuts equally likely.
        if rng.random() * (total - position) < num_parts - 1 - part:
            part += 1
        else:
            sizes[part] += 1
    return sizes
