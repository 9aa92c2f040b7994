"""The 18 simple synthetic tasks of Appendix G: how their inputs are drawn and what their answers are.

Sequences are `Ragged` rows. Loops that Numba compiles handle whole batches: most tasks have one that draws inputs and
one that writes answers. In these loops `values` are the ids of all rows, [total] uint16, `offsets` where rows start
and end, [rows + 1] int64, and a "place" is an index into `values`. An input of a two-sequence task is sequence 1, one
separator, sequence 2; its length includes all three.

Draws call only `rng.random()`, in a fixed order, so they depend on nothing but the generator's state and `count`.
Distributions that the appendix leaves open are uniform; the docstring of each task says what it draws.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from enum import StrEnum
from string import ascii_lowercase
from typing import ClassVar, Literal, overload

import numpy as np
import numpy.typing as npt

from raysynth.errors import InputError, Named
from raysynth.fields import Choice, choose, preset, share, spec, whole
from raysynth.synthetic.base import SyntheticTask
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import AnyInts, Ids, Ints, Ragged
from raysynth.tokens.token_space import LARGEST_ID, TokenSpace

_MAX_ABSENT_DRAWS = 50
"""Draws of a sequence 2 that sequence 1 must not contain, before both lengths and sequence 1 are drawn again."""

Stamps = npt.NDArray[np.int32]
"""For each token id, the number of the row that last marked it: marks need no clearing between rows."""


# -------------------------------------------------------------------------------- draws


@compiled
def _below(rng: np.random.Generator, bound: int) -> int:
    """A uniform integer from 0 to `bound` - 1."""
    return int(rng.random() * bound)  # Numba's `rng.integers` takes twenty times as long


@compiled
def _between(rng: np.random.Generator, least: int, most: int) -> int:
    """A uniform integer from `least` to `most`, both included."""
    return least + _below(rng, most - least + 1)


@compiled
def _fill_uniform(rng: np.random.Generator, values: Ids, start: int, end: int, first: int, size: int) -> None:
    """Fill places `start` to `end` - 1 with uniform tokens of the pool, `first` to `first + size - 1`."""
    for place in range(start, end):
        values[place] = first + _below(rng, size)


@compiled
def _fill_distinct(
    rng: np.random.Generator, values: Ids, start: int, end: int, first: int, size: int, stamps: Stamps, stamp: int
) -> None:
    """Fill places `start` to `end` - 1 with distinct uniform tokens; `stamp` must be new."""
    for place in range(start, end):
        token = first + _below(rng, size)
        while stamps[token] == stamp:  # rejection treats all tokens alike, so the draws stay uniform
            token = first + _below(rng, size)
        stamps[token] = stamp
        values[place] = token


@compiled
def _fill_part_sizes(rng: np.random.Generator, sizes: Ints, num_parts: int, total: int) -> None:
    """Split `total` into sizes[:num_parts]: each part gets 1, and each further unit goes to a uniformly drawn part."""
    sizes[:num_parts] = 1
    for _ in range(total - num_parts):
        sizes[_below(rng, num_parts)] += 1


@compiled
def _shuffle(rng: np.random.Generator, values: Ids, start: int, end: int) -> None:
    """Shuffle the values in places `start` to `end` - 1 (Fisher and Yates)."""
    for place in range(end - 1, start, -1):
        other = _between(rng, start, place)
        values[place], values[other] = values[other], values[place]


# -------------------------------------------------------------------------------- parts of answer loops


@compiled
def _stamp(values: Ids, start: int, end: int, stamps: Stamps, stamp: int) -> None:
    """Mark the tokens in places `start` to `end` - 1."""
    for place in range(start, end):
        stamps[values[place]] = stamp


@compiled
def _add_unstamped(values: Ids, start: int, end: int, stamps: Stamps, stamp: int, answers: Ids, written: int) -> int:
    """Append each unmarked token in places `start` to `end` - 1 and mark it; returns the new end of `answers`."""
    for place in range(start, end):
        if stamps[values[place]] != stamp:
            stamps[values[place]] = stamp
            answers[written] = values[place]
            written += 1
    return written


@compiled
def _add(values: Ids, start: int, end: int, answers: Ids, written: int) -> int:
    """Append the tokens in places `start` to `end` - 1; returns the new end of `answers`."""
    answers[written : written + end - start] = values[start:end]
    return written + end - start


@compiled
def _first_place(values: Ids, start: int, separator: int, end: int) -> int:
    """The place where sequence 2 first occurs in sequence 1, or -1; an empty one occurs at `start`.

    `separator` is the separator's place.
    """
    length = end - separator - 1
    for place in range(start, separator - length + 1):
        matched = 0
        while matched < length and values[place + matched] == values[separator + 1 + matched]:
            matched += 1
        if matched == length:
            return place
    return -1


# -------------------------------------------------------------------------------- kinds of tasks


@spec
class SimpleTask(SyntheticTask):
    """A task of Appendix G.

    An empty answer becomes the single id `tokens.empty`, as in the paper's code; the appendix does not specify it.
    """

    revision: ClassVar[int] = 2
    shortest: ClassVar[int] = 1
    """Tokens of the shortest input that the task's rule allows."""
    counts: ClassVar[bool] = False
    """Whether the answer is a number."""

    min_length: int = 10
    max_length: int = 220
    """Bounds of the length of the whole input, with separators but without end of sequence (Appendix G)."""

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
        """The same task with inputs of 4 to 12 tokens, or longer if its rule needs more."""
        return dataclasses.replace(self, min_length=max(self.shortest, 4), max_length=max(self.shortest, 12))

    def readable(self, source: Ids, target: Ids) -> tuple[str, str]:
        """Write distinct tokens as letters, separators and fixed answers as words, like the appendix."""
        special = {self.tokens.separator: "<s>", self.tokens.word_separator: "<w>", self.tokens.empty: "<empty>"}
        letters = (letter + (str(turn) if turn else "") for turn in itertools.count() for letter in ascii_lowercase)
        names = special | {id: next(letters) for id in dict.fromkeys(source.tolist()) if id not in special}
        answers = {self.tokens.yes: "yes", self.tokens.no: "no"}
        if self.counts:
            answers |= {self.tokens.number(number): str(number) for number in range(self.max_length + 1)}
        source_text = " ".join(names[id] for id in source.tolist())
        if tuple(target.tolist()) in answers and target.tolist() != source.tolist():
            return source_text, answers[tuple(target.tolist())]
        return source_text, " ".join(names.get(id, f"#{id}") for id in target.tolist())

    @overload
    def solve(self, sources: Ragged) -> Ragged: ...
    @overload
    def solve(self, sources: Sequence[int] | AnyInts) -> Ids: ...
    def solve(self, sources: Ragged | Sequence[int] | AnyInts) -> Ragged | Ids:
        """The target of each row, or the target, [length] uint16, of one sequence of ids."""
        if not isinstance(sources, Ragged):
            return self.solve(_one_row(sources))[0]
        return _filled(self._answers(sources), self.tokens.empty)

    def _answers(self, sources: Ragged) -> Ragged:
        """The answers, of which some may be empty."""
        raise NotImplementedError

    def _drawn(self, loop: Callable[..., None], rng: np.random.Generator, count: int, *settings: float) -> Ragged:
        """`count` rows that the compiled `loop` draws; it takes `settings` as its last arguments."""
        values, offsets = np.empty(count * self.max_length, np.uint16), np.zeros(count + 1, np.int64)
        loop(rng, values, offsets, self.min_length, self.max_length, self.tokens.first, self.tokens.size, *settings)
        return Ragged(values[: offsets[-1]], offsets)

    def _require_number(self, largest: int) -> None:
        """Raise `InputError` unless the token space can spell numbers up to `largest`."""
        try:
            self.tokens.number(largest)
        except InputError as error:
            raise InputError(f"{type(self).__name__}.max_length ({self.max_length}): {error}") from None

    def _require_pool(self, distinct: int) -> None:
        """Raise `InputError` unless that many distinct tokens can be drawn."""
        if distinct > self.tokens.size:
            raise InputError(
                f"{type(self).__name__}.max_length ({self.max_length}) needs a pool of {distinct} distinct tokens, "
                f"but tokens has {self.tokens.size}"
            )

    def _separators(self, sources: Ragged) -> Ints:
        """The place of each row's separator, [rows]; raises `InputError` unless each row has exactly one."""
        separators, counts = np.zeros(len(sources), np.int64), np.zeros(len(sources), np.int64)
        _find_separators(sources.values, sources.offsets, self.tokens.separator, separators, counts)
        if (counts != 1).any():
            row = int(np.argmax(counts != 1))
            raise InputError(
                f"{type(self).__name__}: input {row} must contain the separator {self.tokens.separator} exactly once, "
                f"but contains it {counts[row]} times"
            )
        return separators

    def _check_second(self, sources: Ragged, separators: Ints, length: int) -> None:
        """Raise `InputError` unless every sequence 2 has that length."""
        lengths = sources.offsets[1:] - separators - 1
        if (lengths != length).any():
            row = int(np.argmax(lengths != length))
            raise InputError(
                f"{type(self).__name__}: sequence 2 of input {row} must have length {length}, got {lengths[row]}"
            )


