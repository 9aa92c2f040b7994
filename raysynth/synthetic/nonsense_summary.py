"""Nonsense Summary: documents of random words and the summaries that operations make of them (Appendix E.3).

The task is that of Krishna et al. 2021 ("Does Pretraining for Summarization Require Knowledge Transfer?", EMNLP
Findings), whose figure and data the paper used; numbers and operations come from the generator that they published. A
document has 7 to 13 sentences of 5 to 15 words and a full stop; the words are uniform among 5,000 strings of three
letters. Three of 16 operations mark the document, one after another, and then each writes its part of the summary, in
the same order.

The loops below handle word ids, which index `lexicon`. A `Spelling` turns them into token ids.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from string import ascii_lowercase
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from raysynth.errors import InputError, unknown
from raysynth.fields import instance, spec, whole
from raysynth.synthetic.base import SyntheticTask
from raysynth.tokens.compiled import compiled
from raysynth.tokens.ragged import Ids, Ints, Ragged
from raysynth.tokens.token_space import LARGEST_ID
from raysynth.tokens.vocabulary import T5_PIECES, T5_SENTINELS, Vocabulary, t5_vocabulary_bytes


class Operation(StrEnum):
    """How a document is marked, and what the summary says about it.

    A keyword replaces a uniform word of a sentence, except its last (the full stop) and keywords of other operations.
    Sentences are uniform and distinct; keywords are uniform unless stated otherwise. The keywords of operation d3 read
    __d3__keyword_0__ and so on, with the numbers d3 to d21 of the authors' code.
    """

    COPY_ONE = "copy_one"
    """Keyword in one sentence: that sentence."""
    COPY_MANY = "copy_many"
    """Keywords in three sentences: those sentences."""
    COPY_SHUFFLED = "copy_shuffled"
    """Keywords in three sentences: those sentences in random order."""
    COPY_SORTED = "copy_sorted"
    """Three different keywords in three sentences: those sentences in the order of the keywords' numbers."""
    COPY_QUOTED = "copy_quoted"
    """Marks around a random stretch of a sentence: that stretch, with a full stop added if it has none."""
    COPY_BULLETED = "copy_bulleted"
    """A bullet before a sentence: that sentence without the bullet."""
    CLASSIFY = "classify"
    """One of ten keywords, half of them positive, in a sentence: whether it is positive or negative."""
    REPLACE_CLASS = "replace_class"
    """One of three classes of three keywords in a sentence: that sentence with the class in place of the keyword."""
    MAJORITY = "majority"
    """Three or five sentences with one of two keywords each: which keyword is in more sentences."""
    SEGREGATE_TOPICS = "segregate_topics"
    """Class keywords in two to five sentences: a section for each class, with its sentences."""
    THRESHOLD = "threshold"
    """A number from 0 to 99 in a sentence: whether it is at least 50."""
    LARGEST = "largest"
    """Different numbers from 0 to 99 in one to four sentences: the largest."""
    PARAPHRASE = "paraphrase"
    """One of 20 words in a sentence: that sentence with one of the word's three paraphrases, at random."""
    JOIN_CLAUSES = "join_clauses"
    """Three different joiners in three sentences, not on the last word: what follows them, as one sentence."""
    BREAK_CLAUSES = "break_clauses"
    """Two different joiners in one sentence: what comes before both followed by what comes after each."""
    TRUNCATE = "truncate"
    """Keyword in a sentence: the part of the sentence before it."""


_OPERATIONS = tuple(Operation)
"""Compiled code refers to an operation by its index here."""
_NUMBERS = dict(zip(_OPERATIONS, (3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 18, 19, 20, 21), strict=True))
"""The number in an operation's keywords."""
_MAX_MARKED = {
    Operation.COPY_MANY: 3,
    Operation.COPY_SHUFFLED: 3,
    Operation.COPY_SORTED: 3,
    Operation.MAJORITY: 5,
    Operation.SEGREGATE_TOPICS: 5,
    Operation.LARGEST: 4,
    Operation.JOIN_CLAUSES: 3,
}
"""Number of sentences that an operation may mark, if more than one."""


