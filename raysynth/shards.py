"""Data sets on disk: Parquet shards of 16-bit token ids with one manifest, and downstream data as such.

A shard counts once it has its final name, a data set once its manifest is there; the manifest tells every shard's rows
and SHA-256.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.data.locations import location
from raysynth.data.text_pairs import encode
from raysynth.downstream.rows import BadRows, refuse
from raysynth.errors import InputError
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.identity import name
from raysynth.store import Store
from raysynth.tokens.ragged import Ragged

MANIFEST = "manifest.json"


def generate_text(
    dataset: TextDataset, store: Store, data: dict[str, str], bad_rows: BadRows = BadRows.REFUSE
) -> dict[str, Any]:
    """Read a downstream task's texts, encode them with their vocabulary and write the shards; returns the manifest.

    The manifest counts the rows that were skipped and keeps the first errors. Raises `InputError` for files that cannot
    be read, and for such a row where they are refused.
    """
    skipped: list[InputError] = []
    bad_row = skipped.append if bad_rows is BadRows.SKIP else refuse
    vocabulary, ids, texts = encode(dataset, location(dataset.name, data), bad_row)
    where = name(dataset)
    splits = {}
    for split, (sources, targets) in ids.items():
        columns = {
            "source_text": pa.array([pair.source for pair in texts[split]]),
            "target_text": pa.array([pair.target for pair in texts[split]]),
        }
        if any(pair.references for pair in texts[split]):
            columns["references"] = pa.array([pair.references for pair in texts[split]], pa.list_(pa.string()))
        content = parquet(sources, targets, **columns)
        splits[split] = [write(store, where, f"{split}-00000.parquet", content, len(sources))]
    store.write_bytes(f"{where}/spiece.model", vocabulary.model_bytes)
    manifest = {
        "splits": splits,
        "prefix": [],
        "num_sentinels": vocabulary.num_sentinels,
        "skipped_rows": len(skipped),
        "first_skipped": [str(error) for error in skipped[:20]],
    }
    store.write_json(f"{where}/{MANIFEST}", manifest)
    list_files(store, where, manifest, "spiece.model")
    return manifest


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
    ids = {"source": _bytes_of(sources), "target": _bytes_of(targets)}
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


def _bytes_of(rows: Ragged) -> pa.Array:
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
