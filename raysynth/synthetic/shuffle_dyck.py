"""Shuffle Dyck: brackets of several kinds that may cross, under T5's span corruption.

arXiv 2502.19249 trains language models on sequences of this language (k-Shuffle Dyck) before natural text. The numbers
are those of its code (michahu/pre-pretraining at 5c937ca), which trains decoders on whole sequences; for T5 a sequence
is cut into segments whose spans are restored, as Dyck's are.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from raysynth.fields import positive, share, spec, whole
from raysynth.synthetic.span_task import BracketTask
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Ids, Ints, Ragged
from raysynth.tokens.token_space import TokenSpace


@spec
class ShuffleDyck(BracketTask):
    """Restore the spans removed from brackets of which each closes some open bracket, not always the last one.

    A kind of bracket is a pair of tokens, a head and a tail: the lower half of the pool holds the heads, the upper half
    the tails in the same order. Let D be the number of open brackets of all kinds. At D = 0 a head follows, at
    D = `max_depth` a tail; in between a head follows with probability `open_share`. The kind of a head is uniform; that
    of a tail is uniform among the kinds with an open bracket, however many of them are open.

    A sequence has exactly `sequence_length` tokens, so brackets may stay open at its end. It is cut into segments of
    568 tokens, the last one of 344; each is one example, with an input of up to 512 tokens and a target of up to 114,
    end of sequence included. Rows 4i to 4i + 3 of `sample` are one sequence. The 64 kinds are the first 128 ids of the
    paper's pool; `tokens=TokenSpace()` makes 15,999 kinds of all of it.
    """

    name: ClassVar[str] = "shuffle_dyck"

    tokens: TokenSpace = TokenSpace(last=129)
    open_share: float = 0.51
    max_depth: int = 8
    """Brackets that can be open at the same time."""
    sequence_length: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        share(self, "open_share")
        positive(self, "open_share")
        whole(self, "max_depth", maximum=10_000)
        whole(self, "sequence_length", minimum=2, maximum=100_000)

    def tiny(self) -> "ShuffleDyck":
        """Sequences of 60 tokens in segments of 26."""
        objective = dataclasses.replace(self.objective, input_length=24)
        return dataclasses.replace(self, sequence_length=60, objective=objective)

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """`count` segments of one sequence after another, before corruption."""
        rows = self._segments(self.sequence_length, count)
        _draw_sequences(
            rng, self.open_share, self.max_depth, self.tokens.first, self.num_kinds, self.sequence_length, rows.values
        )
        return rows


@compiled
def _draw_sequences(
    rng: np.random.Generator,
    open_share: float,
    max_depth: int,
    first: int,
    num_kinds: int,
    sequence_length: int,
    values: Ids,
) -> None:
    """Fill `values`, [total] ids, with sequences of that length; the last may be cut off."""
    open_kinds = np.empty(max_depth, np.int64)  # the kinds with an open bracket, each once, in no particular order
    num_open: Ints = np.zeros(num_kinds, np.int64)
    num_open_kinds = 0
    depth = 0
    for i in range(len(values)):
        if i % sequence_length == 0:
            for j in range(num_open_kinds):
                num_open[open_kinds[j]] = 0
            num_open_kinds = 0
            depth = 0
        if depth == 0 or (depth < max_depth and rng.random() < open_share):
            kind = int(rng.random() * num_kinds)
            if num_open[kind] == 0:
                open_kinds[num_open_kinds] = kind
                num_open_kinds += 1
            num_open[kind] += 1
            depth += 1
            values[i] = first + kind
        else:
            which = int(rng.random() * num_open_kinds)
            kind = open_kinds[which]
            num_open[kind] -= 1
            if num_open[kind] == 0:
                num_open_kinds -= 1
                open_kinds[which] = open_kinds[num_open_kinds]
            depth -= 1
            values[i] = first + num_kinds + kind
