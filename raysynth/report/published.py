"""The numbers that the paper printed."""

import json
import re
from dataclasses import dataclass
from importlib.resources import files

from raysynth.errors import InputError

# -------------------------------------------------------------------------------- printed numbers


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A cell as the paper prints it, in percent: one value per metric, with SDs over five seeds where it has them."""

    values: tuple[float, ...]
    spreads: tuple[float, ...] | None


def printed(table: str) -> dict[tuple[str, str], Printed]:
    """The cells of a table by row and column; raises `InputError` for a table that the file does not hold."""
    tables = json.loads((files("raysynth.report") / "published.json").read_text())
    if table not in tables:
        raise InputError(f"published.json has no table {table!r}; it has {', '.join(tables)}")
    return {
        (row, column): _cell(text)
        for row, cells in tables[table]["rows"].items()
        for column, text in zip(tables[table]["columns"], cells, strict=True)
    }


def _cell(text: str) -> Printed:
    """`81.0/95.2 (0.3/2.2)`: values, then SDs."""
    match = re.fullmatch(r"([\d./]+)(?: \(([\d./]+)\))?", text)
    if match is None:
        raise InputError(f"published.json: {text!r} is not a cell such as '81.0/95.2 (0.3/2.2)'")
    values, spreads = (part and tuple(map(float, part.split("/"))) for part in match.groups())
    return Printed(values=values, spreads=spreads)
