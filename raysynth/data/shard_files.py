"""The shards of a data set: Parquet files of 16-bit token ids.

A shard is complete once it has its final name; it is written in full before that.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.data.manifest import Manifest, Shard, read_from_store
from raysynth.errors import InputError
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.identity import name
from raysynth.store.store import Store
from raysynth.tokens.ragged import Ragged

# -------------------------------------------------------------------------------- columns


def column_of(rows: Ragged) -> pa.Array:
    """A column with one value a row: the bytes of the row's ids, 16 bits each, little-endian."""
    buffers = [None, pa.py_buffer(2 * rows.offsets), pa.py_buffer(rows.values.astype("<u2", copy=False))]
    return pa.Array.from_buffers(pa.large_binary(), len(rows), buffers)


def rows_of(column: pa.ChunkedArray) -> Ragged:
    """The rows in a column that `column_of` made; raises `InputError` for a column of another type."""
    if column.type != pa.large_binary():
        raise InputError(f"ids are stored as {column.type}, not as bytes: delete the data set to have it made again")
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    _, starts, ids = array.buffers()
    offsets = np.frombuffer(starts, np.int64)[array.offset : array.offset + len(array) + 1] // 2
    values = np.frombuffer(ids or b"", "<u2")[offsets[0] : offsets[-1]] if len(array) else np.zeros(0, np.uint16)
    return Ragged(values, offsets - offsets[0])


# -------------------------------------------------------------------------------- files


def shard_bytes(sources: Ragged, targets: Ragged, **more_columns: pa.Array) -> bytes:
    """A shard as a Parquet file: the ids of each row's input and target, and further columns, [rows] each."""
    ids = {"source": column_of(sources), "target": column_of(targets)}
    fields = [pa.field(column, values.type, nullable=False) for column, values in ids.items()]
    fields += [pa.field(column, values.type) for column, values in more_columns.items()]
    return table_bytes(pa.Table.from_arrays([*ids.values(), *more_columns.values()], schema=pa.schema(fields)))


def table_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file.

    The ids of a row are one value. Parquet has no 16-bit numbers, and a list of wider ones stores a level for each
    element: it takes four times as long to write and more space.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=False,
        column_encoding=dict.fromkeys(("source", "target"), "DELTA_LENGTH_BYTE_ARRAY"),
        write_statistics=False,
        write_page_checksum=True,
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_ids(content: bytes) -> pa.Table:
    """The columns of ids in a Parquet file's bytes; raises `OSError` or `pa.ArrowException` if they are damaged."""
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    return file.read(columns=["source", "target"], use_threads=False)


def shard_of(file: str, content: bytes, num_rows: int) -> Shard:
    """The manifest's entry for a file with this content."""
    return Shard(file=file, rows=num_rows, sha256=hashlib.sha256(content).hexdigest())


def write_shard(store: Store, directory: str, file: str, content: bytes, num_rows: int) -> Shard:
    """Write a shard, in full or not at all; returns the manifest's entry for it."""
    store.write_bytes(f"{directory}/{file}", content)
    return shard_of(file, content, num_rows)


def read_required(store: Store, path: str) -> bytes:
    """The content of a file that a data set needs; raises `InputError` if it is missing."""
    content = store.read_bytes(path)
    if content is None:
        raise InputError(f"{store.uri}/{path} is missing; delete the data set's directory to have it made again")
    return content


# -------------------------------------------------------------------------------- checks


def damaged_files(manifest: Manifest, store: Store, directory: str) -> list[str]:
    """The files of a finished data set that are missing or do not have the checksum in the manifest."""

    def is_damaged(shard: Shard) -> bool:
        content = store.read_bytes(f"{directory}/{shard.file}")
        return content is None or hashlib.sha256(content).hexdigest() != shard.sha256

    shards = manifest.shards
    with ThreadPoolExecutor(8) as pool:
        return [shard.file for shard, bad in zip(shards, pool.map(is_damaged, shards), strict=True) if bad]


def intact(dataset: Dataset | TextDataset, store: Store) -> bool:
    """Whether the shards of a done data set match its manifest; if not, deletes its record, so it is no longer done."""
    manifest = read_from_store(store, name(dataset))
    if manifest is not None and not damaged_files(manifest, store, name(dataset)):
        return True
    store.delete(f"{name(dataset)}/record.json")
    return False
