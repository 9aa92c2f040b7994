"""Data sets on disk: Parquet shards of 16-bit token ids, drawn in parallel by Ray Data, with one manifest.

Shard i of a synthetic data set draws from (seed, i), whoever runs it, so the number of workers never changes the
data. Duplicates are found by a 64-bit hash of the input over the whole data set: two different inputs that share a
hash cost one of them its place, two equal ones can never both stay.

A shard is first written whole under `draws/`. Once all are there, one without duplicates that belongs to one split is
renamed to its final place; of the others the rows that stay are written anew. So a killed call finds either a shard's
draw or all its final files, and a damaged shard is drawn again from nothing but its number.
"""

import contextlib
import hashlib
import itertools
import math
import os
import pickle
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.batches import ragged
from raysynth.compiled import compiled
from raysynth.corpus import corpus_location, draw_shard
from raysynth.corpus import encode as encode_corpus
from raysynth.datasets import Dataset, SyntheticTask, TextCorpus, TextDataset
from raysynth.downstream import encode, location
from raysynth.errors import InputError, WorkerError
from raysynth.files import BadRows, refuse
from raysynth.ragged import Ragged
from raysynth.specs import name
from raysynth.store import Store

MANIFEST = "manifest.json"

Tick = Callable[[int, int], None]
"""Called with the examples drawn and the examples to draw."""
Warn = Callable[[str], None]
"""Called with one line."""

_AT_ONCE = 1_000_000
"""Hashes that are looked up together, so that memory stays near 16 bytes an example."""
_FEW = 64
"""So many shards are written anew in threads here: Ray Data takes seconds to begin."""


def compile_for(task: SyntheticTask | TextCorpus) -> None:
    """Have Numba compile what draws from a task, so that the workers of this machine find it in its cache."""
    if isinstance(task, SyntheticTask):
        with contextlib.suppress(Exception):  # told where it matters, by the worker that draws
            row_hashes(task.draw(np.random.default_rng(0), 1)[0])


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """A shard as it lies in the store: whole among the draws, or its rows that stay in their final files."""

    number: int
    files: dict[str, tuple[int, str]]
    """Rows and SHA-256 of each file, by its name."""
    remade: str | None = None
    """The file that was found damaged, if any."""


