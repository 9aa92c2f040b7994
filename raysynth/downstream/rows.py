"""Rows of files, each with its place, so that whatever is wrong with one is told with file and line."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.errors import InputError

if TYPE_CHECKING:
    pass


class TextSource(Protocol):
    """Where the text pairs of a downstream task come from."""

    def read(self, location: str | None, bad_row: "BadRow") -> "dict[str, list[Pair]]":
        """The pairs of the splits ("train", "validation", "test") that are there.

        Raises `InputError` for missing or broken files; a row that cannot be read is handed to `bad_row`.
        """


class Split(StrEnum):
    """A part of a text data set."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev", "eval"), "test": ("test",)}
"""How publishers call each split in the names of its files."""


class Pair(NamedTuple):
    """What a downstream task gives and what it asks for."""

    source: str
    target: str
    references: tuple[str, ...] = ()
    """All right answers where a data set has several; else empty, and the target alone is right."""


class Row(NamedTuple):
    """One row of a file."""

    place: str
    """File and line, as errors name them."""
    record: Any

    def error(self, problem: str) -> InputError:
        """The error that tells where the row is and what is wrong with it."""
        return InputError(f"{self.place}: {problem}")

    def text(self, field: str) -> str:
        """A field of the record without white space at its ends; raises `InputError` unless it is text."""
        if field not in self.record:
            raise self.error(f"field {field!r} is missing; the row has {', '.join(map(repr, self.record)) or 'none'}")
        value = self.record[field]
        if not isinstance(value, str):
            raise self.error(f"field {field!r} must be text, got {value!r:.60}")
        if not value.strip():
            raise self.error(f"empty {field}")
        return value.strip()


BadRow = Callable[[InputError], None]
"""What becomes of a row that cannot be read."""


def refuse(error: InputError) -> None:
    """The `BadRow` that ends the reading."""
    raise error


class BadRows(StrEnum):
    """What a run does about rows that it cannot read."""

    REFUSE = "refuse"
    SKIP = "skip"
    """Leave them out; the data set's record counts them."""


Rows = Callable[[Path], Iterable[Row | InputError]]
"""The rows of a file, with an error in the place of each that is damaged."""


class Form(NamedTuple):
    """One of the forms in which a task's files come."""

    pattern: str
    """Where a split's files are: `{}` stands for the split's name, the rest is a glob."""
    rows: Rows
    pair: Callable[[Row], Pair | None]
    """The pair in a row, None for a header; raises `InputError` for a row that has none."""


def read_splits(task: str, location: str | None, forms: Iterable[Form], bad_row: BadRow) -> dict[str, list[Pair]]:
    """The pairs of each split that lies under `location`, from the first of the forms that it has.

    Raises `InputError` where there is no split at all or one without a row that can be read.
    """
    if location is None:
        raise InputError(
            f"{task} needs its files: pass --data {task}=DIR or set RAYSYNTH_DATA_{task.upper()} "
            f"(raysynth fetch {task} --into DIR gets them, or says how)"
        )
    root, forms = Path(location), list(forms)
    if not root.is_dir():
        raise InputError(f"{task} reads files: {root} is not a directory")
    splits = {}
    for split, names in NAMES.items():
        found = (
            (form, files) for form in forms for name in names if (files := sorted(root.glob(form.pattern.format(name))))
        )
        form, files = next(found, (None, []))
        if form is not None:
            splits[split] = [pair for file in files for pair in _pairs(form.rows(file), form.pair, bad_row)]
            if not splits[split]:
                raise InputError(f"{files[0]} holds no example that can be read")
    if not splits:
        tried = ", ".join(form.pattern.format("train") for form in forms)
        raise InputError(f"{task} found none of its files under {root}; for the training split it looks for {tried}")
    return splits


def _pairs(rows: Iterable[Row | InputError], pair: Callable[[Row], Pair | None], bad_row: BadRow) -> Iterator[Pair]:
    for row in rows:
        try:
            if isinstance(row, InputError):
                raise row
            found = pair(row)
        except InputError as error:
            bad_row(error)
        else:
            if found is not None:
                yield found


# -------------------------------------------------------------------------------- rows


