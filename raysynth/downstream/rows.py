"""What the readers of downstream data share: splits, rows of files and the file formats that every task accepts.

A reader is a description such as `SQuAD()`: its fields say how texts are prepared, and its method
`read(location, bad_row)` returns the text pairs of each split that lies in the folder `location`. A reader lists the
file formats that it accepts in order of preference. For each split it takes the files of the first format that is
there, so the formats of two splits may differ. Splits may be named as in `SPLIT_NAMES` (`dev` for validation).

Besides the formats of its own, every reader accepts pairs that are ready for the model (`SOURCE_TARGET_FORMATS`):

- `train.jsonl`: one JSON object per line with the fields `source` and `target`;
- `train.tsv` or `train.txt`: the two texts separated by a tab, with or without the header `source<TAB>target`;
- `train.source` and `train.target`: one text per line, line n of one file with line n of the other.

Text files are UTF-8. Every row knows its file and line, and errors name them. A row that cannot be read is an
`InputError` that goes to `bad_row`, which raises it (`refuse`) or counts it. A file that cannot be read at all, an
absent folder and a folder without any known file raise `InputError`.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from raysynth.errors import InputError


class Split(StrEnum):
    """A part of a text data set."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    Split.TRAIN: ("train",),
    Split.VALIDATION: ("validation", "valid", "val", "dev", "eval"),
    Split.TEST: ("test",),
}
"""The names that publishers give to each split in file names, in order of preference."""


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
            raise self.error(f"field {field!r} is missing; the row has {', '.join(map(repr, self.record)) or 'none'}")
        value = self.record[field]
        if not isinstance(value, str):
            raise self.error(f"field {field!r} must be text, got {value!r:.60}")
        if not value.strip():
            raise self.error(f"empty {field}")
        return value.strip()


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


Rows = Callable[[Path], Iterable[Row | InputError]]
"""A function that reads the rows of a file, with an error in place of each row that cannot be read."""


class FileFormat(NamedTuple):
    """A file format that a reader accepts."""

    pattern: str
    """Path of a split's files within the folder: `{}` stands for the split's name, the rest is a glob pattern."""
    rows: Rows
    pair: Callable[[Row], Pair | None]
    """Makes the pair of a row, or None for a header; raises `InputError` for a bad row."""


def read_splits(
    task: str, location: str | None, formats: Iterable[FileFormat], bad_row: BadRow
) -> dict[str, list[Pair]]:
    """Read the pairs of each split under `location` from files of the first format that the split has.

    Raises `InputError` if there is no split, or if a split has no row that can be read.
    """
    if location is None:
        raise InputError(
            f"{task} needs its files: pass --data {task}=DIR or set RAYSYNTH_DATA_{task.upper()} "
            f"(raysynth fetch {task} --into DIR downloads them, or says how to get them)"
        )
    root, formats = Path(location), list(formats)
    if not root.is_dir():
        raise InputError(f"{task} reads files: {root} is not a directory")
    splits: dict[str, list[Pair]] = {}
    for split, names in SPLIT_NAMES.items():
        candidates = (
            (form, files)
            for form in formats
            for name in names
            if (files := sorted(root.glob(form.pattern.format(name))))
        )
        form, files = next(candidates, (None, []))
        if form is not None:
            splits[split] = [pair for file in files for pair in _pairs(form.rows(file), form.pair, bad_row)]
            if not splits[split]:
                raise InputError(f"{files[0]} has no row that can be read")
    if not splits:
        tried = ", ".join(form.pattern.format("train") for form in formats)
        raise InputError(f"{task} has no files under {root}; for the training split it looks for {tried}")
    return splits


def _pairs(rows: Iterable[Row | InputError], pair_of: Callable[[Row], Pair | None], bad_row: BadRow) -> Iterator[Pair]:
    for row in rows:
        try:
            if isinstance(row, InputError):
                raise row
            pair = pair_of(row)
        except InputError as error:
            bad_row(error)
        else:
            if pair is not None:
                yield pair


# -------------------------------------------------------------------------------- rows of files


