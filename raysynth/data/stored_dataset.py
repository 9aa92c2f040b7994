"""A data set's directory, opened once: its splits and its vocabulary."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysynth.data.batches import StoredSplit
from raysynth.errors import InputError
from raysynth.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class StoredDataset:
    """A data set on disk and its manifest."""

    directory: Path
    manifest: dict[str, Any]

    @staticmethod
    def open(directory: Path) -> "StoredDataset":
        """Read the manifest in `directory`."""
        return StoredDataset(directory=directory, manifest=json.loads((directory / "manifest.json").read_text()))

    def split(self, name: str) -> StoredSplit:
        """One of the splits; raises `InputError` if it has no examples."""
        shards = self.manifest["splits"].get(name, [])
        if not shards:
            raise InputError(f"{self.directory} has no {name} examples")
        return StoredSplit(
            directory=self.directory,
            name=name,
            files=tuple(shard["file"] for shard in shards),
            rows=tuple(shard["rows"] for shard in shards),
            prefix=tuple(self.manifest.get("prefix", ())),
        )

    def vocabulary(self) -> Vocabulary:
        """The vocabulary of a text data set."""
        return Vocabulary.load((self.directory / "spiece.model").read_bytes(), self.manifest["num_sentinels"])
