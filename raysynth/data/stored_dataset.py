"""A data set's directory, opened once: its splits and its vocabulary."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from raysynth.data.batches import StoredSplit
from raysynth.data.manifest import MANIFEST, VOCABULARY, Manifest, TextManifest, read_from_directory
from raysynth.data.shard_files import check_manifest, recorded_digest, sha256
from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.identity import name
from raysynth.store.store import Store
from raysynth.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class StoredDataset:
    """A data set on disk and its manifest."""

    directory: Path
    manifest: Manifest

    @staticmethod
    def open(directory: Path, digest: str | None = None) -> "StoredDataset":
        """Read the manifest in `directory`, which must be the one with that digest unless `digest` is None.

        A done data set's record has the digest. Raises `InputError` if there is no such manifest or it is damaged.
        """
        manifest = read_from_directory(directory)
        if digest is not None:
            check_manifest(manifest, digest, f"{directory / MANIFEST}")
        return StoredDataset(directory=directory, manifest=manifest)

    def split(self, split: Split) -> StoredSplit:
        """One of the splits; raises `InputError` if it has no examples."""
        return StoredSplit.of(self.manifest, self.directory, split)

    def vocabulary(self) -> Vocabulary:
        """The vocabulary of a downstream data set; raises `InputError` for any other, and for a damaged file."""
        if not isinstance(self.manifest, TextManifest):
            raise InputError(f"{self.directory} has no vocabulary: it is not a downstream data set")
        file = self.directory / VOCABULARY
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}") from None
        if sha256(content) != self.manifest.vocabulary_sha256:
            raise InputError(f"{file} is damaged: run the same command again to have it remade")
        return Vocabulary.load(content, self.manifest.num_sentinels)


def fetch(dataset: Dataset | TextDataset, store: Store, cache: Path) -> tuple[Path, str]:
    """A local directory with a done data set, and the digest that its manifest must have.

    A damaged copy of a remote store's data set is fetched again. Raises `InputError` if that does not help, and if the
    data set is not done.
    """
    record = store.record_of(name(dataset))
    if record is None:
        raise InputError(f"{store.uri}/{name(dataset)} is not done: run the same command again to have it made")
    digest = recorded_digest(record)
    directory = store.fetch(dataset, cache)
    if store.local_root is None and not _is_whole(directory, digest):
        shutil.rmtree(directory)
        directory = store.fetch(dataset, cache)
        if not _is_whole(directory, digest):
            raise InputError(f"{store.uri}/{name(dataset)} is damaged: run the same command again to have it remade")
    return directory, digest


def _is_whole(directory: Path, digest: str) -> bool:
    """Whether a directory has all files of the data set whose manifest has that digest."""
    try:
        files = StoredDataset.open(directory, digest).manifest.files
        return all(sha256((directory / file).read_bytes()) == checksum for file, checksum in files.items())
    except (InputError, OSError):
        return False
