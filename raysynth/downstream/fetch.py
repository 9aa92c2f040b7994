"""Download of downstream data from their publishers: a table of addresses, and downloads that can be resumed.

The table has the SHA-256 of a file only if we had that file to compute it. For every other file, the first download
records its SHA-256 in `SHA256SUMS` beside the data, and later calls verify the file against it. Only https is used; the
one exception is a server at 127.0.0.1.
"""

import fcntl
import hashlib
import http.client
import lzma
import os
import re
import shutil
import stat
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from raysynth.downstream.files import shown
from raysynth.errors import InputError, Named, first_line


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file on its publisher's server."""

    url: str
    file: str
    """The file's name in the data folder."""
    sha256: str | None = None
    members: tuple[str, ...] = ()
    """Paths within a zip archive of the files to extract; empty for other files."""


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """The source of a task's data."""

    page: str
    """Address of the publisher's own documentation, which names the addresses of the files."""
    licence: str
    downloads: tuple[Download, ...] = ()
    by_hand: str = ""
    """Instructions for data that have no stable addresses, so that only a person can fetch them."""


_SQUAD = "https://rajpurkar.github.io/SQuAD-explorer"
_CNNDM = "https://huggingface.co/datasets/abisee/cnn_dailymail"
_CODE = "https://raw.githubusercontent.com/microsoft/CodeXGLUE/ac74a62802a0dd159b3258c78a2df8ad36cdf2b9"
_REACTIONS = "https://raw.githubusercontent.com/bigchem/retrosynthesis/b5fd6d8a860a34b07c0925581953e44c92d81266"
_TRANSLATION_SHA256 = {
    "train.java-cs.txt.java": "397c44e7a0ad250849231a3beeb255ea54078e1cb62cf13359893d474025cb90",
    "train.java-cs.txt.cs": "80013b5b5c7e973df52adec4944b895eaaee0944f09ab6179084631a15d36b7a",
    "valid.java-cs.txt.java": "5cf92447fd81e126c7d791527f71d16dbcb91d3aa4aafda5c7d9d5c30d75a204",
    "valid.java-cs.txt.cs": "513c430d61901a90895b22fb235c532dbdc26b84db9d825e1d04a5856a97aec1",
}
_REACTIONS_SHA256 = {
    "retrosynthesis-train.smi": "22ca2db3d184760bc582b7982ff23798befb82d50fe44a78f7d3351b80df3769",
    "retrosynthesis-valid.smi": "59c25a0ac6a24f9b7143a3a7c3e2d664089ab03015760a3cb76a0f128dbfce3a",
}

publishers: Named[Publisher] = Named(
    "data set to fetch",
    {
        "cnndm": Publisher(
            page=_CNNDM,
            licence="Apache-2.0 (the data set's page); the articles are CNN's and the Daily Mail's",
            downloads=tuple(
                Download(url=f"{_CNNDM}/resolve/main/3.0.0/{file}", file=file)
                for file in (
                    *(f"train-0000{shard}-of-00003.parquet" for shard in range(3)),
                    "validation-00000-of-00001.parquet",
                    "test-00000-of-00001.parquet",
                )
            ),
        ),
        "mtop": Publisher(
            page="https://fb.me/mtop_dataset",
            licence="CC BY-SA 4.0",
            downloads=(
                Download(
                    url="https://dl.fbaipublicfiles.com/mtop/mtop.zip",
                    file="mtop.zip",
                    members=("mtop/en/train.txt", "mtop/en/eval.txt", "mtop/en/test.txt"),
                ),
            ),
        ),
        "webqsp": Publisher(
            page="https://github.com/xlang-ai/UnifiedSKG",
            licence="of the official data: see https://www.microsoft.com/en-us/download/details.aspx?id=52763",
            by_hand=(
                "WebQSP's official files have neither triples nor s-expressions. The paper used UnifiedSKG's files, "
                "which are in a Google Drive folder without stable addresses. Open "
                "https://drive.google.com/drive/folders/1GXigUv3MU-Sh4XiY6Wz3xVeNT_s0SuON (linked from its README) "
                "and save WebQSP's files as train.jsonl, dev.jsonl and test.jsonl, with one JSON object per line with "
                "question, entities, kg_tuples and s_expression, or with source and target."
            ),
        ),
        "squad": Publisher(
            page=f"{_SQUAD}/",
            licence="CC BY-SA 4.0",
            downloads=tuple(
                Download(url=f"{_SQUAD}/dataset/{file}", file=file) for file in ("train-v1.1.json", "dev-v1.1.json")
            ),
        ),
        "code_translation": Publisher(
            page="https://github.com/microsoft/CodeXGLUE/tree/main/Code-Code/code-to-code-trans",
            licence="Computational Use of Data Agreement",
            downloads=tuple(
                Download(
                    url=f"{_CODE}/Code-Code/code-to-code-trans/data/{file}",
                    file=file,
                    sha256=_TRANSLATION_SHA256.get(file),
                )
                for file in (
                    f"{split}.java-cs.txt.{language}"
                    for split in ("train", "valid", "test")
                    for language in ("java", "cs")
                )
            ),
        ),
        "retrosynthesis": Publisher(
            page="https://github.com/bigchem/retrosynthesis",
            licence="not stated",
            downloads=tuple(
                Download(url=f"{_REACTIONS}/data/{file}", file=file, sha256=_REACTIONS_SHA256.get(file))
                for file in (f"retrosynthesis-{split}.smi" for split in ("train", "valid", "test"))
            ),
        ),
    },
)
"""The publisher of each data set, by the data set's name."""

