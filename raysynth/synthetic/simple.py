"""The 18 simple synthetic tasks of Appendix G: how their inputs are drawn and what their answers are.

Sequences stand in `Ragged` rows and whole batches are handled at once by loops that Numba compiles, one draw loop and
one answer loop for each task. In the loops `values` are the ids of all rows, [total] uint16, `offsets` where rows
start and end, [rows + 1] int64, and a "place" is an index into `values`. An input of a two-sequence task is
sequence 1, one separator, sequence 2; its length counts all three.

Draws take nothing but `rng.random()`, one after another, so they depend only on the generator's state and on `count`.
Where the appendix leaves a distribution open, it is uniform; each task says what it draws.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from enum import StrEnum
from string import ascii_lowercase
from typing import Any, ClassVar, overload

import numpy as np

from raysynth.errors import InputError, Named
from raysynth.fields import choose, share, spec, whole
from raysynth.synthetic.base import SyntheticTask
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import LARGEST_ID, TokenSpace

_ABSENT_ROUNDS = 50
"""Draws of sequence 2 for one sequence 1 before the lengths are drawn anew."""


# -------------------------------------------------------------------------------- draws


@compiled
def _below(rng, bound):
    """A uniform whole number from 0 up to but not including `bound`."""
    return int(rng.random() * bound)  # Numba's `rng.integers` takes twenty times as long


@compiled
def _between(rng, least, most):
    """A uniform whole number from `least` to `most`, both included."""
    return least + _below(rng, most - least + 1)


@compiled
def _fill_uniform(rng, values, start, end, first, size):
    """Put uniform tokens of the pool first, ..., first + size - 1 in the places from `start` to `end`."""
    for place in range(start, end):
        values[place] = first + _below(rng, size)


@compiled
def _fill_distinct(rng, values, start, end, first, size, stamps, stamp):
    """Put uniform tokens in random order, none twice; `stamps`, one per token, hold other values than `stamp`."""
    for place in range(start, end):
        token = first + _below(rng, size)
        while stamps[token] == stamp:  # looks at nothing but which tokens are equal, so none is favoured
            token = first + _below(rng, size)
        stamps[token] = stamp
        values[place] = token


@compiled
def _fill_part_sizes(rng, sizes, parts, total):
    """Split `total` into `parts` of at least 1, in sizes[:parts]: each further unit goes to a uniformly drawn part."""
    sizes[:parts] = 1
    for _ in range(total - parts):
        sizes[_below(rng, parts)] += 1


@compiled
def _shuffle(rng, values, start, end):
    """Put the values between the places in random order (Fisher and Yates)."""
    for place in range(end - 1, start, -1):
        other = _between(rng, start, place)
        values[place], values[other] = values[other], values[place]


# -------------------------------------------------------------------------------- loops of answers


@compiled
def _stamp(values, start, end, stamps, stamp):
    """Mark the tokens between the places."""
    for place in range(start, end):
        stamps[values[place]] = stamp


@compiled
def _add_unstamped(values, start, end, stamps, stamp, answers, written):
    """Append each token between the places that has no mark and mark it; returns the new number of answer ids."""
    for place in range(start, end):
        if stamps[values[place]] != stamp:
            stamps[values[place]] = stamp
            answers[written] = values[place]
            written += 1
    return written


@compiled
def _add(values, start, end, answers, written):
    """Append what stands between the places; returns the new number of answer ids."""
    answers[written : written + end - start] = values[start:end]
    return written + end - start


@compiled
def _first_place(values, start, separator, end):
    """The place where sequence 2, after the separator, first appears in sequence 1, or -1; if empty, the start."""
    wanted = end - separator - 1
    for place in range(start, separator - wanted + 1):
        matched = 0
        while matched < wanted and values[place + matched] == values[separator + 1 + matched]:
            matched += 1
        if matched == wanted:
            return place
    return -1


# -------------------------------------------------------------------------------- kinds of tasks


@spec
class SimpleTask(SyntheticTask):
    """A task of Appendix G: takes one input or many, and marks empty answers.

    An answer without tokens is the single id `tokens.empty`, as in the paper's code; the appendix does not say.
    """

    revision: ClassVar[int] = 2
    shortest: ClassVar[int] = 1
    """The shortest input that the task's rule can make."""
    counts: ClassVar[bool] = False
    """Whether the answer is a number."""

    min_length: int = 10
    max_length: int = 220
    """Bounds of the whole input, separators included, end of sequence not (Appendix G)."""

    def __post_init__(self) -> None:
        whole(self, "min_length", "max_length")
        if self.min_length > self.max_length:
            raise InputError(
                f"{type(self).__name__}.min_length must not exceed max_length ({self.max_length}), "
                f"got {self.min_length}"
            )
        if self.min_length < self.shortest:
            raise InputError(
                f"{type(self).__name__}.min_length must be at least {self.shortest}, got {self.min_length}"
            )
        if self.max_length > 100_000:
            raise InputError(f"{type(self).__name__}.max_length must be at most 100000, got {self.max_length}")

    def tiny(self) -> "SimpleTask":
        """The same task with inputs of 4 to 12 tokens, or longer where its rule needs more."""
        return dataclasses.replace(self, min_length=max(self.shortest, 4), max_length=max(self.shortest, 12))

    def readable(self, source: np.ndarray, target: np.ndarray) -> tuple[str, str]:
        """One letter per distinct token, words for separators and fixed answers, as the appendix prints them."""
        special = {self.tokens.separator: "<s>", self.tokens.word_separator: "<w>", self.tokens.empty: "<empty>"}
        names = (letter + (str(turn) if turn else "") for turn in itertools.count() for letter in ascii_lowercase)
        known = special | {id: next(names) for id in dict.fromkeys(source.tolist()) if id not in special}
        answers = {self.tokens.yes: "yes", self.tokens.no: "no"}
        if self.counts:
            answers |= {self.tokens.number(number): str(number) for number in range(self.max_length + 1)}
        told = " ".join(known[id] for id in source.tolist())
        if tuple(target.tolist()) in answers and target.tolist() != source.tolist():
            return told, answers[tuple(target.tolist())]
        return told, " ".join(known.get(id, f"#{id}") for id in target.tolist())

    @overload
    def solve(self, sources: Ragged) -> Ragged: ...
    @overload
    def solve(self, sources: Sequence[int] | np.ndarray) -> np.ndarray: ...
    def solve(self, sources: Ragged | Sequence[int] | np.ndarray) -> Ragged | np.ndarray:
        """The target of each row, or the target, [length] uint16, of one sequence of ids."""
        if not isinstance(sources, Ragged):
            return self.solve(_one_row(sources))[0]
        return _filled(self._answers(sources), self.tokens.empty)

    def _answers(self, sources: Ragged) -> Ragged:
        """The answers, which may be empty."""
        raise NotImplementedError

    def _drawn(self, loop: Callable[..., None], rng: np.random.Generator, count: int, *more: Any) -> Ragged:
        """`count` rows that the compiled `loop` draws."""
        values, offsets = np.empty(count * self.max_length, np.uint16), np.zeros(count + 1, np.int64)
        loop(rng, values, offsets, self.min_length, self.max_length, self.tokens.first, self.tokens.size, *more)
        return Ragged(values[: offsets[-1]], offsets)

    def _require_number(self, largest: int) -> None:
        """Raise `InputError` unless the token space spells numbers up to `largest`."""
        try:
            self.tokens.number(largest)
        except InputError as error:
            raise InputError(f"{type(self).__name__}.max_length ({self.max_length}): {error}") from None

    def _require_pool(self, distinct: int) -> None:
        """Raise `InputError` unless the token space holds that many tokens."""
        if distinct > self.tokens.size:
            raise InputError(
                f"{type(self).__name__}.max_length ({self.max_length}) needs a pool of {distinct} distinct tokens, "
                f"but tokens holds {self.tokens.size}"
            )

    def _separators(self, sources: Ragged) -> np.ndarray:
        """The place of each row's only separator, [rows] int64."""
        separators, present = np.zeros(len(sources), np.int64), np.zeros(len(sources), np.int64)
        _find_separators(sources.values, sources.offsets, self.tokens.separator, separators, present)
        if (present != 1).any():
            wrong = int(np.argmax(present != 1))
            raise InputError(
                f"{type(self).__name__}: input {wrong} must hold the separator {self.tokens.separator} exactly once, "
                f"but holds it {present[wrong]} times"
            )
        return separators

    def _check_second(self, sources: Ragged, separators: np.ndarray, length: int) -> None:
        """Raise `InputError` unless every sequence 2 has that length."""
        lengths = sources.offsets[1:] - separators - 1
        if (lengths != length).any():
            wrong = int(np.argmax(lengths != length))
            raise InputError(
                f"{type(self).__name__}: sequence 2 of input {wrong} must have length {length}, got {lengths[wrong]}"
            )