def _answered(loop: Callable[..., None], sources: Ragged, *facts: Ints) -> Ragged:
    """The answers that the compiled `loop` writes, none longer than its input.

    The loop takes the sources, then `facts` about their rows, then room for the answers.
    """
    answers, offsets = np.empty(len(sources.values), np.uint16), np.zeros(len(sources) + 1, np.int64)
    loop(sources.values, sources.offsets, *facts, answers, offsets)
    return Ragged(answers[: offsets[-1]], offsets)


def _spelled(tokens: TokenSpace, numbers: Ints) -> Ragged:
    """The numbers, [rows], each spelled as a row of ids."""
    distinct, which = np.unique(numbers, return_inverse=True)
    return Ragged.of([tokens.number(int(number)) for number in distinct]).take(which)


def _filled(rows: Ragged, empty: int) -> Ragged:
    """The rows, with the token `empty` in each empty row."""
    is_empty = rows.lengths == 0
    if not is_empty.any():
        return rows
    return Ragged.packed(np.insert(rows.values, rows.offsets[:-1][is_empty], empty), rows.lengths + is_empty)


def _one_row(ids: Sequence[int] | AnyInts) -> Ragged:
    """A batch of one sequence of ids; raises `InputError` unless it is one."""
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError("solve takes Ragged rows or one flat sequence of token ids")
    if array.size and not 0 <= array.min() <= array.max() <= LARGEST_ID:
        raise InputError(f"token ids must lie between 0 and {LARGEST_ID}, got {array.min()}..{array.max()}")
    return Ragged.packed(array.astype(np.uint16), np.array([len(array)]))


