"""The manifest of a data set: its splits, and the rows and SHA-256 of every shard.

A data set counts as complete once its manifest is in the store.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.store.sealed import seal, unseal
from raysynth.store.store import Store

Kind = TypeVar("Kind")

MANIFEST = "manifest.json"
"""The manifest's file in the directory of a data set."""
VOCABULARY = "spiece.model"
"""The file of a text data set's SentencePiece model."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of examples."""

    file: str
    """Its name in the data set's directory."""
    rows: int
    """Number of examples."""
    sha256: str
    """SHA-256 of the file, in hex."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The files of a data set. Fields are written in this order."""

    splits: Mapping[Split, tuple[Shard, ...]]
    """The shards of each split, in the order of their names."""
    prefix: tuple[int, ...]
    """Ids that go before every input; the shards do not hold them."""

    @property
    def shards(self) -> list[Shard]:
        """The shards of all splits."""
        return [shard for shards in self.splits.values() for shard in shards]

    @property
    def num_rows(self) -> dict[Split, int]:
        """Number of examples in each split."""
        return {split: sum(shard.rows for shard in shards) for split, shards in self.splits.items()}

    @property
    def digest(self) -> str:
        """SHA-256 over the shards' checksums, in hex: equal if and only if all shards are."""
        checksums = [shard.sha256 for split in sorted(self.splits) for shard in self.splits[split]]
        return hashlib.sha256("".join(checksums).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class TextManifest(Manifest):
    """The files of a downstream data set, which has a vocabulary."""

    num_sentinels: int
    """Sentinels above the pieces of the vocabulary."""
    skipped_rows: int
    """Rows of the source files that could not be read."""
    first_skipped: tuple[str, ...]
    """The errors of the first skipped rows, one line each."""


# -------------------------------------------------------------------------------- files


def read_from_store(store: Store, directory: str) -> Manifest | None:
    """The manifest of the data set in a directory of a store, None if there is none.

    Raises `InputError` for a manifest with missing, unknown or malformed fields.
    """
    value = store.read_json(f"{directory}/{MANIFEST}")
    return None if value is None else _manifest(value, f"{store.uri}/{directory}/{MANIFEST}")


def read_from_directory(directory: Path) -> Manifest:
    """The manifest of the data set in a local directory.

    Raises `InputError` if there is none, and for one with missing, unknown or malformed fields.
    """
    file = directory / MANIFEST
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    return _manifest(unseal(content, str(file)), str(file))


def write_manifest(manifest: Manifest, store: Store, directory: str, *more_files: str) -> None:
    """Write a manifest, which completes the data set, and the list of its files that a remote store needs to copy it.

    `more_files` are files of the data set that are not shards.
    """
    content = seal(dataclasses.asdict(manifest))
    if store.local_root is None:
        store.write_list(directory, [*(shard.file for shard in manifest.shards), *more_files], {MANIFEST: content})
    store.write_bytes(f"{directory}/{MANIFEST}", content)


# -------------------------------------------------------------------------------- from JSON


_TEXT_FIELDS = {"num_sentinels", "skipped_rows", "first_skipped"}


def _manifest(value: object, place: str) -> Manifest:
    is_text = isinstance(value, dict) and not _TEXT_FIELDS.isdisjoint(value)
    fields = _fields(value, TextManifest if is_text else Manifest, place)
    splits = {}
    for split, shards in _typed(fields["splits"], dict, "splits", place).items():
        if split not in set(Split):
            raise _unusable(place, f"has an unknown split {split!r}")
        splits[Split(split)] = tuple(_shard(shard, place) for shard in _typed_list(shards, dict, split, place))
    prefix = tuple(_typed_list(fields["prefix"], int, "prefix", place))
    if not is_text:
        return Manifest(splits=splits, prefix=prefix)
    return TextManifest(
        splits=splits,
        prefix=prefix,
        num_sentinels=_typed(fields["num_sentinels"], int, "num_sentinels", place),
        skipped_rows=_typed(fields["skipped_rows"], int, "skipped_rows", place),
        first_skipped=tuple(_typed_list(fields["first_skipped"], str, "first_skipped", place)),
    )


def _shard(value: object, place: str) -> Shard:
    fields = _fields(value, Shard, place)
    return Shard(
        file=_typed(fields["file"], str, "file", place),
        rows=_typed(fields["rows"], int, "rows", place),
        sha256=_typed(fields["sha256"], str, "sha256", place),
    )


def _fields(value: object, kind: type[Manifest] | type[Shard], place: str) -> dict[str, Any]:
    """The fields of a JSON object; raises `InputError` unless they are those of `kind`."""
    if not isinstance(value, dict):
        raise _unusable(place, "is not a JSON object")
    names = [field.name for field in dataclasses.fields(kind)]
    for name in names:
        if name not in value:
            raise _unusable(place, f"lacks {_owner(kind)}{name!r}")
    for name in value:
        if name not in names:
            raise _unusable(place, f"has an unknown field: {_owner(kind)}{name!r}")
    return value


def _owner(kind: type[Manifest] | type[Shard]) -> str:
    return "a shard's " if kind is Shard else ""


def _typed_list(value: object, kind: type[Kind], field: str, place: str) -> list[Kind]:
    return [_typed(item, kind, field, place) for item in _typed(value, list, field, place)]


def _typed(value: object, kind: type[Kind], field: str, place: str) -> Kind:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _unusable(place, f"has a value of the wrong type in {field!r}: {value!r:.60}")
    return value


def _unusable(place: str, problem: str) -> InputError:
    return InputError(f"{place} {problem}; delete the data set's directory to have it made again")