def _answered(loop: Callable[..., None], sources: Ragged, *more: Any) -> Ragged:
    """The answers that the compiled `loop` finds, none longer than its input."""
    answers, offsets = np.empty(len(sources.values), np.uint16), np.zeros(len(sources) + 1, np.int64)
    loop(sources.values, sources.offsets, *more, answers, offsets)
    return Ragged(answers[: offsets[-1]], offsets)


def _spelled(tokens: TokenSpace, numbers: np.ndarray) -> Ragged:
    """Row i spells number i, [rows]."""
    distinct, which = np.unique(numbers, return_inverse=True)
    return Ragged.of([tokens.number(int(number)) for number in distinct]).take(which)


def _filled(rows: Ragged, empty: int) -> Ragged:
    """The rows, with the token `empty` in those that have none."""
    bare = rows.lengths == 0
    if not bare.any():
        return rows
    return Ragged.packed(np.insert(rows.values, rows.offsets[:-1][bare], empty), rows.lengths + bare)


def _one_row(ids: Sequence[int] | np.ndarray) -> Ragged:
    """A batch of one sequence of ids."""
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError("solve takes Ragged rows or one flat sequence of token ids")
    if array.size and not 0 <= array.min() <= array.max() <= LARGEST_ID:
        raise InputError(f"token ids must lie between 0 and {LARGEST_ID}, got {array.min()}..{array.max()}")
    return Ragged.packed(array.astype(np.uint16), np.array([len(array)]))


