"""Examples of a task as readable text, with their numbers of tokens."""

import dataclasses
from collections.abc import Iterable, Mapping, Sized

from raysynth.data import corpus as corpora
from raysynth.data.locations import location
from raysynth.data.text_pairs import encode
from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.specs.datasets import TextCorpus, TextDataset
from raysynth.synthetic.base import SyntheticTask
from raysynth.synthetic.contract import checked_draw
from raysynth.tokens.streams import Purpose, stream


def of_task(task: SyntheticTask, *, num_examples: int, seed: int) -> str:
    """Examples that a synthetic task draws."""
    _check(num_examples)
    sources, targets = checked_draw(task, stream(Purpose.SHOWN_EXAMPLES, seed), num_examples)
    return _readable(
        (source, target, task.readable(source, target)) for source, target in zip(sources, targets, strict=True)
    )


def of_corpus(corpus: TextCorpus, location: str, *, num_examples: int, seed: int) -> str:
    """Training examples of the documents at `location`."""
    _check(num_examples)
    corpus = dataclasses.replace(corpus, num_documents=None)
    vocabulary, documents = corpora.encode(corpus, location)
    sources, targets = corpora.draw_shard(
        documents[Split.TRAIN], corpus.objective, Split.TRAIN, seed=seed, shard=0, shard_size=num_examples
    )
    return _readable(
        (source, target, corpora.readable(vocabulary, source, target))
        for source, target in zip(sources, targets, strict=True)
    )


def of_texts(dataset: TextDataset, data: Mapping[str, str], *, num_examples: int, seed: int) -> str:
    """Random training examples of a downstream data set; `data` or the environment says where its files are."""
    _check(num_examples)
    _, ids, texts = encode(dataset, location(dataset.name, data))
    pairs = texts[Split.TRAIN]
    rows = stream(Purpose.SHOWN_PAIRS, seed).permutation(len(pairs))[:num_examples]
    sources, targets = ids[Split.TRAIN]
    return _readable((sources[row], targets[row], (pairs[row].source, pairs[row].target)) for row in rows)


def _check(num_examples: int) -> None:
    if num_examples < 1:
        raise InputError(f"num_examples must be at least 1, got {num_examples}")


def _readable(examples: Iterable[tuple[Sized, Sized, tuple[str, str]]]) -> str:
    """Print examples, each of them as the ids of source and target and the texts of both."""
    return "\n\n".join(
        f"Source ({len(source)} tokens): {texts[0]}\nTarget ({len(target)} tokens): {texts[1]}"
        for source, target, texts in examples
    )
