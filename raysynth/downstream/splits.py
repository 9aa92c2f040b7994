"""From the files in a folder to the text pairs of each split.

A reader lists the file formats that it accepts in order of preference. For each split it takes the files of the first
format that is there, so the formats of two splits may differ. Splits may be named as in `SPLIT_NAMES` (`dev` for
validation), and files may be compressed or in shards (`raysynth.downstream.files`).

Besides the formats of its own, every reader accepts pairs that are ready for the model (`SOURCE_TARGET_FORMATS`):

- `train.jsonl`: one JSON object per line with the fields `source` and `target`;
- `train.tsv` or `train.txt`: the two texts separated by a tab, with or without the header `source<TAB>target`;
- `train.source` and `train.target`: one text per line, line n of one file with line n of the other.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from raysynth.downstream.files import shown, split_files
from raysynth.downstream.formats import json_rows, parallel_rows, tab_separated_rows
from raysynth.downstream.rows import BadRow, Pair, Row, Split, character_problem
from raysynth.errors import InputError

SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    Split.TRAIN: ("train",),
    Split.VALIDATION: ("validation", "valid", "val", "dev", "eval"),
    Split.TEST: ("test",),
}
"""The names that publishers give to each split in file names, in order of preference."""

Rows = Callable[[Path], Iterable[Row | InputError]]
"""A function that reads the rows of a file, with an error in place of each row that cannot be read."""


class FileFormat(NamedTuple):
    """A file format that a reader accepts."""

    path: str
    """Path of a split's file within the folder; `{}` stands for the split's name, `*` for anything."""
    rows: Rows
    pair: Callable[[Row], Pair | None]
    """Makes the pair of a row, or None for a header; raises `InputError` for a bad row."""

    def files(self, root: Path, split_name: str) -> list[Path]:
        """The split's files under `root` that are there in this format."""
        folder, _, name = self.path.format(split_name).rpartition("/")
        return split_files(root / folder, name)


def read_splits(
    task: str, location: str | None, formats: Iterable[FileFormat], bad_row: BadRow
) -> dict[str, list[Pair]]:
    """Read the pairs of each split under `location` from files of the first format that the split has.

    Raises `InputError` if there is no split, or if a split has no row that can be read.
    """
    if location is None:
        raise no_location(task)
    root, formats = Path(location), list(formats)
    if not os.path.isdir(root):
        raise InputError(f"{task} reads files: {shown(root)} is not a directory")
    splits: dict[str, list[Pair]] = {}
    for split, names in SPLIT_NAMES.items():
        candidates = ((form, files) for form in formats for name in names if (files := form.files(root, name)))
        form, files = next(candidates, (None, []))
        if form is not None:
            splits[split] = read_pairs(files, form, bad_row)
    if not splits:
        tried = ", ".join(form.path.format("train") for form in formats)
        raise InputError(f"{task} has no files under {shown(root)}; for the training split it looks for {tried}")
    return splits


def no_location(task: str) -> InputError:
    """The error for a task whose files nobody has named."""
    return InputError(
        f"{task} needs its files: pass --data {task}=DIR or set RAYSYNTH_DATA_{task.upper()} "
        f"(raysynth fetch {task} --into DIR downloads them, or says how to get them)"
    )


def read_pairs(files: list[Path], form: FileFormat, bad_row: BadRow) -> list[Pair]:
    """Read the pairs of a split's files; raises `InputError` if they have no row that can be read."""
    pairs = [pair for file in files for pair in _pairs(form.rows(file), form.pair, bad_row)]
    if not pairs:
        raise InputError(f"{shown(files[0])} has no row that can be read")
    return pairs


def _pairs(rows: Iterable[Row | InputError], pair_of: Callable[[Row], Pair | None], bad_row: BadRow) -> Iterator[Pair]:
    """The pair of each row that can be read; the errors of the others go to `bad_row`."""
    for row in rows:
        try:
            if isinstance(row, InputError):
                raise row
            pair = pair_of(row)
            for text in (pair.source, pair.target, *pair.references) if pair else ():
                if problem := character_problem(text):
                    raise row.error(problem)
        except InputError as error:
            bad_row(error)
        else:
            if pair is not None:
                yield pair


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