@compiled
def _find_separators(values, offsets, separator, places, present):
    for row in range(len(places)):
        for place in range(offsets[row], offsets[row + 1]):
            if values[place] == separator:
                places[row] = place
                present[row] += 1


@compiled
def _draw_uniform(rng, values, offsets, least, most, first, size):
    for row in range(len(offsets) - 1):
        start = offsets[row]
        offsets[row + 1] = start + _between(rng, least, most)
        _fill_uniform(rng, values, start, offsets[row + 1], first, size)


@spec
class UniformTask(SimpleTask):
    """A one-sequence task on a uniform length and uniform tokens (Appendix G.4 and others)."""

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Uniform tokens, [count] rows."""
        return self._drawn(_draw_uniform, rng, count)


@compiled
def _draw_set_pairs(rng, values, offsets, least, most, first, size, separator):
    pool, stamps = np.empty(most, np.uint16), np.zeros(first + size, np.int32)
    for row in range(len(offsets) - 1):
        start = offsets[row]
        length = _between(rng, least, most)
        cut = _between(rng, 1, length - 2)
        distinct = (length - 1) // 2
        _fill_distinct(rng, pool, 0, distinct, first, size, stamps, row + 1)
        for place in range(start, start + length):
            values[place] = pool[_below(rng, distinct)]
        values[start + cut] = separator
        offsets[row + 1] = start + length


@spec
class SetPairTask(SimpleTask):
    """A two-sequence task on sets (Appendix G.5, G.6, G.9, G.11); answers list tokens in order of first appearance.

    For l tokens in both sequences together, sequence 1 gets 1 to l - 1 of them, uniformly; l // 2 distinct tokens are
    drawn, and every entry of both sequences is one of those, with replacement: a sequence may be longer than l // 2.
    """

    shortest: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_pool((self.max_length - 1) // 2)

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Pairs that share a pool of l // 2 tokens, [count] rows."""
        return self._drawn(_draw_set_pairs, rng, count, self.tokens.separator)


