"""The shards of a synthetic data set, from a draw to their final files: what one worker does, and the plan for all.

Shard i draws from (seed, i) alone, so the number of workers does not change the data.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysynth.data.duplicates import row_hashes
from raysynth.data.manifest import Shard
from raysynth.data.shard_files import (
    NOTES,
    Note,
    read_ids,
    read_note,
    read_required,
    rows_of,
    sha256,
    shard_bytes,
    table_bytes,
    write_note,
    write_shard,
)
from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.specs.datasets import Dataset
from raysynth.specs.identity import name
from raysynth.store.store import Store
from raysynth.synthetic.base import SyntheticTask
from raysynth.synthetic.contract import checked_draw
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.streams import Purpose, stream

SplitRows = dict[Split, npt.NDArray[np.int64]]
"""The rows of a shard that go to each split, [count] int64 in rising order; splits without rows are left out."""

LEAST_SHARE_OF_NEW = 0.02
"""A task is given up once fewer of its draws than this are new inputs."""


# -------------------------------------------------------------------------------- the plan


def num_more_shards(dataset: Dataset, *, num_drawn: int, num_distinct: int) -> int:
    """Number of shards to draw next, from how many of the examples drawn so far are distinct.

    Raises `InputError` if the task does not have enough distinct inputs.
    """
    num_needed = dataset.num_validation + dataset.num_examples
    rate = num_distinct / num_drawn if num_drawn else 1.0
    if rate < LEAST_SHARE_OF_NEW:
        raise InputError(
            f"{dataset.task.name} gave only {num_distinct} distinct inputs in {num_drawn} draws, "
            f"{dataset.num_examples} and {dataset.num_validation} for validation were asked for; "
            "allow longer inputs, more tokens or fewer examples"
        )
    num_shards = max(1, -(-int((num_needed - num_distinct) / rate) // dataset.shard_size))
    return num_shards + num_shards // 50  # so that a few duplicates rarely cost another round


def rows_by_split(dataset: Dataset, distinct: Iterable[npt.NDArray[np.bool_]]) -> list[SplitRows]:
    """Which rows of each shard go to which split.

    `distinct` says for each shard which rows are the first with their input, [rows] bool. These rows fill the
    validation split first, then the training split; those left over go nowhere.
    """
    sizes = {Split.VALIDATION: dataset.num_validation, Split.TRAIN: dataset.num_examples}
    bounds = list(itertools.pairwise(itertools.accumulate(sizes.values(), initial=0)))
    plan = []
    before = 0
    for is_distinct in distinct:
        ranks = np.where(is_distinct, before + np.cumsum(is_distinct) - 1, -1)
        before += int(is_distinct.sum())
        rows = {
            split: np.flatnonzero((ranks >= start) & (ranks < end))
            for split, (start, end) in zip(sizes, bounds, strict=True)
        }
        plan.append({split: chosen for split, chosen in rows.items() if len(chosen)})
    return plan


# -------------------------------------------------------------------------------- shards


@dataclass(frozen=True, kw_only=True)
class StoredShard:
    """A shard in the store: either its whole draw, or the rows of it that are in their final files."""

    number: int
    files: tuple[Shard, ...]
    damaged_file: str | None = None
    """The file that was found damaged, if any, which is why the shard was drawn again."""


def final_file(split: Split, number: int) -> str:
    """The file with a shard's rows of a split."""
    return f"{split}-{number:05d}.parquet"


def split_of(file: str) -> Split:
    """The split of a final file."""
    return Split(file.split("-")[0])


def number_of(file: str) -> int:
    """The number of the shard in a final file or a draw."""
    return int(re.split("[-/]", file.removesuffix(".parquet"))[-1])


def draw_shard(dataset: Dataset, store: Store, number: int) -> tuple[StoredShard, npt.NDArray[np.uint64]]:
    """Draw one shard into `draws/`, unless it is in the store; returns it with the hashes of its inputs, [rows] uint64.

    A shard is in the store if all files that its note names have their checksums. Raises `InputError` if the task draws
    anything but what it was asked for.
    """
    damaged_file = None
    try:
        if (kept := _kept_shard(store, name(dataset), number)) is not None:
            return kept
    except _Damaged as damaged:
        damaged_file = str(damaged)
    sources, targets = drawn_rows(dataset, number, dataset.shard_size)
    content = shard_bytes(sources, targets)
    shard = write_shard(store, name(dataset), f"{NOTES}/{number:05d}.parquet", content, len(sources))
    write_note(store, name(dataset), f"{number:05d}", Note(files=(shard,)))
    return StoredShard(number=number, files=(shard,), damaged_file=damaged_file), row_hashes(sources)