SUMS = "SHA256SUMS"
"""Name of the file beside the data that records their digests, in the format of `sha256sum --check`."""

_NUM_ATTEMPTS = 5
_CHUNK_BYTES = 1 << 16
_TIMEOUT_SECONDS = 30
_MAX_BYTES = 4 << 30
"""Of a download, and of what an archive unpacks to."""


def fetch(publisher: Publisher, into: Path) -> None:
    """Download the publisher's missing files to the folder `into`, and verify every file's digest.

    The members of archives are unpacked anew by every call. Raises `InputError` if an address does not answer or is not
    https, if the connection keeps breaking, if nothing tells whether a file is whole, if a file's digest differs from
    the publisher's or from that of the first download, and if the disk fails.
    """
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        _disk(into),
        Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress,
    ):
        into.mkdir(parents=True, exist_ok=True)
        with _only_call(into):
            for download in publisher.downloads:
                if os.path.lexists(into / download.file):
                    _verify(download, into)
                else:
                    _download(download, into, progress)
                _unpack(download, into)


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Turn errors of the file system into one line. Those of the network never reach this."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{shown(error.filename or folder)} cannot be written: {error.strerror or error}") from None


@contextmanager
def _only_call(folder: Path) -> Iterator[None]:
    """Raise `InputError` while another process fetches to the same folder: both would write to one part."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InputError(f"another process fetches to {shown(folder)}") from None
    finally:
        os.close(lock)


# -------------------------------------------------------------------------------- the network


def _check_address(url: str) -> None:
    """Raise `InputError` unless an address is https, or http on this machine itself."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and (parts.scheme, parts.hostname) != ("http", "127.0.0.1"):
        raise InputError(f"{shown(url)}: only https addresses are fetched")


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://"):
            raise InputError(f"{req.full_url}: redirects to {shown(newurl)}; only https addresses are fetched")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_opener = urllib.request.build_opener(_HttpsRedirects)


def _download(download: Download, into: Path, progress: Progress) -> None:
    """Download a file as `.part`, resuming an earlier download; record its digest and rename it once it is complete."""
    _check_address(download.url)
    part = into / f"{download.file}.part"
    bar = progress.add_task(download.file, total=None)
    for attempt in range(1, _NUM_ATTEMPTS + 1):
        try:
            problem = _resume(download, part, progress, bar)
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code} {shown(' '.join(str(error.reason).split()))}"
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.exists():
                if error.headers.get("Content-Range") == f"bytes */{part.stat().st_size}":
                    break  # the part is the whole file
                _delete(part)
            elif error.code not in _PASSING:
                raise InputError(f"{download.url}: {problem}") from None
        except (_NetworkError, http.client.HTTPException) as error:
            problem = shown(error) or type(error).__name__
        if problem is None:
            break
        if attempt == _NUM_ATTEMPTS:
            num_bytes = part.stat().st_size if part.exists() else 0
            raise InputError(
                f"{download.url}: {problem}; {num_bytes:,} bytes are kept, run the same command again to resume"
            )
    digest = _digest(part)
    if download.sha256 not in (None, digest):
        _delete(part)
        raise InputError(f"{download.url}: has SHA-256 {digest}, must have {download.sha256}; nothing is kept")
    _record(into, download.file, digest)
    part.replace(into / download.file)
    _version_file(part).unlink(missing_ok=True)


_PASSING = (408, 429, 500, 502, 503, 504)
"""Answers of a server that may soon answer otherwise."""


class _NetworkError(Exception):
    """Raised for a connection that fails: an `OSError`, but none of the disk."""


