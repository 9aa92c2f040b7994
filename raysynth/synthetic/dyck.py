"""Dyck: nested brackets of thousands of kinds under T5's span corruption (Appendix E.2).

The paper took its sentences from Ri and Tsuruoka 2022 ("Pretraining with Artificial Language", ACL, the nesting
dependency language) and released neither generator nor data. The numbers here are those of the generator that Ri and
Tsuruoka published: a chance of 0.4 to open a bracket rather than close one, a bracket's kind by Zipf's law, sentence
lengths fitted to English Wikipedia. How sentences become examples is what the paper's code did with T5's pipeline.
"""

import dataclasses
import math
from enum import StrEnum
from typing import ClassVar

import numpy as np

from raysynth.errors import InputError
from raysynth.fields import choose, instance, positive, share, spec, whole
from raysynth.synthetic.base import SyntheticTask
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.span_corruption import SpanCorruption


class Frequency(StrEnum):
    """How often each kind of bracket is drawn."""

    ZIPF = "zipf"
    """In proportion to floor(number of kinds / rank)."""
    UNIFORM = "uniform"


@spec
class Dyck(SyntheticTask):
    """Fill in the spans taken out of a string of nested brackets (Appendix E.2).

    A kind of bracket is a pair of a head and a tail token: the lower half of the pool are heads, the upper half their
    tails in the same order, 15,999 kinds for T5's pool. A sentence has half as many pairs as its drawn length (an odd
    half up or down, then one more in half of all cases). It is written from left to right: with nothing open, or else
    with `open_share`, the next head is written, else the tail of the last open head; once all heads are written, the
    open ones are closed. 128 sentences stand in a row without separator and are cut into segments of 568 tokens, of
    which the last is shorter; each is one example, hence inputs of 3 to 512 tokens and targets of 3 to 114, end of
    sequence included.
    """

    name: ClassVar[str] = "dyck"

    frequency: Frequency = Frequency.ZIPF
    open_share: float = 0.4
    sentence_mean: float = 22.69
    sentence_sd: float = 11.69
    """Mean and standard deviation of the normal distribution that sentence lengths come from."""
    shortest_sentence: int = 6
    longest_sentence: int = 60
    """Where that distribution is cut off."""
    sentences_per_block: int = 128
    """Sentences that stand in a row before they are cut into segments."""
    objective: SpanCorruption = SpanCorruption()

    def __post_init__(self) -> None:
        choose(self, "frequency", Frequency)
        share(self, "open_share")
        positive(self, "open_share", "sentence_mean", "sentence_sd")
        whole(self, "shortest_sentence", "longest_sentence", "sentences_per_block")
        instance(self, "objective", SpanCorruption)
        if self.shortest_sentence >= self.longest_sentence:
            raise InputError(
                f"Dyck.shortest_sentence must be below longest_sentence ({self.longest_sentence}), "
                f"got {self.shortest_sentence}"
            )
        if self.objective.last_sentinel <= self.tokens.last:
            raise InputError(
                f"Dyck: the sentinels {self.objective.last_sentinel}..{self.objective.first_sentinel} must lie above "
                f"the drawn ids ({self.tokens.last})"
            )

    @property
    def num_kinds(self) -> int:
        """How many kinds of brackets there are."""
        return self.tokens.size // 2

    @property
    def largest_id(self) -> int:
        return self.objective.first_sentinel

    def tiny(self) -> "Dyck":
        """Short sentences in segments of 26 tokens."""
        objective = dataclasses.replace(self.objective, input_length=24)
        return dataclasses.replace(
            self, sentence_mean=6, sentence_sd=3, shortest_sentence=2, longest_sentence=12, objective=objective
        )

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """`count` segments of nested brackets before corruption; all but a block's last are full."""
        longest = self.objective.segment_length
        values, offsets = np.empty(count * longest, np.uint16), np.zeros(count + 1, np.int64)
        _draw_segments(
            rng,
            self.open_share,
            _kinds(self.num_kinds, self.frequency),
            np.cumsum(self._pairs_per_sentence()),
            self.sentences_per_block,
            self.tokens.first,
            self.num_kinds,
            longest,
            values,
            offsets,
        )
        return Ragged(values[: offsets[-1]].copy(), offsets)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Ragged, Ragged]:
        """`count` segments with some spans taken out, and those spans."""
        return self.objective.corrupt(rng, self.sample(rng, count))

    def readable(self, source: np.ndarray, target: np.ndarray) -> tuple[str, str]:
        """Heads as (1 and tails as 1), numbered by kind in order of appearance, and sentinels as <s0>."""
        numbers: dict[int, int] = {}

        def word(id: int) -> str:
            if id > self.tokens.last:
                return f"<s{self.objective.first_sentinel - id}>"
            tail, kind = divmod(id - self.tokens.first, self.num_kinds)
            number = numbers.setdefault(kind, len(numbers) + 1)
            return f"{number})" if tail else f"({number}"

        told_source, told_target = (" ".join(map(word, ids.tolist())) for ids in (source, target))
        return told_source, told_target

    def _pairs_per_sentence(self) -> np.ndarray:
        """Probability of a sentence of 0, 1, 2, ... pairs."""

        def below(length: float) -> float:
            length = min(max(length, self.shortest_sentence), self.longest_sentence)
            return math.erf((length - self.sentence_mean) / (self.sentence_sd * math.sqrt(2)))

        lengths = np.arange(self.longest_sentence + 1)
        cut_down = np.array([below(length + 1) - below(length) for length in lengths])
        # Drawn lengths are real numbers; one half of them is cut down to a whole number, the other to the next one.
        whole = cut_down / cut_down.sum() + np.append(0, cut_down[:-1]) / cut_down.sum()
        pairs = np.zeros(self.longest_sentence // 2 + 2)
        for more in (0, 1):
            np.add.at(pairs, np.maximum(lengths // 2 + more, 1), whole / 4)
        return pairs / pairs.sum()


def _kinds(num_kinds: int, frequency: Frequency) -> np.ndarray:
    """Kinds of brackets, [total] uint16, each as often as its share of the draws wants it."""
    kinds = np.arange(num_kinds, dtype=np.uint16)
    if frequency is Frequency.UNIFORM:
        return kinds
    return np.repeat(kinds, num_kinds // np.arange(1, num_kinds + 1))


@compiled
def _draw_sentence(rng, open_share, kinds, num_pairs, first, num_kinds, opened, sentence):
    """Write 2 num_pairs tokens of nested brackets; `opened` has room for the kinds that stand open."""
    depth = 0
    heads = num_pairs
    for place in range(2 * num_pairs):
        if heads and (depth == 0 or rng.random() < open_share):
            opened[depth] = kinds[int(rng.random() * len(kinds))]
            sentence[place] = first + opened[depth]
            depth += 1
            heads -= 1
        else:
            depth -= 1
            sentence[place] = first + num_kinds + opened[depth]


@compiled
def _draw_segments(rng, open_share, kinds, cumulative, sentences_per_block, first, num_kinds, longest, values, offsets):
    """Fill segments with the sentences of block after block."""
    opened = np.empty(len(cumulative), np.int64)
    sentence = np.empty(2 * len(cumulative), np.uint16)
    row = 0
    end = 0
    sentences = 0
    while row < len(offsets) - 1:
        num_pairs = min(np.searchsorted(cumulative, rng.random(), side="right"), len(cumulative) - 1)
        _draw_sentence(rng, open_share, kinds, num_pairs, first, num_kinds, opened, sentence)
        for place in range(2 * num_pairs):
            values[end] = sentence[place]
            end += 1
            if end - offsets[row] == longest:
                row += 1
                offsets[row] = end
                if row == len(offsets) - 1:
                    break
        sentences += 1
        if sentences == sentences_per_block and row < len(offsets) - 1:
            sentences = 0
            if end > offsets[row]:
                row += 1
                offsets[row] = end
