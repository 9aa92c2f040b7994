"""Examples on disk to the arrays of a step: the batch at step n is a function of (seed, n) alone.

Which examples a step sees and how they lie on the device are separate: an `Order` draws rows, a layout turns them into
blocks of arrays. A layout never moves an example to another step, so a denser one changes neither data order nor, up
to float rounding, any result.
"""

import bisect
import json
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.data.shard_files import ragged
from raysynth.errors import InputError
from raysynth.tokens.ragged import Ragged


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Examples of a data set in memory."""

    sources: Ragged
    targets: Ragged
    prefix: tuple[int, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    """(source, target) of each example of a text data set, else empty."""
    references: tuple[tuple[str, ...], ...] = ()
    """All right answers to each example where the data set has several, else empty."""

    def __len__(self) -> int:
        return len(self.sources)

    def head(self, count: int | None) -> np.ndarray:
        """The rows of the first `count` examples, [count] int64."""
        return np.arange(len(self) if count is None else min(count, len(self)))

    def take(self, rows: np.ndarray) -> "Examples":
        """The ids of the given rows, [count] int64, in that order, without their texts."""
        return Examples(sources=self.sources.take(rows), targets=self.targets.take(rows), prefix=self.prefix)


@dataclass(frozen=True, kw_only=True)
class StoredSplit:
    """One split of a data set on disk."""

    directory: Path
    name: str
    files: tuple[str, ...]
    rows: tuple[int, ...]
    """Examples in each file."""
    prefix: tuple[int, ...]

    @staticmethod
    def open(directory: Path, name: str) -> "StoredSplit":
        """Read the manifest's part on a split; raises `InputError` where it has no examples."""
        manifest = json.loads((directory / "manifest.json").read_text())
        shards = manifest["splits"].get(name, [])
        if not shards:
            raise InputError(f"{directory} has no {name} examples")
        return StoredSplit(
            directory=directory,
            name=name,
            files=tuple(shard["file"] for shard in shards),
            rows=tuple(shard["rows"] for shard in shards),
            prefix=tuple(manifest.get("prefix", ())),
        )

    def __len__(self) -> int:
        return sum(self.rows)

    def ids(self, shards: Iterable[int]) -> Examples:
        """The examples of the given shards, by their place in `files`, without their texts.

        Raises `InputError` for damaged files.
        """
        table = pa.concat_tables([self._table(shard, ["source", "target"]) for shard in shards])
        return Examples(sources=ragged(table["source"]), targets=ragged(table["target"]), prefix=self.prefix)

    def read(self) -> Examples:
        """All examples, with their texts where there are some; raises `InputError` for damaged files."""
        table = pa.concat_tables([self._table(shard, None) for shard in range(len(self.files))])
        texts: tuple[tuple[str, str], ...] = ()
        if "source_text" in table.column_names:
            texts = tuple(zip(table["source_text"].to_pylist(), table["target_text"].to_pylist(), strict=True))
        references: tuple[tuple[str, ...], ...] = ()
        if "references" in table.column_names:
            references = tuple(map(tuple, table["references"].to_pylist()))
        return Examples(
            sources=ragged(table["source"]),
            targets=ragged(table["target"]),
            prefix=self.prefix,
            texts=texts,
            references=references,
        )

    def _table(self, shard: int, columns: list[str] | None) -> pa.Table:
        file = self.directory / self.files[shard]
        try:
            with pq.ParquetFile(file, page_checksum_verification=True) as opened:
                table = opened.read(columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{file} cannot be read, run the same command again to have it remade: {reason}") from None
        if table.num_rows != self.rows[shard]:
            raise InputError(f"{file} has {table.num_rows} rows where the manifest tells of {self.rows[shard]}")
        return table


def read(directory: Path, name: str) -> Examples:
    """A whole split in memory; raises `InputError` for missing or damaged shards."""
    return StoredSplit.open(directory, name).read()


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Consecutive examples of one window of shards."""

    window: tuple[int, ...]
    """The shards that are in memory together, in rising order."""
    rows: np.ndarray
    """[count] int64 into the window's rows."""
    following: tuple[int, ...]
    """The window that comes after this one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """Which examples each training step sees: a new shuffle for every epoch, drawn from (seed, epoch).

    An epoch goes through the shards in random order, some at a time: a window of them is in memory and its examples
    come in random order. A data set of one window is shuffled as a whole, and any step is found without those before.
    """

    shard_rows: tuple[int, ...]
    """Examples in each shard."""
    batch_size: int
    seed: int
    window_rows: int = 100_000
    """A window takes shards up to this many examples, and at least one shard."""

    def pieces(self, step: int) -> list[Piece]:
        """The examples of a step, `batch_size` in all; batches run across the ends of windows and epochs."""
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
        """The windows of an epoch, and the number of examples up to the end of each."""
        if epoch not in self._kept_windows:
            self._kept_windows.pop(epoch - 2, None)
            groups: list[list[int]] = []
            room = 0
            for shard in np.random.default_rng([self.seed, epoch]).permutation(len(self.shard_rows)).tolist():
                if not groups or self.shard_rows[shard] > room:
                    groups.append([])
                    room = self.window_rows
                groups[-1].append(shard)
                room -= self.shard_rows[shard]
            sizes = [sum(self.shard_rows[shard] for shard in group) for group in groups]
            self._kept_windows[epoch] = [tuple(sorted(group)) for group in groups], np.cumsum(sizes).tolist()
        return self._kept_windows[epoch]

    def _permutation(self, epoch: int, index: int) -> np.ndarray:
        if (epoch, index) not in self._kept_permutations:
            windows, _ = self._windows(epoch)
            count = sum(self.shard_rows[shard] for shard in windows[index])
            while len(self._kept_permutations) > 1:
                self._kept_permutations.pop(next(iter(self._kept_permutations)))
            drawn = np.random.default_rng([self.seed, epoch, index]).permutation(count)
            self._kept_permutations[epoch, index] = drawn
        return self._kept_permutations[epoch, index]

    @cached_property
    def _kept_windows(self) -> dict[int, tuple[list[tuple[int, ...]], list[int]]]:
        return {}

    @cached_property
    def _kept_permutations(self) -> dict[tuple[int, int], np.ndarray]:
        return {}


class Stream:
    """The training examples of each step, read as they are needed; use as a context manager.

    Holds the window that the step is in, and reads the one after it meanwhile.
    """

    def __init__(self, split: StoredSplit, *, batch_size: int, seed: int):
        self._split = split
        self._order = Order(shard_rows=split.rows, batch_size=batch_size, seed=seed)
        self._pool = ThreadPoolExecutor(1)
        self._windows: dict[tuple[int, ...], Future[Examples]] = {}

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def examples(self, step: int) -> Examples:
        """The `batch_size` examples of a step."""
        pieces = self._order.pieces(step)
        wanted = dict.fromkeys([*(piece.window for piece in pieces), pieces[-1].following])
        self._windows = {
            window: self._windows.get(window) or self._pool.submit(self._split.ids, window) for window in wanted
        }
        parts = [self._windows[piece.window].result().take(piece.rows) for piece in pieces]
        if len(parts) == 1:
            return parts[0]
        return Examples(
            sources=Ragged.chained([part.sources for part in parts]),
            targets=Ragged.chained([part.targets for part in parts]),
            prefix=self._split.prefix,
        )
