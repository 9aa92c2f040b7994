"""LIME: deduction, abduction and induction with rules over fresh symbols (Appendix E.1; Wu et al. 2021).

A rule is a string of rule symbols and math symbols, such as A * A + B = C. A case maps each rule symbol to a string of
lower and math symbols. Substituting these strings in the rule gives the result. An input contains two of the three, and
the third is the target; `Mode` says which. Each example draws its own symbols, which its input lists first.

The layout and the numbers of symbols are those of the paper's code, which the appendix abridges:

    <rule> A B C <lower> a b c ... <math> * + = ... <s> first <s> second

A case reads A : [ a ] B : [ b ] C : [ d + e ]. Only this layout gives the input lengths of the appendix, 68 to 214
tokens with end of sequence: these are its shortest and longest possible inputs.
"""

import dataclasses
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from string import ascii_lowercase, ascii_uppercase
from typing import ClassVar

import numpy as np

from raysynth.errors import InputError, unknown
from raysynth.fields import spec, whole
from raysynth.synthetic.base import SyntheticTask
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Bools, Ids, Ints, Ragged
from raysynth.tokens.token_space import LARGEST_ID

_COLON, _SEPARATOR, _RULE, _OPEN, _LOWER, _MATH, _CLOSE = range(7)
"""The marks as offsets from `LIME.first_mark`, in the order of their ids in the paper's code."""
_MARKS = (":", "<s>", "<RuleSymbols>", "[", "<LowerSymbols>", "<MathSymbols>", "]")


class Mode(StrEnum):
    """Which part of the example is the target."""

    INDUCT = "induct"
    """The rule, from result and case."""
    DEDUCT = "deduct"
    """The result, from rule and case."""
    ABDUCT = "abduct"
    """The case, from rule and result."""


_MODES = tuple(Mode)
"""Compiled code refers to a mode by its index here."""
_INDUCT, _DEDUCT, _ABDUCT = range(len(_MODES))

Bounds = tuple[int, int]
"""Smallest and largest value, both included."""


