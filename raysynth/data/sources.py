"""What text data sets are made of: digests of the rows read, which are compared when files are given again."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from raysynth.data.corpus import documents
from raysynth.data.locations import location
from raysynth.downstream.rows import Pair
from raysynth.errors import InputError
from raysynth.specs.datasets import Dataset, TextCorpus, TextDataset
from raysynth.store.records import DataResult, Record
from raysynth.store.store import Store


def digest_of_pairs(splits: Mapping[str, Iterable[Pair]]) -> str:
    """SHA-256 over the pairs of all splits that a reader read, in hex."""
    digest = hashlib.sha256()
    for split in sorted(splits):
        _add(digest, split)
        for pair in splits[split]:
            for text in (pair.source, pair.target, *pair.references, ""):
                _add(digest, text)
    return digest.hexdigest()


def digest_of_documents(texts: Iterable[str]) -> str:
    """SHA-256 over the documents of a corpus in their order, in hex."""
    digest = hashlib.sha256()
    for text in texts:
        _add(digest, text)
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", text: str) -> None:
    """Add a text after its length, so that the border between two texts counts."""
    content = text.encode("utf-8", "surrogatepass")
    digest.update(len(content).to_bytes(8, "little"))
    digest.update(content)


_SIGNATURE = "sources.json"
"""The file in a data set's directory with the signature of the files that it was made of."""


def note_files(store: Store, directory: str, signature: str) -> None:
    """Note which files were read, so that `check_same_files` need not read them again.

    `signature` is theirs from before they were read.
    """
    store.write_json(f"{directory}/{_SIGNATURE}", {"files": signature})


def _are_noted(store: Store, directory: str, place: str) -> bool:
    try:
        return store.read_json(f"{directory}/{_SIGNATURE}") == {"files": signature(place)}
    except InputError:
        return False


def signature(place: str) -> str:
    """SHA-256 over paths, sizes and times of the files at or below `place`, in hex: equal only if no file changed."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(place):
        folders.sort()
        for file in sorted(files):
            _add_status(digest, Path(folder, file), os.path.relpath(os.path.join(folder, file), place))
    if not os.path.isdir(place):
        _add_status(digest, Path(place), "")
    return digest.hexdigest()


def _add_status(digest: "hashlib._Hash", file: Path, relative: str) -> None:
    try:
        status = file.stat()
    except OSError:  # such as a link to nowhere, which no reader reads
        return
    _add(digest, f"{relative}\n{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}")


def place_of(dataset: Dataset | TextDataset, data: Mapping[str, str]) -> str | None:
    """Where the files of a text data set are, from `data` or the environment; None if nothing says where."""
    if isinstance(dataset, TextDataset):
        return location(dataset.name, data)
    return location(dataset.task.name, data) if isinstance(dataset.task, TextCorpus) else None


def check_same_files(dataset: Dataset | TextDataset, record: Record, data: Mapping[str, str], store: Store) -> None:
    """Raise `InputError` if the files that are given for a done text data set have other rows than those it is made of.

    Files of which none changed since are not read again. A place from the environment may be gone.
    """
    place = place_of(dataset, data)
    if place is None or not os.path.exists(place) or not isinstance(record.result, DataResult):
        return
    if record.result.sources_sha256 is None or _are_noted(store, record.artifact, place):
        return
    if isinstance(dataset, TextDataset):
        digest = digest_of_pairs(dataset.texts.read(place, lambda error: None))
    else:
        digest = digest_of_documents(documents(place))
    if digest != record.result.sources_sha256:
        raise InputError(
            f"{place} has other rows than those that {record.artifact} was made of; use another --store for them, or "
            "leave out the path to go on with the data set in the store"
        )