# -------------------------------------------------------------------------------- words


def _keywords(operation: Operation) -> list[str]:
    """The words with which an operation may mark a document."""
    classes = [f"class_{kind}_kw_{keyword}" for kind in range(3) for keyword in range(3)]
    bare = {
        Operation.COPY_QUOTED: ["begin_quote", "end_quote"],
        Operation.COPY_BULLETED: ["bullet"],
        Operation.REPLACE_CLASS: classes,
        Operation.MAJORITY: ["keyword_1", "keyword_2"],
        Operation.SEGREGATE_TOPICS: classes,
        Operation.THRESHOLD: [str(number) for number in range(100)],
        Operation.LARGEST: [str(number) for number in range(100)],
        Operation.PARAPHRASE: [f"src_{word}" for word in range(20)],
        Operation.JOIN_CLAUSES: [f"join_{keyword}" for keyword in range(5)],
        Operation.BREAK_CLAUSES: [f"join_{keyword}" for keyword in range(5)],
    }.get(operation, [f"keyword_{keyword}" for keyword in range(10)])
    return [f"__d{_NUMBERS[operation]}__{word}__" for word in bare]


def _fixed_words() -> list[str]:
    """All words but the nonsense words."""
    phrases = (
        ". the keyword was positive negative The occurred more number of times section above or equal to threshold "
        "below largest is combined sentence"
    )
    numbers = [str(number) for number in range(100)]
    classes = [f"__d{number}__class_{kind}__" for number in (11, 13) for kind in range(3)]
    paraphrases = [f"__d18__target_{word}_{variant}__" for word in range(20) for variant in range(3)]
    keywords = [word for operation in _OPERATIONS for word in _keywords(operation)]
    return [*phrases.split(), *numbers, *classes, *paraphrases, *keywords]


