"""The file formats of users: a reader for each, which downstream data and text corpora share.

A reader yields the rows of a file, with an `InputError` in place of each row that cannot be read, and raises
`InputError` for a file that cannot be read at all. Rows without any text are no rows. `raysynth.downstream.files` has
the rules that hold for all files.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from raysynth.downstream.files import lines, opened, read_bytes, read_text, shown, split_files, start_of_text
from raysynth.downstream.rows import Row, character_problem
from raysynth.errors import InputError, brief, first_line

# -------------------------------------------------------------------------------- lines


def _all_lines(file: Path) -> Iterator[Row | InputError]:
    """The lines of a UTF-8 file as text, blank ones too."""
    for number, line in enumerate(lines(file), start=1):
        place = f"{shown(file)}, line {number}"
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            yield InputError(f"{place}: not UTF-8 at byte {error.start + 1}")
            continue
        for character, name in (("\0", "NUL byte"), ("\r", "carriage return")):
            if character in text:
                yield InputError(f"{place}: has a {name} at character {text.index(character) + 1}")
                break
        else:
            yield Row(place, text)


def line_rows(file: Path) -> Iterator[Row | InputError]:
    """Read a UTF-8 file; each row is one line as text."""
    for row in _all_lines(file):
        if isinstance(row, InputError) or row.record.strip():
            yield row


def parallel_rows(file: Path, *, suffix: str, other_suffix: str) -> Iterator[Row | InputError]:
    """Read two UTF-8 files; row n has line n of the first as `source` and line n of the second as `target`.

    `file` is the first one and has `suffix`; the second has `other_suffix` instead. A blank line is a bad row except at
    the end. Raises `InputError` if their numbers of lines differ, because nothing tells which lines lack a partner.
    """
    stem, _, compression = file.name.rpartition(suffix)
    partner = stem + other_suffix
    other = next(iter(split_files(file.parent, partner)), file.with_name(partner + compression))
    sources, targets = list(_all_lines(file)), list(_all_lines(other))
    num_rows = max(_num_rows(sources), _num_rows(targets))
    sources, targets = sources[:num_rows], targets[:num_rows]
    if len(sources) != len(targets):
        raise InputError(
            f"{shown(file)} has {len(sources)} lines and {shown(other)} has {len(targets)}: "
            "they must have the same number"
        )
    for source, target in zip(sources, targets, strict=True):
        if isinstance(source, InputError):
            yield source
        elif isinstance(target, InputError):
            yield target
        elif blank := next((row for row in (source, target) if not row.record.strip()), None):
            yield blank.error("empty line")
        else:
            yield Row(source.place, {"source": source.record, "target": target.record})


def _num_rows(rows: list[Row | InputError]) -> int:
    """The number of rows up to the last one that is not blank."""
    numbers = (n for n, row in enumerate(rows, start=1) if isinstance(row, InputError) or row.record.strip())
    return max(numbers, default=0)


def tab_separated_rows(file: Path) -> Iterator[Row | InputError]:
    """Read a tab-separated UTF-8 file; each row is a list of columns. Quotation marks are ordinary characters."""
    for row in line_rows(file):
        yield row if isinstance(row, InputError) else Row(row.place, row.record.split("\t"))


# -------------------------------------------------------------------------------- JSON


def json_rows(file: Path) -> Iterator[Row | InputError]:
    """Read a file with one JSON object per line."""
    for row in line_rows(file):
        if isinstance(row, InputError):
            yield row
            continue
        try:
            record = parsed(row.record)
        except ValueError as error:
            yield row.error(str(error))
        else:
            yield Row(row.place, record) if isinstance(record, dict) else row.error("not a JSON object")


def read_json(file: Path) -> tuple[Any, str]:
    """Read a file that is one JSON value; returns the value and the text.

    Raises `InputError` with the line of the first mistake.
    """
    text = read_text(file)
    try:
        return parsed(text), text
    except ValueError as error:
        cause = error.__cause__
        line = f", line {cause.lineno}" if isinstance(cause, json.JSONDecodeError) else ""
        raise InputError(f"{shown(file)}{line}: {error}") from None


def parsed(text: str) -> Any:
    """The value of a JSON text; raises `ValueError` with one line for anything else."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise ValueError(f"broken JSON: {error.msg} at column {error.colno}") from error
    except RecursionError:
        raise ValueError("broken JSON: nested too deeply") from None


