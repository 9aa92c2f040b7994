"""A data set's directory, opened once: its splits and its vocabulary."""

from dataclasses import dataclass
from pathlib import Path

from raysynth.data.batches import StoredSplit
from raysynth.data.manifest import VOCABULARY, Manifest, TextManifest, read_from_directory
from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class StoredDataset:
    """A data set on disk and its manifest."""

    directory: Path
    manifest: Manifest

    @staticmethod
    def open(directory: Path) -> "StoredDataset":
        """Read the manifest in `directory`; raises `InputError` if there is none or it is unusable."""
        return StoredDataset(directory=directory, manifest=read_from_directory(directory))

    def split(self, split: Split) -> StoredSplit:
        """One of the splits; raises `InputError` if it has no examples."""
        return StoredSplit.of(self.manifest, self.directory, split)

    def vocabulary(self) -> Vocabulary:
        """The vocabulary of a downstream data set; raises `InputError` for any other."""
        if not isinstance(self.manifest, TextManifest):
            raise InputError(f"{self.directory} has no vocabulary: it is not a downstream data set")
        return Vocabulary.load((self.directory / VOCABULARY).read_bytes(), self.manifest.num_sentinels)