@cache
def lexicon(num_words: int) -> tuple[str, ...]:
    """Every word that a task may write, by word id: fixed words, then `num_words` strings of three letters.

    The 2,906th string is "the", which is also a fixed word: one spelling with two ids.
    """
    letters = ascii_lowercase
    return (*_FIXED, *(letters[n % 26] + letters[n // 26 % 26] + letters[n // 676] for n in range(num_words)))


_FIXED = _fixed_words()
_ID = {word: id for id, word in enumerate(_FIXED)}
_NONSENSE = len(_FIXED)
"""Id of the first nonsense word; the ids from `_FIRST_KEYWORD` up to it are keywords."""
_FIRST_KEYWORD = _ID[_keywords(Operation.COPY_ONE)[0]]
_STARTS = np.array([_ID[_keywords(operation)[0]] for operation in _OPERATIONS])
_COUNTS = np.array([len(_keywords(operation)) for operation in _OPERATIONS])
"""For each operation, the id of its first keyword and the number of its keywords."""


# -------------------------------------------------------------------------------- spelling


@spec
class T5Pieces:
    """Words as T5's vocabulary spells them, one to a dozen tokens each; needs RAYSYNTH_T5_VOCABULARY."""

    digest: ClassVar[str] = "ef0a42362fc717cc"
    """Identifies the pieces of the default task's words, so that data cannot depend on which file a machine has."""

    def table(self, num_words: int) -> Ragged:
        """The token ids of each word; raises `InputError` unless RAYSYNTH_T5_VOCABULARY names T5's vocabulary."""
        return _t5_table(num_words)

    def text(self, ids: Ids, num_words: int) -> str:
        """The words that token ids spell, as a text."""
        return Vocabulary.load(t5_vocabulary_bytes(), T5_SENTINELS).decode(ids.tolist())

    def largest_id(self, num_words: int) -> int:
        """An upper bound of the token ids."""
        return T5_PIECES - 1


@cache
def _t5_table(num_words: int) -> Ragged:
    rows = Vocabulary.load(t5_vocabulary_bytes(), T5_SENTINELS).encode_many(lexicon(max(num_words, 5_000)))
    known = rows.take(np.arange(_NONSENSE + 5_000))
    if hashlib.sha256(known.values.tobytes() + known.offsets.tobytes()).hexdigest()[:16] != T5Pieces.digest:
        raise InputError("RAYSYNTH_T5_VOCABULARY does not spell words as T5's public vocabulary does")
    return rows.take(np.arange(_NONSENSE + num_words))


@spec
class OneTokenPerWord:
    """Each word as one id, counted from `first`; there are about 600 words besides the nonsense words."""

    first: int = 2

    def __post_init__(self) -> None:
        whole(self, "first", minimum=2)

    def table(self, num_words: int) -> Ragged:
        """The token id of each word."""
        ids = self.first + np.arange(_NONSENSE + num_words)
        return Ragged.packed(ids, np.ones(len(ids), np.int64))

    def text(self, ids: Ids, num_words: int) -> str:
        """The words that token ids spell, as a text."""
        words = lexicon(num_words)
        return " ".join(words[id - self.first] for id in ids.tolist())

    def largest_id(self, num_words: int) -> int:
        """An upper bound of the token ids."""
        return self.first + _NONSENSE + num_words - 1


Spelling = T5Pieces | OneTokenPerWord
WordIds = npt.NDArray[np.int32]
Bounds = tuple[int, int]
"""Smallest and largest value, both included."""


# -------------------------------------------------------------------------------- task


@spec
class NonsenseSummary(SyntheticTask):
    """Summarize a document of random words by the operations whose marks it contains (Appendix E.3).

    A document does not determine its summary: it says nothing about the order of the operations and of shuffled
    sentences, or about the choice of paraphrases. Only `draw` gives the summary. The paper counted 175 to 709 tokens in
    inputs and 12 to 825 in targets; its training truncated both to 512.
    """

    name: ClassVar[str] = "nonsense_summary"

    operations: tuple[Operation, ...] = _OPERATIONS
    operations_per_document: int = 3
    num_words: int = 5_000
    """Number of nonsense words."""
    min_sentences: int = 7
    max_sentences: int = 13
    min_words: int = 5
    max_words: int = 15
    """Words of a sentence, without the full stop."""
    spelling: Spelling = T5Pieces()

    def __post_init__(self) -> None:
        whole(self, "operations_per_document", "num_words", "min_sentences", "min_words")
        for low, high in (("min_sentences", "max_sentences"), ("min_words", "max_words")):
            if getattr(self, high) < getattr(self, low):
                raise InputError(
                    f"NonsenseSummary.{low} must not exceed {high} ({getattr(self, high)}), got {getattr(self, low)}"
                )
        instance(self, "spelling", T5Pieces, OneTokenPerWord)
        for operation in self.operations:
            if operation not in set(Operation):
                raise unknown("NonsenseSummary operation", operation, Operation)
        object.__setattr__(self, "operations", tuple(Operation(operation) for operation in self.operations))
        if not 1 <= self.operations_per_document <= len(set(self.operations)):
            raise InputError(
                f"NonsenseSummary.operations_per_document must be at most the number of different operations "
                f"({len(set(self.operations))}), got {self.operations_per_document}"
            )
        needed = max(_MAX_MARKED.get(operation, 1) for operation in self.operations)
        if self.min_sentences < needed:
            raise InputError(
                f"NonsenseSummary.min_sentences must be at least {needed} for these operations, "
                f"got {self.min_sentences}"
            )
        if self.min_words < self.operations_per_document + 2:
            raise InputError(
                f"NonsenseSummary.min_words must be at least operations_per_document + 2 "
                f"({self.operations_per_document + 2}), so that a sentence has room for every keyword, "
                f"got {self.min_words}"
            )
        if self.num_words > 26**3 or self.largest_id > LARGEST_ID:
            raise InputError(f"NonsenseSummary.num_words must be at most {26**3}, got {self.num_words}")

    @property
    def largest_id(self) -> int:
        return self.spelling.largest_id(self.num_words)

    def tiny(self) -> "NonsenseSummary":
        """Two or three short sentences of few words, one operation and one id per word."""
        return dataclasses.replace(
            self,
            operations=(Operation.COPY_ONE, Operation.COPY_BULLETED, Operation.CLASSIFY, Operation.TRUNCATE),
            operations_per_document=1,
            num_words=20,
            min_sentences=2,
            max_sentences=3,
            min_words=3,
            max_words=5,
            spelling=OneTokenPerWord(),
        )

    def sample(self, rng: np.random.Generator, count: int) -> Ragged:
        """The documents of `draw`."""
        return self.draw(rng, count)[0]

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Ragged, Ragged]:
        """`count` documents and their summaries."""
        width = self.max_words + 1 + _MAX_INSERTED
        lines = np.empty((self.max_sentences, width), np.int64)
        documents = np.empty(count * lines.size, np.int32)
        summaries = np.empty(count * self.operations_per_document * _longest_part(width), np.int32)
        document_offsets, summary_offsets = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
        _draw(
            rng,
            np.array([_OPERATIONS.index(operation) for operation in dict.fromkeys(self.operations)]),
            self.operations_per_document,
            (self.min_sentences, self.max_sentences),
            (self.min_words, self.max_words),
            self.num_words,
            lines,
            documents,
            document_offsets,
            summaries,
            summary_offsets,
        )
        table = self.spelling.table(self.num_words)
        return _spelled(documents, document_offsets, table), _spelled(summaries, summary_offsets, table)

    def readable(self, source: Ids, target: Ids) -> tuple[str, str]:
        """Write both as words."""
        return self.spelling.text(source, self.num_words), self.spelling.text(target, self.num_words)


def summary(rng: np.random.Generator, document: Sequence[str], operations: Sequence[Operation]) -> str:
    """The summary that operations write of a document, a list of sentences that already has their marks."""
    words = lexicon(26**3)
    ids = {word: id for id, word in enumerate(words)}
    sentences = [[ids[word] for word in sentence.split()] for sentence in document]
    lengths = np.array([len(sentence) for sentence in sentences])
    lines = np.zeros((len(sentences), int(max(lengths))), np.int64)
    for line, sentence in zip(lines, sentences, strict=True):
        line[: len(sentence)] = sentence
    out = np.empty(len(operations) * _longest_part(lines.shape[1]), np.int32)
    hits, end = np.empty((lines.size, 2), np.int64), 0
    for operation in operations:
        end = _answer(rng, _OPERATIONS.index(operation), lines, lengths, hits, out, end)
    return " ".join(words[word] for word in out[:end])


_MAX_INSERTED = 3
"""Words that operations may add to a sentence: a bullet and two quotation marks."""


def _longest_part(width: int) -> int:
    """Maximal number of words that one operation writes, for sentences of at most `width` words."""
    return 5 * width + 12


def _spelled(words: WordIds, offsets: Ints, table: Ragged) -> Ragged:
    """The token ids of rows of word ids; row i of `table` spells word i."""
    words = words[: offsets[-1]]
    ends = np.concatenate([[0], np.cumsum(table.lengths[words])])
    values = np.empty(ends[-1], np.uint16)
    _spell(words, table.values, table.offsets, values)
    return Ragged(values, ends[offsets])


@compiled
def _spell(words: WordIds, table: Ids, table_offsets: Ints, values: Ids) -> None:
    end = 0
    for word in words:
        for i in range(table_offsets[word], table_offsets[word + 1]):
            values[end] = table[i]
            end += 1


# -------------------------------------------------------------------------------- marks
#
# In the loops a "line" is a sentence, a row of `lines`, [sentences, width]; `lengths` are the lines' numbers of words,
# and a "place" is the index of a word in a line. Loops named _put append to `out` from `end` on and return the new end.


(
    _COPY_ONE,
    _COPY_MANY,
    _COPY_SHUFFLED,
    _COPY_SORTED,
    _COPY_QUOTED,
    _COPY_BULLETED,
    _CLASSIFY,
    _REPLACE_CLASS,
    _MAJORITY,
    _SEGREGATE_TOPICS,
    _THRESHOLD,
    _LARGEST,
    _PARAPHRASE,
    _JOIN_CLAUSES,
    _BREAK_CLAUSES,
    _TRUNCATE,
) = range(len(_OPERATIONS))


@compiled
def _below(rng: np.random.Generator, bound: int) -> int:
    """A uniform integer from 0 to `bound` - 1."""
    return int(rng.random() * bound)


@compiled
def _free_place(rng: np.random.Generator, line: Ints, stop: int) -> int:
    """A uniform place before `stop` that has no keyword."""
    num_free = 0
    for place in range(stop):
        num_free += not _FIRST_KEYWORD <= line[place] < _NONSENSE
    num_skipped = _below(rng, num_free)
    for place in range(stop):
        if not _FIRST_KEYWORD <= line[place] < _NONSENSE:
            if num_skipped == 0:
                return place
            num_skipped -= 1
    return -1


@compiled
def _num_sentences(rng: np.random.Generator, operation: int) -> int:
    """Draw the number of sentences that an operation marks."""
    if operation in (_COPY_MANY, _COPY_SHUFFLED, _COPY_SORTED, _JOIN_CLAUSES):
        return 3
    if operation == _MAJORITY:
        return 3 + 2 * _below(rng, 2)
    if operation == _SEGREGATE_TOPICS:
        return 2 + _below(rng, 4)
    if operation == _LARGEST:
        return 1 + _below(rng, 4)
    return 1


@compiled
def _quote(rng: np.random.Generator, line: Ints, length: int, first: int) -> int:
    """Put marks around a random stretch of a sentence; returns its new length.

    `first` is the opening mark, which never precedes a keyword at the start of the sentence.
    """
    least = 1 if _FIRST_KEYWORD <= line[0] < _NONSENSE else 0
    begin = least + _below(rng, length - least)
    end = begin + 1 + _below(rng, length - begin)
    for place in range(length - 1, end - 1, -1):
        line[place + 2] = line[place]
    for place in range(end - 1, begin - 1, -1):
        line[place + 1] = line[place]
    line[begin] = first
    line[end + 1] = first + 1
    return length + 2


@compiled
def _mark(rng: np.random.Generator, operation: int, lines: Ints, lengths: Ints) -> None:
    """Mark the sentences, in place, as an operation does."""
    first, count = _STARTS[operation], _COUNTS[operation]
    used = np.zeros(count, np.bool_)
    num_left = _num_sentences(rng, operation)
    for row in range(len(lengths)):
        # Knuth's algorithm S: choose with the probability that makes all choices of sentences equally likely.
        if rng.random() * (len(lengths) - row) >= num_left:
            continue
        num_left -= 1
        line = lines[row]
        if operation == _COPY_QUOTED:
            lengths[row] = _quote(rng, line, lengths[row], first)
        elif operation == _COPY_BULLETED:
            for place in range(lengths[row], 0, -1):
                line[place] = line[place - 1]
            line[0] = first
            lengths[row] += 1
        else:
            # A joiner comes before the last word, so that a clause follows it.
            stop = lengths[row] - 2 if operation == _JOIN_CLAUSES else lengths[row] - 1
            for _ in range(2 if operation == _BREAK_CLAUSES else 1):
                keyword = _below(rng, count)
                while used[keyword]:
                    keyword = _below(rng, count)
                line[_free_place(rng, line, stop)] = first + keyword
                used[keyword] = operation in (_COPY_SORTED, _LARGEST, _JOIN_CLAUSES, _BREAK_CLAUSES)


# -------------------------------------------------------------------------------- summaries


def _ids(text: str) -> Ints:
    return np.array([_ID[word] for word in text.split()])


_STOP = _ID["."]
_POSITIVE = _ids("the keyword was positive .")
_NEGATIVE = _ids("the keyword was negative .")
_MORE_OFTEN = (_ids("The keyword"), _ids("occurred more number of times ."))
_SECTION = _ID["section"]
_REACHED = _ids("the number was above or equal to threshold .")
_MISSED = _ids("the number was below threshold .")
_LARGEST_IS = _ids("The largest number is")
_COMBINED = _ids("The combined sentence is")
_ZERO = _ID["0"]
_REPLACEMENT_CLASS = _ID["__d11__class_0__"]
_TOPIC_CLASS = _ID["__d13__class_0__"]
_FIRST_PARAPHRASE = _ID["__d18__target_0_0__"]


@compiled
def _find(lines: Ints, lengths: Ints, first: int, count: int, hits: Ints) -> int:
    """Write line and place of the keywords to `hits`, [most, 2], in reading order; returns their number.

    The keywords are the words from `first` to `first + count - 1`.
    """
    num_hits = 0
    for row in range(len(lengths)):
        for place in range(lengths[row]):
            if first <= lines[row, place] < first + count:
                hits[num_hits, 0] = row
                hits[num_hits, 1] = place
                num_hits += 1
    return num_hits


@compiled
def _sort(hits: Ints, num_hits: int, lines: Ints) -> None:
    """Sort the first `num_hits` hits by keyword."""
    for i in range(1, num_hits):
        for j in range(i, 0, -1):
            if lines[hits[j, 0], hits[j, 1]] < lines[hits[j - 1, 0], hits[j - 1, 1]]:
                for part in range(2):
                    hits[j, part], hits[j - 1, part] = hits[j - 1, part], hits[j, part]


@compiled
def _put(out: WordIds, end: int, words: Ints) -> int:
    for word in words:
        out[end] = word
        end += 1
    return end


@compiled
def _put_word(out: WordIds, end: int, word: int) -> int:
    out[end] = word
    return end + 1


@compiled
def _put_replaced(out: WordIds, end: int, line: Ints, place: int, word: int) -> int:
    """Append the sentence with another word at one place."""
    end = _put_word(out, _put(out, end, line[:place]), word)
    return _put(out, end, line[place + 1 :])


@compiled
def _answer(
    rng: np.random.Generator, operation: int, lines: Ints, lengths: Ints, hits: Ints, out: WordIds, end: int
) -> int:
    """Append the part of the summary that an operation writes; returns the new end. `hits` is scratch space."""
    first = _STARTS[operation]
    num_hits = _find(lines, lengths, first, _COUNTS[operation], hits)
    row, place = hits[0]
    line = lines[row, : lengths[row]]
    keyword = line[place] - first

    if operation in (_COPY_ONE, _COPY_MANY, _COPY_SHUFFLED, _COPY_SORTED):
        if operation == _COPY_SHUFFLED:
            for i in range(num_hits - 1, 0, -1):
                j = _below(rng, i + 1)
                hits[i, 0], hits[j, 0] = hits[j, 0], hits[i, 0]
        if operation == _COPY_SORTED:
            _sort(hits, num_hits, lines)
        for i in range(num_hits):
            row = hits[i, 0]
            end = _put(out, end, lines[row, : lengths[row]])

    elif operation == _COPY_QUOTED:
        end = _put(out, end, line[place + 1 : hits[1, 1]])
        if out[end - 1] != _STOP:
            end = _put_word(out, end, _STOP)

    elif operation == _COPY_BULLETED:
        end = _put(out, end, line[1:])

    elif operation == _CLASSIFY:
        end = _put(out, end, _POSITIVE if keyword < 5 else _NEGATIVE)

    elif operation == _REPLACE_CLASS:
        end = _put_replaced(out, end, line, place, _REPLACEMENT_CLASS + keyword // 3)

    elif operation == _MAJORITY:
        second = 0
        for i in range(num_hits):
            second += lines[hits[i, 0], hits[i, 1]] - first
        end = _put(out, end, _MORE_OFTEN[0])
        end = _put_word(out, end, _ZERO + (2 if 2 * second > num_hits else 1))
        end = _put(out, end, _MORE_OFTEN[1])

    elif operation == _SEGREGATE_TOPICS:
        for kind in range(3):
            end = _put_word(out, _put_word(out, end, _SECTION), _TOPIC_CLASS + kind)
            for i in range(num_hits):
                row, place = hits[i]
                if (lines[row, place] - first) // 3 == kind:
                    end = _put(out, end, lines[row, : lengths[row]])

    elif operation == _THRESHOLD:
        end = _put(out, end, _REACHED if keyword >= 50 else _MISSED)

    elif operation == _LARGEST:
        largest = 0
        for i in range(num_hits):
            largest = max(largest, lines[hits[i, 0], hits[i, 1]] - first)
        end = _put_word(out, _put_word(out, _put(out, end, _LARGEST_IS), _ZERO + largest), _STOP)

    elif operation == _PARAPHRASE:
        end = _put_replaced(out, end, line, place, _FIRST_PARAPHRASE + 3 * keyword + _below(rng, 3))

    elif operation == _JOIN_CLAUSES:
        end = _put(out, end, _COMBINED)
        for i in range(num_hits):
            row, place = hits[i]
            end = _put(out, end, lines[row, place : lengths[row] - 1])
        end = _put_word(out, end, _STOP)

    elif operation == _BREAK_CLAUSES:
        second = hits[1, 1]
        end = _put_word(out, _put(out, end, line[:second]), _STOP)
        end = _put(out, _put(out, end, line[:place]), line[second : len(line) - 1])
        end = _put_word(out, end, _STOP)

    else:
        end = _put_word(out, _put(out, end, line[:place]), _STOP)
    return end


# -------------------------------------------------------------------------------- documents


@compiled
def _draw(
    rng: np.random.Generator,
    operations: Ints,
    operations_per_document: int,
    sentence_bounds: Bounds,
    word_bounds: Bounds,
    num_words: int,
    all_lines: Ints,
    documents: WordIds,
    document_offsets: Ints,
    summaries: WordIds,
    summary_offsets: Ints,
) -> None:
    """Fill documents and summaries, both rows of word ids; `all_lines` is scratch space."""
    all_lengths = np.empty(len(all_lines), np.int64)
    hits = np.empty((all_lines.size, 2), np.int64)
    document_end = 0
    summary_end = 0
    for row in range(len(document_offsets) - 1):
        num_sentences = sentence_bounds[0] + _below(rng, sentence_bounds[1] - sentence_bounds[0] + 1)
        lines, lengths = all_lines[:num_sentences], all_lengths[:num_sentences]
        for line in range(num_sentences):
            length = word_bounds[0] + _below(rng, word_bounds[1] - word_bounds[0] + 1)
            for place in range(length):
                lines[line, place] = _NONSENSE + _below(rng, num_words)
            lines[line, length] = _STOP
            lengths[line] = length + 1
        for turn in range(operations_per_document):
            # Swap a random one of the operations not yet used, which are those from `turn` on, to index `turn`.
            other = turn + _below(rng, len(operations) - turn)
            operations[turn], operations[other] = operations[other], operations[turn]
            _mark(rng, operations[turn], lines, lengths)
        for line in range(num_sentences):
            document_end = _put(documents, document_end, lines[line, : lengths[line]])
        document_offsets[row + 1] = document_end
        for turn in range(operations_per_document):
            summary_end = _answer(rng, operations[turn], lines, lengths, hits, summaries, summary_end)
        summary_offsets[row + 1] = summary_end
