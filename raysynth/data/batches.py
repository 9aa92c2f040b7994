"""The examples of each training step, read from disk: the batch of step n is a function of (purpose, seed, n) alone.

An `Order` decides which examples a step sees; a layout (raysynth.data.layout) turns them into arrays. A layout never
moves an example to another step, so a denser one changes neither the order of the data nor, up to float rounding, any
result.
"""

import bisect
import hashlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.data.manifest import Manifest, Shard, read_from_directory
from raysynth.data.shard_files import rows_of
from raysynth.downstream.rows import Split
from raysynth.errors import InputError, first_line
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.streams import Purpose, stream


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Examples of a data set in memory."""

    sources: Ragged
    targets: Ragged
    prefix: tuple[int, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    """(source, target) of each example of a text data set; else empty."""
    references: tuple[tuple[str, ...], ...] = ()
    """All right answers to each example if the data set has several; else empty."""

    def __len__(self) -> int:
        return len(self.sources)

    def head(self, count: int | None) -> npt.NDArray[np.int64]:
        """The rows of the first `count` examples, of all for None, [count] int64."""
        return np.arange(len(self) if count is None else min(count, len(self)))

    def take(self, rows: npt.NDArray[np.int64]) -> "Examples":
        """The ids of some rows, [count] int64, in the order of `rows`, without their texts."""
        return Examples(sources=self.sources.take(rows), targets=self.targets.take(rows), prefix=self.prefix)


@dataclass(frozen=True, kw_only=True)
class StoredSplit:
    """One split of a data set on disk."""

    directory: Path
    shards: tuple[Shard, ...]
    prefix: tuple[int, ...]

    @staticmethod
    def open(directory: Path, split: Split) -> "StoredSplit":
        """Look a split up in the manifest; raises `InputError` if it has no examples or the manifest is unusable."""
        return StoredSplit.of(read_from_directory(directory), directory, split)

    @staticmethod
    def of(manifest: Manifest, directory: Path, split: Split) -> "StoredSplit":
        """A split of the data set with that manifest; raises `InputError` if it has no examples."""
        shards = manifest.splits.get(split, ())
        if not shards:
            raise InputError(f"{directory} has no {split} examples")
        return StoredSplit(directory=directory, shards=shards, prefix=manifest.prefix)

    def __len__(self) -> int:
        return sum(self.shard_rows)

    @property
    def shard_rows(self) -> tuple[int, ...]:
        """Number of examples in each shard."""
        return tuple(shard.rows for shard in self.shards)

    def read_ids(self, places: Iterable[int]) -> Examples:
        """The examples of some shards, chosen by their places in `shards`, without their texts.

        Every file is compared with its checksum whenever it is read, which takes 0.2 s for a million examples of Set.
        Raises `InputError` for damaged files.
        """
        table = self._joined([self._table(self.shards[place], ["source", "target"]) for place in places])
        return Examples(sources=rows_of(table["source"]), targets=rows_of(table["target"]), prefix=self.prefix)

    def read(self) -> Examples:
        """All examples, with their texts if they have some; raises `InputError` for damaged files."""
        table = self._joined([self._table(shard, None) for shard in self.shards])
        texts: tuple[tuple[str, str], ...] = ()
        if "source_text" in table.column_names:
            texts = tuple(zip(table["source_text"].to_pylist(), table["target_text"].to_pylist(), strict=True))
        references: tuple[tuple[str, ...], ...] = ()
        if "references" in table.column_names:
            references = tuple(map(tuple, table["references"].to_pylist()))
        return Examples(
            sources=rows_of(table["source"]),
            targets=rows_of(table["target"]),
            prefix=self.prefix,
            texts=texts,
            references=references,
        )

    def _joined(self, tables: list[pa.Table]) -> pa.Table:
        try:
            return pa.concat_tables(tables)
        except pa.ArrowInvalid:
            raise InputError(f"{self.directory} has shards with different columns") from None

    def _table(self, shard: Shard, columns: list[str] | None) -> pa.Table:
        file = self.directory / shard.file
        try:
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != shard.sha256:
                raise OSError("its content is not the one that was written")
            table = pq.ParquetFile(pa.BufferReader(content)).read(columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{file} cannot be read, run the same command again to have it remade: {first_line(error)}"
            ) from None
        if table.num_rows != shard.rows:
            raise InputError(f"{file} has {table.num_rows} rows, but the manifest says {shard.rows}")
        needed = {"source", "target"} | ({"target_text"} if "source_text" in table.column_names else set())
        if missing := needed.difference(table.column_names):
            raise InputError(f"{file} lacks the column {min(missing)!r}")
        if any(_is_extension(field.type) for field in table.schema):
            raise InputError(f"{file} has columns of types that Parquet does not know")
        return table


def _is_extension(kind: pa.DataType) -> bool:
    """Whether Python code belongs to a type or to one within it: Ray's type of objects would unpickle the values."""
    inner = [kind.value_type] if pa.types.is_dictionary(kind) else [kind.field(i).type for i in range(kind.num_fields)]
    return isinstance(kind, pa.BaseExtensionType) or any(map(_is_extension, inner))