@compiled
def _draw_containment(rng, values, offsets, least, most, first, size, separator, contained_share):
    room = most - 1
    for row in range(len(offsets) - 1):
        contained = rng.random() < contained_share
        start, rounds = offsets[row], 0
        while True:
            if rounds == 0:
                second = _between(rng, 1, room // 2)
                cut = start + _between(rng, max(second, least - 1 - second), room - second)
                end = cut + 1 + second
                _fill_uniform(rng, values, start, cut, first, size)
                values[cut] = separator
            _fill_uniform(rng, values, cut + 1, end, first, size)
            if contained:
                place = _between(rng, start, cut - second)
                values[place : place + second] = values[cut + 1 : end]
                break
            if _first_place(values, start, cut, end) < 0:
                break
            rounds = (rounds + 1) % _ABSENT_ROUNDS
        offsets[row + 1] = end


@compiled
def _find_second(values, offsets, separators, found):
    for row in range(len(separators)):
        found[row] = _first_place(values, offsets[row], separators[row], offsets[row + 1])


@spec
class ContainmentTask(SimpleTask):
    """A two-sequence task on whether sequence 2 stands in sequence 1 as one piece (Appendix G.2, G.16).

    Both cases draw lengths alike: sequence 2 uniform up to half the room, then sequence 1 uniform among the lengths
    that are no shorter and fit. Contained: sequence 2 overwrites sequence 1 at a uniform location. Not contained:
    sequence 2 is drawn again until it is absent; where 50 draws do not help (few tokens, a short sequence 2), the
    lengths and sequence 1 are drawn anew.
    """

    contained_share: float = 0.75
    """Probability of the contained case."""
    shortest: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        share(self, "contained_share")

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Pairs of which about `contained_share` are contained, [count] rows."""
        return self._drawn(_draw_containment, rng, count, self.tokens.separator, float(self.contained_share))

    def _found(self, sources: Ragged, separators: np.ndarray) -> np.ndarray:
        """The place where sequence 2 first appears in sequence 1, or -1; [rows] int64."""
        found = np.empty(len(sources), np.int64)
        _find_second(sources.values, sources.offsets, separators, found)
        return found


# -------------------------------------------------------------------------------- tasks


@compiled
def _draw_set(rng, values, offsets, least, most, first, size):
    sizes = np.empty(most, np.int64)
    for row in range(len(offsets) - 1):
        start = offsets[row]
        length = _between(rng, least, most)
        offsets[row + 1] = _fill_runs(rng, values, start, length, first, size, sizes)
        _shuffle(rng, values, start, offsets[row + 1])


@compiled
def _fill_runs(rng, values, start, length, first, size, sizes):
    """Put runs of 1 to length - 1 tokens, drawn with replacement, from `start` on; returns the end. `sizes` is room."""
    parts = _between(rng, 1, length - 1)
    _fill_part_sizes(rng, sizes, parts, length)
    for part in range(parts):
        values[start : start + sizes[part]] = first + _below(rng, size)
        start += sizes[part]
    return start


@compiled
def _answer_set(values, offsets, answers, ends):
    stamps, written = np.zeros(LARGEST_ID + 1, np.int32), 0
    for row in range(len(offsets) - 1):
        written = _add_unstamped(values, offsets[row], offsets[row + 1], stamps, row + 1, answers, written)
        ends[row + 1] = written


@spec
class Set(SimpleTask):
    """Each token once, in order of first appearance (Appendix G.1).

    Uniform length l, then t uniform in 1..l - 1 tokens of the pool with replacement; l is split into t parts (each
    gets 1, each further unit goes to a uniform part), and the tokens, repeated so often, are shuffled.
    """

    name: ClassVar[str] = "set"
    shortest: ClassVar[int] = 2

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Shuffled repetitions, [count] rows."""
        return self._drawn(_draw_set, rng, count)

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_set, sources)


