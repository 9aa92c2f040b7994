"""T5's span corruption: spans of a token sequence become sentinels, and the target spells the spans out.

Raffel et al. 2020, section 3.1.4; what the paper's code did with its artificial language and with Wikipedia text. The
example of Appendix E.2 differs in two points from T5, whose objective it names: its target begins without a sentinel,
and two neighbouring noise tokens are two spans. Here both are as in T5.
"""

from functools import cache

import numpy as np

from raysynth.errors import InputError
from raysynth.fields import positive, share, spec, whole
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import LARGEST_ID


@spec
class SpanCorruption:
    """The objective with T5's numbers: 15% noise in spans of 3 tokens on average, inputs of 512 tokens.

    Sentinels count down from the top of the vocabulary and start again in every example.
    """

    noise_density: float = 0.15
    mean_span: float = 3.0
    input_length: int = 512
    """Tokens of the longest input, end of sequence included."""
    first_sentinel: int = 32_099

    def __post_init__(self) -> None:
        share(self, "noise_density")
        positive(self, "noise_density", "mean_span")
        whole(self, "input_length", minimum=3)
        if self.noise_density > 0.5 or self.mean_span < 1:
            raise InputError("SpanCorruption: noise_density must be at most 0.5 and mean_span at least 1")
        if not self.spans(self.segment_length)[1] + 2 <= self.first_sentinel <= LARGEST_ID:
            raise InputError(
                f"SpanCorruption.first_sentinel must leave room for {self.spans(self.segment_length)[1]} sentinels "
                f"up to {LARGEST_ID}, got {self.first_sentinel}"
            )

    def spans(self, length: int) -> tuple[int, int]:
        """How many tokens of a sequence are noise, and in how many spans; none of a sequence of one token."""
        return _spans.py_func(length, self.noise_density, self.mean_span)  # as Python: no import of Numba for so little

    @property
    def segment_length(self) -> int:
        """Tokens of the longest sequence whose input fits: 568 for T5's 512."""
        return _segment_length(self)

    @property
    def target_length(self) -> int:
        """Tokens of the longest target, end of sequence included: 114 for T5's 512."""
        return self._lengths(self.segment_length)[1]

    @property
    def last_sentinel(self) -> int:
        """The lowest sentinel that an example may hold."""
        return self.first_sentinel - self.spans(self.segment_length)[1] + 1

    def _lengths(self, length: int) -> tuple[int, int]:
        """Tokens of input and target, end of sequence included."""
        noise, spans = self.spans(length)
        return length - noise + spans + 1, noise + spans + 1

    def draw_noise(self, rng: np.random.Generator, rows: Ragged) -> np.ndarray:
        """Which tokens are noise, [total] bool: spans of random lengths, a span of kept tokens before each of them.

        Noise and kept tokens are each split at uniformly drawn places into equally many parts of at least one.
        """
        noise = np.zeros(len(rows.values), bool)
        _draw_noise(rng, rows.offsets, self.noise_density, self.mean_span, noise)
        return noise

    def corrupt(self, rng: np.random.Generator, rows: Ragged) -> tuple[Ragged, Ragged]:
        """Inputs and targets of token sequences with freshly drawn noise, without end of sequence."""
        return corrupted(rows, self.draw_noise(rng, rows), self.first_sentinel)


@cache
def _segment_length(objective: SpanCorruption) -> int:
    length = 2
    while objective._lengths(length + 1)[0] <= objective.input_length:
        length += 1
    return length


def corrupted(rows: Ragged, noise: np.ndarray, first_sentinel: int) -> tuple[Ragged, Ragged]:
    """Inputs with a sentinel for each span of noise, [total] bool, and targets with one for each span of the rest."""
    return _with_sentinels(rows, noise, first_sentinel), _with_sentinels(rows, ~noise, first_sentinel)


def _with_sentinels(rows: Ragged, replaced: np.ndarray, first_sentinel: int) -> Ragged:
    values, offsets = np.empty(len(rows.values), np.uint16), np.zeros(len(rows) + 1, np.int64)
    _put_sentinels(rows.values, rows.offsets, replaced, first_sentinel, values, offsets)
    return Ragged(values[: offsets[-1]].copy(), offsets)


@compiled
def _put_sentinels(values, offsets, replaced, first_sentinel, out, out_offsets):
    end = 0
    for row in range(len(offsets) - 1):
        sentinel, within = first_sentinel, False
        for i in range(offsets[row], offsets[row + 1]):
            if not replaced[i]:
                out[end] = values[i]
                end += 1
            elif not within:
                out[end] = sentinel
                sentinel -= 1
                end += 1
            within = replaced[i]
        out_offsets[row + 1] = end


@compiled
def _spans(length, noise_density, mean_span):
    if length < 2:
        return 0, 0
    noise = min(max(int(np.rint(length * noise_density)), 1), length - 1)
    spans = max(int(np.rint(noise / mean_span)), 1)
    return noise, min(spans, noise, length - noise)


@compiled
def _draw_noise(rng, offsets, noise_density, mean_span, noise):
    for row in range(len(offsets) - 1):
        length = offsets[row + 1] - offsets[row]
        num_noise, num_spans = _spans(length, noise_density, mean_span)
        kept_sizes = _part_sizes(rng, length - num_noise, num_spans)
        noise_sizes = _part_sizes(rng, num_noise, num_spans)
        place = offsets[row]
        for span in range(num_spans):
            place += kept_sizes[span]
            noise[place : place + noise_sizes[span]] = True
            place += noise_sizes[span]


@compiled
def _part_sizes(rng, total, parts):
    """Sizes of at least 1 that add up to `total`, every such list as likely as any other."""
    sizes = np.ones(parts, np.int64)
    part = 0
    for place in range(1, total):
        # Each of the places left is a cut with the chance that makes all choices of cuts equal (Knuth's algorithm S).
        if rng.random() * (total - place) < parts - 1 - part:
            part += 1
        else:
            sizes[part] += 1
    return sizes