@compiled
def _find_separators(values: Ids, offsets: Ints, separator: int, places: Ints, counts: Ints) -> None:
    for row in range(len(places)):
        for place in range(offsets[row], offsets[row + 1]):
            if values[place] == separator:
                places[row] = place
                counts[row] += 1


@compiled
def _draw_uniform(
    rng: np.random.Generator, values: Ids, offsets: Ints, least: int, most: int, first: int, size: int
) -> None:
    for row in range(len(offsets) - 1):
        start = offsets[row]
        offsets[row + 1] = start + _between(rng, least, most)
        _fill_uniform(rng, values, start, offsets[row + 1], first, size)


@spec
class UniformTask(SimpleTask):
    """A one-sequence task on uniform tokens in uniform number (Appendix G.4 and others)."""

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Uniform tokens, [count] rows."""
        return self._drawn(_draw_uniform, rng, count)


@compiled
def _draw_set_pairs(
    rng: np.random.Generator, values: Ids, offsets: Ints, least: int, most: int, first: int, size: int, separator: int
) -> None:
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

    Both sequences together have l tokens, and sequence 1 gets 1 to l - 1 of them, uniformly. Both sequences draw their
    tokens, with replacement, from a pool of l // 2 distinct tokens; a sequence may be longer than l // 2.
    """

    shortest: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_pool((self.max_length - 1) // 2)

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Pairs of sequences that share a pool of l // 2 tokens, [count] rows."""
        return self._drawn(_draw_set_pairs, rng, count, self.tokens.separator)


@compiled
def _draw_containment(
    rng: np.random.Generator,
    values: Ids,
    offsets: Ints,
    least: int,
    most: int,
    first: int,
    size: int,
    separator: int,
    contained_share: float,
) -> None:
    room = most - 1
    for row in range(len(offsets) - 1):
        contained = rng.random() < contained_share
        start, draws = offsets[row], 0
        while True:
            if draws == 0:
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
            draws = (draws + 1) % _MAX_ABSENT_DRAWS
        offsets[row + 1] = end


@compiled
def _find_second(values: Ids, offsets: Ints, separators: Ints, places: Ints) -> None:
    for row in range(len(separators)):
        places[row] = _first_place(values, offsets[row], separators[row], offsets[row + 1])


@spec
class ContainmentTask(SimpleTask):
    """A two-sequence task on whether sequence 1 contains sequence 2 as one piece (Appendix G.2, G.16).

    Lengths do not depend on the case: that of sequence 2 is uniform up to half the room, then that of sequence 1 is
    uniform among the lengths that fit and are no shorter. If contained, sequence 2 overwrites sequence 1 at a uniform
    place. If not, sequence 2 is drawn until sequence 1 does not contain it; after 50 failures (few tokens, a short
    sequence 2), the lengths and sequence 1 are drawn again.
    """

    contained_share: float = 0.75
    """Probability of the contained case."""
    shortest: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        share(self, "contained_share")

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Pairs of sequences, of which a share of about `contained_share` is contained, [count] rows."""
        return self._drawn(_draw_containment, rng, count, self.tokens.separator, float(self.contained_share))

    def _second_places(self, sources: Ragged, separators: Ints) -> Ints:
        """The place where sequence 2 first occurs in sequence 1, or -1, [rows]."""
        places = np.empty(len(sources), np.int64)
        _find_second(sources.values, sources.offsets, separators, places)
        return places


# -------------------------------------------------------------------------------- tasks


@compiled
def _draw_set(
    rng: np.random.Generator, values: Ids, offsets: Ints, least: int, most: int, first: int, size: int
) -> None:
    sizes = np.empty(most, np.int64)
    for row in range(len(offsets) - 1):
        start = offsets[row]
        length = _between(rng, least, most)
        offsets[row + 1] = _fill_runs(rng, values, start, length, first, size, sizes)
        _shuffle(rng, values, start, offsets[row + 1])


@compiled
def _fill_runs(
    rng: np.random.Generator, values: Ids, start: int, length: int, first: int, size: int, sizes: Ints
) -> int:
    """Write runs of 1 to length - 1 tokens, drawn with replacement, from `start` on; returns the end.

    `sizes` is scratch space for the lengths of the runs.
    """
    num_runs = _between(rng, 1, length - 1)
    _fill_part_sizes(rng, sizes, num_runs, length)
    for part in range(num_runs):
        values[start : start + sizes[part]] = first + _below(rng, size)
        start += sizes[part]
    return start


@compiled
def _answer_set(values: Ids, offsets: Ints, answers: Ids, ends: Ints) -> None:
    stamps, written = np.zeros(LARGEST_ID + 1, np.int32), 0
    for row in range(len(offsets) - 1):
        written = _add_unstamped(values, offsets[row], offsets[row + 1], stamps, row + 1, answers, written)
        ends[row + 1] = written


@spec
class Set(SimpleTask):
    """Each token once, in order of first appearance (Appendix G.1).

    The length l is uniform, and then the number t of tokens is uniform in 1..l - 1; tokens are drawn with replacement.
    l is split into t parts (each gets 1, and each further unit goes to a uniform part); each token is repeated as often
    as its part says, and all are shuffled.
    """

    name: ClassVar[str] = "set"
    shortest: ClassVar[int] = 2

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Shuffled repetitions, [count] rows."""
        return self._drawn(_draw_set, rng, count)

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_set, sources)