def read_bytes(file: Path) -> bytes:
    """Read a whole file; raises `InputError` if that fails."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None


def line_rows(file: Path) -> Iterator[Row | InputError]:
    """Read a UTF-8 file; each row is one line as text. Empty lines are errors."""
    for number, line in enumerate(read_bytes(file).removesuffix(b"\n").split(b"\n"), start=1):
        place = f"{file}, line {number}"
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            yield InputError(f"{place}: not UTF-8 at byte {error.start + 1}")
            continue
        if number == 1:
            text = text.removeprefix("\ufeff")  # the byte order mark that some editors write
        yield Row(place, text) if text.strip() else InputError(f"{place}: empty line")


def parallel_rows(file: Path, *, suffix: str, other_suffix: str) -> Iterator[Row | InputError]:
    """Read two UTF-8 files; row n has line n of the first as `source` and line n of the second as `target`.

    `file` is the first one and ends in `suffix`; the second has `other_suffix` instead. Raises `InputError` if their
    numbers of lines differ, because nothing tells which lines lack a partner.
    """
    other = file.with_name(file.name.removesuffix(suffix) + other_suffix)
    sources, targets = list(line_rows(file)), list(line_rows(other))
    if len(sources) != len(targets):
        raise InputError(
            f"{file} has {len(sources)} lines and {other} has {len(targets)}: they must have the same number"
        )
    for source, target in zip(sources, targets, strict=True):
        if isinstance(source, InputError):
            yield source
        elif isinstance(target, InputError):
            yield target
        else:
            yield Row(source.place, {"source": source.record, "target": target.record})


def tab_separated_rows(file: Path) -> Iterator[Row | InputError]:
    """Read a tab-separated UTF-8 file; each row is a list of columns. Quotation marks are ordinary characters."""
    for row in line_rows(file):
        yield row if isinstance(row, InputError) else Row(row.place, row.record.split("\t"))


def json_rows(file: Path) -> Iterator[Row | InputError]:
    """Read a file with one JSON object per line."""
    for row in line_rows(file):
        yield row if isinstance(row, InputError) else _parsed(row)


def _parsed(row: Row) -> Row | InputError:
    try:
        record = json.loads(row.record)
    except ValueError as error:
        return row.error(f"broken JSON: {error}")
    return Row(row.place, record) if isinstance(record, dict) else row.error("not a JSON object")


def read_json(file: Path) -> Any:
    """Read a file that is one JSON value; raises `InputError` with the line of the first mistake."""
    raw = read_bytes(file)
    try:
        return json.loads(raw)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"{file}, line {line}: not UTF-8 at byte {error.start + 1} of the file") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{file}, line {error.lineno}: broken JSON: {error.msg} at column {error.colno}") from None


def csv_rows(file: Path) -> Iterator[Row | InputError]:
    """Read a CSV file with a header; each row maps column names to texts.

    Fields may span lines; the place of a row is its first line.
    """
    # Bytes that are not UTF-8 become lone surrogates, so that an error can name their row.
    text = read_bytes(file).removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
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
            yield InputError(f"{place}: has {len(fields)} columns, the header has {len(header)}")
        elif any("\udc80" <= letter <= "\udcff" for field in fields for letter in field):
            yield InputError(f"{place}: not UTF-8")
        else:
            yield Row(place, dict(zip(header, fields, strict=True)))


def parquet_rows(file: Path) -> Iterator[Row | InputError]:
    """Read a Parquet file; each row maps column names to values."""
    import pyarrow as pa  # only this format needs it, and `import raysynth` must stay fast
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    for number, record in enumerate(table.to_pylist(), start=1):
        yield Row(f"{file}, row {number}", record)


# -------------------------------------------------------------------------------- pairs that are ready for the model


def source_target_record(row: Row) -> Pair:
    """The pair of a record with the fields `source` and `target`."""
    return Pair(row.text("source"), row.text("target"))


def source_target_columns(row: Row) -> Pair | None:
    """The pair of a row with two columns, or None for the header `source<TAB>target`."""
    if len(row.record) != 2:
        raise row.error(f"has {len(row.record)} tab-separated columns, must have 2 (source, target)")
    if row.record == ["source", "target"]:
        return None
    return source_target_record(Row(row.place, dict(zip(("source", "target"), row.record, strict=True))))


def _source_target_lines(file: Path) -> Iterator[Row | InputError]:
    return parallel_rows(file, suffix=".source", other_suffix=".target")


SOURCE_TARGET_FORMATS = (
    FileFormat("{}.jsonl", json_rows, source_target_record),
    FileFormat("{}.tsv", tab_separated_rows, source_target_columns),
    FileFormat("{}.txt", tab_separated_rows, source_target_columns),  # the file names of the paper's own data
    FileFormat("{}.source", _source_target_lines, source_target_record),
)
"""The formats that every reader accepts: pairs of source and target as the model will see them."""
