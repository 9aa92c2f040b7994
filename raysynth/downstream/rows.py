"""What the readers of downstream data share: splits, pairs of texts, and rows of files with their places.

A reader is a description such as `SQuAD()`: its fields say how texts are prepared, and its method
`read(location, bad_row)` returns the text pairs of each split that lies in the folder `location`. Every row knows its
file and line, and errors name them. A row that cannot be read is an `InputError` that goes to `bad_row`, which raises
it (`refuse`) or counts it. A file that cannot be read at all, an absent folder and a folder without any known file
raise `InputError`.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from raysynth.errors import InputError, brief


class Split(StrEnum):
    """A part of a text data set."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Pair(NamedTuple):
    """An example of a downstream task: the input text and the text that the model must produce."""

    source: str
    target: str
    references: tuple[str, ...] = ()
    """All right answers if a data set has several; if empty, only the target is right."""


class Row(NamedTuple):
    """One row of a file."""

    place: str
    """File and line, as errors name them."""
    record: Any
    """The row's content: a text, a list of columns, or a mapping from field names to values."""

    def error(self, problem: str) -> InputError:
        """An error that names the place of the row and the problem with it."""
        return InputError(f"{self.place}: {problem}")

    def text(self, field: str) -> str:
        """A field of the record without white space at its ends.

        Raises `InputError` if the field is missing, empty or not text.
        """
        if field not in self.record:
            names = [brief(name) for name in self.record]
            raise self.error(f"field {field!r} is missing; the row has {', '.join(names[:20]) or 'none'}")
        value = self.record[field]
        if not isinstance(value, str):
            raise self.error(f"field {field!r} must be text, got {brief(value)}")
        if not value.strip():
            raise self.error(f"empty {field}")
        return value.strip()


def character_problem(text: str) -> str | None:
    """What keeps a text from being encoded, or None: half of a surrogate pair, as in the JSON text "\\ud800"."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"character {error.start + 1} is half of a surrogate pair, {text[error.start]!a}"
    return None


BadRow = Callable[[InputError], None]
"""A function that is called with the error of each row that cannot be read."""


def refuse(error: InputError) -> None:
    """The `BadRow` that stops at the first bad row by raising its error."""
    raise error


class BadRows(StrEnum):
    """What a run does with rows that it cannot read."""

    REFUSE = "refuse"
    """Stop with an error."""
    SKIP = "skip"
    """Leave them out; the record of the data set counts them."""


class TextSource(Protocol):
    """A reader: the source of a downstream task's text pairs."""

    def read(self, location: str | None, bad_row: BadRow) -> dict[str, list[Pair]]:
        """Read the pairs of each `Split` that `location` has, in the order of `Split`.

        Passes the error of each row that cannot be read to `bad_row`. Raises `InputError` for missing or broken files.
        """
