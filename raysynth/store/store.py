"""The artifact store: one directory per artifact, whose record says that it is done.

A store is a local path or any URI that pyarrow's file systems know (`gs://…`, `s3://…`, `file:///…`). Nothing else
remembers what is done: resuming, extending and asking what remains all read the same records.
"""

import contextlib
import hashlib
import os
import re
import shlex
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
from pyarrow import fs

from raysynth.errors import InputError, StoreError, first_line
from raysynth.specs.identity import Artifact, describe, fingerprint_of, name
from raysynth.store import checksums, mirror
from raysynth.store.checksums import Checksum
from raysynth.store.files import is_special, private_directory, write_whole
from raysynth.store.google import check_bucket
from raysynth.store.marks import Watch, here
from raysynth.store.records import DataResult, Failure, Outcome, Provenance, Record, Running, WeightsResult, as_json
from raysynth.store.sealed import seal, unseal

Kept = TypeVar("Kept")

KINDS = ("dataset", "pretrain", "pretrained", "finetune")
"""The directories of artifacts in a store."""
WITH_WEIGHTS = ("pretrain", "pretrained", "finetune")
"""The kinds of artifacts that have weights."""
SET_ASIDE = "set-aside"
"""The directory of what was damaged and will be made again."""

DEFAULT_STORES = "results"
"""The folder that holds the default stores, `full` and `tiny`."""