def generate(
    dataset: Dataset, store: Store, *, tick: Tick, warn: Warn, drawn: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Draw, deduplicate, split and write a synthetic data set; returns its manifest. Calls `drawn` when done with Ray.

    Shards that an earlier, killed call finished are kept, and those of a finished data set are checked: a damaged one
    is made again, with a warning. Raises `InputError` where the task cannot give so many distinct inputs.
    """
    where = name(dataset)
    manifest = store.read_json(f"{where}/{MANIFEST}")
    if manifest is not None:
        wrong = damaged(manifest, store, where)
        if not wrong:
            return manifest
        numbers = {_number(file) for file in wrong}
        for file in [shard["file"] for files in manifest["splits"].values() for shard in files]:
            if _number(file) in numbers:  # all files of the shard, or half of it would pass for the whole
                store.delete(f"{where}/{file}")
        for file in wrong:
            warn(f"{store.uri}/{where}/{file} is damaged or missing and is made again")
        store.delete(f"{where}/{MANIFEST}")

    wanted = dataset.num_validation + dataset.num_examples
    shards: list[_Shard] = []
    hashes = np.zeros(0, np.uint64)
    starts = [0]
    stays = np.zeros(0, bool)
    while (count := int(stays.sum())) < wanted:
        draws = len(shards) * dataset.shard_size
        rate = count / draws if draws else 1.0
        if rate < 0.02:
            raise InputError(
                f"{dataset.task.name} gave only {count} distinct inputs in {draws} draws, "
                f"{wanted} were asked for; allow longer inputs, more tokens or fewer examples"
            )
        more = max(1, -(-int((wanted - count) / rate) // dataset.shard_size))
        more += more // 50  # so that a few duplicates seldom cost another round
        answers = _map(
            partial(_draw, dataset, store),
            range(len(shards), len(shards) + more),
            tick=lambda done, of, draws=draws: tick(draws + done * dataset.shard_size, draws + of * dataset.shard_size),
        )
        for shard, found in answers:
            if shard.remade is not None:
                warn(f"{store.uri}/{where}/{shard.remade} is damaged and is made again")
            shards.append(shard)
            starts.append(starts[-1] + len(found))
        hashes = np.concatenate([hashes, *(found for _, found in answers)])
        stays = _first_of_equals(hashes)
    return _settle(dataset, store, shards, [stays[start:end] for start, end in itertools.pairwise(starts)], drawn)


def generate_corpus(
    dataset: Dataset, store: Store, *, tick: Tick, warn: Warn, drawn: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Draw the shards of a text corpus whose documents `write_documents` left in the store; returns the manifest.

    Calls `drawn` when done with Ray.

    Training and validation have other documents, so no input is in both; an epoch later a segment comes again under
    other noise. Shards that are there already are kept, damaged ones are made again with a warning.
    """
    where = name(dataset)
    wanted = {"validation": dataset.num_validation, "train": dataset.num_examples}
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, count in wanted.items():
        files: list[dict[str, Any]] = []
        while (left := count - sum(told["rows"] for told in files)) > 0:
            numbers = range(len(files), len(files) - (-left // dataset.shard_size))
            before = len(files) * dataset.shard_size
            for told, remade in _map(
                partial(_draw_from_corpus, dataset, store, split),
                numbers,
                tick=lambda done, of, before=before, count=count: tick(
                    min(before + done * dataset.shard_size, count), count
                ),
            ):
                if remade:
                    warn(f"{store.uri}/{where}/{told['file']} is damaged and is made again")
                files.append(told)
        over = sum(told["rows"] for told in files) - count
        if over:
            last = files.pop()
            table = _table(_found(store, f"{where}/{last['file']}")).slice(0, last["rows"] - over)
            files.append(_write(store, where, last["file"], _bytes(table.combine_chunks()), last["rows"] - over))
        splits[split] = files
    drawn()
    model = _found(store, f"{where}/documents/spiece.model")
    store.write_bytes(f"{where}/spiece.model", model)
    manifest = {"splits": splits, "prefix": list(dataset.task.prefix)}
    store.write_json(f"{where}/{MANIFEST}", manifest)
    _list_files(store, where, manifest, "spiece.model")
    store.delete(f"{where}/documents")
    return manifest


def write_documents(dataset: Dataset, store: Store, data: dict[str, str]) -> None:
    """Encode a corpus's documents and leave their ids in the store for the workers that draw from them.

    Raises `InputError` where the corpus has no place or broken files.
    """
    vocabulary, rows = encode_corpus(dataset.task, corpus_location(dataset.task.name, data))
    for split, documents in rows.items():
        content = _parquet(documents, Ragged.packed(np.zeros(0, np.uint16), np.zeros(len(documents), np.int64)))
        store.write_bytes(f"{name(dataset)}/documents/{split}.parquet", content)
    store.write_bytes(f"{name(dataset)}/documents/spiece.model", vocabulary.model_bytes)


def _draw_from_corpus(dataset: Dataset, store: Store, split: str, number: int) -> tuple[dict[str, Any], bool]:
    """What the manifest tells of a shard, drawn unless it is there whole, and whether it was there damaged."""
    where, file = name(dataset), f"{split}-{number:05d}.parquet"
    content = store.read_bytes(f"{where}/{file}")
    if content is not None:
        try:
            rows = _table(content).num_rows
        except (OSError, pa.ArrowException):
            pass
        else:
            return {"file": file, "rows": rows, "sha256": hashlib.sha256(content).hexdigest()}, False
    sources, targets = draw_shard(
        _documents(store, f"{where}/documents/{split}.parquet"),
        dataset.task.objective,
        split,
        seed=dataset.seed,
        shard=number,
        shard_size=dataset.shard_size,
    )
    return _write(store, where, file, _parquet(sources, targets), len(sources)), content is not None


@lru_cache(maxsize=1)
def _documents(store: Store, path: str) -> Ragged:
    """The documents of a split, kept for the next shard."""
    return ragged(_table(_found(store, path))["source"])


def _found(store: Store, path: str) -> bytes:
    content = store.read_bytes(path)
    if content is None:
        raise InputError(f"{store.uri}/{path} is missing; delete the data set's directory to have it made again")
    return content


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


def _draw(dataset: Dataset, store: Store, number: int) -> tuple[_Shard, np.ndarray]:
    """Draw one shard and write it aside, or find it; with the hashes of its inputs, [rows] uint64."""
    where, draw = name(dataset), f"draws/{number:05d}.parquet"
    found = {
        file: content for file in (draw, *_final_files(number)) if (content := store.read_bytes(f"{where}/{file}"))
    }
    if draw in found:
        found = {draw: found[draw]}
    remade = None
    tables = []
    for file, content in found.items():
        try:
            tables.append(_table(content))
        except (OSError, pa.ArrowException):
            remade = file
    if found and remade is None:
        sources = ragged(pa.concat_tables(tables)["source"])
        files = {
            file: (table.num_rows, hashlib.sha256(content).hexdigest())
            for (file, content), table in zip(found.items(), tables, strict=True)
        }
        return _Shard(number=number, files=files), row_hashes(sources)
    rng = np.random.default_rng([dataset.seed, number])
    sources, targets = dataset.task.draw(rng, dataset.shard_size)
    _check(dataset, sources, targets)
    content = _parquet(sources, targets)
    store.write_bytes(f"{where}/{draw}", content)
    files = {draw: (len(sources), hashlib.sha256(content).hexdigest())}
    return _Shard(number=number, files=files, remade=remade), row_hashes(sources)


def _check(dataset: Dataset, sources: Any, targets: Any) -> None:
    """Raise `InputError` unless a task drew what was asked for, with ids that a model of its tokens knows."""
    task = dataset.task
    for what, rows in (("inputs", sources), ("targets", targets)):
        if not isinstance(rows, Ragged) or len(rows) != dataset.shard_size:
            got = f"{len(rows)} rows" if isinstance(rows, Ragged) else type(rows).__name__
            raise InputError(f"{task.name}.draw must return {dataset.shard_size} {what} as a Ragged, got {got}")
        if (largest := int(rows.values.max(initial=0))) > task.largest_id:
            raise InputError(f"{task.name}.draw must return ids up to {task.largest_id}, got {largest} in its {what}")


def _settle(
    dataset: Dataset, store: Store, shards: list[_Shard], stays: list[np.ndarray], drawn: Callable[[], None]
) -> dict[str, Any]:
    """Give every row that stays its final place, then write the manifest and delete what is left of the draws."""
    where = name(dataset)
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    rewritten: list[tuple[_Shard, dict[str, np.ndarray]]] = []
    rank = 0
    for shard, mask in zip(shards, stays, strict=True):
        ranks = np.where(mask, rank + np.cumsum(mask) - 1, -1)
        rank += int(mask.sum())
        bounds = (0, dataset.num_validation, dataset.num_validation + dataset.num_examples)
        places = [np.flatnonzero((ranks >= start) & (ranks < end)) for start, end in itertools.pairwise(bounds)]
        rows = {file: chosen for file, chosen in zip(_final_files(shard.number), places, strict=True) if len(chosen)}
        if {file: len(chosen) for file, chosen in rows.items()} == {file: n for file, (n, _) in shard.files.items()}:
            pass  # an earlier call brought it here
        elif len(rows) == 1 and all(len(chosen) == len(mask) for chosen in rows.values()):
            ((draw, told),), (file,) = shard.files.items(), rows
            store.move(f"{where}/{draw}", f"{where}/{file}")
            shard = _Shard(number=shard.number, files={file: told})
        elif rows:
            rewritten.append((shard, rows))
            continue
        else:
            continue
        _list(splits, shard)
    rewrite = partial(_rewrite, where, store)
    if len(rewritten) > _FEW:
        settled = _map(rewrite, rewritten, tick=lambda done, of: None)
        drawn()
    else:
        drawn()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            settled = list(pool.map(rewrite, rewritten))
    for shard in settled:
        _list(splits, shard)
    for files in splits.values():
        files.sort(key=lambda told: told["file"])
    manifest = {"splits": splits, "prefix": list(dataset.task.prefix)}
    store.write_json(f"{where}/{MANIFEST}", manifest)
    _list_files(store, where, manifest)
    store.delete(f"{where}/draws")
    return manifest


SPLITS = ("validation", "train")
"""The splits of a synthetic data set, in the order in which distinct inputs fill them."""


def _final_files(number: int) -> list[str]:
    return [f"{split}-{number:05d}.parquet" for split in SPLITS]


def _number(file: str) -> int:
    return int(file.removesuffix(".parquet").split("-")[-1])


def _list(splits: dict[str, list[dict[str, Any]]], shard: _Shard) -> None:
    for file, (rows, digest) in shard.files.items():
        splits[file.split("-")[0]].append({"file": file, "rows": rows, "sha256": digest})


def _rewrite(where: str, store: Store, work: tuple[_Shard, dict[str, np.ndarray]]) -> _Shard:
    """Write the chosen rows, [count] int64 by file, of a shard to their final files."""
    shard, rows = work
    content = [store.read_bytes(f"{where}/{file}") for file in shard.files]
    table = pa.concat_tables([_table(part) for part in content])
    written = {}
    for file, chosen in rows.items():
        told = _write(store, where, file, _bytes(table.take(pa.array(chosen))), len(chosen))
        written[file] = (told["rows"], told["sha256"])
    for file in shard.files.keys() - written.keys():
        store.delete(f"{where}/{file}")
    return _Shard(number=shard.number, files=written)


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
        content = _parquet(sources, targets, **columns)
        splits[split] = [_write(store, where, f"{split}-00000.parquet", content, len(sources))]
    store.write_bytes(f"{where}/spiece.model", vocabulary.model_bytes)
    manifest = {
        "splits": splits,
        "prefix": [],
        "num_sentinels": vocabulary.num_sentinels,
        "skipped_rows": len(skipped),
        "first_skipped": [str(error) for error in skipped[:20]],
    }
    store.write_json(f"{where}/{MANIFEST}", manifest)
    _list_files(store, where, manifest, "spiece.model")
    return manifest


def manifest_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 over the shards' checksums: equal where every row is."""
    sums = [shard["sha256"] for split in sorted(manifest["splits"]) for shard in manifest["splits"][split]]
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def row_hashes(rows: Ragged) -> np.ndarray:
    """A 64-bit hash of each row, [rows] uint64."""
    hashes = np.empty(len(rows), np.uint64)
    _hash(rows.values, rows.offsets, hashes)
    return hashes


@compiled
def _hash(values, offsets, hashes):
    """Four ids at a time, mixed in by the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    for row in range(len(hashes)):
        state = np.uint64(offsets[row + 1] - offsets[row])
        for start in range(offsets[row], offsets[row + 1], 4):
            word = np.uint64(0)
            for place in range(start, min(start + 4, offsets[row + 1])):
                word = (word << np.uint64(16)) | np.uint64(values[place])
            state = (state ^ word) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
        hashes[row] = state


def _first_of_equals(hashes: np.ndarray) -> np.ndarray:
    """Whether each hash, [rows] uint64, stands there for the first time, [rows] bool."""
    first = np.ones(len(hashes), bool)
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return first
    places = []
    for start in range(0, len(hashes), _AT_ONCE):
        part = hashes[start : start + _AT_ONCE]
        nearest = repeated[np.minimum(np.searchsorted(repeated, part), len(repeated) - 1)]
        places.append(start + np.flatnonzero(nearest == part))
    again = np.concatenate(places)
    first[again] = False
    first[again[np.unique(hashes[again], return_index=True)[1]]] = True
    return first


# -------------------------------------------------------------------------------- files


def _parquet(sources: Ragged, targets: Ragged, **more: pa.Array) -> bytes:
    ids = {"source": _bytes_of(sources), "target": _bytes_of(targets)}
    fields = [pa.field(column, values.type, nullable=False) for column, values in ids.items()]
    fields += [pa.field(column, values.type) for column, values in more.items()]
    return _bytes(pa.Table.from_arrays([*ids.values(), *more.values()], schema=pa.schema(fields)))


def _bytes(table: pa.Table) -> bytes:
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


def _table(content: bytes) -> pa.Table:
    """The ids in a Parquet file's bytes; raises `OSError` or `pa.ArrowException` where they are damaged."""
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    return file.read(columns=["source", "target"], use_threads=False)


def _bytes_of(rows: Ragged) -> pa.Array:
    buffers = [None, pa.py_buffer(2 * rows.offsets), pa.py_buffer(rows.values.astype("<u2", copy=False))]
    return pa.Array.from_buffers(pa.large_binary(), len(rows), buffers)


def _write(store: Store, where: str, file: str, content: bytes, rows: int) -> dict[str, Any]:
    store.write_bytes(f"{where}/{file}", content)
    return {"file": file, "rows": rows, "sha256": hashlib.sha256(content).hexdigest()}


def _list_files(store: Store, where: str, manifest: dict[str, Any], *more: str) -> None:
    """Name the artifact's files where a remote store needs it to copy them."""
    if store.local_root is None:
        shards = [shard["file"] for split in manifest["splits"].values() for shard in split]
        store.write_json(f"{where}/files.json", {"files": [*shards, MANIFEST, *more]})


_AT_MOST = 32
"""Items in one Ray Data task; each task costs the driver some 20 ms, and nothing is told of it before its end."""


def _map(work: Callable[[Any], Any], items: Iterable[Any], *, tick: Callable[[int, int], None]) -> list[Any]:
    """`work` of every item by Ray Data, results in the order of the items.

    Raises the `InputError` that a worker raised, and `WorkerError` for anything else.
    """
    items = list(items)
    if not items:
        return []
    import ray.data  # here, so that reading and hashing need no Ray

    def worked(batch: dict[str, Any]) -> dict[str, list[Any]]:
        answers: Any
        try:
            answers = [work(item) for item in pickle.loads(batch["items"][0])]
        except InputError as error:
            answers = error
        except Exception as error:
            answers = WorkerError.of(error)
        return {"start": batch["start"], "answers": [pickle.dumps(answers)]}

    each = min(_AT_MOST, math.ceil(len(items) / (4 * ray.cluster_resources().get("CPU", 1))))
    starts = range(0, len(items), each)
    groups = [{"start": start, "items": pickle.dumps(items[start : start + each])} for start in starts]
    answers: dict[int, list[Any]] = {}
    tick(0, len(items))
    blocks = ray.data.from_items(groups, override_num_blocks=len(groups))
    mapped = blocks.map_batches(worked, batch_size=1, **_placement(ray.nodes()))
    for batch in mapped.iter_batches(batch_size=1, prefetch_batches=0):
        told = pickle.loads(batch["answers"][0])
        if isinstance(told, Exception):
            raise told
        answers[int(batch["start"][0])] = told
        tick(sum(map(len, answers.values())), len(items))
    return [answer for start in starts for answer in answers[start]]


def _placement(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The arguments that keep tasks off the hosts of accelerators: on the largest other host, where there is one."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [node for node in nodes if node["Alive"] and node["Resources"].get("CPU")]
    plain = [node for node in alive if not {"TPU", "GPU"} & node["Resources"].keys()]
    if not plain or len(plain) == len(alive):
        return {}
    largest = max(plain, key=lambda node: node["Resources"]["CPU"])
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(largest["NodeID"], soft=True)}
