"""Text corpora, drawn in parallel by Ray Data."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa

from raysynth.data import corpus as corpora
from raysynth.data.draws import final_file
from raysynth.data.locations import corpus_location
from raysynth.data.manifest import VOCABULARY, Manifest, Shard, write_manifest
from raysynth.data.shard_files import read_ids, read_required, rows_of, shard_bytes, shard_of, table_bytes, write_shard
from raysynth.downstream.rows import Split
from raysynth.run.generate import Tick, Warn
from raysynth.run.session import spread
from raysynth.specs.datasets import Dataset, TextCorpus
from raysynth.specs.identity import name
from raysynth.store.store import Store
from raysynth.tokens.ragged import Ragged


def generate_corpus(
    dataset: Dataset, store: Store, *, tick: Tick, warn: Warn, drawn: Callable[[], object] = lambda: None
) -> Manifest:
    """Draw the shards of a text corpus whose documents `write_documents` left in the store; returns the manifest.

    Training and validation use different documents, so no input is in both. From the second epoch on, segments recur
    under new noise. Shards that are there already are kept, and damaged ones are drawn again, with a warning. Calls
    `drawn` when done with Ray.
    """
    directory = name(dataset)
    splits: dict[Split, tuple[Shard, ...]] = {}
    for split, num_examples in ((Split.VALIDATION, dataset.num_validation), (Split.TRAIN, dataset.num_examples)):
        shards: list[Shard] = []
        while (num_left := num_examples - sum(shard.rows for shard in shards)) > 0:
            answers: list[tuple[Shard, bool]] = spread(
                partial(_draw_shard, dataset, store, split),
                range(len(shards), len(shards) - (-num_left // dataset.shard_size)),
                tick=_examples_of_shards(tick, len(shards), dataset.shard_size, num_examples),
                describe=lambda number: f"{dataset.task.name}, shard {number} of {split}",  # noqa: B023 -- used at once
            )
            for shard, was_damaged in answers:
                if was_damaged:
                    warn(f"{store.uri}/{directory}/{shard.file} is damaged and is made again")
                shards.append(shard)
        if num_left < 0:
            shards.append(_shortened(store, directory, shards.pop(), -num_left))
        splits[split] = tuple(shards)
    drawn()
    store.write_bytes(f"{directory}/{VOCABULARY}", read_required(store, f"{directory}/documents/{VOCABULARY}"))
    manifest = Manifest(splits=splits, prefix=tuple(dataset.task.prefix))
    write_manifest(manifest, store, directory, VOCABULARY)
    store.delete(f"{directory}/documents")
    return manifest


def write_documents(dataset: Dataset, store: Store, data: Mapping[str, str]) -> None:
    """Encode a corpus's documents and leave their ids in the store for the workers that draw from them.

    `data` are the locations of files by data set or corpus. Raises `InputError` if it does not have the corpus's, nor
    the environment, and for broken files.
    """
    corpus = _corpus_of(dataset)
    directory = f"{name(dataset)}/documents"
    vocabulary, documents = corpora.encode(corpus, corpus_location(corpus.name, data))
    for split, rows in documents.items():
        no_targets = Ragged.packed(np.zeros(0, np.uint16), np.zeros(len(rows), np.int64))
        store.write_bytes(f"{directory}/{split}.parquet", shard_bytes(rows, no_targets))
    store.write_bytes(f"{directory}/{VOCABULARY}", vocabulary.model_bytes)


def _corpus_of(dataset: Dataset) -> TextCorpus:
    if not isinstance(dataset.task, TextCorpus):
        raise TypeError(f"{dataset.task.name} is not a text corpus")
    return dataset.task


def _examples_of_shards(tick: Tick, num_before: int, shard_size: int, num_examples: int) -> Tick:
    """A `tick` for shards drawn after the first `num_before`, of a split of `num_examples`."""

    def count(num_shards: int, of: int) -> None:
        tick(min((num_before + num_shards) * shard_size, num_examples), num_examples)

    return count


def _draw_shard(dataset: Dataset, store: Store, split: Split, number: int) -> tuple[Shard, bool]:
    """Draw one shard unless it is in the store; returns it, and whether it was there but damaged."""
    directory, file = name(dataset), final_file(split, number)
    content = store.read_bytes(f"{directory}/{file}")
    if content is not None:
        try:
            num_rows = read_ids(content).num_rows
        except (OSError, pa.ArrowException):
            pass
        else:
            return shard_of(file, content, num_rows), False
    sources, targets = corpora.draw_shard(
        _documents(store, f"{directory}/documents/{split}.parquet"),
        _corpus_of(dataset).objective,
        split,
        seed=dataset.seed,
        shard=number,
        shard_size=dataset.shard_size,
    )
    return write_shard(store, directory, file, shard_bytes(sources, targets), len(sources)), content is not None


def _shortened(store: Store, directory: str, shard: Shard, num_surplus: int) -> Shard:
    """Write a shard again without its last `num_surplus` rows."""
    num_rows = shard.rows - num_surplus
    table = read_ids(read_required(store, f"{directory}/{shard.file}")).slice(0, num_rows)
    return write_shard(store, directory, shard.file, table_bytes(table.combine_chunks()), num_rows)


@lru_cache(maxsize=1)
def _documents(store: Store, path: str) -> Ragged:
    """The documents of a split, kept for the next shard."""
    return rows_of(read_ids(read_required(store, path))["source"])