def content(file: Path) -> bytes:
    """The bytes of a file; raises `InputError` where it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None


def lines(file: Path) -> Iterator[Row | InputError]:
    """The lines of a UTF-8 file, of which none may be empty, as text."""
    for number, line in enumerate(content(file).removesuffix(b"\n").split(b"\n"), start=1):
        place = f"{file}, line {number}"
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            yield InputError(f"{place}: not UTF-8 at byte {error.start + 1}")
            continue
        if number == 1:
            text = text.removeprefix("\ufeff")  # a mark that some editors put at the start of a file
        yield Row(place, text) if text.strip() else InputError(f"{place}: empty line")


def parallel_lines(file: Path, *, suffix: str, other_suffix: str) -> Iterator[Row | InputError]:
    """The lines of two files as records of source and target; line n of one belongs to line n of the other.

    `file` ends in `suffix`, the other file in `other_suffix` instead. Raises `InputError` where one has more lines,
    since which of them lacks its partner cannot be told.
    """
    other = file.with_name(file.name.removesuffix(suffix) + other_suffix)
    sources, targets = list(lines(file)), list(lines(other))
    if len(sources) != len(targets):
        raise InputError(f"{file} has {len(sources)} lines and {other} has {len(targets)}: each line must have its own")
    for source, target in zip(sources, targets, strict=True):
        damaged = next((row for row in (source, target) if isinstance(row, InputError)), None)
        yield damaged or Row(source.place, {"source": source.record, "target": target.record})


def tab_separated(file: Path) -> Iterator[Row | InputError]:
    """The lines as lists of columns; no character quotes, since tokens may be quotation marks."""
    for row in lines(file):
        yield row if isinstance(row, InputError) else Row(row.place, row.record.split("\t"))


def json_lines(file: Path) -> Iterator[Row | InputError]:
    """The lines as JSON objects."""
    for row in lines(file):
        yield row if isinstance(row, InputError) else _parsed(row)


def _parsed(row: Row) -> Row | InputError:
    try:
        record = json.loads(row.record)
    except ValueError as error:
        return row.error(f"broken JSON: {error}")
    return Row(row.place, record) if isinstance(record, dict) else row.error("not a JSON object")


def json_document(file: Path) -> Any:
    """The one JSON value that a file holds; raises `InputError` with the line where it breaks."""
    raw = content(file)
    try:
        return json.loads(raw)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"{file}, line {line}: not UTF-8 at byte {error.start + 1} of the file") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{file}, line {error.lineno}: broken JSON: {error.msg} at column {error.colno}") from None


def comma_separated(file: Path) -> Iterator[Row | InputError]:
    """The rows of a CSV file with a header, by column; a row's line is its first, fields may span several."""
    # What is not UTF-8 goes through as lone surrogates, so that the row that holds it can be named.
    text = content(file).removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        place = f"{file}, line {reader.line_num + 1}"
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield InputError(f"{place}: broken CSV: {error}")
            continue
        if header is None:
            header = fields
        elif len(fields) != len(header):
            yield InputError(f"{place}: has {len(fields)} columns where the header has {len(header)}")
        elif any("\udc80" <= letter <= "\udcff" for field in fields for letter in field):
            yield InputError(f"{place}: not UTF-8")
        else:
            yield Row(place, dict(zip(header, fields, strict=True)))


def parquet(file: Path) -> Iterator[Row | InputError]:
    """The rows of a Parquet file, by column."""
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    for number, record in enumerate(table.to_pylist(), start=1):
        yield Row(f"{file}, row {number}", record)


# -------------------------------------------------------------------------------- source and target as they are


def ready_record(row: Row) -> Pair:
    """The pair of a record that has both texts."""
    return Pair(row.text("source"), row.text("target"))


def ready_columns(row: Row) -> Pair | None:
    """The pair in two columns; a line `source<TAB>target` is a header."""
    if len(row.record) != 2:
        raise row.error(f"has {len(row.record)} tab-separated columns, must have 2 (source, target)")
    if row.record == ["source", "target"]:
        return None
    return ready_record(Row(row.place, dict(zip(("source", "target"), row.record, strict=True))))


READY = (
    Form("{}.jsonl", json_lines, ready_record),
    Form("{}.tsv", tab_separated, ready_columns),
    Form("{}.txt", tab_separated, ready_columns),  # as the authors' own files are named
    Form("{}.source", lambda file: parallel_lines(file, suffix=".source", other_suffix=".target"), ready_record),
)
"""The forms that every task takes: source and target as the model shall see them."""
