"""Text corpora: from files of documents to examples of span corruption, such as the paper's Wiki 10K baseline.

The steps are those of T5's pipeline: documents are joined in random order with nothing between them, cut into segments
of the objective's length (568 tokens for inputs of 512), and corrupted. An epoch is one pass over the documents; every
epoch has its own order and every example its own noise. All documents are in memory as 16-bit ids: 10,000 Wikipedia
articles take about 15 MB.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raysynth.downstream.files import (
    COMPRESSIONS,
    check_copies,
    check_shards,
    files_below,
    files_read,
    read_text,
    shown,
)
from raysynth.downstream.formats import json_rows, parquet_rows
from raysynth.downstream.rows import Row, Split, character_problem
from raysynth.errors import InputError
from raysynth.specs.datasets import TextCorpus, TrainedVocabulary
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.span_corruption import SpanCorruption
from raysynth.tokens.streams import Purpose, stream
from raysynth.tokens.vocabulary import T5_SENTINELS, Vocabulary, t5_vocabulary_bytes


def documents(location: str) -> Iterator[str]:
    """The documents of a file, or of all files below a directory in the order of their paths, without blank ones.

    A .txt file is one document, a .jsonl file has one in the field "text" of each line, a .parquet file one in the
    column "text" of each row; each may be compressed. Other files and hidden ones are ignored. Raises `InputError` for
    files that cannot be read like this, for incomplete shards and for copies.
    """
    root = Path(location)
    if not os.path.exists(root):
        raise InputError(f"text corpus {shown(location)} does not exist")
    files = [file for file in files_below(root) if _kind(file) in _READERS] if root.is_dir() else [root]
    if not files or _kind(files[0]) not in _READERS:
        raise InputError(f"text corpus {shown(location)} has no .txt, .jsonl or .parquet file")
    if root.is_dir():
        check_shards(files)
        check_copies(files)
    for file in files:
        for row in _READERS[_kind(file)](file):
            text = _text(row)
            if text and not text.isspace():
                yield text


def _kind(file: Path) -> str:
    """The last part of a file's name, in small letters and without that of a compression."""
    name = file.with_suffix("") if file.suffix.lower() in COMPRESSIONS else file
    return name.suffix.lower()


def _text(row: Row | InputError) -> str:
    """The text of a row as it is, blank or not."""
    if isinstance(row, InputError):
        raise row
    text = row.record.get("text")
    if not isinstance(text, str):
        raise row.error('no text in the field "text"')
    if problem := character_problem(text):
        raise row.error(problem)
    return text


def _whole_file(file: Path) -> Iterator[Row]:
    yield Row(shown(file), {"text": read_text(file)})


_READERS: Mapping[str, Callable[[Path], Iterable[Row | InputError]]] = {
    ".txt": _whole_file,
    ".jsonl": json_rows,
    ".parquet": parquet_rows,
}


def encode(corpus: TextCorpus, location: str) -> tuple[Vocabulary, dict[Split, Ragged]]:
    """A corpus's vocabulary, and the token ids of its documents by split, one row a document.

    A trained vocabulary sees only the training documents. Raises `InputError` for broken files and for too few
    documents.
    """
    with files_read():  # raises an error if a file changes between the two readings
        texts = _chosen_documents(corpus, location)
    num_validation = min(max(round(len(texts) * corpus.validation_share), 1), len(texts) - 1)
    by_split = {Split.TRAIN: texts[num_validation:], Split.VALIDATION: texts[:num_validation]}
    if isinstance(corpus.vocabulary, TrainedVocabulary):
        vocabulary = Vocabulary.train(
            by_split[Split.TRAIN], corpus.vocabulary.num_pieces, corpus.vocabulary.num_sentinels
        )
    else:
        vocabulary = Vocabulary.load(t5_vocabulary_bytes(), T5_SENTINELS)
    return vocabulary, {split: _encoded(vocabulary, texts) for split, texts in by_split.items()}


