"""Data sets of text corpora: documents are encoded once, then shards are drawn from them."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial

import numpy as np

from raysynth.data import corpus as corpora
from raysynth.data.draws import final_file
from raysynth.data.locations import corpus_location
from raysynth.data.manifest import VOCABULARY, Manifest, Shard, write_manifest
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
    write_vocabulary,
)
from raysynth.data.sources import digest_of_documents, note_files, signature
from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.run.generate import Tick, Warn
from raysynth.run.spread import Spread
from raysynth.specs.datasets import Dataset, TextCorpus
from raysynth.specs.identity import name
from raysynth.store.store import Store
from raysynth.tokens.ragged import Ragged


def generate_corpus(
    dataset: Dataset,
    store: Store,
    *,
    spread: Spread,
    tick: Tick,
    warn: Warn,
    drawn: Callable[[], object] = lambda: None,
) -> Manifest:
    """Draw the shards of a text corpus whose documents `write_documents` left in the store; returns the manifest.

    `spread` draws them. Training and validation use different documents, so no input is in both. From the second epoch
    on, segments recur under new noise. Shards that an earlier call drew from the same documents are kept, and damaged
    ones are drawn again, with a warning. Calls `drawn` when done with Ray.
    """
    directory = name(dataset)
    documents = _checksums_of_documents(store, directory)
    splits: dict[Split, tuple[Shard, ...]] = {}
    for split, num_examples in ((Split.VALIDATION, dataset.num_validation), (Split.TRAIN, dataset.num_examples)):
        shards: list[Shard] = []
        while (num_left := num_examples - sum(shard.rows for shard in shards)) > 0:
            answers: list[tuple[Shard, bool]] = spread(
                partial(_draw_shard, dataset, store, split, documents[f"{split}.parquet"]),
                range(len(shards), len(shards) - (-num_left // dataset.shard_size)),
                tick=_examples_of_shards(tick, len(shards), dataset.shard_size, num_examples),
                describe=lambda number: f"{dataset.task.name}, shard {number} of {split}",  # noqa: B023 -- used at once
            )
            for shard, was_damaged in answers:
                if was_damaged:
                    warn(f"{store.uri}/{directory}/{shard.file} is damaged and is made again")
                shards.append(shard)
        if num_left < 0:
            last = _shortened(store, directory, shards.pop(), -num_left)
            note = Note(files=(last,), drawn_from=documents[f"{split}.parquet"])
            write_note(store, directory, _stem(last.file), note)
            shards.append(last)
        splits[split] = tuple(shards)
    drawn()
    model_bytes = _read_document_file(store, directory, VOCABULARY, documents[VOCABULARY])
    manifest = Manifest(
        splits=splits,
        prefix=tuple(dataset.task.prefix),
        vocabulary_sha256=write_vocabulary(store, directory, model_bytes),
        sources_sha256=documents[_SOURCES],
    )
    write_manifest(manifest, store, directory)
    for intermediate in (NOTES, _DOCUMENTS):
        store.delete(f"{directory}/{intermediate}")
    return manifest


_DOCUMENTS = "documents"
"""The directory of encoded documents in that of a data set."""
_CHECKSUMS = f"{_DOCUMENTS}/checksums.json"
_SOURCES = "sources"


def write_documents(dataset: Dataset, store: Store, data: Mapping[str, str]) -> None:
    """Encode a corpus's documents and leave their ids in the store for the workers that draw from them.

    `data` are the locations of files by data set or corpus. Raises `InputError` if it does not have the corpus's, nor
    the environment, and for broken files.
    """
    corpus = _corpus_of(dataset)
    directory = name(dataset)
    place = corpus_location(corpus.name, data)
    signature_before = signature(place)
    sources = digest_of_documents(corpora.documents(place))
    vocabulary, documents = corpora.encode(corpus, place)
    files = {VOCABULARY: vocabulary.model_bytes}
    for split, rows in documents.items():
        if len(rows.values) < 2:
            raise InputError(f"{corpus.name}: its {split} documents have {len(rows.values)} tokens, 2 are needed")
        no_targets = Ragged.packed(np.zeros(0, np.uint16), np.zeros(len(rows), np.int64))
        files[f"{split}.parquet"] = shard_bytes(rows, no_targets)
    for file, content in files.items():
        store.write_bytes(f"{directory}/{_DOCUMENTS}/{file}", content)
    note_files(store, directory, signature_before)
    checksums = {file: sha256(content) for file, content in files.items()}
    store.write_json(f"{directory}/{_CHECKSUMS}", {**checksums, _SOURCES: sources})


def _checksums_of_documents(store: Store, directory: str) -> dict[str, str]:
    """The SHA-256 of each file that `write_documents` wrote, by its name, and that of what it read."""
    checksums = store.read_json(f"{directory}/{_CHECKSUMS}")
    files = {VOCABULARY, _SOURCES, *(f"{split}.parquet" for split in (Split.VALIDATION, Split.TRAIN))}
    if checksums is None or checksums.keys() != files:
        raise InputError(f"{store.uri}/{directory}/{_CHECKSUMS} is damaged or missing: run the same command again")
    return checksums


def _read_document_file(store: Store, directory: str, file: str, checksum: str) -> bytes:
    path = f"{directory}/{_DOCUMENTS}/{file}"
    content = read_required(store, path)
    if sha256(content) != checksum:
        raise InputError(f"{store.uri}/{path} is damaged: run the same command again")
    return content


def _corpus_of(dataset: Dataset) -> TextCorpus:
    if not isinstance(dataset.task, TextCorpus):
        raise TypeError(f"{dataset.task.name} is not a text corpus")
    return dataset.task


def _examples_of_shards(tick: Tick, num_before: int, shard_size: int, num_examples: int) -> Tick:
    """A `tick` for shards drawn after the first `num_before`, of a split of `num_examples`."""

    def count(num_shards: int, of: int) -> None:
        tick(min((num_before + num_shards) * shard_size, num_examples), num_examples)

    return count


def _draw_shard(dataset: Dataset, store: Store, split: Split, documents: str, number: int) -> tuple[Shard, bool]:
    """Draw one shard unless it is in the store; returns it, and whether it was there but damaged.

    `documents` is the SHA-256 of the file of documents to draw from.
    """
    directory, file = name(dataset), final_file(split, number)
    try:
        note = read_note(store, directory, _stem(file))
    except InputError:
        note, was_damaged = None, True
    else:
        was_damaged = False
    if note is not None and note.drawn_from == documents:
        (shard, *others), content = note.files, store.read_bytes(f"{directory}/{file}")
        if not others and shard.file == file and content is not None and sha256(content) == shard.sha256:
            return shard, False
        was_damaged = True
    sources, targets = corpora.draw_shard(
        _documents(store, directory, f"{split}.parquet", documents),
        _corpus_of(dataset).objective,
        split,
        seed=dataset.seed,
        shard=number,
        shard_size=dataset.shard_size,
    )
    shard = write_shard(store, directory, file, shard_bytes(sources, targets), len(sources))
    write_note(store, directory, _stem(file), Note(files=(shard,), drawn_from=documents))
    return shard, was_damaged


def _stem(file: str) -> str:
    return file.removesuffix(".parquet")


def _shortened(store: Store, directory: str, shard: Shard, num_surplus: int) -> Shard:
    """Write a shard again without its last `num_surplus` rows."""
    num_rows = shard.rows - num_surplus
    table = read_ids(read_required(store, f"{directory}/{shard.file}")).slice(0, num_rows)
    return write_shard(store, directory, shard.file, table_bytes(table.combine_chunks()), num_rows)


@lru_cache(maxsize=1)
def _documents(store: Store, directory: str, file: str, checksum: str) -> Ragged:
    """The documents of a split, kept for the next shard."""
    return rows_of(read_ids(_read_document_file(store, directory, file, checksum))["source"])
