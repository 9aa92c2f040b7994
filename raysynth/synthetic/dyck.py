"""Dyck: nested brackets of thousands of kinds under T5's span corruption (Appendix E.2).

The paper took its sentences from Ri and Tsuruoka 2022 ("Pretraining with Artificial Language", ACL, the nesting
dependency language) and released neither generator nor data. The numbers here come from the generator that Ri and
Tsuruoka published: brackets open with probability 0.4, their kinds follow Zipf's law, and sentence lengths fit English
Wikipedia. Sentences become examples as in the paper's code, which used T5's pipeline.
"""

import dataclasses
import math
from enum import StrEnum
from typing import ClassVar, Literal

import numpy as np

from raysynth.errors import InputError
from raysynth.fields import Choice, choose, positive, preset, share, spec, whole
from raysynth.synthetic.span_task import BracketTask
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Floats, Ids, Ints, Ragged


class Frequency(StrEnum):
    """How often each kind of bracket is drawn."""

    ZIPF = "zipf"
    """In proportion to floor(number of kinds / rank)."""
    UNIFORM = "uniform"


@spec
class Dyck(BracketTask):
    """Restore the spans removed from a string of nested brackets (Appendix E.2).

    A kind of bracket is a pair of tokens, a head and a tail. The lower half of the pool holds the heads, the upper half
    their tails in the same order: 15,999 kinds for T5's pool. A sentence has half as many pairs as its drawn length
    (halves round up or down, and half of all sentences get one pair more). It is written from left to right: if no
    head is open, the next token is a head; otherwise it is a head with probability `open_share` and else the tail of
    the last open head. Once all heads are written, the open ones are closed. Blocks of 128 sentences without
    separators are cut into segments of 568 tokens; the last segment of a block is shorter. Each segment is one
    example, so inputs have 3 to 512 tokens and targets 3 to 114, end of sequence included.

    Later papers' k-Dyck with kinds of equal frequency is `frequency="uniform"` with a pool of 2k tokens, such as
    `tokens=TokenSpace(last=129)` for 64 kinds; brackets whose kinds cross are the task `shuffle_dyck`.
    """

    name: ClassVar[str] = "dyck"

    frequency: Choice[Frequency, Literal["zipf", "uniform"]] = preset(default=Frequency.ZIPF)
    open_share: float = 0.4
    sentence_mean: float = 22.69
    sentence_sd: float = 11.69
    """Mean and standard deviation of the normal distribution that sentence lengths come from."""
    shortest_sentence: int = 6
    longest_sentence: int = 60
    """Bounds of that distribution, which is truncated."""
    sentences_per_block: int = 128
    """Sentences that are joined before they are cut into segments."""

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(self, "frequency", Frequency)
        share(self, "open_share")
        positive(self, "open_share", "sentence_mean", "sentence_sd")
        whole(self, "shortest_sentence", "longest_sentence", "sentences_per_block")
        if self.shortest_sentence >= self.longest_sentence:
            raise InputError(
                f"Dyck.shortest_sentence must be below longest_sentence ({self.longest_sentence}), "
                f"got {self.shortest_sentence}"
            )

    def tiny(self) -> "Dyck":
        """Short sentences in segments of 26 tokens."""
        objective = dataclasses.replace(self.objective, input_length=24)
        return dataclasses.replace(
            self, sentence_mean=6, sentence_sd=3, shortest_sentence=2, longest_sentence=12, objective=objective
        )

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """`count` segments of nested brackets before corruption; only the last of a block may be short."""
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

    def _pairs_per_sentence(self) -> Floats:
        """Probabilities of sentences of 0, 1, 2, ... pairs, [longest_sentence // 2 + 2]."""

        def scaled_cdf(length: float) -> float:
            length = min(max(length, self.shortest_sentence), self.longest_sentence)
            return math.erf((length - self.sentence_mean) / (self.sentence_sd * math.sqrt(2)))

        lengths = np.arange(self.longest_sentence + 1)
        floors = np.array([scaled_cdf(length + 1) - scaled_cdf(length) for length in lengths.tolist()])
        # Drawn lengths are real numbers; one half of them is rounded down, the other half up.
        rounded = floors / floors.sum() + np.append(0, floors[:-1]) / floors.sum()
        probabilities = np.zeros(self.longest_sentence // 2 + 2)
        for extra in (0, 1):
            np.add.at(probabilities, np.maximum(lengths // 2 + extra, 1), rounded / 4)
        normalized: Floats = probabilities / probabilities.sum()
        return normalized


def _kinds(num_kinds: int, frequency: Frequency) -> Ids:
    """Kinds of brackets, [total] uint16, each repeated in proportion to its probability."""
    kinds = np.arange(num_kinds, dtype=np.uint16)
    if frequency is Frequency.UNIFORM:
        return kinds
    return np.repeat(kinds, num_kinds // np.arange(1, num_kinds + 1))


@compiled
def _draw_sentence(
    rng: np.random.Generator,
    open_share: float,
    kinds: Ids,
    num_pairs: int,
    first: int,
    num_kinds: int,
    opened: Ints,
    sentence: Ids,
) -> None:
    """Write 2 num_pairs tokens of nested brackets to `sentence`; `opened` is scratch space for the open kinds."""
    depth = 0
    heads_left = num_pairs
    for i in range(2 * num_pairs):
        if heads_left and (depth == 0 or rng.random() < open_share):
            opened[depth] = kinds[int(rng.random() * len(kinds))]
            sentence[i] = first + opened[depth]
            depth += 1
            heads_left -= 1
        else:
            depth -= 1
            sentence[i] = first + num_kinds + opened[depth]


@compiled
def _draw_segments(
    rng: np.random.Generator,
    open_share: float,
    kinds: Ids,
    cumulative: Floats,
    sentences_per_block: int,
    first: int,
    num_kinds: int,
    longest: int,
    values: Ids,
    offsets: Ints,
) -> None:
    """Fill the segments `values` and `offsets` with the sentences of one block after another."""
    opened = np.empty(len(cumulative), np.int64)
    sentence = np.empty(2 * len(cumulative), np.uint16)
    row = 0
    end = 0
    sentences = 0
    while row < len(offsets) - 1:
        num_pairs = min(int(np.searchsorted(cumulative, rng.random(), side="right")), len(cumulative) - 1)
        _draw_sentence(rng, open_share, kinds, num_pairs, first, num_kinds, opened, sentence)
        for i in range(2 * num_pairs):
            values[end] = sentence[i]
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