_OBJECT_STORES = ("s3", "gcs", "abfs")
_CHUNK_BYTES = 2**23
_NUM_THREADS = 16
"""As many files are read side by side."""
_WORTH_A_LISTING = 100
"""Artifacts of one kind for which a listing of all of that kind is sooner there than three files of each."""


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
        self._open(uri)
        if self.filesystem.type_name == "gcs":
            check_bucket(uri)

    def _open(self, uri: str) -> None:
        self.uri = uri
        self._watch = Watch()
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
        try:
            self.root.encode()
        except UnicodeEncodeError:
            raise InputError(f"store {uri!r} must be a path that is text in UTF-8") from None
        if self.filesystem.type_name == "local":
            self.uri = self.root  # a relative path means the same in every process
            if os.path.isfile(self.root):
                raise InputError(f"store {uri!r} must be a directory, got a file")

    def __reduce__(self) -> "tuple[Callable[[str], Store], tuple[str]]":
        return _reopened, (self.uri,)

    @property
    def place(self) -> str:
        """The URI without its options: to be shown, and to append paths to."""
        return self.uri.split("?")[0].rstrip("/")

    @property
    def local_root(self) -> Path | None:
        """The root as a path, or None where the store is remote."""
        return Path(self.root) if self.filesystem.type_name == "local" else None

    @property
    def has_root(self) -> bool:
        """Whether the root is there."""
        with self._operation("look at the store"):
            return self.filesystem.get_file_info(self.root).type is not fs.FileType.NotFound

    # -------------------------------------------------------------------------------- plain files

    def _full(self, path: str) -> str:
        """Where a path below the root is. Every operation goes through this, so none leaves the store."""
        if any(part in ("", ".", "..") for part in path.split("/")) or not is_plain(path):
            raise InputError(f"store {self.uri!r}: {path!r:.200} is no path of a file in a store")
        return f"{self.root}/{path}"

    @contextmanager
    def _operation(self, what: str) -> Iterator[None]:
        """Raise `StoreError` in one line for what file systems raise."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{self.uri}: cannot {what}: {_reason(error)}") from error

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory at a path below the root."""
        full = self._full(path)
        with self._operation(f"look at {path}"):
            return self.filesystem.get_file_info(full).type is not fs.FileType.NotFound

    def files_below(self, directory: str) -> dict[str, int]:
        """The size in bytes of every file below a directory, by its path in the store; empty if there is none.

        The root is the directory "".
        """
        infos = self._listed(directory, recursive=True)
        return {path: info.size for path, info in infos.items() if info.type is fs.FileType.File}

    def _listed(self, directory: str, *, recursive: bool) -> dict[str, fs.FileInfo]:
        """What is in a directory, by path in the store, without what has a name that is no text."""
        full = self._full(directory) if directory else self.root
        selector = fs.FileSelector(full, allow_not_found=True, recursive=recursive)
        with self._operation(f"list {directory or 'the store'}"):
            infos = self.filesystem.get_file_info(selector)
        listed = {}
        for info in infos:
            with contextlib.suppress(UnicodeDecodeError):  # raysynth has not written it
                listed[info.path[len(self.root) + 1 :]] = info
        return listed

    def read_bytes(self, path: str) -> bytes | None:
        """The bytes of a file, or None where there is no file."""
        full = self._full(path)
        with self._operation(f"read {path}"):
            self._check_is_file(full, path)
            try:
                with self.filesystem.open_input_stream(full) as stream:
                    content: bytes = stream.read()
                    return content
            except FileNotFoundError:
                return None
            except OSError as error:
                if self.filesystem.get_file_info(full).type is fs.FileType.Directory:
                    raise InputError(f"{self.uri}: {path} is damaged: it is a directory") from error
                raise

    def _check_is_file(self, full: str, path: str) -> None:
        """Raise `InputError` for a named pipe, a socket or a device, which would be read for ever."""
        if self.local_root is not None and is_special(full):
            raise InputError(f"{self.uri}: {path} is damaged: it is no file")

    def write_bytes(self, path: str, content: bytes) -> None:
        """Write a file whole or not at all: aside and renamed, or as one upload to an object store."""
        full = self._full(path)
        with self._operation(f"write {path}"):
            if self.local_root is not None:
                write_whole(Path(full), content)
            else:
                with self._uploaded(full) as stream:
                    stream.write(content)

    @contextmanager
    def _uploaded(self, full: str) -> Iterator[Any]:
        """A stream to a file of a remote store, which gets its name once the block succeeds."""
        aside = full
        if self.filesystem.type_name not in _OBJECT_STORES:
            self.filesystem.create_dir(full.rsplit("/", 1)[0], recursive=True)
            aside = f"{full}.{uuid.uuid4().hex}.aside"
        with self.filesystem.open_output_stream(aside) as stream:
            yield stream
        if aside != full:
            self.filesystem.move(aside, full)

    def write_file(self, path: str, file: Path) -> Checksum:
        """Upload a local file to a remote store; returns the checksum of what was uploaded."""
        full = self._full(path)
        with self._operation(f"write {path}"), file.open("rb") as content, self._uploaded(full) as stream:
            return _copy(content, stream)

    def read_file(self, path: str, file: Path) -> Checksum | None:
        """Download a file to a local one; returns the checksum of what was downloaded, or None if there is no file."""
        full = self._full(path)
        with self._operation(f"copy {path} to this machine"):
            self._check_is_file(full, path)
            try:
                stream = self.filesystem.open_input_stream(full)
            except FileNotFoundError:
                return None
            file.parent.mkdir(parents=True, exist_ok=True)
            with stream, file.open("wb") as content:
                return _copy(stream, content)

    def checksum(self, path: str) -> Checksum:
        """Size and SHA-256 of a file; raises `InputError` if it is missing."""
        full = self._full(path)
        with self._operation(f"read {path}"):
            self._check_is_file(full, path)
            try:
                with self.filesystem.open_input_stream(full) as stream:
                    return _copy(stream, None)
            except FileNotFoundError:
                raise InputError(f"{self.uri}: {path} is missing") from None

    def read_json(self, path: str) -> dict[str, Any] | None:
        """The JSON object in a file, or None where there is no file; raises `InputError` for a damaged one."""
        content = self.read_bytes(path)
        return None if content is None else unseal(content, f"{self.uri}: {path}")

    def read_if_whole(self, path: str, read: Callable[[Any, str], Kept]) -> Kept | None:
        """What `read` makes of a file's JSON object and its place; None where the file is absent or damaged.

        For files that coordinate runs: a damaged one counts as absent, and is replaced by whoever writes it next.
        """
        try:
            value = self.read_json(path)
            return None if value is None else read(value, f"{self.uri}: {path}")
        except StoreError:
            raise
        except InputError:
            return None

    def write_json(self, path: str, value: Mapping[str, Any]) -> None:
        """Write a JSON object whole or not at all, with its checksum."""
        self.write_bytes(path, seal(value))

    def move(self, path: str, to: str) -> None:
        """Give a file another name."""
        source, target = self._full(path), self._full(to)
        with self._operation(f"move {path} to {to}"):
            if self.filesystem.type_name not in _OBJECT_STORES:
                self.filesystem.create_dir(target.rsplit("/", 1)[0], recursive=True)
            self.filesystem.move(source, target)

    def delete(self, path: str) -> None:
        """Delete a file or a whole directory, if there is one."""
        full = self._full(path)
        with self._operation(f"delete {path}"):
            try:
                kind = self.filesystem.get_file_info(full).type
                if kind is fs.FileType.Directory:
                    self.filesystem.delete_dir(full)
                elif kind is not fs.FileType.NotFound:
                    self.filesystem.delete_file(full)
            except FileNotFoundError:
                pass  # another run deleted it at the same time

    def set_aside(self, path: str) -> str:
        """Move a file or a directory below `set-aside/`, where nothing reads it; returns where it is then."""
        to = f"{SET_ASIDE}/{path}"
        number = 1
        while self.exists(to):
            number += 1
            to = f"{SET_ASIDE}/{path}.{number}"
        if self.local_root is not None:
            self.move(path, to)
            return to
        # Object stores have no directories to move. The record goes first: without it nothing else counts.
        below = sorted(self.files_below(path), key=lambda file: not file.endswith("/record.json")) or [path]
        for file in below:
            self.move(file, to + file.removeprefix(path))
        self.delete(path)
        return to

    def check_writable(self) -> None:
        """Raise `InputError` unless a file can be written."""
        probe = f".probe-{uuid.uuid4().hex}"
        try:
            if self.filesystem.type_name not in _OBJECT_STORES:
                self.filesystem.create_dir(self.root, recursive=True)
            self.write_bytes(probe, b"")
            self.delete(probe)
        except (OSError, ValueError) as error:
            reason = _reason(error.__cause__ or error)
            raise InputError(f"store {self.uri!r} is not writable: {reason}") from None

    # -------------------------------------------------------------------------------- artifacts

    @property
    def healing(self) -> str:
        """The command that heals a damaged store."""
        return f"raysynth verify --store {shlex.quote(self.uri)} --repair"

    def status(self, artifact: Artifact) -> Status:
        """What the store knows of an artifact; raises `InputError` where its record is damaged or of another one."""
        return self._status(directory_of(artifact), artifact)

    def status_of(self, where: str) -> Status:
        """What the store knows of the artifact with that name; raises `InputError` where its record is damaged."""
        return self._status(where, None)

    def _status(self, where: str, artifact: Artifact | None) -> Status:
        if (record := self._record(where, artifact)) is not None:
            return Status(state=State.DONE, record=record)
        if (failure := self.read_if_whole(f"{where}/failure.json", Failure.read)) is not None:
            return Status(state=State(failure.outcome.value), failure=failure)
        progress = self._running(where)
        if progress is None:
            return Status(state=State.NEW)
        is_alive = self._watch.alive_at_first_sight(f"{where}/running.json", progress)
        return Status(state=State.RUNNING if is_alive else State.INTERRUPTED, progress=progress)

    def record_of(self, where: str) -> Record | None:
        """The record of an artifact by its name, such as `pretrain/set.seed0-1c575405`, or None if it is not done.

        Raises `InputError` for a damaged record, and for one of another artifact.
        """
        return self._record(where, None)

    def _record(self, where: str, artifact: Artifact | None) -> Record | None:
        """The record in an artifact's directory, which must be that of `artifact` unless that is None."""
        file = f"{where}/record.json"
        place = f"{self.uri}: {file}"
        content = self.read_bytes(file)
        if content is None:
            return None
        try:
            record = Record.read(unseal(content, place), place)
            if artifact is not None and record.description != (description := describe(artifact)):
                fields = ", ".join(
                    f"{field} ({one} against {other})"
                    for field, one, other in differences(record.description, description)
                )
                raise InputError(f"{place} disagrees with its description in {fields}")
            if record.artifact != where:
                raise InputError(f"{place} is the record of another artifact, {record.artifact!r}")
            if not where.endswith(f"-{fingerprint_of(record.description)}"):
                raise InputError(f"{place} has a description that does not belong to the artifact's name")
        except StoreError:
            raise
        except InputError as error:
            raise InputError(f"{error}; to heal it: {self.healing}") from None
        return record

    def _running(self, where: str) -> Running | None:
        return self.read_if_whole(f"{where}/running.json", Running.read)

    def statuses(self, artifacts: Iterable[Artifact]) -> dict[Artifact, Status]:
        """The status of each artifact, read side by side."""
        artifacts = list(artifacts)
        statuses = dict.fromkeys(artifacts, Status(state=State.NEW))
        there = self._perhaps_there(artifacts)

        def read(some: list[Artifact]) -> None:
            for artifact in some:
                statuses[artifact] = self.status(artifact)

        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            for done in [pool.submit(read, there[first::_NUM_THREADS]) for first in range(_NUM_THREADS)]:
                done.result()
        return statuses

    def _perhaps_there(self, artifacts: Iterable[Artifact]) -> list[Artifact]:
        """The artifacts without those that, as a listing of the store shows, have no directory there."""
        wheres = {artifact: directory_of(artifact) for artifact in artifacts}
        counts = Counter(artifact.kind for artifact in wheres)
        listed = [kind for kind, count in counts.items() if count >= _WORTH_A_LISTING]
        names = set(self.names(listed))
        return [artifact for artifact, where in wheres.items() if artifact.kind not in listed or where in names]

    def names(self, kinds: Iterable[str] = WITH_WEIGHTS) -> list[str]:
        """The names of all artifacts of these kinds in the store, done or not; by default those with weights."""
        return sorted(path for kind in kinds for path in self._listed(kind, recursive=False))

    def record(self, artifact: Artifact, *, result: DataResult | WeightsResult, provenance: Provenance) -> None:
        """Write the record that makes an artifact done; `result` depends on the description alone."""
        where = directory_of(artifact)
        record = Record(artifact=where, description=describe(artifact), result=result, provenance=provenance)
        value = as_json(record)
        Record.read(value, f"the record of {where}")  # what could not be read again is never written
        self.write_json(f"{where}/record.json", value)
        for stale in ("running.json", "failure.json"):
            self.delete(f"{where}/{stale}")

    def fail(self, artifact: Artifact, *, outcome: Outcome, error: str, log: str) -> None:
        """Note why an artifact could not be made, in one line and with the traceback, and at which step."""
        where = directory_of(artifact)
        progress = self._running(where)
        step = None if progress is None else progress.step
        mark = here()
        failure = Failure(
            host=mark.host, pid=mark.pid, time=mark.time, outcome=outcome, error=error, step=step, log=log
        )
        self.write_json(f"{where}/failure.json", as_json(failure))
        self.delete(f"{where}/running.json")

    def progress(self, artifact: Artifact, *, step: int, num_steps: int, seconds_per_step: float | None) -> None:
        """Note that an artifact is being made, how far it is and, if known, how fast."""
        running = Running(**vars(here()), step=step, num_steps=num_steps, seconds_per_step=seconds_per_step)
        self.write_json(f"{directory_of(artifact)}/running.json", as_json(running))

    def forget_failure(self, artifact: Artifact) -> None:
        """Let a failed artifact be tried again."""
        self.delete(f"{directory_of(artifact)}/failure.json")

    @contextmanager
    def workspace(self, artifact: Artifact) -> "Iterator[Workspace]":
        """A local directory with the artifact's files: the store's own if it is local, else a mirror.

        A mirror lacks the files that are damaged in the store.
        """
        where = directory_of(artifact)
        if self.local_root is not None:
            path = Path(self._full(where))
            with self._operation(f"write {where}"):
                path.mkdir(parents=True, exist_ok=True)
            yield Workspace(path=path, mirror=None)
            return
        with contextlib.ExitStack() as stack:
            with self._operation("make a temporary directory"):
                path = stack.enter_context(mirror.scratch(Path(tempfile.gettempdir())))
            workspace = Workspace(path=path, mirror=mirror.Mirror(self, where, path))
            workspace.pull()
            yield workspace

    def fetch(self, artifact: Artifact, cache: Path) -> Path:
        """A local directory with the files of a done artifact, downloaded once into `cache` if the store is remote."""
        return self.fetch_by_name(directory_of(artifact), cache)

    def fetch_by_name(self, where: str, cache: Path) -> Path:
        """`fetch` for an artifact that is known by its name only, such as `pretrain/set.seed0-1c575405`.

        A copy in `cache` is used only if it has the checksums in the store. Raises `InputError` for an artifact whose
        files in the store are not as they were written.
        """
        full = self._full(where)
        if self.local_root is not None:
            return Path(full)
        cache = private_directory(cache)
        try:
            listed = mirror.read_list(self, where)
        except StoreError:
            raise
        except InputError as error:
            raise InputError(f"{error}; to heal it: {self.healing}") from None
        if listed is None:
            raise InputError(f"{self.uri}: {where}/{mirror.LIST} is missing; to heal it: {self.healing}")
        target = cache / where
        with self._operation(f"copy {where} to this machine"):
            if target.exists() and checksums.problem(target, listed.files) is None:
                return target
            with mirror.scratch(cache) as scratch:
                if problems := mirror.Mirror(self, where, scratch / "new").pull():
                    raise InputError(f"{problems[0]}; to heal it: {self.healing} --deep")
                (scratch / "new").mkdir(exist_ok=True)  # an artifact without files
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    (scratch / "new").rename(target)
                except OSError:  # it is there: another trial on this host was first, or it is damaged
                    if checksums.problem(target, listed.files) is not None:
                        target.rename(scratch / "old")
                        (scratch / "new").rename(target)
        return target

    def write_list(self, directory: str, files: Iterable[str], last: Mapping[str, bytes]) -> None:
        """List the files of a directory with their checksums, by which a remote store's files are copied.

        `last` are the files, with their contents, that the caller writes after the list.
        """
        mirror.write_list(self, directory, files, last)


