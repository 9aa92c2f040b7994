"""Downstream data from their publishers: one table of addresses, and downloads that go on where they were cut off.

A SHA-256 stands in the table only where the very file was at hand to compute it. For the others that of the first
download is kept in `SHA256SUMS` beside the files, and whatever lies there later must have it.
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
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from raysynth.errors import InputError, Named


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file at its publisher."""

    url: str
    file: str
    """Its name in the folder of the task."""
    sha256: str | None = None
    members: tuple[str, ...] = ()
    """What is taken out of it where it is a zip archive, with folders."""


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """Where a task's data come from."""

    page: str
    """The publisher's own documentation, which names the addresses."""
    licence: str
    downloads: tuple[Download, ...] = ()
    by_hand: str = ""
    """What only a person can do, because no stable address leads to the files."""


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
                "WebQSP's official files have neither triples nor s-expressions. The paper took those of UnifiedSKG, "
                "which are in a folder of Google Drive without stable addresses: open "
                "https://drive.google.com/drive/folders/1GXigUv3MU-Sh4XiY6Wz3xVeNT_s0SuON (linked from its README), "
                "and save WebQSP's files as train.jsonl, dev.jsonl and test.jsonl, one JSON object a line with "
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
"""Where each data set comes from, by its name."""

SUMS = "SHA256SUMS"
"""The file beside the data that holds their digests, in the form that `sha256sum --check` reads."""

_ATTEMPTS = 5
_CHUNK = 1 << 16


def fetch(publisher: Publisher, into: Path) -> None:
    """Download whatever is not in the folder yet, and check all that is.

    Raises `InputError` for an address that does not answer, a connection that keeps breaking, and a file with another
    digest than the publisher's or the first download's.
    """
    into.mkdir(parents=True, exist_ok=True)
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        for download in publisher.downloads:
            if not (into / download.file).exists():
                _download(download, into, progress)
            _check(download, into)
            _unpack(download, into)


def _download(download: Download, into: Path, progress: Progress) -> None:
    """Bring the file in as `.part`, from where an earlier call was cut off, and rename it when it is whole."""
    target = into / download.file
    part = target.with_name(f"{target.name}.part")
    bar = progress.add_task(download.file, total=None)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            if _continue(download.url, part, progress, bar):
                break
            problem = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.exists():
                if error.headers.get("Content-Range") == f"bytes */{part.stat().st_size}":
                    break  # it was whole before it could be renamed
                _forget(part)
                continue
            raise InputError(f"{download.url}: HTTP {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        if attempt == _ATTEMPTS:
            have = part.stat().st_size if part.exists() else 0
            raise InputError(
                f"{download.url}: {problem}; {have:,} bytes are kept and the same command goes on from there"
            )
    digest = _digest(part)
    if download.sha256 not in (None, digest):
        _forget(part)
        raise InputError(f"{download.url}: has SHA-256 {digest}, must have {download.sha256}; nothing was kept")
    part.replace(target)
    _tag(part).unlink(missing_ok=True)


def _continue(url: str, part: Path, progress: Progress, bar: object) -> bool:
    """Append what is missing to a part; returns whether it is whole now.

    The server is told which version the part is of, and sends everything where it has another one by now.
    """
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "raysynth", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if _tag(part).exists():
            headers["If-Range"] = _tag(part).read_text()
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
            _tag(part).unlink(missing_ok=True)
            if version := answer.headers.get("ETag") or answer.headers.get("Last-Modified"):
                _tag(part).write_text(version)
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        progress.update(bar, total=total, completed=have)  # type: ignore[arg-type]
        with part.open("ab" if have else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress.update(bar, completed=have)  # type: ignore[arg-type]
    return total is None or have == total


def _forget(part: Path) -> None:
    part.unlink()
    _tag(part).unlink(missing_ok=True)


def _tag(part: Path) -> Path:
    """Where the version is noted that a part is of."""
    return part.with_name(f"{part.name}.version")


def _check(download: Download, into: Path) -> None:
    """Hold a file against the publisher's digest or the first one seen, which is noted."""
    sums = into / SUMS
    known = dict(reversed(line.split("  ", 1)) for line in sums.read_text().splitlines()) if sums.exists() else {}
    digest, expected = _digest(into / download.file), download.sha256 or known.get(download.file)
    if expected not in (None, digest):
        origin = "the publisher's" if download.sha256 else f"{sums}'s"
        raise InputError(
            f"{into / download.file}: has SHA-256 {digest}, not {origin} {expected}; delete it to fetch it again"
        )
    if known.get(download.file) != digest:
        known[download.file] = digest
        sums.write_text("".join(f"{digest}  {file}\n" for file, digest in known.items()))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unpack(download: Download, into: Path) -> None:
    """Take the wanted members out of an archive."""
    if not download.members:
        return
    try:
        with zipfile.ZipFile(into / download.file) as archive:
            for member in download.members:
                if not (into / member).exists():
                    archive.extract(member, into)
    except (zipfile.BadZipFile, KeyError) as error:
        raise InputError(f"{into / download.file}: not the archive that was expected: {error}") from None