@compiled
def _answer_delete(values: Ids, offsets: Ints, separators: Ints, second_places: Ints, answers: Ids, ends: Ints) -> None:
    written = 0
    for row in range(len(offsets) - 1):
        start, separator = offsets[row], separators[row]
        if second_places[row] >= 0:
            written = _add(values, start, second_places[row], answers, written)
            start = second_places[row] + offsets[row + 1] - separator - 1
        written = _add(values, start, separator, answers, written)
        ends[row + 1] = written


@spec
class Delete(ContainmentTask):
    """Sequence 1 without the first occurrence of sequence 2, or unchanged if there is none (Appendix G.2)."""

    name: ClassVar[str] = "delete"

    def _answers(self, sources: Ragged) -> Ragged:
        separators = self._separators(sources)
        return _answered(_answer_delete, sources, separators, self._second_places(sources, separators))


@compiled
def _draw_sort(
    rng: np.random.Generator, values: Ids, offsets: Ints, least: int, most: int, first: int, size: int, separator: int
) -> None:
    sizes, order, stamps = np.empty(most, np.int64), np.empty(most, np.uint16), np.zeros(first + size, np.int32)
    for row in range(len(offsets) - 1):
        start = offsets[row]
        length = _between(rng, least, most)
        num_listed = _between(rng, 1, (length - 2) // 2)
        _fill_part_sizes(rng, sizes, num_listed, length - 1 - num_listed)
        _fill_distinct(rng, order, 0, num_listed, first, size, stamps, row + 1)
        place = start
        for part in range(num_listed):
            values[place : place + sizes[part]] = order[part]
            place += sizes[part]
        _shuffle(rng, values, start, place)
        values[place] = separator
        values[place + 1 : place + 1 + num_listed] = order[:num_listed]
        offsets[row + 1] = place + 1 + num_listed


@compiled
def _answer_sort(values: Ids, offsets: Ints, separators: Ints, unlisted: Ints, answers: Ids, ends: Ints) -> None:
    """Write the answers, or set `unlisted`, [1], to the place of the first token that sequence 2 does not list."""
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
    """Sequence 1 sorted in the order that sequence 2 gives (Appendix G.3).

    The length l of the whole input is uniform, and the number t of distinct tokens is uniform among those that leave
    sequence 1 longer than t. Sequence 2 lists the t tokens in random order; sequence 1 has l - t - 1 tokens, drawn from
    these as in Set. The last position counts for a token that sequence 2 lists twice, as in the paper's code. A token
    that it does not list is an `InputError`.
    """

    name: ClassVar[str] = "sort"
    shortest: ClassVar[int] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_pool((self.max_length - 2) // 2)

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Shuffled repetitions of tokens and an order of these tokens, [count] rows."""
        return self._drawn(_draw_sort, rng, count, self.tokens.separator)

    def _answers(self, sources: Ragged) -> Ragged:
        unlisted = np.full(1, -1)
        answers = _answered(_answer_sort, sources, self._separators(sources), unlisted)
        if unlisted[0] >= 0:
            token = sources.values[unlisted[0]]
            row = np.searchsorted(sources.offsets, unlisted[0], side="right") - 1
            raise InputError(f"{type(self).__name__}: sequence 2 of input {row} does not list token {token}")
        return answers


@spec
class Identity(UniformTask):
    """The input itself (Appendix G.4); uniform tokens.

    Later papers' Copy, a sequence w followed by w for a decoder, is this task.
    """

    name: ClassVar[str] = "identity"

    def _answers(self, sources: Ragged) -> Ragged:
        return sources


@compiled
def _answer_union(values: Ids, offsets: Ints, separators: Ints, answers: Ids, ends: Ints) -> None:
    stamps, written = np.zeros(LARGEST_ID + 1, np.int32), 0
    for row in range(len(offsets) - 1):
        separator = separators[row]
        written = _add_unstamped(values, offsets[row], separator, stamps, row + 1, answers, written)
        written = _add_unstamped(values, separator + 1, offsets[row + 1], stamps, row + 1, answers, written)
        ends[row + 1] = written


@spec
class Union(SetPairTask):
    """The distinct tokens of sequence 1, then those that only sequence 2 has (Appendix G.5)."""

    name: ClassVar[str] = "union"

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_union, sources, self._separators(sources))


@compiled
def _answer_set1_minus_set2(values: Ids, offsets: Ints, separators: Ints, answers: Ids, ends: Ints) -> None:
    stamps, written = np.zeros(LARGEST_ID + 1, np.int32), 0
    for row in range(len(offsets) - 1):
        _stamp(values, separators[row] + 1, offsets[row + 1], stamps, row + 1)
        written = _add_unstamped(values, offsets[row], separators[row], stamps, row + 1, answers, written)
        ends[row + 1] = written


@spec
class Set1MinusSet2(SetPairTask):
    """The distinct tokens of sequence 1 that sequence 2 lacks (Appendix G.6)."""

    name: ClassVar[str] = "set1_minus_set2"

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_set1_minus_set2, sources, self._separators(sources))


@compiled
def _draw_replace(
    rng: np.random.Generator, values: Ids, offsets: Ints, least: int, most: int, first: int, size: int, separator: int
) -> None:
    distinct, stamps = np.empty(most, np.uint16), np.zeros(first + size, np.int32)
    for row in range(len(offsets) - 1):
        start = offsets[row]
        cut = start + _between(rng, least, most) - 3
        _fill_uniform(rng, values, start, cut, first, size)
        num_distinct = _add_unstamped(values, start, cut, stamps, row + 1, distinct, 0)
        values[cut] = separator
        values[cut + 1] = distinct[_below(rng, num_distinct)]
        values[cut + 2] = first + _below(rng, size)
        offsets[row + 1] = cut + 3


@compiled
def _answer_replace(values: Ids, offsets: Ints, separators: Ints, answers: Ids, ends: Ints) -> None:
    written = 0
    for row in range(len(offsets) - 1):
        old, new = values[separators[row] + 1], values[separators[row] + 2]
        for place in range(offsets[row], separators[row]):
            answers[written] = new if values[place] == old else values[place]
            written += 1
        ends[row + 1] = written


@spec
class Replace(SimpleTask):
    """Sequence 1 with t2 in place of every t1, where sequence 2 is t1 t2 (Appendix G.7).

    Length and tokens are uniform; t1 is uniform among the distinct tokens of sequence 1, t2 in the whole pool.
    """

    name: ClassVar[str] = "replace"
    shortest: ClassVar[int] = 4

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Uniform tokens, then one of them and one of the pool, [count] rows."""
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
def _answer_intersect(values: Ids, offsets: Ints, separators: Ints, answers: Ids, ends: Ints) -> None:
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
    """The distinct tokens that both sequences have, in the order of sequence 1 (Appendix G.9)."""

    name: ClassVar[str] = "intersect"

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_intersect, sources, self._separators(sources))


@compiled
def _answer_reverse(values: Ids, offsets: Ints, answers: Ids, ends: Ints) -> None:
    for row in range(len(offsets) - 1):
        answers[offsets[row] : offsets[row + 1]] = values[offsets[row] : offsets[row + 1]][::-1]
        ends[row + 1] = offsets[row + 1]


@spec
class Reverse(UniformTask):
    """The input in reverse (Appendix G.10); uniform tokens."""

    name: ClassVar[str] = "reverse"

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_reverse, sources)


