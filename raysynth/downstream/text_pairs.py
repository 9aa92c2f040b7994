"""Data of one's own: pairs of texts in two columns of a table, which is a file or a folder with a file per split."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Literal

from raysynth.downstream.files import shown
from raysynth.downstream.formats import csv_rows, json_rows, parquet_rows, tab_separated_rows
from raysynth.downstream.rows import BadRow, Pair, Row, Split, refuse
from raysynth.downstream.splits import FileFormat, read_pairs, read_splits
from raysynth.errors import InputError, brief
from raysynth.fields import Choice, choose, finite, spec, whole


class TableFormat(StrEnum):
    """The format of a table of one's own; it is also the ending of the files in a folder."""

    TSV = "tsv"
    """Tab-separated, the first line has the names of the columns. Quotation marks are ordinary characters."""
    CSV = "csv"
    """Comma-separated, the first line has the names of the columns."""
    JSONL = "jsonl"
    """One JSON object a line."""
    PARQUET = "parquet"


@spec
class TextPairs:
    """Pairs of texts from two columns of a TSV, CSV, JSON lines or Parquet table; `--data NAME=PATH` says where it is.

    PATH is a folder with a file per split, such as `train.tsv`, `validation.tsv` and `test.tsv`, or, with shares, one
    file. Files may be compressed or in shards.
    """

    format: Choice[TableFormat, Literal["tsv", "csv", "jsonl", "parquet"]]
    source: str = "source"
    """The column of the inputs."""
    target: str = "target"
    """The column of the texts that the model must produce."""
    validation_share: float | None = None
    """Share of the distinct inputs of the training file to hold out for validation; None reads a file of its own."""
    test_share: float | None = None
    """The same for the test split, which None leaves to a file of its own or, with `validation_share`, out."""
    split_seed: int = 0
    """Draws the inputs that are held out. Rows with the same input are always in the same split."""

    def __post_init__(self) -> None:
        choose(self, "format", TableFormat)
        for column in ("source", "target"):
            if not isinstance(getattr(self, column), str) or not getattr(self, column):
                raise InputError(f"TextPairs.{column} must name a column, got {brief(getattr(self, column))}")
        shares = [share for share in (self.validation_share, self.test_share) if share is not None]
        for name in ("validation_share", "test_share"):
            if getattr(self, name) is not None:
                finite(self, name)
        if any(share <= 0 for share in shares) or sum(shares) >= 1:
            raise InputError(f"TextPairs: shares must be above 0 and leave some for training, got {shares}")
        if self.test_share is not None and self.validation_share is None:
            raise InputError("TextPairs.test_share needs a validation_share")
        whole(self, "split_seed", minimum=0)

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Read the pairs of each split; see `raysynth.downstream.rows`."""
        if location is None:
            raise InputError("TextPairs reads a table of yours: pass --data NAME=PATH with the name of its data set")
        form = FileFormat(f"{{}}.{self.format}", _READERS[self.format], self._pair)
        if Path(location).is_file():
            if self.validation_share is None:
                raise InputError(
                    f"{shown(location)} is one file: set TextPairs.validation_share, or name a folder with "
                    f"train.{self.format} and validation.{self.format}"
                )
            splits = {Split.TRAIN.value: read_pairs([Path(location)], form, bad_row)}
        else:
            splits = dict(read_splits("TextPairs", location, [form], bad_row))
        if self.validation_share is None:
            return splits
        given = [name for name in splits if name != Split.TRAIN and (name != Split.TEST or self.test_share is not None)]
        if given or Split.TRAIN not in splits:
            raise InputError(
                f"{shown(location)} has {' and '.join(map(str, splits))} files, but TextPairs.validation_share takes "
                "all splits that it makes from the train file: leave out the shares or the other files"
            )
        return splits | self._divided(splits[Split.TRAIN], shown(location))

    def _pair(self, row: Row) -> Pair:
        return Pair(row.text(self.source), row.text(self.target))

    def _divided(self, pairs: list[Pair], place: str) -> dict[str, list[Pair]]:
        """The splits of the pairs, each in their order: the first inputs by a hash that depends on the seed."""

        def order(source: str) -> bytes:
            return hashlib.sha256(f"{self.split_seed}\n{source}".encode()).digest()

        sources = sorted({pair.source for pair in pairs}, key=order)
        split_of = dict.fromkeys(sources, Split.TRAIN)
        first = 0
        for split, share in ((Split.TEST, self.test_share), (Split.VALIDATION, self.validation_share)):
            count = 0 if share is None else max(1, round(share * len(sources)))
            split_of.update(dict.fromkeys(sources[first : first + count], split))
            first += count
        if first >= len(sources):
            raise InputError(f"{place} has {len(sources)} distinct inputs: too few to hold out {first}")
        splits: dict[str, list[Pair]] = {}
        for split in Split:
            chosen = [pair for pair in pairs if split_of[pair.source] is split]
            if chosen:
                splits[split.value] = chosen
        return splits


def _named_columns(file: Path) -> Iterator[Row | InputError]:
    """The rows of a tab-separated file as mappings from the names in its first line."""
    header: list[str] | None = None
    for row in tab_separated_rows(file):
        if isinstance(row, InputError) and header is None:
            raise row  # without its header no row can be read
        elif isinstance(row, InputError):
            yield row
        elif header is None:
            header = [name.strip() for name in row.record]
            if repeated := next((name for name in header if header.count(name) > 1), None):
                raise row.error(f"the header has column {brief(repeated)} twice")
        elif len(row.record) != len(header):
            yield row.error(f"has {len(row.record)} tab-separated columns, the header has {len(header)}")
        else:
            yield Row(row.place, dict(zip(header, row.record, strict=True)))


_READERS: dict[TableFormat, Callable[[Path], Iterable[Row | InputError]]] = {
    TableFormat.TSV: _named_columns,
    TableFormat.CSV: csv_rows,
    TableFormat.JSONL: json_rows,
    TableFormat.PARQUET: parquet_rows,
}