def _integer(digits: str) -> int | float:
    """An integer, or infinity for one of so many digits that Python refuses it."""
    return int(digits) if len(digits) < 4_000 else float(digits)


def _unique(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(fields)
    if len(record) < len(fields):
        names = [name for name, _ in fields]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"broken JSON: the field {brief(repeated)} is there twice")
    return record


# -------------------------------------------------------------------------------- tables


def csv_rows(file: Path) -> Iterator[Row | InputError]:
    """Read a CSV file with a header; each row maps column names to texts.

    Fields may span lines; the place of a row is its first line.
    """
    csv.field_size_limit(_MAX_FIELD)
    with opened(file) as stream:
        start_of_text(stream.peek(4), file)  # type: ignore[attr-defined]  # all our streams can look ahead
        # Bytes that are not UTF-8 become lone surrogates, so that an error can name their row.
        text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
        yield from _table_rows(csv.reader(text, strict=True), shown(file))
        text.detach()  # `opened` still needs the stream


_MAX_FIELD = (1 << 31) - 1
"""Characters of a CSV field; Python's own limit of 131,072 is less than a long article."""


def _table_rows(reader: Any, file: str) -> Iterator[Row | InputError]:
    header: list[str] | None = None
    while True:
        place = f"{file}, line {reader.line_num + 1}"
        try:
            fields = next(reader)
            problem = _fields_problem(fields)
        except StopIteration:
            return
        except csv.Error as error:
            fields, problem = [], f"broken CSV: {error}"
        if problem and header is None:  # without its header no row can be read
            raise InputError(f"{place}: {problem}")
        if problem:
            yield InputError(f"{place}: {problem}")
        elif not any(field.strip() for field in fields):
            continue
        elif header is None:
            header = fields
            if repeated := next((name for name in header if header.count(name) > 1), None):
                raise InputError(f"{place}: the header has column {brief(repeated)} twice")
        elif len(fields) != len(header):
            yield InputError(f"{place}: has {len(fields)} columns, the header has {len(header)}")
        else:
            yield Row(place, dict(zip(header, fields, strict=True)))


def _fields_problem(fields: Iterable[object]) -> str | None:
    texts = [field for field in fields if isinstance(field, str)]
    if any(map(character_problem, texts)):
        return "not UTF-8"
    return "has a NUL byte" if any("\0" in text for text in texts) else None


def parquet_rows(file: Path) -> Iterator[Row | InputError]:
    """Read a Parquet file; each row maps column names to values.

    Columns of text give their texts. Those of any other type give the type in place of each value: no reader needs the
    values, and Python has no objects for some of them.
    """
    import pyarrow as pa  # only this format needs it, and `import raysynth` must stay fast
    import pyarrow.parquet as pq

    number, content = 0, pa.BufferReader(read_bytes(file))
    try:
        table = pq.ParquetFile(content)
        names = table.schema_arrow.names
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"{shown(file)} has column {brief(repeated)} twice")
        for batch in table.iter_batches(batch_size=1024):
            columns = [_values(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                number += 1
                row = Row(f"{shown(file)}, row {number}", dict(zip(names, values, strict=True)))
                problem = _fields_problem(values)
                yield row.error(problem) if problem else row
    except InputError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:  # names of columns that are not UTF-8 are ValueErrors
        raise InputError(f"{shown(file)} cannot be read: {shown(first_line(error))}") from None


def _values(column: Any) -> list[object]:
    """The values of a column in a batch of rows; what is not UTF-8 in them becomes lone surrogates."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type not in (pa.string(), pa.large_string(), pa.string_view()):
        return [column.type] * len(column)
    values = column.cast(pa.large_binary()).to_pylist()
    return [value if value is None else value.decode(errors="surrogateescape") for value in values]