@compiled
def _answer_delete(values, offsets, separators, found, answers, ends):
    written = 0
    for row in range(len(offsets) - 1):
        start, separator = offsets[row], separators[row]
        if found[row] >= 0:
            written = _add(values, start, found[row], answers, written)
            start = found[row] + offsets[row + 1] - separator - 1
        written = _add(values, start, separator, answers, written)
        ends[row + 1] = written


@spec
class Delete(ContainmentTask):
    """Sequence 1 without the first stretch that equals sequence 2; unchanged where there is none (Appendix G.2)."""

    name: ClassVar[str] = "delete"

    def _answers(self, sources: Ragged) -> Ragged:
        separators = self._separators(sources)
        return _answered(_answer_delete, sources, separators, self._found(sources, separators))


@compiled
def _draw_sort(rng, values, offsets, least, most, first, size, separator):
    sizes, order, stamps = np.empty(most, np.int64), np.empty(most, np.uint16), np.zeros(first + size, np.int32)
    for row in range(len(offsets) - 1):
        start = offsets[row]
        length = _between(rng, least, most)
        parts = _between(rng, 1, (length - 2) // 2)
        _fill_part_sizes(rng, sizes, parts, length - 1 - parts)
        _fill_distinct(rng, order, 0, parts, first, size, stamps, row + 1)
        place = start
        for part in range(parts):
            values[place : place + sizes[part]] = order[part]
            place += sizes[part]
        _shuffle(rng, values, start, place)
        values[place] = separator
        values[place + 1 : place + 1 + parts] = order[:parts]
        offsets[row + 1] = place + 1 + parts


@compiled
def _answer_sort(values, offsets, separators, unlisted, answers, ends):
    """`unlisted`, [1], takes the place of the first token that its order does not list."""
    last, times, written = np.full(LARGEST_ID + 1, -1), np.zeros(LARGEST_ID + 1, np.int64), 0
    for row in range(len(offsets) - 1):
        separator = separators[row]
        for place in range(separator + 1, offsets[row + 1]):
            last[values[place]] = place
        for place in range(offsets[row], separator):
            if last[values[place]] < separator:
                unlisted[0] = place
                return
            times[values[place]] += 1
        for place in range(separator + 1, offsets[row + 1]):
            token = values[place]
            if last[token] == place:
                answers[written : written + times[token]] = token
                written += times[token]
                times[token] = 0
        ends[row + 1] = written


@spec
class Sort(SimpleTask):
    """Sequence 1 in the order that sequence 2 gives (Appendix G.3).

    Uniform length l of the whole input, t uniform among the numbers of distinct tokens that leave sequence 1 longer
    than t: sequence 2 lists the t tokens in random order and takes its t ids of l, the separator one, and sequence 1
    is made of the rest as in Set. A token that an order lists twice counts at its last position, as in the paper's
    code; a token that the order does not list is an `InputError`.
    """

    name: ClassVar[str] = "sort"
    shortest: ClassVar[int] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_pool((self.max_length - 2) // 2)

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Shuffled repetitions and an order of their tokens, [count] rows."""
        return self._drawn(_draw_sort, rng, count, self.tokens.separator)

    def _answers(self, sources: Ragged) -> Ragged:
        unlisted = np.full(1, -1)
        answers = _answered(_answer_sort, sources, self._separators(sources), unlisted)
        if unlisted[0] >= 0:
            token = sources.values[unlisted[0]]
            wrong = np.searchsorted(sources.offsets, unlisted[0], side="right") - 1
            raise InputError(f"{type(self).__name__}: sequence 2 of input {wrong} does not list token {token}")
        return answers


@spec
class Identity(UniformTask):
    """The input itself (Appendix G.4); uniform tokens."""

    name: ClassVar[str] = "identity"

    def _answers(self, sources: Ragged) -> Ragged:
        return sources


@compiled
def _answer_union(values, offsets, separators, answers, ends):
    stamps, written = np.zeros(LARGEST_ID + 1, np.int32), 0
    for row in range(len(offsets) - 1):
        separator = separators[row]
        written = _add_unstamped(values, offsets[row], separator, stamps, row + 1, answers, written)
        written = _add_unstamped(values, separator + 1, offsets[row + 1], stamps, row + 1, answers, written)
        ends[row + 1] = written


@spec
class Union(SetPairTask):
    """The tokens of sequence 1, then those that only sequence 2 has, each once (Appendix G.5)."""

    name: ClassVar[str] = "union"

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_union, sources, self._separators(sources))


@compiled
def _answer_set1_minus_set2(values, offsets, separators, answers, ends):
    stamps, written = np.zeros(LARGEST_ID + 1, np.int32), 0
    for row in range(len(offsets) - 1):
        _stamp(values, separators[row] + 1, offsets[row + 1], stamps, row + 1)
        written = _add_unstamped(values, offsets[row], separators[row], stamps, row + 1, answers, written)
        ends[row + 1] = written


@spec
class Set1MinusSet2(SetPairTask):
    """The tokens of sequence 1 that sequence 2 lacks, each once (Appendix G.6)."""

    name: ClassVar[str] = "set1_minus_set2"

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_set1_minus_set2, sources, self._separators(sources))


@compiled
def _draw_replace(rng, values, offsets, least, most, first, size, separator):
    distinct, stamps = np.empty(most, np.uint16), np.zeros(first + size, np.int32)
    for row in range(len(offsets) - 1):
        start = offsets[row]
        cut = start + _between(rng, least, most) - 3
        _fill_uniform(rng, values, start, cut, first, size)
        choices = _add_unstamped(values, start, cut, stamps, row + 1, distinct, 0)
        values[cut] = separator
        values[cut + 1] = distinct[_below(rng, choices)]
        values[cut + 2] = first + _below(rng, size)
        offsets[row + 1] = cut + 3


@compiled
def _answer_replace(values, offsets, separators, answers, ends):
    written = 0
    for row in range(len(offsets) - 1):
        old, new = values[separators[row] + 1], values[separators[row] + 2]
        for place in range(offsets[row], separators[row]):
            answers[written] = new if values[place] == old else values[place]
            written += 1
        ends[row + 1] = written


@spec
class Replace(SimpleTask):
    """Sequence 1 with every t1 turned into t2, where sequence 2 is t1 t2 (Appendix G.7).

    Uniform length and tokens; t1 is uniform among the distinct tokens of sequence 1, t2 among the whole pool.
    """

    name: ClassVar[str] = "replace"
    shortest: ClassVar[int] = 4

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Uniform tokens with one of them and any other, [count] rows."""
        return self._drawn(_draw_replace, rng, count, self.tokens.separator)

    def _answers(self, sources: Ragged) -> Ragged:
        separators = self._separators(sources)
        self._check_second(sources, separators, 2)
        return _answered(_answer_replace, sources, separators)


@spec
class Duplicate(UniformTask):
    """Every token twice in a row (Appendix G.8); uniform tokens."""

    name: ClassVar[str] = "duplicate"

    def _answers(self, sources: Ragged) -> Ragged:
        return Ragged(np.repeat(sources.values, 2), 2 * sources.offsets)


@compiled
def _answer_intersect(values, offsets, separators, answers, ends):
    stamps, written = np.zeros(LARGEST_ID + 1, np.int32), 0
    for row in range(len(offsets) - 1):
        _stamp(values, separators[row] + 1, offsets[row + 1], stamps, row + 1)
        for place in range(offsets[row], separators[row]):
            if stamps[values[place]] == row + 1:
                stamps[values[place]] = 0
                answers[written] = values[place]
                written += 1
        ends[row + 1] = written


@spec
class Intersect(SetPairTask):
    """The tokens that both sequences have, each once, in the order of sequence 1 (Appendix G.9)."""

    name: ClassVar[str] = "intersect"

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_intersect, sources, self._separators(sources))


@compiled
def _answer_reverse(values, offsets, answers, ends):
    for row in range(len(offsets) - 1):
        answers[offsets[row] : offsets[row + 1]] = values[offsets[row] : offsets[row + 1]][::-1]
        ends[row + 1] = offsets[row + 1]


@spec
class Reverse(UniformTask):
    """The input from its end to its start (Appendix G.10); uniform tokens."""

    name: ClassVar[str] = "reverse"

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_reverse, sources)


