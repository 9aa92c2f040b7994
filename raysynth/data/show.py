"""Examples of a task as a person reads them, with the numbers of their tokens."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from raysynth.data import corpus as corpora
from raysynth.data.locations import location
from raysynth.data.text_pairs import encode
from raysynth.errors import InputError
from raysynth.specs.datasets import TextCorpus, TextDataset
from raysynth.synthetic.base import SyntheticTask


def of_task(task: SyntheticTask, *, num_examples: int, seed: int) -> str:
    """Examples that a synthetic task draws."""
    _check(num_examples)
    sources, targets = task.draw(np.random.default_rng([seed, 0]), num_examples)
    return _told(
        (source, target, task.readable(source, target)) for source, target in zip(sources, targets, strict=True)
    )


def of_corpus(corpus: TextCorpus, location: str, *, num_examples: int, seed: int) -> str:
    """Training examples of the documents at `location`."""
    _check(num_examples)
    corpus = dataclasses.replace(corpus, num_documents=None)
    vocabulary, rows = corpora.encode(corpus, location)
    sources, targets = corpora.draw_shard(
        rows["train"], corpus.objective, "train", seed=seed, shard=0, shard_size=num_examples
    )
    return _told(
        (source, target, corpora.readable(vocabulary, source, target))
        for source, target in zip(sources, targets, strict=True)
    )


def of_texts(dataset: TextDataset, places: dict[str, str], *, num_examples: int, seed: int) -> str:
    """Random training examples of a downstream data set, whose files `places` or the environment tell."""
    _check(num_examples)
    _, ids, texts = encode(dataset, location(dataset.name, places))
    pairs = texts["train"]
    rows = np.random.default_rng(seed).permutation(len(pairs))[:num_examples]
    sources, targets = ids["train"]
    return _told((sources[row], targets[row], (pairs[row].source, pairs[row].target)) for row in rows)


def _check(num_examples: int) -> None:
    if num_examples < 1:
        raise InputError(f"num_examples must be at least 1, got {num_examples}")


def _told(examples: Iterable[tuple[Any, Any, tuple[str, str]]]) -> str:
    """The ids of source and target, [length] each, and both as text."""
    return "\n\n".join(
        f"Source ({len(source)} tokens): {texts[0]}\nTarget ({len(target)} tokens): {texts[1]}"
        for source, target, texts in examples
    )
