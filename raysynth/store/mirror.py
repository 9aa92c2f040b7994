"""The files of one artifact in a remote store and their copy on this machine, kept alike by a list with checksums.

The list of an artifact holds size and SHA-256 of each of its files. A file that differs from it is never used.
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from raysynth.errors import InputError, StoreError
from raysynth.store.checksums import Checksum, Checksums, checksum, checksum_of, read_checksums
from raysynth.store.marks import is_dead_scratch, scratch_name

if TYPE_CHECKING:
    from raysynth.store.store import Store

LIST = "files.json"
"""The list's file in the directory of an artifact."""


@dataclass(frozen=True, kw_only=True)
class FileList:
    """The files of an artifact that count."""

    files: Checksums = field(default_factory=dict)
    coming: Checksums = field(default_factory=dict)
    """What some of the files are about to become: during an upload, a file may be as before or as after it."""

    def allows(self, path: str, actual: Checksum) -> bool:
        """Whether a file may look like this."""
        return actual in (self.files.get(path), self.coming.get(path))


def read_list(store: "Store", where: str) -> FileList | None:
    """The list of an artifact's files, None where there is none; raises `InputError` for a damaged one."""
    value = store.read_json(f"{where}/{LIST}")
    if value is None:
        return None
    place = f"{store.uri}: {where}/{LIST}"
    if not value.keys() <= {"files", "coming"}:
        raise InputError(f"{place} is damaged: it has unknown fields")
    return FileList(
        files=read_checksums(value.get("files"), place), coming=read_checksums(value.get("coming", {}), place)
    )


def write_list(store: "Store", where: str, files: Iterable[str], last: Mapping[str, bytes]) -> None:
    """Write the list of an artifact whose files are in the store already, but for `last`, which come after the list.

    Raises `InputError` if one of them is missing.
    """
    files = list(files)
    with ThreadPoolExecutor(8) as pool:
        written = dict(zip(files, pool.map(lambda file: store.checksum(f"{where}/{file}"), files), strict=True))
    coming = {file: checksum_of(content) for file, content in last.items()}
    _write(store, where, FileList(files=written | coming))


def _write(store: "Store", where: str, listed: FileList) -> None:
    value: dict[str, Mapping[str, object]] = {"files": _as_json(listed.files)}
    if listed.coming:
        value["coming"] = _as_json(listed.coming)
    store.write_json(f"{where}/{LIST}", value)


def _as_json(files: Checksums) -> dict[str, dict[str, object]]:
    return {path: vars(files[path]) for path in sorted(files)}


class Mirror:
    """A local copy of an artifact's files."""

    def __init__(self, store: "Store", where: str, directory: Path):
        self._store, self._where, self._directory = store, where, directory
        self._copied: dict[str, tuple[tuple[int, int], Checksum]] = {}
        """Of each file that the store has alike: the local size and modification time, and the content."""
        self._listed = FileList()

    def push(self) -> None:
        """Bring the store up to date: new files first, then the list that makes them count, then deletions.

        A list from before the upload says what files are about to become, so that a kill at any point leaves files
        that the list in the store allows.
        """
        marks = {
            file.relative_to(self._directory).as_posix(): _mark(file)
            for file in sorted(self._directory.rglob("*"))
            if file.is_file()
        }
        changed = [path for path, mark in marks.items() if path not in self._copied or self._copied[path][0] != mark]
        if any(path in self._listed.files for path in changed):
            coming = {path: checksum(self._directory / path) for path in changed}
            self._list(FileList(files=self._listed.files, coming=coming))
        for path in changed:
            self._copied.pop(path, None)
            copied = self._store.write_file(f"{self._where}/{path}", self._directory / path)
            self._copied[path] = marks[path], copied
        obsolete = [path for path in {*self._listed.files, *self._listed.coming, *self._copied} if path not in marks]
        self._list(FileList(files={path: self._copied[path][1] for path in marks}))
        for path in obsolete:
            self._store.delete(f"{self._where}/{path}")
            self._copied.pop(path, None)

    def _list(self, listed: FileList) -> None:
        _write(self._store, self._where, listed)
        self._listed = listed

    def pull(self) -> list[str]:
        """Copy the files that the store lists; returns what is wrong with those that are left out, in one line each."""
        try:
            self._listed = read_list(self._store, self._where) or FileList()
        except StoreError:
            raise
        except InputError as error:
            return [str(error)]
        problems = []
        for path in self._listed.files:
            file = self._directory / path
            place = f"{self._store.uri}: {self._where}/{path}"
            copied = self._store.read_file(f"{self._where}/{path}", file)
            if copied is None:
                problems.append(f"{place} is listed but missing")
            elif not self._listed.allows(path, copied):
                file.unlink()
                problems.append(f"{place} has another content than was written")
            else:
                self._copied[path] = _mark(file), copied
        return problems


def _mark(file: Path) -> tuple[int, int]:
    state = file.stat()
    return state.st_size, state.st_mtime_ns


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A directory of this process's own, which is gone afterwards. Deletes those that killed processes left there."""
    for path in parent.iterdir():
        if is_dead_scratch(path.name):
            with contextlib.suppress(OSError):  # another user's, or deleted at the same time
                shutil.rmtree(path)
    path = parent / scratch_name()
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