@compiled
def _answer_set2_minus_set1(values, offsets, separators, answers, ends):
    stamps, written = np.zeros(LARGEST_ID + 1, np.int32), 0
    for row in range(len(offsets) - 1):
        _stamp(values, offsets[row], separators[row], stamps, row + 1)
        written = _add_unstamped(values, separators[row] + 1, offsets[row + 1], stamps, row + 1, answers, written)
        ends[row + 1] = written


@spec
class Set2MinusSet1(SetPairTask):
    """The tokens of sequence 2 that sequence 1 lacks, each once (Appendix G.11)."""

    name: ClassVar[str] = "set2_minus_set1"

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_set2_minus_set1, sources, self._separators(sources))


@compiled
def _draw_deduplicate(rng, values, offsets, least, most, first, size):
    sizes = np.empty(most, np.int64)
    for row in range(len(offsets) - 1):
        length = _between(rng, least, most)
        offsets[row + 1] = _fill_runs(rng, values, offsets[row], length, first, size, sizes)


@compiled
def _answer_deduplicate(values, offsets, answers, ends):
    written = 0
    for row in range(len(offsets) - 1):
        for place in range(offsets[row], offsets[row + 1]):
            if place == offsets[row] or values[place] != values[place - 1]:
                answers[written] = values[place]
                written += 1
        ends[row + 1] = written