def _resume(download: Download, part: Path, progress: Progress, bar: TaskID) -> str | None:
    """Append the missing bytes to a part; returns what keeps it from being complete, or None.

    The request names the version of the part. A server that has another version by now sends the whole file.
    """
    num_bytes = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "raysynth", "Accept-Encoding": "identity"}
    if num_bytes:
        headers["Range"] = f"bytes={num_bytes}-"
        if version := _version(part):
            headers["If-Range"] = version
    request = urllib.request.Request(download.url, headers=headers)
    with _answer(request) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            num_bytes = 0
            _version_file(part).unlink(missing_ok=True)
            if version := answer.headers.get("ETag") or answer.headers.get("Last-Modified"):
                _version_file(part).write_text(version, "utf-8")
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {num_bytes}-"):
            _delete(part)
            return "the server sent another part than it was asked for"
        length = answer.headers.get("Content-Length", "")
        total = num_bytes + int(length) if length.isdecimal() else None
        if total is not None and total > _MAX_BYTES:
            raise InputError(f"{download.url}: has {total:,} bytes, more than {_MAX_BYTES:,}")
        progress.update(bar, total=total, completed=num_bytes)
        with part.open("ab" if num_bytes else "wb") as file:
            while chunk := _chunk(answer):
                file.write(chunk)
                num_bytes += len(chunk)
                if num_bytes > _MAX_BYTES:
                    raise InputError(f"{download.url}: has more than {_MAX_BYTES:,} bytes")
                progress.update(bar, completed=num_bytes)
    if total is not None or answer.chunked or download.sha256:
        return None if total in (None, num_bytes) else "the connection ended early"
    if download.members and zipfile.is_zipfile(part):  # its directory is at its end
        return None
    return "the server does not say how long the file is, so nothing tells whether this is all of it"


def _answer(request: urllib.request.Request) -> http.client.HTTPResponse:
    try:
        answer: http.client.HTTPResponse = _opener.open(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError:
        raise
    except OSError as error:
        raise _NetworkError(getattr(error, "reason", error)) from None
    return answer


def _chunk(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK_BYTES)
    except OSError as error:
        raise _NetworkError(error) from None


def _delete(part: Path) -> None:
    """Delete a part and the record of its version."""
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _version_file(part: Path) -> Path:
    """The file that records which version of the publisher's file a part belongs to."""
    return part.with_name(f"{part.name}.version")


def _version(part: Path) -> str | None:
    """The recorded version of a part, if it can stand in a request."""
    file = _version_file(part)
    version = file.read_bytes() if file.exists() else b""
    return version.decode() if version.isascii() and version.decode().isprintable() and version else None


# -------------------------------------------------------------------------------- what was fetched


def _verify(download: Download, into: Path) -> None:
    """Verify a file against the publisher's digest, or else against that of its download."""
    file = into / download.file
    recorded = _recorded(into).get(download.file)
    digest, expected = _digest(file), download.sha256 or recorded
    if expected is None:
        raise InputError(f"{file}: is not in {into / SUMS}, so it may be incomplete; delete it to fetch it again")
    if expected != digest:
        origin = "from the publisher" if download.sha256 else f"in {into / SUMS}"
        raise InputError(f"{file}: has SHA-256 {digest}, not {expected} {origin}; delete it to fetch it again")
    if recorded != digest:
        _record(into, download.file, digest)


def _recorded(into: Path) -> dict[str, str]:
    """The digests in the folder's `SUMS`, by file."""
    sums = into / SUMS
    if not sums.exists():
        return {}
    lines = sums.read_bytes().decode(errors="replace").split("\n")
    matches = [re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in lines[:-1]]
    if lines[-1] or None in matches:
        raise InputError(f"{sums} is damaged; delete it and the files beside it to fetch them again")
    return {match[2]: match[1] for match in matches if match}


def _record(into: Path, file: str, digest: str) -> None:
    digests = _recorded(into) | {file: digest}
    with _written_aside(into / SUMS) as aside:
        aside.write_text("".join(f"{digest}  {file}\n" for file, digest in digests.items()))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _written_aside(file: Path) -> Iterator[Path]:
    """Yield a path beside `file`; what the block writes to it becomes `file` once the block succeeds."""
    aside = file.with_name(f".{file.name}.aside")
    try:
        yield aside
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


# -------------------------------------------------------------------------------- archives


def _unpack(download: Download, into: Path) -> None:
    """Extract the members of an archive, which have a CRC in it; replaces whatever earlier calls left of them."""
    if not download.members:
        return
    file = into / download.file
    try:
        with zipfile.ZipFile(file) as archive:
            members = [archive.getinfo(member) for member in download.members]
            if sum(member.file_size for member in members) > _MAX_BYTES:
                raise InputError(f"{file}: unpacks to more than {_MAX_BYTES:,} bytes")
            for member in members:
                _unpack_member(archive, member, into)
    except (*_ARCHIVE_ERRORS, OSError) as error:
        if isinstance(error, InputError) or getattr(error, "errno", None) is not None:
            raise  # the disk's errors have numbers, those of the module bz2 have none
        reason = shown(first_line(error))
        raise InputError(f"{file}: not the expected archive: {reason}; delete it to fetch it again") from None


_ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    KeyError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,
)
"""What reading a damaged archive raises; unknown methods of compression and passwords are runtime errors."""


def _unpack_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, into: Path) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if member.is_dir() or kind not in (0, stat.S_IFREG):
        raise zipfile.BadZipFile(f"{member.filename} is not a file")
    if os.path.isabs(member.filename) or ".." in Path(member.filename).parts:
        raise zipfile.BadZipFile(f"{member.filename} lies outside the folder")
    target = into / member.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    with _written_aside(target) as aside, archive.open(member) as content, aside.open("wb") as file:
        shutil.copyfileobj(content, file)
