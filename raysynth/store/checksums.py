"""Sizes and SHA-256 of the files in a directory: taken when they are written, compared before they are used."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from raysynth.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Checksum:
    """What a whole file looks like."""

    size: int
    """In bytes."""
    sha256: str
    """In hexadecimal."""


Checksums = Mapping[str, Checksum]
"""The files of a directory by their path below it, with slashes."""


def checksum(file: Path) -> Checksum:
    """Size and SHA-256 of a file; raises `OSError` if it cannot be read."""
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return Checksum(size=stream.tell(), sha256=sha256)


def checksum_of(content: bytes) -> Checksum:
    """Size and SHA-256 of a file with this content."""
    return Checksum(size=len(content), sha256=hashlib.sha256(content).hexdigest())


def checksums(directory: Path) -> dict[str, Checksum]:
    """The checksums of all files below a directory, read side by side."""
    files = [file for file in sorted(directory.rglob("*")) if file.is_file()]
    with ThreadPoolExecutor(4) as pool:  # hashing releases the interpreter lock
        return {
            file.relative_to(directory).as_posix(): value
            for file, value in zip(files, pool.map(checksum, files), strict=True)
        }


def problem(directory: Path, expected: Checksums) -> str | None:
    """The first difference between the files below a directory and their checksums in one line, or None.

    A missing file, one with another content, and one that is not expected are differences.
    """
    if not directory.is_dir():
        return f"{directory} is missing"
    actual = (file.relative_to(directory).as_posix() for file in sorted(directory.rglob("*")) if file.is_file())
    for file in actual:
        if file not in expected:
            return f"{directory / file} does not belong there"
    return altered(directory, expected)


def altered(directory: Path, expected: Checksums) -> str | None:
    """The first of the expected files that is missing or has another content, in one line, or None."""
    files = sorted(expected)
    with ThreadPoolExecutor(4) as pool:
        lines = pool.map(_difference, [directory / file for file in files], [expected[file] for file in files])
        return next((line for line in lines if line is not None), None)


def _difference(file: Path, expected: Checksum) -> str | None:
    if not file.is_file():
        return f"{file} is missing"
    if (size := file.stat().st_size) != expected.size:
        return f"{file} has {size} bytes instead of {expected.size}"
    if checksum(file) != expected:
        return f"{file} has another content than was written"
    return None


def read_checksums(value: Any, place: str) -> dict[str, Checksum]:
    """The checksums in a JSON value; raises `InputError`, which names `place`, for anything else."""
    if not isinstance(value, dict):
        raise InputError(f"{place} is damaged: its list of files is not an object")
    files = {}
    for path, fields in value.items():
        check_inside(path, place)
        match fields:
            case {"size": int(size), "sha256": str(sha256), **rest} if not rest:
                files[path] = Checksum(size=size, sha256=sha256)
            case _:
                raise InputError(f"{place} is damaged: {path!r} has no size and SHA-256")
    return files


def check_inside(path: str, place: str) -> None:
    """Raise `InputError`, which names `place`, unless a relative path stays inside its directory."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise InputError(f"{place} is damaged: it names a file outside its directory: {path!r}")