@compiled
def _answer_set2_minus_set1(values: Ids, offsets: Ints, separators: Ints, answers: Ids, ends: Ints) -> None:
    stamps, written = np.zeros(LARGEST_ID + 1, np.int32), 0
    for row in range(len(offsets) - 1):
        _stamp(values, offsets[row], separators[row], stamps, row + 1)
        written = _add_unstamped(values, separators[row] + 1, offsets[row + 1], stamps, row + 1, answers, written)
        ends[row + 1] = written


@spec
class Set2MinusSet1(SetPairTask):
    """The distinct tokens of sequence 2 that sequence 1 lacks (Appendix G.11)."""

    name: ClassVar[str] = "set2_minus_set1"

    def _answers(self, sources: Ragged) -> Ragged:
        return _answered(_answer_set2_minus_set1, sources, self._separators(sources))


@compiled
def _draw_deduplicate(
    rng: np.random.Generator, values: Ids, offsets: Ints, least: int, most: int, first: int, size: int
) -> None:
    sizes = np.empty(most, np.int64)
    for row in range(len(offsets) - 1):
        length = _between(rng, least, most)
        offsets[row + 1] = _fill_runs(rng, values, offsets[row], length, first, size, sizes)


@compiled
def _answer_deduplicate(values: Ids, offsets: Ints, answers: Ids, ends: Ints) -> None:
    written = 0
    for row in range(len(offsets) - 1):
        for place in range(offsets[row], offsets[row + 1]):
            if place == offsets[row] or values[place] != values[place - 1]:
                answers[written] = values[place]
                written += 1
        ends[row + 1] = written


