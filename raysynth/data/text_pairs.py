"""Downstream data sets: text pairs to token ids and shards."""

from collections.abc import Mapping

import pyarrow as pa
from numpy.random import Generator

from raysynth.data.locations import location
from raysynth.data.manifest import TextManifest, write_manifest
from raysynth.data.shard_files import shard_bytes, write_shard, write_vocabulary
from raysynth.data.sources import digest_of_pairs, note_files, signature
from raysynth.downstream.rows import BadRow, BadRows, Pair, Split, refuse
from raysynth.errors import InputError
from raysynth.specs.datasets import TextDataset, TrainedVocabulary
from raysynth.specs.identity import name
from raysynth.store.store import Store
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.streams import Purpose, stream
from raysynth.tokens.vocabulary import T5_SENTINELS, Vocabulary, t5_vocabulary_bytes


def generate_text(
    dataset: TextDataset, store: Store, data: Mapping[str, str], bad_rows: BadRows = BadRows.REFUSE
) -> TextManifest:
    """Read a downstream task's texts, encode them with their vocabulary and write the shards; returns the manifest.

    The manifest counts skipped rows and keeps their first errors. Raises `InputError` for files that cannot be read,
    and for a row that cannot be read unless `bad_rows` says to skip it.
    """
    skipped: list[InputError] = []
    bad_row = skipped.append if bad_rows is BadRows.SKIP else refuse
    place, directory = location(dataset.name, data), name(dataset)
    files = None if place is None else signature(place)
    by_name = dataset.texts.read(place, bad_row)
    vocabulary, ids, texts = _encoded(dataset, by_name, place)
    if files is not None:
        note_files(store, directory, files)
    splits = {}
    for split, (sources, targets) in ids.items():
        columns = {
            "source_text": pa.array([pair.source for pair in texts[split]]),
            "target_text": pa.array([pair.target for pair in texts[split]]),
        }
        if any(pair.references for pair in texts[split]):
            columns["references"] = pa.array([pair.references for pair in texts[split]], pa.list_(pa.string()))
        content = shard_bytes(sources, targets, **columns)
        splits[split] = (write_shard(store, directory, f"{split}-00000.parquet", content, len(sources)),)
    manifest = TextManifest(
        splits=splits,
        prefix=(),
        vocabulary_sha256=write_vocabulary(store, directory, vocabulary.model_bytes),
        sources_sha256=digest_of_pairs(by_name),
        num_sentinels=vocabulary.num_sentinels,
        skipped_rows=len(skipped),
        first_skipped=tuple(str(error) for error in skipped[:20]),
    )
    write_manifest(manifest, store, directory)
    return manifest


Ids = dict[Split, tuple[Ragged, Ragged]]
"""Sources and targets by split."""
Texts = dict[Split, list[Pair]]
"""Pairs by split."""


def encode(dataset: TextDataset, location: str | None, bad_row: BadRow = refuse) -> tuple[Vocabulary, Ids, Texts]:
    """A text data set's vocabulary, the token ids of its splits and the texts that they come from.

    The ids have no end of sequence. A trained vocabulary sees only the training subset. Raises `InputError` for
    missing or broken files and for subsets larger than their split.
    """
    return _encoded(dataset, dataset.texts.read(location, bad_row), location)


def _encoded(
    dataset: TextDataset, by_name: Mapping[str, list[Pair]], location: str | None
) -> tuple[Vocabulary, Ids, Texts]:
    texts = _chosen(dataset, {Split(split): pairs for split, pairs in by_name.items()}, location)
    if isinstance(dataset.vocabulary, TrainedVocabulary):
        training_texts = (text for pair in texts[Split.TRAIN] for text in (pair.source, pair.target))
        vocabulary = Vocabulary.train(training_texts, dataset.vocabulary.num_pieces, dataset.vocabulary.num_sentinels)
    else:
        vocabulary = Vocabulary.load(t5_vocabulary_bytes(), T5_SENTINELS)
    ids = {
        split: (
            vocabulary.encode_many([pair.source for pair in pairs]),
            vocabulary.encode_many([pair.target for pair in pairs]),
        )
        for split, pairs in texts.items()
    }
    return vocabulary, ids, texts


def _chosen(dataset: TextDataset, splits: Texts, location: str | None) -> Texts:
    """The subsets of the files' splits that the description asks for."""
    if Split.VALIDATION not in splits and Split.TRAIN in splits and dataset.num_held_out is not None:
        pairs = _shuffled(splits[Split.TRAIN], stream(Purpose.HELD_OUT_PAIRS, dataset.seed))
        if dataset.num_held_out >= len(pairs):
            raise InputError(
                f"{dataset.name} train has {len(pairs)} examples, {dataset.num_held_out} were to be held out"
            )
        splits = splits | {
            Split.VALIDATION: pairs[: dataset.num_held_out],
            Split.TRAIN: pairs[dataset.num_held_out :],
        }
    sizes = {
        Split.TRAIN: dataset.num_train,
        Split.VALIDATION: dataset.num_validation,
        Split.TEST: dataset.num_test,
    }
    texts = {}
    for index, split in enumerate(Split):
        if split is Split.TEST and dataset.scored is not Split.TEST:
            continue
        if split not in splits:
            raise InputError(f"{dataset.name} needs a {split} split; {location} has {', '.join(splits)}")
        size, pairs = sizes[split], splits[split]
        if size is not None and size > len(pairs):
            raise InputError(f"{dataset.name} {split} has {len(pairs)} examples, num_{split} is {size}")
        texts[split] = (
            pairs if size is None else _shuffled(pairs, stream(Purpose.PAIR_SUBSET, dataset.seed, index))[:size]
        )
    return texts | {Split.TEST: texts[dataset.scored]}


def _shuffled(pairs: list[Pair], rng: Generator) -> list[Pair]:
    """The pairs in an order that does not depend on how many are taken, so that subsets are nested."""
    return [pairs[row] for row in rng.permutation(len(pairs))]