@spec
class Deduplicate(SimpleTask):
    """Each run of equal neighbours shortened to one token (Appendix G.12).

    Drawn as in Set but not shuffled: each of the t tokens stands as one run. Neighbouring draws may be equal.
    """

    name: ClassVar[str] = "deduplicate"
    shortest: ClassVar[int] = 2

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Runs of tokens, [count] rows."""
        return self._drawn(_draw_deduplicate, rng, count)

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_deduplicate, sources)


@spec
class LastToken(UniformTask):
    """The last token (Appendix G.13); uniform tokens."""

    name: ClassVar[str] = "last_token"

    def _answers(self, sources: Ragged) -> Ragged:
        some = sources.lengths > 0
        return Ragged.packed(sources.values[sources.offsets[1:][some] - 1], some)


@spec
class FirstToken(UniformTask):
    """The first token (Appendix G.14); uniform tokens."""

    name: ClassVar[str] = "first_token"

    def _answers(self, sources: Ragged) -> Ragged:
        some = sources.lengths > 0
        return Ragged.packed(sources.values[sources.offsets[:-1][some]], some)


class LongestWordAnswer(StrEnum):
    """What Longest Word tells about the longest word."""

    LENGTH = "length"
    """Its length in decimal, as in the appendix."""
    TOKENS = "tokens"
    """Its tokens, as in the paper's code; the first one of equals."""