@spec
class LIME(SyntheticTask):
    """Find the rule, the result or the case from the other two (Appendix E.1).

    Each example's mode is uniform among `modes`. The number n of rule symbols is uniform in its range. The rule has 2n
    rule symbols, each uniform among the n, and a uniform number of math symbols, all shuffled. The input lists those of
    the n that the rule uses; the case maps each to a uniform number of uniform lower and math symbols.

    6% of deduced results are longer than the appendix's 74 tokens (up to 100); such examples are drawn again. The
    paper's code kept them; `max_target=100` does too.
    """

    name: ClassVar[str] = "lime"

    modes: tuple[Mode, ...] = _MODES
    min_rule_symbols: int = 3
    max_rule_symbols: int = 5
    num_lower_symbols: int = 24
    num_math_symbols: int = 20
    min_rule_math: int = 5
    max_rule_math: int = 19
    """Math symbols in a rule."""
    min_substitute: int = 2
    max_substitute: int = 8
    """Symbols that replace one rule symbol."""
    max_target: int = 74
    """Tokens of the longest target, end of sequence included."""
    first_mark: int = 32_000
    """First of the seven ids of the marks: the lowest sentinels of T5's vocabulary, as in the paper's code."""

    def __post_init__(self) -> None:
        whole(self, "num_lower_symbols", "num_math_symbols", "max_target")
        for low, high in (
            ("min_rule_symbols", "max_rule_symbols"),
            ("min_rule_math", "max_rule_math"),
            ("min_substitute", "max_substitute"),
        ):
            whole(self, low, high)
            if getattr(self, low) > getattr(self, high):
                raise InputError(f"LIME.{low} must not exceed {high} ({getattr(self, high)}), got {getattr(self, low)}")
        if not self.modes:
            raise InputError("LIME.modes must name at least one mode")
        for mode in self.modes:
            if mode not in set(Mode):
                raise unknown("LIME mode", mode, Mode)
        object.__setattr__(self, "modes", tuple(Mode(mode) for mode in self.modes))
        symbols = self.max_rule_symbols + self.num_lower_symbols + self.num_math_symbols
        if symbols > self.tokens.size:
            raise InputError(f"LIME needs {symbols} distinct tokens, but tokens has {self.tokens.size}")
        if not max(self.tokens.last, 1) < self.first_mark <= LARGEST_ID - len(_MARKS) + 1:
            raise InputError(
                f"LIME.first_mark must lie above the drawn ids ({self.tokens.last}) and leave room for "
                f"{len(_MARKS)} marks, got {self.first_mark}"
            )
        occurrences = 2 * self.min_rule_symbols
        shortest = 1 + max(
            occurrences * self.min_substitute + self.min_rule_math,
            self.min_rule_symbols * (self.min_substitute + 4),
        )
        if self.max_target < shortest:
            raise InputError(f"LIME.max_target must be at least {shortest}, got {self.max_target}")

    @property
    def largest_id(self) -> int:
        return self.first_mark + len(_MARKS) - 1

    def tiny(self) -> "LIME":
        """One rule symbol and few others: inputs of at most 22 tokens and targets of at most 6."""
        return dataclasses.replace(
            self,
            min_rule_symbols=1,
            max_rule_symbols=1,
            num_lower_symbols=2,
            num_math_symbols=2,
            min_rule_math=1,
            max_rule_math=2,
            min_substitute=1,
            max_substitute=2,
            max_target=14,
        )

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """The inputs of `draw`."""
        return self.draw(rng, count)[0]

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Ragged, Ragged]:
        """`count` inputs and their targets."""
        longest_rule = 2 * self.max_rule_symbols + self.max_rule_math
        longest_result = 2 * self.max_rule_symbols * self.max_substitute + self.max_rule_math
        longest_case = self.max_rule_symbols * (self.max_substitute + 4)
        listed = self.max_rule_symbols + self.num_lower_symbols + self.num_math_symbols
        sources = np.empty(count * (listed + 5 + longest_result + max(longest_case, longest_rule)), np.uint16)
        targets = np.empty(count * self.max_target, np.uint16)
        source_offsets, target_offsets = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
        _draw(
            rng,
            np.array([_MODES.index(mode) for mode in self.modes]),
            (self.tokens.first, self.tokens.size),
            (self.min_rule_symbols, self.max_rule_symbols),
            (self.num_lower_symbols, self.num_math_symbols),
            (self.min_rule_math, self.max_rule_math),
            (self.min_substitute, self.max_substitute),
            self.max_target - 1,
            self.first_mark,
            sources,
            source_offsets,
            targets,
            target_offsets,
        )
        return (
            Ragged(sources[: source_offsets[-1]].copy(), source_offsets),
            Ragged(targets[: target_offsets[-1]].copy(), target_offsets),
        )

    def solve(self, sources: Ragged) -> Ragged:
        """A correct target for each input.

        A result is unique. A case is not if two rule symbols are always neighbours, and a rule is not if a string of
        the case also occurs by chance. `solve` then gives the case with the shortest substitutes (within the task's
        bounds), compared from left to right, or the rule that uses rule symbols as early as possible. `draw` gives the
        target that an input was made from; `fits` accepts every correct target. Raises `InputError` if there is none.
        """
        return Ragged.of(_answer(self._read(row, source)) for row, source in enumerate(sources))

    def fits(self, sources: Ragged, targets: Ragged) -> Bools:
        """Whether each target is correct for its input, [rows]."""
        pairs = enumerate(zip(sources, targets, strict=True))
        return np.array([_fits(self._read(row, source), target.tolist()) for row, (source, target) in pairs], bool)

    def _read(self, row: int, source: Ids) -> "_Input":
        """The parts of an input; raises `InputError` if it has another layout."""
        try:
            return _Input.read(source.tolist(), self)
        except ValueError as error:
            raise InputError(f"LIME: input {row} {error}") from None

    def readable(self, source: Ids, target: Ids) -> tuple[str, str]:
        """Write rule symbols as capitals, lower symbols as small letters, math symbols as signs (Appendix E.1)."""
        parts = self._read(0, source)
        names = {self.first_mark + offset: mark for offset, mark in enumerate(_MARKS)}
        for ids, letters in ((parts.rule, ascii_uppercase), (parts.lower, ascii_lowercase), (parts.math, _SIGNS)):
            names |= {id: letters[i % len(letters)] + "'" * (i // len(letters)) for i, id in enumerate(ids)}
        source_text, target_text = (" ".join(names[id] for id in ids.tolist()) for ids in (source, target))
        return source_text, target_text


_SIGNS = "*+=-/<>^%&|~!?@#$;_\\"


# -------------------------------------------------------------------------------- draws
#
# The loops write a rule as the indices of its symbols in `symbols`, the ids of the rule, lower and math symbols in this
# order. `lengths` are the numbers of symbols that replace each rule symbol, 0 for one that the rule does not use, and
# row i of `substitutes` begins with the indices of those that replace rule symbol i. Loops named _put append to `out`
# from `end` on and return the new end.


@compiled
def _between(rng: np.random.Generator, bounds: Bounds) -> int:
    """A uniform integer within the bounds."""
    return bounds[0] + int(rng.random() * (bounds[1] - bounds[0] + 1))


@compiled
def _draw_distinct(rng: np.random.Generator, pool: tuple[int, int], turn: int, seen: Ints, symbols: Ints) -> None:
    """Fill `symbols` with distinct ids of `pool`, (first, size); `seen[id]` is the last turn that drew the id."""
    first, size = pool
    for i in range(len(symbols)):
        symbol = first + int(rng.random() * size)
        while seen[symbol] == turn:
            symbol = first + int(rng.random() * size)
        seen[symbol] = turn
        symbols[i] = symbol


@compiled
def _draw_rule(rng: np.random.Generator, num_rule: int, num_math: int, math_start: int, rule: Ints) -> None:
    """Fill `rule` with 2 num_rule rule symbols and math symbols in random order."""
    for i in range(len(rule)):
        rule[i] = int(rng.random() * num_rule) if i < 2 * num_rule else math_start + int(rng.random() * num_math)
    for i in range(len(rule) - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        rule[i], rule[j] = rule[j], rule[i]


@compiled
def _draw_case(
    rng: np.random.Generator, rule: Ints, bounds: Bounds, first: int, size: int, substitutes: Ints, lengths: Ints
) -> None:
    """Draw the substitutes of each rule symbol that the rule uses."""
    lengths[:] = 0
    for index in rule:
        if index < len(lengths):
            lengths[index] = 1
    for index in range(len(lengths)):
        if lengths[index]:
            lengths[index] = _between(rng, bounds)
            for i in range(lengths[index]):
                substitutes[index, i] = first + int(rng.random() * size)


@compiled
def _put_rule(out: Ids, end: int, rule: Ints, symbols: Ints) -> int:
    for index in rule:
        out[end] = symbols[index]
        end += 1
    return end


@compiled
def _put_case(out: Ids, end: int, substitutes: Ints, lengths: Ints, symbols: Ints, first_mark: int) -> int:
    for index in range(len(lengths)):
        if lengths[index]:
            out[end] = symbols[index]
            out[end + 1] = first_mark + _COLON
            out[end + 2] = first_mark + _OPEN
            end = _put_rule(out, end + 3, substitutes[index, : lengths[index]], symbols)
            out[end] = first_mark + _CLOSE
            end += 1
    return end


@compiled
def _put_result(out: Ids, end: int, rule: Ints, substitutes: Ints, lengths: Ints, symbols: Ints) -> int:
    for index in rule:
        if index < len(lengths):
            end = _put_rule(out, end, substitutes[index, : lengths[index]], symbols)
        else:
            out[end] = symbols[index]
            end += 1
    return end


@compiled
def _put_symbols(out: Ids, end: int, symbols: Ints, lengths: Ints, num_lower: int, first_mark: int) -> int:
    """Append the list of symbols, without the rule symbols that the rule does not use."""
    out[end] = first_mark + _RULE
    end += 1
    for index in range(len(symbols)):
        if index == len(lengths):
            out[end] = first_mark + _LOWER
            end += 1
        if index == len(lengths) + num_lower:
            out[end] = first_mark + _MATH
            end += 1
        if index >= len(lengths) or lengths[index]:
            out[end] = symbols[index]
            end += 1
    out[end] = first_mark + _SEPARATOR
    return end + 1


@compiled
def _target_length(mode: int, rule: Ints, lengths: Ints) -> int:
    if mode == _INDUCT:
        return len(rule)
    total = 0
    if mode == _DEDUCT:
        for index in rule:
            total += lengths[index] if index < len(lengths) else 1
    else:
        for length in lengths:
            total += length + 4 if length else 0
    return total


@compiled
def _draw(
    rng: np.random.Generator,
    modes: Ints,
    pool: tuple[int, int],
    rule_bounds: Bounds,
    num_others: tuple[int, int],
    math_bounds: Bounds,
    substitute_bounds: Bounds,
    max_target: int,
    first_mark: int,
    sources: Ids,
    source_offsets: Ints,
    targets: Ids,
    target_offsets: Ints,
) -> None:
    """Fill sources and targets; `num_others` are the numbers of lower and math symbols."""
    num_lower, num_math = num_others
    all_symbols = np.empty(rule_bounds[1] + num_lower + num_math, np.int64)
    all_rules = np.empty(2 * rule_bounds[1] + math_bounds[1], np.int64)
    all_lengths = np.empty(rule_bounds[1], np.int64)
    substitutes = np.empty((rule_bounds[1], substitute_bounds[1]), np.int64)
    seen = np.zeros(pool[0] + pool[1], np.int64)
    turn = 0
    for row in range(len(source_offsets) - 1):
        mode = modes[int(rng.random() * len(modes))]
        while True:
            turn += 1
            num_rule = _between(rng, rule_bounds)
            symbols = all_symbols[: num_rule + num_lower + num_math]
            rule = all_rules[: 2 * num_rule + _between(rng, math_bounds)]
            lengths = all_lengths[:num_rule]
            _draw_rule(rng, num_rule, num_math, num_rule + num_lower, rule)
            _draw_case(rng, rule, substitute_bounds, num_rule, num_lower + num_math, substitutes, lengths)
            if _target_length(mode, rule, lengths) <= max_target:
                break
        _draw_distinct(rng, pool, turn, seen, symbols)

        out, end = sources, _put_symbols(sources, source_offsets[row], symbols, lengths, num_lower, first_mark)
        if mode == _INDUCT:
            end = _put_result(out, end, rule, substitutes, lengths, symbols)
        else:
            end = _put_rule(out, end, rule, symbols)
        out[end] = first_mark + _SEPARATOR
        if mode == _ABDUCT:
            end = _put_result(out, end + 1, rule, substitutes, lengths, symbols)
        else:
            end = _put_case(out, end + 1, substitutes, lengths, symbols, first_mark)
        source_offsets[row + 1] = end

        out, end = targets, target_offsets[row]
        if mode == _INDUCT:
            end = _put_rule(out, end, rule, symbols)
        elif mode == _DEDUCT:
            end = _put_result(out, end, rule, substitutes, lengths, symbols)
        else:
            end = _put_case(out, end, substitutes, lengths, symbols, first_mark)
        target_offsets[row + 1] = end


# -------------------------------------------------------------------------------- answers


Case = dict[int, list[int]]
"""The ids that replace each rule symbol."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Input:
    """The parts of an input."""

    task: LIME
    rule: list[int]
    lower: list[int]
    math: list[int]
    first: list[int]
    second: list[int]

    @staticmethod
    def read(ids: list[int], task: LIME) -> "_Input":
        """Split an input at its marks; raises `ValueError` if it has another layout."""
        try:
            listed, first, second = _split(ids, task.first_mark + _SEPARATOR)
            before, listed = _split(listed, task.first_mark + _RULE)
            rule, listed = _split(listed, task.first_mark + _LOWER)
            lower, math = _split(listed, task.first_mark + _MATH)
        except ValueError:
            raise ValueError("must read <rule> ids <lower> ids <math> ids <s> ids <s> ids") from None
        if before or not rule:
            raise ValueError("must begin with its rule symbols")
        return _Input(task=task, rule=rule, lower=lower, math=math, first=first, second=second)

    @property
    def mode(self) -> Mode:
        """Which part the target is, judging by the parts in the input."""
        if self.task.first_mark + _COLON not in self.second:
            return Mode.ABDUCT
        return Mode.DEDUCT if set(self.rule) & set(self.first) else Mode.INDUCT

    def case(self, ids: list[int]) -> Case:
        """Parse a case; raises `ValueError` unless it gives ids for each rule symbol, in the listed order."""
        mark, rest = self.task.first_mark, ids
        case: Case = {}
        for symbol in self.rule:
            if rest[:3] != [symbol, mark + _COLON, mark + _OPEN] or mark + _CLOSE not in rest:
                raise ValueError("must give the symbols that replace each rule symbol")
            end = rest.index(mark + _CLOSE)
            case[symbol], rest = rest[3:end], rest[end + 1 :]
        if rest or not all(set(ids) <= {*self.lower, *self.math} and ids for ids in case.values()):
            raise ValueError("must replace rule symbols by lower and math symbols")
        return case


def _answer(example: _Input) -> list[int]:
    """The target that `LIME.solve` describes."""
    mark = example.task.first_mark
    if example.mode is Mode.DEDUCT:
        return _substituted(example.first, example.case(example.second))
    if example.mode is Mode.INDUCT:
        rule = _induced(example.first, example.case(example.second), example.math)
        if rule is None:
            raise InputError("LIME: no rule makes the result from the case")
        return rule
    case = _abduced(example.first, example.second, {}, example)
    if case is None:
        raise InputError("LIME: no case makes the result from the rule")
    parts = ([symbol, mark + _COLON, mark + _OPEN, *case[symbol], mark + _CLOSE] for symbol in example.rule)
    return [id for part in parts for id in part]


def _fits(example: _Input, target: list[int]) -> bool:
    """Whether the target completes the input: the rule with the case substituted is the result."""
    try:
        if example.mode is Mode.DEDUCT:
            return target == _substituted(example.first, example.case(example.second))
        if example.mode is Mode.INDUCT:
            complete = set(example.rule) <= set(target) <= {*example.rule, *example.math}
            return complete and example.first == _substituted(target, example.case(example.second))
        return example.second == _substituted(example.first, example.case(target))
    except ValueError:
        return False


def _substituted(rule: list[int], case: Case) -> list[int]:
    """The result: the rule with the case substituted."""
    return [id for symbol in rule for id in case.get(symbol, [symbol])]


def _induced(result: list[int], case: Case, math: list[int]) -> list[int] | None:
    """The first rule that uses the whole case and gives the result, trying rule symbols before math symbols."""

    @cache
    def rule_from(place: int, missing: frozenset[int]) -> tuple[int, ...] | None:
        if place == len(result):
            return None if missing else ()
        for symbol, ids in case.items():
            if result[place : place + len(ids)] == ids:
                rest = rule_from(place + len(ids), missing - {symbol})
                if rest is not None:
                    return (symbol, *rest)
        rest = rule_from(place + 1, missing) if result[place] in math else None
        return None if rest is None else (result[place], *rest)

    rule = rule_from(0, frozenset(case))
    return None if rule is None else list(rule)


def _abduced(rule: list[int], result: list[int], case: Case, example: _Input) -> Case | None:
    """The first case that extends `case` and turns the rule into the result, trying short substitutes first."""
    if not rule:
        return None if result else case
    symbol, rest = rule[0], rule[1:]
    if symbol not in example.rule:
        return _abduced(rest, result[1:], case, example) if result[:1] == [symbol] else None
    if symbol in case:
        length = len(case[symbol])
        return _abduced(rest, result[length:], case, example) if result[:length] == case[symbol] else None
    for length in range(example.task.min_substitute, min(example.task.max_substitute, len(result)) + 1):
        extended = _abduced(rest, result[length:], {**case, symbol: result[:length]}, example)
        if extended is not None:
            return extended
    return None


def _split(ids: Sequence[int], mark: int) -> list[list[int]]:
    """The parts between marks, without the marks."""
    parts: list[list[int]] = [[]]
    for id in ids:
        if id == mark:
            parts.append([])
        else:
            parts[-1].append(id)
    return parts
