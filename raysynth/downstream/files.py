"""The files of users: which ones a reader takes, their bytes, and a note of what was read.

The same rules hold for downstream data and text corpora:

- Hidden files and folders, backups (`train.csv~`) and macOS's `__MACOSX` are no data.
- A file may be compressed (`COMPRESSIONS`).
- Of a set of shards such as `train-00000-of-00003.parquet` all must be there.
- Text is UTF-8, with or without a byte order mark, and only a line feed ends a line.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from raysynth.errors import InputError

# -------------------------------------------------------------------------------- what was read


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """What a file was when it was read, before decompression."""

    size: int
    """In bytes."""
    sha256: str
    """In hexadecimal."""


_collections: ContextVar[tuple[dict[str, SourceFile], ...]] = ContextVar("_collections", default=())


@contextmanager
def files_read() -> Iterator[Mapping[str, SourceFile]]:
    """Yield a mapping that receives every file, by path, that this thread reads to its end within the block.

    A file that changes between two readings within the block raises `InputError`.
    """
    files: dict[str, SourceFile] = {}
    token = _collections.set((*_collections.get(), files))
    try:
        yield files
    finally:
        _collections.reset(token)


def _note(file: Path, source: SourceFile) -> None:
    for files in _collections.get():
        if files.setdefault(str(file), source) != source:
            raise InputError(f"{shown(file)} changed while it was read")


def shown(name: object) -> str:
    """A name from outside as messages show it: as it is, or quoted if it has line ends or other control characters."""
    text = str(name)
    return text if text.isprintable() else repr(text)


# -------------------------------------------------------------------------------- bytes


def _zstandard(stream: BinaryIO) -> BinaryIO:
    import pyarrow as pa  # only these files need it, and `import raysynth` must stay fast

    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd"))


COMPRESSIONS: Mapping[str, Callable[[BinaryIO], BinaryIO]] = {
    ".gz": lambda stream: cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb")),
    ".bz2": lambda stream: cast(BinaryIO, bz2.BZ2File(stream)),
    ".xz": lambda stream: cast(BinaryIO, lzma.LZMAFile(stream)),  # noqa: SIM115  # the caller closes `stream`
    ".zst": _zstandard,
}
"""Opens the content of a compressed file, by the ending that its name has."""


class _Hashed(io.RawIOBase):
    """A file that is read once from start to end, and hashed on the way."""

    def __init__(self, file: Path):
        super().__init__()
        self._stream = file.open("rb", buffering=0)
        self._sha256 = hashlib.sha256()
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer) or 0
        self._sha256.update(memoryview(buffer)[:count])
        self._size += count
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()

    def source(self) -> SourceFile:
        return SourceFile(size=self._size, sha256=self._sha256.hexdigest())


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """Open a file for reading from its start, decompressed if its name says so; the block reads it to its end.

    Raises `InputError` for anything that is not a regular file, and for one that cannot be read or decompressed.
    """
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "a pipe or a device"
            raise InputError(f"{shown(file)} is {kind}, must be a file")
        hashed = _Hashed(file)
        with hashed, io.BufferedReader(hashed, 1 << 16) as buffered:
            raw = cast(BinaryIO, buffered)
            decompress = COMPRESSIONS.get(file.suffix.lower())
            yield decompress(raw) if decompress else raw
            while raw.read(1 << 20):  # what lies behind the compressed content
                pass
            source = hashed.source()
        if decompress and not source.size:
            raise InputError(f"{shown(file)} cannot be decompressed: it is empty")
    except OSError as error:
        raise InputError(f"{shown(file)} cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{shown(file)} cannot be decompressed: {error}") from None
    _note(file, source)


def read_bytes(file: Path) -> bytes:
    """Read a whole file; raises `InputError` if that fails."""
    with opened(file) as stream:
        return stream.read()


# -------------------------------------------------------------------------------- text

_OTHER_ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def start_of_text(start: bytes, file: Path) -> bytes:
    """The first bytes of a text file without the byte order mark that some editors write.

    Raises `InputError` if the mark is that of another encoding than UTF-8.
    """
    for mark, encoding in _OTHER_ENCODINGS.items():
        if start.startswith(mark):
            raise InputError(f"{shown(file)}, line 1: the file is {encoding}, must be UTF-8")
    return start.removeprefix(_BYTE_ORDER_MARK)


def read_text(file: Path) -> str:
    """Read a whole UTF-8 file; raises `InputError`, which names the line, if it is something else."""
    content = start_of_text(read_bytes(file), file)
    try:
        text = content.decode()
        end = text.find("\0")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{shown(file)}, line {line}: not UTF-8 at byte {error.start + 1} of the file") from None
    if end >= 0:
        line = text.count("\n", 0, end) + 1
        raise InputError(f"{shown(file)}, line {line}: has a NUL byte, so it is no UTF-8 text")
    return text


def lines(file: Path) -> Iterator[bytes]:
    """The lines of a UTF-8 file without their ends, which are `\\n` or `\\r\\n`; nothing else ends a line."""
    with opened(file) as stream:
        for number, line in enumerate(stream):
            yield (line if number else start_of_text(line, file)).removesuffix(b"\n").rstrip(b"\r")


# -------------------------------------------------------------------------------- which files there are


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data: hidden, a backup, or an archive's extras from macOS."""
    autosave = name.startswith("#") and name.endswith("#")
    return autosave or name.startswith((".", "~$")) or name.endswith("~") or name == "__MACOSX"