def read(directory: Path, split: Split) -> Examples:
    """All examples of a split; raises `InputError` for missing or damaged shards."""
    return StoredSplit.open(directory, split).read()


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Consecutive examples of one window of shards."""

    window: tuple[int, ...]
    """The shards that are in memory at the same time, in rising order."""
    rows: npt.NDArray[np.int64]
    """[count] int64 into the window's rows."""
    following: tuple[int, ...]
    """The window after this one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """Which examples each training step sees: a new shuffle for every epoch, drawn from (purpose, seed, epoch).

    An epoch goes through the shards in random order, a window of them at a time: the shards of a window are in memory
    together, and their examples are shuffled. A data set that fits one window is thus shuffled as a whole. Any step can
    be computed without the ones before.
    """

    shard_rows: tuple[int, ...]
    """Number of examples in each shard."""
    batch_size: int
    purpose: Purpose
    """That of the run's order of examples."""
    seed: int
    window_rows: int = 100_000
    """Maximum number of examples in a window, unless a single shard has more."""

    def pieces(self, step: int) -> list[Piece]:
        """The `batch_size` examples of a step; batches run across the ends of windows and epochs."""
        pieces = []
        position, end = step * self.batch_size, (step + 1) * self.batch_size
        while position < end:
            epoch, within = divmod(position, sum(self.shard_rows))
            windows, ends = self._windows(epoch)
            index = bisect.bisect_right(ends, within)
            count = min(end - position, ends[index] - within)
            start = within - (ends[index - 1] if index else 0)
            following = windows[index + 1] if index + 1 < len(windows) else self._windows(epoch + 1)[0][0]
            rows = self._permutation(epoch, index)[start : start + count]
            pieces.append(Piece(window=windows[index], rows=rows, following=following))
            position += count
        return pieces

    def _windows(self, epoch: int) -> tuple[list[tuple[int, ...]], list[int]]:
        """The windows of an epoch, and the number of examples up to the end of each one."""
        if epoch not in self._kept_windows:
            self._kept_windows.pop(epoch - 2, None)
            groups: list[list[int]] = []
            room = 0
            for shard in stream(self.purpose, self.seed, epoch).permutation(len(self.shard_rows)).tolist():
                if not groups or self.shard_rows[shard] > room:
                    groups.append([])
                    room = self.window_rows
                groups[-1].append(shard)
                room -= self.shard_rows[shard]
            sizes = [sum(self.shard_rows[shard] for shard in group) for group in groups]
            self._kept_windows[epoch] = [tuple(sorted(group)) for group in groups], np.cumsum(sizes).tolist()
        return self._kept_windows[epoch]

    def _permutation(self, epoch: int, index: int) -> npt.NDArray[np.int64]:
        if (epoch, index) not in self._kept_permutations:
            windows, _ = self._windows(epoch)
            count = sum(self.shard_rows[shard] for shard in windows[index])
            while len(self._kept_permutations) > 1:
                self._kept_permutations.pop(next(iter(self._kept_permutations)))
            drawn = stream(self.purpose, self.seed, epoch, index).permutation(count)
            self._kept_permutations[epoch, index] = drawn
        return self._kept_permutations[epoch, index]

    @cached_property
    def _kept_windows(self) -> dict[int, tuple[list[tuple[int, ...]], list[int]]]:
        return {}

    @cached_property
    def _kept_permutations(self) -> dict[tuple[int, int], npt.NDArray[np.int64]]:
        return {}


class Stream:
    """The training examples of each step, read when needed; use as a context manager.

    Keeps the window of the current step and reads the next one in the background.
    """

    def __init__(self, split: StoredSplit, order: Order):
        self._split = split
        self._order = order
        self._pool = ThreadPoolExecutor(1)
        self._windows: dict[tuple[int, ...], Future[Examples]] = {}

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def examples(self, step: int) -> Examples:
        """The `batch_size` examples of a step."""
        pieces = self._order.pieces(step)
        windows = dict.fromkeys([*(piece.window for piece in pieces), pieces[-1].following])
        self._windows = {
            window: self._windows.get(window) or self._pool.submit(self._split.read_ids, window) for window in windows
        }
        parts = [self._windows[piece.window].result().take(piece.rows) for piece in pieces]
        if len(parts) == 1:
            return parts[0]
        return Examples(
            sources=Ragged.chained([part.sources for part in parts]),
            targets=Ragged.chained([part.targets for part in parts]),
            prefix=self._split.prefix,
        )
