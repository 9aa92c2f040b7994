"""Tasks that hide spans of a drawn sequence: the part that Dyck, Shuffle Dyck and Random RNN share."""

import numpy as np

from raysynth.errors import InputError
from raysynth.fields import instance, spec
from raysynth.synthetic.base import SyntheticTask
from raysynth.tokens.ragged import Ids, Ragged
from raysynth.tokens.span_corruption import SpanCorruption


@spec
class SpanTask(SyntheticTask):
    """Restore the spans that T5's objective removed from a sequence; a subclass defines `sample`, the sequences."""

    objective: SpanCorruption = SpanCorruption()

    def __post_init__(self) -> None:
        instance(self, "objective", SpanCorruption)
        if self.objective.last_sentinel <= self.tokens.last:
            raise InputError(
                f"{type(self).__name__}: the sentinels {self.objective.last_sentinel}..{self.objective.first_sentinel} "
                f"must lie above the drawn ids ({self.tokens.last})"
            )

    @property
    def largest_id(self) -> int:
        return self.objective.first_sentinel

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Ragged, Ragged]:
        """`count` sequences with spans removed, and those spans."""
        return self.objective.corrupt(rng, self.sample(rng, count))

    def readable(self, source: Ids, target: Ids) -> tuple[str, str]:
        """Write drawn tokens as numbers in order of appearance, and sentinels as <s0>."""
        numbers: dict[int, int] = {}

        def word(id: int) -> str:
            if id > self.tokens.last:
                return f"<s{self.objective.first_sentinel - id}>"
            return self._word(id - self.tokens.first, numbers)

        source_text, target_text = (" ".join(map(word, ids.tolist())) for ids in (source, target))
        return source_text, target_text

    def _word(self, index: int, numbers: dict[int, int]) -> str:
        """How the token with that index in the pool reads; `numbers` are those that the example has given so far."""
        return str(numbers.setdefault(index, len(numbers) + 1))

    def _segments(self, sequence_length: int, count: int) -> Ragged:
        """Room for `count` segments of sequences of that length; the values are still to be written.

        A sequence is cut into segments as long as the objective takes, and its last one may be shorter.
        """
        longest = self.objective.segment_length
        num_segments = -(-sequence_length // longest)
        lengths = np.full(count, longest, np.int64)
        lengths[num_segments - 1 :: num_segments] = sequence_length - (num_segments - 1) * longest
        return Ragged.packed(np.empty(lengths.sum(), np.uint16), lengths)


@spec
class BracketTask(SpanTask):
    """A task on brackets: the lower half of the pool holds the heads, the upper half their tails in the same order."""

    @property
    def num_kinds(self) -> int:
        """Number of kinds of brackets."""
        return self.tokens.size // 2

    def _word(self, index: int, numbers: dict[int, int]) -> str:
        """Heads as (1 and tails as 1), numbered by kind in order of appearance."""
        tail, kind = divmod(index, self.num_kinds)
        number = numbers.setdefault(kind, len(numbers) + 1)
        return f"{number})" if tail else f"({number}"
