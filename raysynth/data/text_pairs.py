"""Downstream data: text pairs to token ids, and their shards."""

from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.data.locations import location
from raysynth.data.shard_files import MANIFEST, list_files, parquet, write
from raysynth.downstream.rows import BadRow, BadRows, Pair, Split, refuse
from raysynth.errors import InputError
from raysynth.specs.datasets import TextDataset, TrainedVocabulary
from raysynth.specs.identity import name
from raysynth.store.store import Store
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.vocabulary import T5_SENTINELS, Vocabulary, t5_vocabulary_bytes


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


Ids = dict[str, tuple[Ragged, Ragged]]
"""Sources and targets by split."""
Texts = dict[str, list[Pair]]
"""Pairs by split."""


def encode(dataset: TextDataset, location: str | None, bad_row: BadRow = refuse) -> tuple[Vocabulary, Ids, Texts]:
    """A text data set's vocabulary, the token ids of its splits and the texts that they come from.

    The ids are without end of sequence. A trained vocabulary sees the training subset alone. Raises `InputError` for
    missing or broken files and for subsets larger than their split.
    """
    texts = _chosen(dataset, dataset.texts.read(location, bad_row), location)
    if isinstance(dataset.vocabulary, TrainedVocabulary):
        learnt = (text for pair in texts["train"] for text in (pair.source, pair.target))
        vocabulary = Vocabulary.train(learnt, dataset.vocabulary.num_pieces, dataset.vocabulary.num_sentinels)
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
    """The subsets that the description asks for of what the files hold."""
    if "validation" not in splits and "train" in splits and dataset.num_held_out is not None:
        pairs = _shuffled(splits["train"], [dataset.seed, len(Split)])
        if dataset.num_held_out >= len(pairs):
            raise InputError(
                f"{dataset.name} train has {len(pairs)} examples, {dataset.num_held_out} were to be held out"
            )
        splits = splits | {"validation": pairs[: dataset.num_held_out], "train": pairs[dataset.num_held_out :]}
    sizes = {"train": dataset.num_train, "validation": dataset.num_validation, "test": dataset.num_test}
    needed = tuple(Split) if dataset.scored is Split.TEST else ("train", "validation")
    texts = {}
    for index, split in enumerate(needed):
        if split not in splits:
            raise InputError(f"{dataset.name} needs a {split} split; {location} has {', '.join(splits)}")
        size, pairs = sizes[split], splits[split]
        if size is not None and size > len(pairs):
            raise InputError(f"{dataset.name} {split} has {len(pairs)} examples, {size} were asked for")
        texts[split] = pairs if size is None else _shuffled(pairs, [dataset.seed, index])[:size]
    return texts | {"test": texts[dataset.scored]}


def _shuffled(pairs: list[Pair], entropy: list[int]) -> list[Pair]:
    """A shuffle that depends on `entropy` alone, so that its beginnings are nested subsets."""
    return [pairs[row] for row in np.random.default_rng(entropy).permutation(len(pairs))]