def _chosen_documents(corpus: TextCorpus, location: str) -> list[str]:
    """The documents of a corpus in random order; reads all files twice, so that only these are in memory."""
    num_available = sum(1 for _ in documents(location))
    num_chosen = num_available if corpus.num_documents is None else corpus.num_documents
    if not 2 <= num_chosen <= num_available:
        raise InputError(
            f"{corpus.name}: {shown(location)} has {num_available} documents, {max(num_chosen, 2)} are needed"
        )
    chosen = stream(Purpose.CORPUS_DOCUMENTS, corpus.seed).permutation(num_available)[:num_chosen]
    places = {int(document): place for place, document in enumerate(chosen)}
    texts = [""] * num_chosen
    for document, text in enumerate(documents(location)):
        if document in places:
            texts[places[document]] = text
    return texts


def _encoded(vocabulary: Vocabulary, texts: list[str]) -> Ragged:
    """The ids of each text. Encodes a few hundred texts at a time: SentencePiece's lists take 20 times the memory."""
    parts = [vocabulary.encode_many(texts[first : first + 256]) for first in range(0, len(texts), 256)]
    return Ragged.packed(
        np.concatenate([part.values for part in parts]), np.concatenate([part.lengths for part in parts])
    )


# -------------------------------------------------------------------------------- examples

_SPLIT_NUMBERS = {split: number for number, split in enumerate(Split)}


def num_segments(rows: Ragged, length: int) -> int:
    """Number of segments in an epoch; the last one may be shorter than `length`."""
    return -(-len(rows.values) // length)


def segments(rows: Ragged, length: int, split: Split, *, seed: int, first: int, count: int) -> Ragged:
    """Segments `first` to `first + count` of a split's documents, which are joined in a new order every epoch.

    Each epoch's order is drawn from (seed, split, epoch). Leaves out segments of one token: they cannot be corrupted.
    """
    per_epoch = num_segments(rows, length)
    parts = []
    while count:
        epoch, start = divmod(first, per_epoch)
        stop = min(start + count, per_epoch)
        order = stream(Purpose.CORPUS_ORDER, seed, _SPLIT_NUMBERS[split], epoch).permutation(len(rows))
        parts.append(_joined(rows, order, start * length, stop * length))
        first, count = first + stop - start, count - (stop - start)
    cut = [part[start : start + length] for part in parts for start in range(0, len(part), length)]
    return Ragged.of(segment.tolist() for segment in cut if len(segment) > 1)


def _joined(rows: Ragged, order: npt.NDArray[np.int64], start: int, stop: int) -> npt.NDArray[np.uint16]:
    """Tokens `start` to `stop` of the rows joined in `order`, [stop - start] uint16."""
    ends = np.cumsum(rows.lengths[order])
    first, last = np.searchsorted(ends, [start, min(stop, ends[-1]) - 1], side="right")
    skipped = ends[first] - rows.lengths[order[first]]
    return rows.take(order[first : last + 1]).values[start - skipped : stop - skipped]


def draw_shard(
    rows: Ragged, objective: SpanCorruption, split: Split, *, seed: int, shard: int, shard_size: int
) -> tuple[Ragged, Ragged]:
    """The sources and targets of one shard of a split: a function of the documents, `seed` and `shard` alone.

    Each shard continues the one before: shard i holds segments i * shard_size to (i + 1) * shard_size of an endless
    sequence of epochs, without those of a single token.
    """
    uncorrupted = segments(rows, objective.segment_length, split, seed=seed, first=shard * shard_size, count=shard_size)
    return objective.corrupt(stream(Purpose.CORPUS_NOISE, seed, _SPLIT_NUMBERS[split], shard), uncorrupted)


def readable(vocabulary: Vocabulary, source: npt.NDArray[np.uint16], target: npt.NDArray[np.uint16]) -> tuple[str, str]:
    """The source and target of one example, [length] ids each, as text with sentinels."""
    return vocabulary.decode(source.tolist()), vocabulary.decode(target.tolist())
