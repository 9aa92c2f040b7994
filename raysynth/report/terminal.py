"""Tables of text on a terminal: they fit it, and nothing in them is cut."""

import sys
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raysynth.errors import printable

WIDTH = 80
"""Characters of a line where the output is no terminal."""


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of text below a header; a text that is too long for its column goes on in the next line."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in header:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(text)) for text in row))
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    Console(width=None if is_terminal else WIDTH).print(table)
