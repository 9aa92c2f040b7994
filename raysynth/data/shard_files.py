"""Data sets on disk: Parquet shards of 16-bit token ids with one manifest, and downstream data as such.

A shard counts once it has its final name, a data set once its manifest is there; the manifest tells every shard's rows
and SHA-256.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.errors import InputError
from raysynth.specs.datasets import Dataset
from raysynth.specs.identity import name
from raysynth.store.store import Store
from raysynth.tokens.ragged import Ragged


def ragged(column: pa.ChunkedArray) -> Ragged:
    """The rows of a Parquet file's column of ids, each the bytes of its little-endian 16-bit ids.

    Raises `InputError` for a column of another type.
    """
    if column.type != pa.large_binary():
        raise InputError(f"ids are stored as {column.type}, not as bytes: delete the data set to have it made again")
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    _, starts, ids = array.buffers()
    offsets = np.frombuffer(starts, np.int64)[array.offset : array.offset + len(array) + 1] // 2
    values = np.frombuffer(ids or b"", "<u2")[offsets[0] : offsets[-1]] if len(array) else np.zeros(0, np.uint16)
    return Ragged(values, offsets - offsets[0])


MANIFEST = "manifest.json"


def intact(dataset: Dataset, store: Store) -> bool:
    """Whether a done data set's shards are what its manifest tells; if not, it is not done any more."""
    manifest = store.read_json(f"{name(dataset)}/{MANIFEST}")
    if manifest is not None and not damaged(manifest, store, name(dataset)):
        return True
    store.delete(f"{name(dataset)}/record.json")
    return False


def damaged(manifest: dict[str, Any], store: Store, where: str) -> list[str]:
    """The files of a finished data set that are missing or not what their checksum tells."""

    def wrong(shard: dict[str, Any]) -> bool:
        content = store.read_bytes(f"{where}/{shard['file']}")
        return content is None or hashlib.sha256(content).hexdigest() != shard["sha256"]

    files = [shard for split in manifest["splits"].values() for shard in split]
    with ThreadPoolExecutor(8) as pool:
        return [shard["file"] for shard, bad in zip(files, pool.map(wrong, files), strict=True) if bad]


def manifest_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 over the shards' checksums: equal where every row is."""
    sums = [shard["sha256"] for split in sorted(manifest["splits"]) for shard in manifest["splits"][split]]
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def content_of(store: Store, path: str) -> bytes:
    """A file that a data set needs; raises `InputError` where it is missing."""
    content = store.read_bytes(path)
    if content is None:
        raise InputError(f"{store.uri}/{path} is missing; delete the data set's directory to have it made again")
    return content


# -------------------------------------------------------------------------------- files


def parquet(sources: Ragged, targets: Ragged, **more: pa.Array) -> bytes:
    """A shard's file: the ids of each row's input and target, and further columns, [rows] each."""
    ids = {"source": bytes_of(sources), "target": bytes_of(targets)}
    fields = [pa.field(column, values.type, nullable=False) for column, values in ids.items()]
    fields += [pa.field(column, values.type) for column, values in more.items()]
    return table_bytes(pa.Table.from_arrays([*ids.values(), *more.values()], schema=pa.schema(fields)))


def table_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file.

    The ids of a row are one value: its bytes, little-endian. Parquet knows no 16-bit numbers, and a list of wider ones,
    whose elements each have a level of their own, takes four times as long to write and more room.
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
    return sink.getvalue().to_pybytes()


def table_of(content: bytes) -> pa.Table:
    """The ids in a Parquet file's bytes; raises `OSError` or `pa.ArrowException` where they are damaged."""
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    return file.read(columns=["source", "target"], use_threads=False)


def bytes_of(rows: Ragged) -> pa.Array:
    buffers = [None, pa.py_buffer(2 * rows.offsets), pa.py_buffer(rows.values.astype("<u2", copy=False))]
    return pa.Array.from_buffers(pa.large_binary(), len(rows), buffers)


def write(store: Store, where: str, file: str, content: bytes, rows: int) -> dict[str, Any]:
    """Write a shard whole or not at all; returns what the manifest tells of it."""
    store.write_bytes(f"{where}/{file}", content)
    return {"file": file, "rows": rows, "sha256": hashlib.sha256(content).hexdigest()}


def list_files(store: Store, where: str, manifest: dict[str, Any], *more: str) -> None:
    """Name the artifact's files where a remote store needs it to copy them."""
    if store.local_root is None:
        shards = [shard["file"] for split in manifest["splits"].values() for shard in split]
        store.write_json(f"{where}/files.json", {"files": [*shards, MANIFEST, *more]})