def _reopened(uri: str) -> Store:
    """A store that another process has looked at: a network that is away for a moment must not end a trial."""
    store = Store.__new__(Store)
    store._open(uri)
    return store


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The local files of one artifact while it is being made."""

    path: Path
    mirror: mirror.Mirror | None
    """What keeps a remote store up to date; None if the directory is the store's own."""

    def push(self) -> None:
        """Bring the store up to date."""
        if self.mirror is not None:
            self.mirror.push()

    def pull(self) -> None:
        """Copy the files that the store lists, without those that are not as they were written."""
        if self.mirror is not None:
            self.mirror.pull()


def default_store(size: str = "full") -> str:
    """The store where nothing names one: that of the variable RAYSYNTH_STORE, or else `results/full`."""
    return os.environ.get("RAYSYNTH_STORE") or f"{DEFAULT_STORES}/{size}"


def directory_of(artifact: Artifact) -> str:
    """The artifact's name, which is its directory in a store; raises `InputError` if it cannot be one."""
    where = name(artifact)
    _, _, label = where.partition("/")
    if "/" in label or label.startswith(".") or not is_plain(label):
        raise InputError(
            f"{where!r:.200} cannot be a directory of a store: a name must not start with a dot, or hold a slash, a "
            "backslash or a control character"
        )
    return where


