"""Text corpora, drawn in parallel by Ray Data."""

import hashlib
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.data.corpus import draw_shard
from raysynth.data.corpus import encode as encode_corpus
from raysynth.data.locations import corpus_location
from raysynth.data.shard_files import (
    MANIFEST,
    content_of,
    list_files,
    parquet,
    ragged,
    table_bytes,
    table_of,
    write,
)
from raysynth.run.generate import Tick, Warn
from raysynth.run.session import spread
from raysynth.specs.datasets import Dataset
from raysynth.specs.identity import name
from raysynth.store.store import Store
from raysynth.tokens.ragged import Ragged

# -------------------------------------------------------------------------------- text corpora


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
            for told, remade in spread(
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
            table = table_of(content_of(store, f"{where}/{last['file']}")).slice(0, last["rows"] - over)
            files.append(write(store, where, last["file"], table_bytes(table.combine_chunks()), last["rows"] - over))
        splits[split] = files
    drawn()
    model = content_of(store, f"{where}/documents/spiece.model")
    store.write_bytes(f"{where}/spiece.model", model)
    manifest = {"splits": splits, "prefix": list(dataset.task.prefix)}
    store.write_json(f"{where}/{MANIFEST}", manifest)
    list_files(store, where, manifest, "spiece.model")
    store.delete(f"{where}/documents")
    return manifest


def write_documents(dataset: Dataset, store: Store, data: dict[str, str]) -> None:
    """Encode a corpus's documents and leave their ids in the store for the workers that draw from them.

    Raises `InputError` where the corpus has no place or broken files.
    """
    vocabulary, rows = encode_corpus(dataset.task, corpus_location(dataset.task.name, data))
    for split, documents in rows.items():
        content = parquet(documents, Ragged.packed(np.zeros(0, np.uint16), np.zeros(len(documents), np.int64)))
        store.write_bytes(f"{name(dataset)}/documents/{split}.parquet", content)
    store.write_bytes(f"{name(dataset)}/documents/spiece.model", vocabulary.model_bytes)


def _draw_from_corpus(dataset: Dataset, store: Store, split: str, number: int) -> tuple[dict[str, Any], bool]:
    """What the manifest tells of a shard, drawn unless it is there whole, and whether it was there damaged."""
    where, file = name(dataset), f"{split}-{number:05d}.parquet"
    content = store.read_bytes(f"{where}/{file}")
    if content is not None:
        try:
            rows = table_of(content).num_rows
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
    return write(store, where, file, parquet(sources, targets), len(sources)), content is not None


@lru_cache(maxsize=1)
def _documents(store: Store, path: str) -> Ragged:
    """The documents of a split, kept for the next shard."""
    return ragged(table_of(content_of(store, path))["source"])