@spec
class Deduplicate(SimpleTask):
    """The input with each run of equal neighbours shortened to one token (Appendix G.12).

    Draws as in Set but without the shuffle: each of the t tokens is one run. Neighbouring runs may have equal tokens.
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
        nonempty = sources.lengths > 0
        return Ragged.packed(sources.values[sources.offsets[1:][nonempty] - 1], nonempty)


@spec
class FirstToken(UniformTask):
    """The first token (Appendix G.14); uniform tokens."""

    name: ClassVar[str] = "first_token"

    def _answers(self, sources: Ragged) -> Ragged:
        nonempty = sources.lengths > 0
        return Ragged.packed(sources.values[sources.offsets[:-1][nonempty]], nonempty)


class LongestWordAnswer(StrEnum):
    """What the answer of Longest Word is."""

    LENGTH = "length"
    """The length of the longest word in decimal, as in the appendix."""
    TOKENS = "tokens"
    """The tokens of the longest word, the first if several are longest, as in the paper's code."""


@compiled
def _draw_words(
    rng: np.random.Generator, values: Ids, offsets: Ints, least: int, most: int, first: int, size: int, separator: int
) -> None:
    sizes = np.empty(most, np.int64)
    for row in range(len(offsets) - 1):
        num_words = _between(rng, 1, (most + 1) // 2)
        length = _between(rng, max(2 * num_words - 1, least), most)
        _fill_part_sizes(rng, sizes, num_words, length - num_words + 1)
        place = offsets[row]
        for word in range(num_words):
            if word:
                values[place] = separator
                place += 1
            _fill_uniform(rng, values, place, place + sizes[word], first, size)
            place += sizes[word]
        offsets[row + 1] = place


@compiled
def _find_longest_word(values: Ids, offsets: Ints, separator: int, starts: Ints, lengths: Ints) -> None:
    for row in range(len(starts)):
        start = starts[row] = offsets[row]
        for place in range(offsets[row], offsets[row + 1] + 1):
            if place == offsets[row + 1] or values[place] == separator:
                if place - start > lengths[row]:
                    starts[row], lengths[row] = start, place - start
                start = place + 1


@spec
class LongestWord(SimpleTask):
    """The length of the longest word, a stretch without word separators (Appendix G.15).

    The number w of words is uniform, and then the length is uniform among those with room for w words; the tokens are
    split into w words as Set splits its length. Drawn words are never empty; those of other inputs may be.
    """

    name: ClassVar[str] = "longest_word"
    counts: ClassVar[bool] = True
    answer: Choice[LongestWordAnswer, Literal["length", "tokens"]] = preset(default=LongestWordAnswer.LENGTH)

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
def _answer_stretch(values: Ids, offsets: Ints, starts: Ints, lengths: Ints, answers: Ids, ends: Ints) -> None:
    for row in range(len(starts)):
        ends[row + 1] = _add(values, starts[row], starts[row] + lengths[row], answers, ends[row])


@spec
class Search(ContainmentTask):
    """Yes if sequence 1 contains sequence 2 as one piece, else no (Appendix G.16)."""

    name: ClassVar[str] = "search"

    def _answers(self, sources: Ragged) -> Ragged:
        contained = self._second_places(sources, self._separators(sources)) >= 0
        return Ragged.of([self.tokens.no, self.tokens.yes]).take(contained.astype(np.int64))


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
def _draw_count(
    rng: np.random.Generator, values: Ids, offsets: Ints, least: int, most: int, first: int, size: int, separator: int
) -> None:
    for row in range(len(offsets) - 1):
        start = offsets[row]
        cut = start + _between(rng, least, most) - 2
        counted = first + _below(rng, size)
        others_end = _between(rng, start, cut)
        values[others_end:cut] = counted
        for place in range(start, others_end):
            token = first + _below(rng, size - 1)
            values[place] = token + 1 if token >= counted else token  # never `counted`, whose number is already drawn
        _shuffle(rng, values, start, cut)
        values[cut], values[cut + 1] = separator, counted
        offsets[row + 1] = cut + 2


@compiled
def _count_second(values: Ids, offsets: Ints, separators: Ints, counts: Ints) -> None:
    for row in range(len(separators)):
        for place in range(offsets[row], separators[row]):
            counts[row] += values[place] == values[separators[row] + 1]


@spec
class Count(SimpleTask):
    """How often sequence 1 contains t, the only token of sequence 2, in decimal (Appendix G.18).

    t and the length are uniform; the number of t is uniform from none to all of sequence 1, their positions are random,
    and the other tokens are uniform in the rest of the pool.
    """

    name: ClassVar[str] = "count"
    counts: ClassVar[bool] = True
    shortest: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number(self.max_length - 2)

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """Repetitions of one token among others, then that token, [count] rows."""
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
