"""The shards of a data set: Parquet files of 16-bit token ids.

A shard is complete once it has its final name; it is written in full before that. Its checksum comes from whoever wrote
it: until there is a manifest, a note beside it (`write_note`) holds it.
"""

import contextlib
import dataclasses
import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.data.manifest import MANIFEST, VOCABULARY, Manifest, Shard, read_from_store, shard_from_json
from raysynth.errors import InputError, first_line
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.identity import name
from raysynth.store.records import DataResult, Record
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


def sha256(content: bytes) -> str:
    """The SHA-256 of a file's content, in hex."""
    return hashlib.sha256(content).hexdigest()


def write_shard(store: Store, directory: str, file: str, content: bytes, num_rows: int) -> Shard:
    """Write a shard, in full or not at all; returns the manifest's entry for it."""
    store.write_bytes(f"{directory}/{file}", content)
    return Shard(file=file, rows=num_rows, sha256=sha256(content))


def write_vocabulary(store: Store, directory: str, model_bytes: bytes) -> str:
    """Write a data set's SentencePiece model; returns its SHA-256, in hex."""
    store.write_bytes(f"{directory}/{VOCABULARY}", model_bytes)
    return sha256(model_bytes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """What is known of a shard before there is a manifest."""

    files: tuple[Shard, ...]
    """The files that together hold the shard."""
    drawn_from: str = ""
    """The SHA-256 of the documents that it was drawn from, in hex; empty for a synthetic task."""


NOTES = "draws"
"""The directory of notes in that of a data set."""


def write_note(store: Store, directory: str, shard: str, note: Note) -> None:
    """Leave a note about a shard, once its files are written."""
    store.write_json(f"{directory}/{NOTES}/{shard}.json", dataclasses.asdict(note))


def read_note(store: Store, directory: str, shard: str) -> Note | None:
    """The note about a shard, None if there is none; raises `InputError` for a damaged one."""
    path = f"{directory}/{NOTES}/{shard}.json"
    place, value = f"{store.uri}/{path}", store.read_json(path)
    if value is None:
        return None
    files, drawn_from = value.get("files"), value.get("drawn_from")
    if not isinstance(files, list) or not files or not isinstance(drawn_from, str) or len(value) != 2:
        raise InputError(f"{place} is damaged: it is not the note about a shard")
    return Note(files=tuple(shard_from_json(file, place) for file in files), drawn_from=drawn_from)


def read_required(store: Store, path: str) -> bytes:
    """The content of a file that a data set needs; raises `InputError` if it is missing."""
    content = store.read_bytes(path)
    if content is None:
        raise InputError(f"{store.uri}/{path} is missing; delete the data set's directory to have it made again")
    return content


# -------------------------------------------------------------------------------- checks


def damaged_files(manifest: Manifest, store: Store, directory: str) -> list[str]:
    """The files of a finished data set that are missing or do not have the checksum in the manifest."""

    def is_damaged(file: str) -> bool:
        content = store.read_bytes(f"{directory}/{file}")
        return content is None or sha256(content) != manifest.files[file]

    with ThreadPoolExecutor(8) as pool:
        return [file for file, bad in zip(manifest.files, pool.map(is_damaged, manifest.files), strict=True) if bad]


def recorded_manifest(record: Record, store: Store) -> Manifest:
    """The manifest of a done data set; raises `InputError` unless it is there and is the one that the record names."""
    place = f"{store.uri}/{record.artifact}/{MANIFEST}"
    manifest = read_from_store(store, record.artifact)
    if manifest is None:
        raise InputError(f"{place} is missing")
    check_manifest(manifest, recorded_digest(record), place)
    return manifest


def recorded_digest(record: Record) -> str:
    """The digest of the manifest that a data set's record names; raises `InputError` for any other record."""
    if not isinstance(record.result, DataResult):
        raise InputError(f"{record.artifact} is not a data set")
    return record.result.sha256


def check_manifest(manifest: Manifest, digest: str, place: str) -> None:
    """Raise `InputError`, which names `place`, unless a manifest has that digest."""
    if manifest.digest != digest:
        raise InputError(f"{place} is damaged: it is not the manifest that the data set's record names")


def problems(record: Record, store: Store) -> list[str]:
    """What is wrong with a done data set, one line each: its manifest against the record, its files against that."""
    try:
        manifest = recorded_manifest(record, store)
    except InputError as error:
        return [first_line(error)]
    place = f"{store.uri}/{record.artifact}"
    return [f"{place}/{file} is damaged or missing" for file in damaged_files(manifest, store, record.artifact)]


FORMER_RECORD = "former.json"
"""The record of a data set that is made again. The new content must be the one that it names."""


def intact(dataset: Dataset | TextDataset, store: Store) -> bool:
    """Whether a done data set is whole. If not, sets its record aside, so that it is no longer done.

    A manifest that is not the one that the record names is deleted.
    """
    directory = name(dataset)
    record = store.record_of(directory)
    if record is None or not problems(record, store):
        return record is not None
    try:
        recorded_manifest(record, store)
    except InputError:
        store.delete(f"{directory}/{MANIFEST}")
    with contextlib.suppress(FileNotFoundError):  # another run was first
        store.move(f"{directory}/record.json", f"{directory}/{FORMER_RECORD}")
    return False


def check_remade(dataset: Dataset | TextDataset, manifest: Manifest, store: Store) -> None:
    """Raise `InputError` if a data set that was made again is not what it was before."""
    directory = name(dataset)
    former = former_record(store, directory)
    if former is not None and recorded_digest(former) != manifest.digest:
        raise InputError(
            f"{store.uri}/{directory} comes out with other content than before it was damaged: its task, its files or "
            "a library changed; restore them, or delete the directory to accept the new content"
        )


def former_record(store: Store, directory: str) -> Record | None:
    """The record that `intact` set aside, or None."""
    file = f"{directory}/{FORMER_RECORD}"
    try:
        value = store.read_json(file)
        return None if value is None else Record.read(value, f"{store.uri}: {file}")
    except InputError:
        return None  # it only serves to compare


def delete_half_written(store: Store, directory: str) -> None:
    """Delete what killed processes left half-written in the directory of a data set on this machine."""
    if store.local_root is not None:
        for file in (store.local_root / directory).glob(".*.aside"):
            file.unlink(missing_ok=True)