def entries(folder: Path) -> list[Path]:
    """The files and folders in a folder that are not hidden, sorted; none if there is no such folder.

    Raises `InputError` if the folder cannot be read.
    """
    try:
        return sorted(folder / name for name in os.listdir(folder) if not is_hidden(name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise InputError(f"{shown(folder)} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def files_below(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden, in the order of their paths; links to folders are followed.

    Raises `InputError` for a folder that cannot be read, a link to nothing, and a folder that is there twice.
    """
    files: list[Path] = []
    seen: dict[str, Path] = {}
    folders = [folder]
    while folders:
        current = folders.pop()
        real = os.path.realpath(current)
        if real in seen:
            raise InputError(f"{shown(current)} is the same folder as {shown(seen[real])}: remove the link")
        seen[real] = current
        for entry in entries(current):
            if os.path.isdir(entry):
                folders.append(entry)
            elif os.path.exists(entry):
                files.append(entry)
            else:
                raise InputError(f"{shown(entry)} is a link to a file that is not there")
    return sorted(files)


_COMPRESSED = rf"(?:{'|'.join(map(re.escape, COMPRESSIONS))})?"


def split_files(folder: Path, name: str) -> list[Path]:
    """The files in a folder that are the file `name`, which may be compressed or in shards; none if it is not there.

    A name with `*` takes every file that fits. Shards are `train-00000-of-00003.csv` for `train.csv`, or, for Parquet
    files only, `train-0.parquet`. Raises `InputError` for incomplete shards, and for shards beside the whole file.
    """
    names = entries(folder)
    stem, dot, ending = name.rpartition(".")
    ending = re.escape(dot + ending) + _COMPRESSED

    def fitting(form: str) -> list[Path]:
        return [file for file in names if re.fullmatch(form, file.name)]

    if "*" in stem:
        files = fitting(".*".join(map(re.escape, stem.split("*"))) + ending)
        check_copies(files)
        return files
    whole = fitting(re.escape(stem) + ending)[:1]  # uncompressed comes first
    shards = fitting(re.escape(stem) + _SHARD + ending)
    if whole and shards:
        raise InputError(f"{shown(whole[0])} and {shown(shards[0])}: remove either the whole file or its shards")
    check_shards(shards)
    if whole or shards or not name.endswith(".parquet"):
        return whole or shards
    return _numbered(folder, stem, fitting(re.escape(stem) + r"[-_]\d{1,9}\.parquet"))


def _numbered(folder: Path, stem: str, files: list[Path]) -> list[Path]:
    """Shards that have a number but no total; raises `InputError` if a number below the largest is missing."""
    by_number: dict[int, Path] = {}
    for file in files:
        number = int(file.stem[len(stem) + 1 :])
        if number in by_number:
            raise InputError(f"{shown(by_number[number])} and {shown(file)} are the same shard")
        by_number[number] = file
    first = min(1, *by_number) if by_number else 0  # some tools count from one
    for number in range(first, max(by_number, default=0)):
        if number not in by_number:
            raise InputError(f"{shown(folder)} has {by_number[max(by_number)].name}, but number {number} is missing")
    return files


_SHARD = r"[-._]\d{1,9}[-_]of[-_]\d{1,9}(?:-[0-9a-f]{8,64})?"
_SHARD_NAME = re.compile(
    r"(?P<stem>(?:.*?[-._])?)(?P<number>\d{1,9})(?P<of>[-_]of[-_])(?P<total>\d{1,9})(?:-[0-9a-f]{8,64})?(?P<ending>\..+)?"
)


def check_shards(files: Iterable[Path]) -> None:
    """Raise `InputError` unless all shards are there of each set such as `train-00000-of-00003.parquet`."""
    sets: dict[tuple[Path, str, str], list[tuple[Path, re.Match[str]]]] = {}
    for file in files:
        if match := _SHARD_NAME.fullmatch(_uncompressed(file).name):
            sets.setdefault((file.parent, match["stem"], match["ending"] or ""), []).append((file, match))
    for (folder, stem, ending), shards in sets.items():
        file, match = shards[0]
        by_number: dict[int, Path] = {}
        for other, other_match in shards:
            if int(other_match["total"]) != int(match["total"]):
                raise InputError(f"{shown(file)} and {shown(other)} are shards of two different sets")
            if (twin := by_number.setdefault(int(other_match["number"]), other)) != other:
                raise InputError(f"{shown(twin)} and {shown(other)} are the same shard")
        total = int(match["total"])
        first = 1 if total in by_number and 0 not in by_number else 0  # some tools count from one
        missing = next((number for number in range(first, first + total) if number not in by_number), None)
        if missing is not None:
            name = f"{stem}{missing:0{len(match['number'])}}{match['of']}{match['total']}{ending}"
            raise InputError(f"{shown(folder / name)} is missing, other shards of the set are there ({len(by_number)})")
        if len(by_number) > total:
            raise InputError(f"{shown(by_number[max(by_number)])} does not belong to a set of {total} shards")


_COPY = re.compile(r"(?P<original>.+?)(?: ?\(\d+\)| - Copy(?: \(\d+\))?| copy(?: \d+)?)")


def check_copies(files: list[Path]) -> None:
    """Raise `InputError` if a file is a copy of one beside it: `a (1).txt` of `a.txt`, or `a.txt.gz` of `a.txt`."""
    by_name = {_uncompressed(file): file for file in sorted(files, reverse=True)}  # of equal names the plain one stays
    for file in sorted(files):
        name = _uncompressed(file)
        match = _COPY.fullmatch(name.stem)
        original = by_name.get(name.with_name(match["original"] + name.suffix) if match else name, file)
        if original != file:
            raise InputError(f"{shown(file)} seems to be a copy of {shown(original.name)}: remove one of them")


def _uncompressed(file: Path) -> Path:
    return file.with_suffix("") if file.suffix.lower() in COMPRESSIONS else file
