"""The manifest of a data set: its splits, and the rows and SHA-256 of every shard.

A data set is written in this order: shards and other files, manifest, record. The record holds the manifest's digest,
and the manifest holds the checksum of every other file.
"""

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.store.records import DataResult
from raysynth.store.sealed import seal, unseal
from raysynth.store.store import Store
from raysynth.tokens.token_space import LARGEST_ID

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
    vocabulary_sha256: str | None = None
    """SHA-256 of the file `VOCABULARY`, in hex; None for a data set without one."""
    sources_sha256: str | None = None
    """SHA-256 over the rows or documents that were read, in hex; None for a synthetic task."""

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
        """SHA-256 over all fields that decide what is read, in hex: the record of the data set holds it."""
        fields = dataclasses.asdict(self)
        fields.pop("first_skipped", None)  # for people; it names files of one machine
        return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def files(self) -> dict[str, str]:
        """The SHA-256 of every file of the data set but the manifest, in hex, by the file's name."""
        vocabulary = {} if self.vocabulary_sha256 is None else {VOCABULARY: self.vocabulary_sha256}
        return {shard.file: shard.sha256 for shard in self.shards} | vocabulary


@dataclass(frozen=True, kw_only=True)
class TextManifest(Manifest):
    """The files of a downstream data set, which has a vocabulary."""

    vocabulary_sha256: str
    num_sentinels: int
    """Sentinels above the pieces of the vocabulary."""
    skipped_rows: int
    """Rows of the source files that could not be read."""
    first_skipped: tuple[str, ...]
    """The errors of the first skipped rows, one line each."""


def result_of(manifest: Manifest) -> DataResult:
    """What the record of the data set says."""
    return DataResult(
        rows={split.value: count for split, count in manifest.num_rows.items()},
        sha256=manifest.digest,
        skipped_rows=manifest.skipped_rows if isinstance(manifest, TextManifest) else None,
        sources_sha256=manifest.sources_sha256,
    )


# -------------------------------------------------------------------------------- files


def read_from_store(store: Store, directory: str) -> Manifest | None:
    """The manifest of the data set in a directory of a store, None if there is none.

    Raises `InputError` for a damaged manifest, and for one with missing, unknown or malformed fields.
    """
    value = store.read_json(f"{directory}/{MANIFEST}")
    return None if value is None else _manifest(value, f"{store.uri}/{directory}/{MANIFEST}")


def read_from_directory(directory: Path) -> Manifest:
    """The manifest of the data set in a local directory.

    Raises `InputError` if there is none, for a damaged one, and for one with missing, unknown or malformed fields.
    """
    file = directory / MANIFEST
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    return _manifest(unseal(content, str(file)), str(file))


def write_manifest(manifest: Manifest, store: Store, directory: str) -> None:
    """Write a manifest, once all other files are there, and the list of files that a remote store needs to copy it."""
    content = seal(dataclasses.asdict(manifest))
    if store.local_root is None:
        store.write_list(directory, manifest.files, {MANIFEST: content})
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
        splits[Split(split)] = tuple(shard_from_json(shard, place) for shard in _typed_list(shards, dict, split, place))
        for shard in splits[Split(split)]:
            if not shard.file.startswith(f"{split}-"):
                raise _unusable(place, f"has the file {shard.file!r} in its split {split!r}")
    files = Counter(shard.file for shards in splits.values() for shard in shards)
    for file, count in files.items():
        if count > 1:
            raise _unusable(place, f"has the file {file!r} twice")
    prefix = tuple(_typed_list(fields["prefix"], int, "prefix", place))
    for id in prefix:
        if not 0 <= id <= LARGEST_ID:
            raise _unusable(place, f"has an id in 'prefix' that is not from 0 to {LARGEST_ID}: {id}")
    vocabulary, sources = fields["vocabulary_sha256"], fields["sources_sha256"]
    if vocabulary is not None or is_text:
        _sha256(vocabulary, "vocabulary_sha256", place)
    if sources is not None:
        _sha256(sources, "sources_sha256", place)
    if not is_text:
        return Manifest(splits=splits, prefix=prefix, vocabulary_sha256=vocabulary, sources_sha256=sources)
    return TextManifest(
        splits=splits,
        prefix=prefix,
        vocabulary_sha256=vocabulary,
        sources_sha256=sources,
        num_sentinels=_count(fields["num_sentinels"], "num_sentinels", place),
        skipped_rows=_count(fields["skipped_rows"], "skipped_rows", place),
        first_skipped=tuple(_typed_list(fields["first_skipped"], str, "first_skipped", place)),
    )


_SHARD_FILE = re.compile(r"(draws/\d+|({})-\d+)\.parquet".format("|".join(Split)), re.ASCII)
"""The names of files that data sets write; no other file is read, overwritten or deleted."""


def shard_from_json(value: object, place: str) -> Shard:
    """The shard in a JSON value; raises `InputError`, which names `place`, for what raysynth does not write."""
    fields = _fields(value, Shard, place)
    file = _typed(fields["file"], str, "file", place)
    if not _SHARD_FILE.fullmatch(file):
        raise _unusable(place, f"names a file that raysynth does not write: {file!r:.200}")
    return Shard(
        file=file,
        rows=_count(fields["rows"], "rows", place),
        sha256=_sha256(fields["sha256"], "sha256", place),
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


def _count(value: object, field: str, place: str) -> int:
    count = _typed(value, int, field, place)
    if count < 0:
        raise _unusable(place, f"has a negative number in {field!r}: {count}")
    return count


def _sha256(value: object, field: str, place: str) -> str:
    text = _typed(value, str, field, place)
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise _unusable(place, f"has no SHA-256 in {field!r}: {text!r:.80}")
    return text


def _typed(value: object, kind: type[Kind], field: str, place: str) -> Kind:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _unusable(place, f"has a value of the wrong type in {field!r}: {value!r:.60}")
    return value


def _unusable(place: str, problem: str) -> InputError:
    return InputError(f"{place} is damaged: it {problem}")