def drawn_rows(dataset: Dataset, number: int, count: int) -> tuple[Ragged, Ragged]:
    """What the task draws if a shard of `count` rows is asked for; raises `InputError` unless it is what it must be."""
    task = dataset.task
    if not isinstance(task, SyntheticTask):
        raise TypeError(f"{task.name} is not a synthetic task")
    return checked_draw(task, stream(Purpose.SHARD, dataset.seed, number), count)


class _Damaged(Exception):
    """Raised for a shard that is there but not whole, with the name of the file."""


def _kept_shard(store: Store, directory: str, number: int) -> tuple[StoredShard, npt.NDArray[np.uint64]] | None:
    """A shard that an earlier call left, with the hashes of its inputs; None if there is none."""
    try:
        note = read_note(store, directory, f"{number:05d}")
        if note is None:
            return None
        if any(number_of(shard.file) != number for shard in note.files):
            raise InputError("the note is that of another shard")
    except InputError:
        raise _Damaged(f"{NOTES}/{number:05d}.json") from None
    kept = [_kept_file(store, directory, shard) for shard in note.files]
    stored = StoredShard(number=number, files=tuple(shard for shard, _ in kept))
    return stored, row_hashes(rows_of(pa.concat_tables([table for _, table in kept])["source"]))


def _kept_file(store: Store, directory: str, shard: Shard) -> tuple[Shard, pa.Table]:
    """One file of a shard with its ids; a draw that was moved has the same content under its final name."""
    names = [shard.file]
    if shard.file.startswith(f"{NOTES}/"):
        names += [final_file(split, number_of(shard.file)) for split in (Split.VALIDATION, Split.TRAIN)]
    for file in names:
        content = store.read_bytes(f"{directory}/{file}")
        if content is not None and sha256(content) == shard.sha256:
            return dataclasses.replace(shard, file=file), read_ids(content)
    raise _Damaged(shard.file)


def settle_in_place(directory: str, store: Store, shard: StoredShard, rows: SplitRows) -> StoredShard | None:
    """The shard with its rows in their final files, if this takes no more than a new name; else None."""
    counts = {final_file(split, shard.number): len(chosen) for split, chosen in rows.items()}
    if counts == {stored.file: stored.rows for stored in shard.files}:
        return shard  # an earlier call moved or rewrote it
    if len(counts) == 1 and counts == dict.fromkeys(counts, sum(stored.rows for stored in shard.files)):
        (draw,), (file,) = shard.files, counts
        store.move(f"{directory}/{draw.file}", f"{directory}/{file}")
        return StoredShard(number=shard.number, files=(Shard(file=file, rows=draw.rows, sha256=draw.sha256),))
    return None


def rewrite_shard(directory: str, store: Store, work: tuple[StoredShard, SplitRows]) -> StoredShard:
    """Write the rows of a shard that go to each split to their final files, and delete its other files."""
    shard, rows = work
    table = pa.concat_tables([_whole_table(store, directory, stored) for stored in shard.files])
    written = {}
    for split, chosen in rows.items():
        file = final_file(split, shard.number)
        content = table_bytes(table.take(pa.array(chosen)))
        written[file] = write_shard(store, directory, file, content, len(chosen))
    write_note(store, directory, f"{shard.number:05d}", Note(files=tuple(written.values())))
    for stored in shard.files:
        if stored.file not in written:
            store.delete(f"{directory}/{stored.file}")
    return StoredShard(number=shard.number, files=tuple(written.values()))


def _whole_table(store: Store, directory: str, shard: Shard) -> pa.Table:
    content = read_required(store, f"{directory}/{shard.file}")
    if sha256(content) != shard.sha256:
        raise InputError(f"{store.uri}/{directory}/{shard.file} is damaged: run the same command again")
    return read_ids(content)
