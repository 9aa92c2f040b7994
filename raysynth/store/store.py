"""The artifact store: one directory per artifact, whose record says that it is done.

A store is a local path or any URI that pyarrow's file systems know (`gs://…`, `s3://…`, `file:///…`). Nothing else
remembers what is done: resuming, extending and asking what remains all read the same records.
"""

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pyarrow import fs

from raysynth.errors import InputError, first_line
from raysynth.specs.identity import Artifact, describe, name
from raysynth.store.files import write_whole, written_aside
from raysynth.store.marks import alive, here
from raysynth.store.records import DataResult, Failure, Outcome, Provenance, Record, Running, WeightsResult, as_json
from raysynth.store.sealed import seal, unseal

_OBJECT_STORES = ("s3", "gcs", "abfs")


class State(StrEnum):
    """What the store knows of an artifact."""

    NEW = "new"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    DIVERGED = "diverged"
    DONE = "done"


@dataclass(frozen=True, kw_only=True)
class Status:
    """The state of one artifact, with the file that tells it."""

    state: State
    record: Record | None = None
    """Of an artifact that is done."""
    failure: Failure | None = None
    """Of an artifact that failed or diverged."""
    progress: Running | None = None
    """Of an artifact that is running or was interrupted."""


class Store:
    """Artifacts and their records under one root."""

    def __init__(self, uri: str):
        self.uri = uri
        try:
            if re.match("[a-z0-9]+:/[^/]", uri):  # nobody means a local directory of such a name
                raise ValueError("a URI has two slashes")
            if "://" in uri:
                self.filesystem, self.root = fs.FileSystem.from_uri(uri)
            else:
                self.filesystem, self.root = fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
        except (ValueError, OSError, NotImplementedError) as error:
            raise InputError(f"store {uri!r} is not a path or a URI that pyarrow knows: {first_line(error)}") from None
        self.root = self.root.rstrip("/")
        if self.filesystem.type_name == "local":
            self.uri = self.root  # a relative path means the same in every process
            if os.path.isfile(self.root):
                raise InputError(f"store {uri!r} must be a directory, got a file")

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.uri,)

    @property
    def place(self) -> str:
        """The URI without its options: to be shown, and to append paths to."""
        return self.uri.split("?")[0].rstrip("/")

    @property
    def local_root(self) -> Path | None:
        """The root as a path, or None where the store is remote."""
        return Path(self.root) if self.filesystem.type_name == "local" else None

    # -------------------------------------------------------------------------------- plain files

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory at a path below the root."""
        return self.filesystem.get_file_info(f"{self.root}/{path}").type is not fs.FileType.NotFound

    def read_bytes(self, path: str) -> bytes | None:
        """The bytes of a file, or None where there is no file."""
        try:
            with self.filesystem.open_input_stream(f"{self.root}/{path}") as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError:
            return None

    def write_bytes(self, path: str, content: bytes) -> None:
        """Write a file whole or not at all: aside and renamed, or as one upload to an object store."""
        full = f"{self.root}/{path}"
        if self.local_root is not None:
            write_whole(Path(full), content)
            return
        aside = full
        if self.filesystem.type_name not in _OBJECT_STORES:
            self.filesystem.create_dir(full.rsplit("/", 1)[0], recursive=True)
            aside = f"{full}.{uuid.uuid4().hex}.aside"
        with self.filesystem.open_output_stream(aside) as stream:
            stream.write(content)
        if aside != full:
            self.filesystem.move(aside, full)

    def read_json(self, path: str) -> dict[str, Any] | None:
        """The JSON object in a file, or None where there is no file; raises `InputError` for a damaged one."""
        content = self.read_bytes(path)
        return None if content is None else unseal(content, f"{self.uri}: {path}")

    def write_json(self, path: str, value: Mapping[str, Any]) -> None:
        """Write a JSON object whole or not at all, with its checksum."""
        self.write_bytes(path, seal(value))

    def move(self, path: str, to: str) -> None:
        """Give a file another name."""
        self.filesystem.move(f"{self.root}/{path}", f"{self.root}/{to}")

    def delete(self, path: str) -> None:
        """Delete a file or a whole directory, if there is one."""
        full = f"{self.root}/{path}"
        kind = self.filesystem.get_file_info(full).type
        if kind is fs.FileType.Directory:
            self.filesystem.delete_dir(full)
        elif kind is not fs.FileType.NotFound:
            self.filesystem.delete_file(full)

    def check_writable(self) -> None:
        """Raise `InputError` unless a file can be written."""
        probe = f".probe-{uuid.uuid4().hex}"
        try:
            if self.filesystem.type_name not in _OBJECT_STORES:
                self.filesystem.create_dir(self.root, recursive=True)
            self.write_bytes(probe, b"")
            self.delete(probe)
        except (OSError, ValueError) as error:
            raise InputError(f"store {self.uri!r} is not writable: {first_line(error)}") from None

    # -------------------------------------------------------------------------------- artifacts

    def status(self, artifact: Artifact) -> Status:
        """What the store knows of an artifact; raises `InputError` where its record has another description."""
        where = name(artifact)
        if (record := self.record_of(where)) is not None:
            if record.description != describe(artifact):
                fields = ", ".join(differences(record.description, describe(artifact)))
                raise InputError(f"{self.uri}: {where}/record.json disagrees with its description in {fields}")
            return Status(state=State.DONE, record=record)
        file = f"{where}/failure.json"
        if (value := self.read_json(file)) is not None:
            failure = Failure.read(value, f"{self.uri}: {file}")
            return Status(state=State(failure.outcome.value), failure=failure)
        progress = self._running(where)
        if progress is None:
            return Status(state=State.NEW)
        return Status(state=State.RUNNING if alive(progress) else State.INTERRUPTED, progress=progress)

    def record_of(self, where: str) -> Record | None:
        """The record of an artifact by its name, such as `pretrain/set.seed0-1c575405`, or None if it is not done."""
        file = f"{where}/record.json"
        value = self.read_json(file)
        return None if value is None else Record.read(value, f"{self.uri}: {file}")

    def _running(self, where: str) -> Running | None:
        file = f"{where}/running.json"
        value = self.read_json(file)
        return None if value is None else Running.read(value, f"{self.uri}: {file}")

    def statuses(self, artifacts: Iterable[Artifact]) -> dict[Artifact, Status]:
        """The status of each artifact, read side by side."""
        artifacts = list(artifacts)
        with ThreadPoolExecutor(16) as pool:
            return dict(zip(artifacts, pool.map(self.status, artifacts), strict=True))

    def names(self) -> list[str]:
        """The names of all trained or imported artifacts in the store, done or not."""
        names = []
        for kind in ("pretrain", "pretrained", "finetune"):
            selector = fs.FileSelector(f"{self.root}/{kind}", allow_not_found=True)
            names += [f"{kind}/{info.base_name}" for info in self.filesystem.get_file_info(selector)]
        return sorted(names)

    def record(self, artifact: Artifact, *, result: DataResult | WeightsResult, provenance: Provenance) -> None:
        """Write the record that makes an artifact done; `result` depends on the description alone."""
        where = name(artifact)
        record = Record(artifact=where, description=describe(artifact), result=result, provenance=provenance)
        self.write_json(f"{where}/record.json", as_json(record))
        for stale in ("running.json", "failure.json"):
            self.delete(f"{where}/{stale}")

    def fail(self, artifact: Artifact, *, outcome: Outcome, error: str, log: str) -> None:
        """Note why an artifact could not be made, in one line and with the traceback, and at which step."""
        where = name(artifact)
        progress = self._running(where)
        failure = Failure(
            **vars(here()), outcome=outcome, error=error, step=None if progress is None else progress.step, log=log
        )
        self.write_json(f"{where}/failure.json", as_json(failure))
        self.delete(f"{where}/running.json")

    def progress(self, artifact: Artifact, *, step: int, num_steps: int, seconds_per_step: float | None) -> None:
        """Note that an artifact is being made, how far it is and, if known, how fast."""
        running = Running(**vars(here()), step=step, num_steps=num_steps, seconds_per_step=seconds_per_step)
        self.write_json(f"{name(artifact)}/running.json", as_json(running))

    def forget_failure(self, artifact: Artifact) -> None:
        """Let a failed artifact be tried again."""
        self.delete(f"{name(artifact)}/failure.json")

    @contextmanager
    def workspace(self, artifact: Artifact) -> "Iterator[Workspace]":
        """A local directory with the artifact's files: the store's own if it is local, else a mirror."""
        if self.local_root is not None:
            path = self.local_root / name(artifact)
            path.mkdir(parents=True, exist_ok=True)
            yield Workspace(store=self, name=name(artifact), path=path, seen=None)
            return
        path = Path(tempfile.mkdtemp(prefix="raysynth-"))
        try:
            workspace = Workspace(store=self, name=name(artifact), path=path, seen={})
            workspace.pull()
            yield workspace
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def fetch(self, artifact: Artifact, cache: Path) -> Path:
        """A local directory with the files of a done artifact, downloaded once into `cache` if the store is remote."""
        return self.fetch_by_name(name(artifact), cache)

    def fetch_by_name(self, where: str, cache: Path) -> Path:
        """`fetch` for an artifact that is known by its name only, such as `pretrain/set.seed0-1c575405`."""
        if self.local_root is not None:
            return self.local_root / where
        target = cache / where
        if not target.exists():
            try:
                with written_aside(target) as aside:
                    aside.mkdir()
                    Workspace(store=self, name=where, path=aside, seen={}).pull()
            except OSError:
                if not target.exists():  # else another trial on this host was first
                    raise
        return target


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The local files of one artifact while it is being made."""

    store: Store
    name: str
    path: Path
    seen: dict[str, tuple[int, int]] | None
    """Size and modification time of each mirrored file; None if the directory is the store's own."""

    def push(self) -> None:
        """Bring the store up to date: new files first, then the list that makes them count, then deletions."""
        if self.seen is None:
            return
        files = {
            str(file.relative_to(self.path)): (file.stat().st_size, file.stat().st_mtime_ns)
            for file in sorted(self.path.rglob("*"))
            if file.is_file()
        }
        for relative, mark in files.items():
            if self.seen.get(relative) != mark:
                self.store.write_bytes(f"{self.name}/{relative}", (self.path / relative).read_bytes())
        self.store.write_json(f"{self.name}/files.json", {"files": sorted(files)})
        for relative in self.seen.keys() - files.keys():
            self.store.delete(f"{self.name}/{relative}")
        self.seen.clear()
        self.seen.update(files)

    def pull(self) -> None:
        """Copy the files that the store lists."""
        listed = self.store.read_json(f"{self.name}/files.json") or {"files": []}
        for relative in listed["files"]:
            content = self.store.read_bytes(f"{self.name}/{relative}")
            if content is None:
                raise InputError(f"{self.store.uri}: {self.name}/{relative} is listed but missing")
            file = self.path / relative
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            if self.seen is not None:
                self.seen[relative] = (file.stat().st_size, file.stat().st_mtime_ns)


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """The fields in which two descriptions differ, as dotted paths with both values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return [
            line
            for key in sorted(one.keys() | other.keys())
            for line in differences(one.get(key, _ABSENT), other.get(key, _ABSENT), f"{path}.{key}".lstrip("."))
        ]
    return [] if one == other else [f"{path} ({_shown(one, other)} against {_shown(other, one)})"]


_ABSENT = object()
"""Stands for a field that a description lacks, which is not the same as a field that is None."""


def _shown(value: Any, other: Any) -> str:
    if value is _ABSENT:
        return "nothing" if other is None else "None"
    return repr(value)