def is_plain(path: str) -> bool:
    """Whether a path has no characters that a file system or a terminal takes for something else."""
    return "\\" not in path and path.isprintable()


def differences(one: Any, other: Any, path: str = "") -> list[tuple[str, str, str]]:
    """The fields in which two descriptions differ: the dotted path, and both values as text.

    A field that a description leaves out, because it has its default value, is "default".
    """
    if (keys := _keys(other, one) if one is _ABSENT else _keys(one, other)) is not None:
        return [
            difference
            for key in keys
            for difference in differences(_item(one, key), _item(other, key), f"{path}.{key}".lstrip("."))
        ]
    return [] if one == other else [(path, _shown(one), _shown(other))]


_ABSENT = object()
"""Stands for a field that a description lacks, which is not the same as a field that is None."""


def _keys(one: Any, other: Any) -> Iterable[Any] | None:
    """The keys or places by which two values are compared item by item; None if they are compared as a whole."""
    other = type(one)() if other is _ABSENT and one else other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return sorted(one.keys() | other.keys())
    if isinstance(one, list) and isinstance(other, list) and any(isinstance(item, Mapping) for item in [*one, *other]):
        return range(max(len(one), len(other)))
    return None


def _item(value: Any, key: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get(key, _ABSENT)
    return value[key] if isinstance(value, list) and key < len(value) else _ABSENT


def _shown(value: Any) -> str:
    return "default" if value is _ABSENT else repr(value)


def _reason(error: BaseException) -> str:
    """Why an operation failed, in the system's words where it has any."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else first_line(error)


def _copy(source: BinaryIO, target: BinaryIO | None) -> Checksum:
    """Copy a stream; returns the checksum of what was copied."""
    size, sha256 = 0, hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        size += len(chunk)
        sha256.update(chunk)
        if target is not None:
            target.write(chunk)
    return Checksum(size=size, sha256=sha256.hexdigest())
