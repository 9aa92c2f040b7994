"""Download of downstream data from their publishers: a table of addresses, and downloads that can be resumed.

The table has the SHA-256 of a file only if we had that file to compute it. For every other file, the first download
records its SHA-256 in `SHA256SUMS` beside the data, and later calls verify the file against it.
"""

import hashlib
import http.client
import sys
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

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

from raysynth.errors import InputError, Named


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


def fetch(publisher: Publisher, into: Path) -> None:
    """Download the publisher's missing files to the folder `into`, and verify every file's digest.

    Raises `InputError` if an address does not answer, if the connection keeps breaking, or if a file's digest differs
    from the publisher's or from that of the first download.
    """
    into.mkdir(parents=True, exist_ok=True)
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        for download in publisher.downloads:
            if not (into / download.file).exists():
                _download(download, into, progress)
            _verify(download, into)
            _unpack(download, into)


def _download(download: Download, into: Path, progress: Progress) -> None:
    """Download a file as `.part`, resuming an earlier download, and rename it once it is complete."""
    target = into / download.file
    part = target.with_name(f"{target.name}.part")
    bar = progress.add_task(download.file, total=None)
    for attempt in range(1, _NUM_ATTEMPTS + 1):
        try:
            if _resume(download.url, part, progress, bar):
                break
            problem = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.exists():
                if error.headers.get("Content-Range") == f"bytes */{part.stat().st_size}":
                    break  # an earlier call ended between download and rename
                _delete(part)
                continue
            raise InputError(f"{download.url}: HTTP {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        if attempt == _NUM_ATTEMPTS:
            num_bytes = part.stat().st_size if part.exists() else 0
            raise InputError(
                f"{download.url}: {problem}; {num_bytes:,} bytes are kept, run the same command again to resume"
            )
    digest = _digest(part)
    if download.sha256 not in (None, digest):
        _delete(part)
        raise InputError(f"{download.url}: has SHA-256 {digest}, must have {download.sha256}; nothing is kept")
    part.replace(target)
    _version_file(part).unlink(missing_ok=True)


def _resume(url: str, part: Path, progress: Progress, bar: TaskID) -> bool:
    """Append the missing bytes to a part; returns whether it is complete now.

    The request names the version of the part. A server that has another version by now sends the whole file.
    """
    num_bytes = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "raysynth", "Accept-Encoding": "identity"}
    if num_bytes:
        headers["Range"] = f"bytes={num_bytes}-"
        if _version_file(part).exists():
            headers["If-Range"] = _version_file(part).read_text()
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            num_bytes = 0
            _version_file(part).unlink(missing_ok=True)
            if version := answer.headers.get("ETag") or answer.headers.get("Last-Modified"):
                _version_file(part).write_text(version)
        length = answer.headers.get("Content-Length")
        total = None if length is None else num_bytes + int(length)
        progress.update(bar, total=total, completed=num_bytes)
        with part.open("ab" if num_bytes else "wb") as file:
            while chunk := answer.read(_CHUNK_BYTES):
                file.write(chunk)
                num_bytes += len(chunk)
                progress.update(bar, completed=num_bytes)
    return total is None or num_bytes == total


def _delete(part: Path) -> None:
    """Delete a part and the record of its version."""
    part.unlink()
    _version_file(part).unlink(missing_ok=True)


def _version_file(part: Path) -> Path:
    """The file that records which version of the publisher's file a part belongs to."""
    return part.with_name(f"{part.name}.version")


def _verify(download: Download, into: Path) -> None:
    """Verify a file against the publisher's digest, or else against the first one seen, which is recorded."""
    sums = into / SUMS
    recorded = {}
    if sums.exists():
        recorded = {file: digest for digest, file in (line.split("  ", 1) for line in sums.read_text().splitlines())}
    digest, expected = _digest(into / download.file), download.sha256 or recorded.get(download.file)
    if expected not in (None, digest):
        origin = "from the publisher" if download.sha256 else f"in {sums}"
        raise InputError(
            f"{into / download.file}: has SHA-256 {digest}, not {expected} {origin}; delete it to fetch it again"
        )
    if recorded.get(download.file) != digest:
        recorded[download.file] = digest
        sums.write_text("".join(f"{digest}  {file}\n" for file, digest in recorded.items()))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unpack(download: Download, into: Path) -> None:
    """Extract the members of an archive that are not there yet."""
    if not download.members:
        return
    try:
        with zipfile.ZipFile(into / download.file) as archive:
            for member in download.members:
                if not (into / member).exists():
                    archive.extract(member, into)
    except (zipfile.BadZipFile, KeyError) as error:
        raise InputError(f"{into / download.file}: not the expected archive: {error}") from None
