"""The numbers printed in the paper, by table."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from raysynth.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PrintedEntry:
    """One entry of a table as printed in the paper, in percent."""

    values: tuple[float, ...]
    """One value per metric."""
    spreads: tuple[float, ...] | None
    """Sample SDs over five seeds, one per metric; None if the paper prints none."""


PrintedTable = Mapping[tuple[str, str], PrintedEntry]
"""Entries by row and column."""


def read_printed(table: str) -> PrintedTable:
    """Read a table of `published.json`.

    Raises `InputError` if the file has no such table.
    """
    tables = json.loads((files("raysynth.report") / "published.json").read_text())
    if table not in tables:
        raise InputError(f"published.json has no table {table!r}; it has {', '.join(tables)}")
    return {
        (row, column): _parse(text)
        for row, texts in tables[table]["rows"].items()
        for column, text in zip(tables[table]["columns"], texts, strict=True)
    }


def printed_entry(table: PrintedTable, row: tuple[Any, ...], column: tuple[Any, ...]) -> PrintedEntry | None:
    """The printed entry for a row and column of ours, or None.

    The paper's table may be transposed relative to ours, so both orders are tried.
    """
    row_name, column_name = " ".join(map(str, row)), " ".join(map(str, column))
    return table.get((row_name, column_name)) or table.get((column_name, row_name))


def _parse(text: str) -> PrintedEntry:
    """Parse an entry such as `81.0/95.2 (0.3/2.2)`: values, then SDs."""
    match = re.fullmatch(r"([\d./]+)(?: \(([\d./]+)\))?", text)
    if match is None:
        raise InputError(f"published.json: {text!r} is not an entry such as '81.0/95.2 (0.3/2.2)'")
    values, spreads = match.groups()
    return PrintedEntry(values=_numbers(values), spreads=None if spreads is None else _numbers(spreads))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split("/")))