@compiled
def _draw_words(rng, values, offsets, least, most, first, size, separator):
    sizes = np.empty(most, np.int64)
    for row in range(len(offsets) - 1):
        words = _between(rng, 1, (most + 1) // 2)
        length = _between(rng, max(2 * words - 1, least), most)
        _fill_part_sizes(rng, sizes, words, length - words + 1)
        place = offsets[row]
        for word in range(words):
            if word:
                values[place] = separator
                place += 1
            _fill_uniform(rng, values, place, place + sizes[word], first, size)
            place += sizes[word]
        offsets[row + 1] = place


@compiled
def _find_longest_word(values, offsets, separator, starts, lengths):
    for row in range(len(starts)):
        start = starts[row] = offsets[row]
        for place in range(offsets[row], offsets[row + 1] + 1):
            if place == offsets[row + 1] or values[place] == separator:
                if place - start > lengths[row]:
                    starts[row], lengths[row] = start, place - start
                start = place + 1


@spec
class LongestWord(SimpleTask):
    """The length of the longest stretch without a word separator (Appendix G.15).

    A uniform number of words w, then a uniform length among those with room for w words of one token; the tokens are
    split into w words as Set splits its length. Words may be empty in given inputs, never in drawn ones.
    """

    name: ClassVar[str] = "longest_word"
    counts: ClassVar[bool] = True
    answer: LongestWordAnswer = LongestWordAnswer.LENGTH

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(self, "answer", LongestWordAnswer)
        if self.answer == LongestWordAnswer.LENGTH:
            self._require_number(self.max_length)

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Words joined by word separators, [count] rows."""
        return self._drawn(_draw_words, rng, count, self.tokens.word_separator)

    def _answers(self, sources: Ragged) -> Ragged:
        starts, lengths = np.zeros(len(sources), np.int64), np.zeros(len(sources), np.int64)
        _find_longest_word(sources.values, sources.offsets, self.tokens.word_separator, starts, lengths)
        if self.answer == LongestWordAnswer.LENGTH:
            return _spelled(self.tokens, lengths)
        return _answered(_answer_stretch, sources, starts, lengths)


@compiled
def _answer_stretch(values, offsets, starts, lengths, answers, ends):
    for row in range(len(starts)):
        ends[row + 1] = _add(values, starts[row], starts[row] + lengths[row], answers, ends[row])


@spec
class Search(ContainmentTask):
    """Yes where sequence 2 stands in sequence 1 as one piece, else no (Appendix G.16)."""

    name: ClassVar[str] = "search"

    def _answers(self, sources: Ragged) -> Ragged:
        found = self._found(sources, self._separators(sources)) >= 0
        return Ragged.of([self.tokens.no, self.tokens.yes]).take(found.astype(np.int64))


@spec
class Length(UniformTask):
    """The number of tokens in decimal (Appendix G.17); uniform tokens."""

    name: ClassVar[str] = "length"
    counts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number(self.max_length)

    def _answers(self, sources: Ragged) -> Ragged:
        return _spelled(self.tokens, sources.lengths)


@compiled
def _draw_count(rng, values, offsets, least, most, first, size, separator):
    for row in range(len(offsets) - 1):
        start = offsets[row]
        cut = start + _between(rng, least, most) - 2
        wanted = first + _below(rng, size)
        others = _between(rng, start, cut)
        values[others:cut] = wanted
        for place in range(start, others):
            other = first + _below(rng, size - 1)
            values[place] = other + 1 if other >= wanted else other  # skips t, so that the drawn number is the answer
        _shuffle(rng, values, start, cut)
        values[cut], values[cut + 1] = separator, wanted
        offsets[row + 1] = cut + 2


@compiled
def _count_second(values, offsets, separators, counts):
    for row in range(len(separators)):
        for place in range(offsets[row], separators[row]):
            counts[row] += values[place] == values[separators[row] + 1]


@spec
class Count(SimpleTask):
    """How often the one token t of sequence 2 stands in sequence 1, in decimal (Appendix G.18).

    Uniform t and length; the number of t is uniform from none to all of sequence 1, their positions are random, and
    the other tokens are uniform among the rest of the pool.
    """

    name: ClassVar[str] = "count"
    counts: ClassVar[bool] = True
    shortest: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number(self.max_length - 2)

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """A token among others and the token, [count] rows."""
        return self._drawn(_draw_count, rng, count, self.tokens.separator)

    def _answers(self, sources: Ragged) -> Ragged:
        separators = self._separators(sources)
        self._check_second(sources, separators, 1)
        counts = np.zeros(len(sources), np.int64)
        _count_second(sources.values, sources.offsets, separators, counts)
        return _spelled(self.tokens, counts)


simple_tasks = Named(
    "simple task",
    {
        task.name: task
        for task in (
            Set(),
            Delete(),
            Sort(),
            Identity(),
            Union(),
            Set1MinusSet2(),
            Replace(),
            Duplicate(),
            Intersect(),
            Reverse(),
            Set2MinusSet1(),
            Deduplicate(),
            LastToken(),
            FirstToken(),
            LongestWord(),
            Search(),
            Length(),
            Count(),
        )
    },
)
"""The tasks of Appendix G with their default values, by the paper's names in snake case."""
