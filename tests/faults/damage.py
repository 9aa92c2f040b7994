"""Ways in which the files of a store are damaged, and what each file is."""

import json
import random
import re
import shutil
from pathlib import Path

from raysynth.store.sealed import seal, unseal

KINDS = {
    "record": r".*/record\.json",
    "data manifest": r"dataset/[^/]+/manifest\.json",
    "shard": r"dataset/[^/]+/[^/]+\.parquet",
    "draw": r"dataset/[^/]+/draws/.*",
    "vocabulary": r".*/spiece\.model",
    "checkpoint arrays": r".*/checkpoints/.*/d/.*",
    "checkpoint list": r".*/checkpoints/.*\.json",
    "checkpoint metadata": r".*/checkpoints/.*",
    "evaluation": r".*/evaluations/.*",
    "predictions": r".*/predictions\.jsonl",
    "events": r".*/events\.out\.tfevents\..*",
    "running mark": r".*/running\.json",
    "failure": r".*/failure\.json",
    "lease": r"leases/.*",
    "driver mark": r"drivers/.*",
    "compiled": r"compiled/.*",
    "report": r"reports/.*",
    "other": r".*",
}
"""The kind of a file is the first whose pattern matches its path in the store."""

VOUCHED = {
    *("record", "data manifest", "shard", "vocabulary"),
    *("checkpoint arrays", "checkpoint list", "checkpoint metadata", "predictions"),
}
"""The kinds of which `verify --deep` has to notice that such a file of a finished artifact is damaged.

Records repeat what evaluations say. Event files have checksums of their own, which TensorBoard checks. Nothing but the
next run needs the others.
"""

HOWS = ("torn", "flipped", "emptied", "deleted", "swapped", "duplicated", "garbage", "resealed")
GARBAGE = (b"null", b"[]", b"{}", b'"text"', b"7", b'{"checksum": 1}', b"\xff\xfe\x00", b"[" * 100_000)


def kind_of(path: str) -> str:
    """The kind of the file at a path in the store."""
    return next(kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, path))


def files_by_kind(store: Path) -> dict[str, list[Path]]:
    """The files of a store."""
    kinds: dict[str, list[Path]] = {}
    for file in sorted(store.rglob("*")):
        if file.is_file():
            kinds.setdefault(kind_of(file.relative_to(store).as_posix()), []).append(file)
    return kinds


def damage(store: Path, draw: random.Random) -> tuple[str, str, Path]:
    """Damage one file, all kinds of file being as likely; returns how, the kind and the file."""
    kinds = files_by_kind(store)
    kind = draw.choice([kind for kind in kinds if kind != "other"])
    file = draw.choice(kinds[kind])
    hows = [how for how in HOWS if how != "resealed" or kind == "data manifest"]
    how = draw.choice(hows)
    if how == "swapped" and not _others(file, kinds[kind]):
        how = "torn"
    if how in ("torn", "flipped") and not file.stat().st_size:
        how = "garbage"
    _DAMAGE[how](file, draw, kinds[kind])
    return how, kind, file


def _others(file: Path, alike: list[Path]) -> list[Path]:
    return [other for other in alike if other.read_bytes() != file.read_bytes()]


def _torn(file: Path, draw: random.Random, alike: list[Path]) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: draw.randrange(len(content))])


def _flipped(file: Path, draw: random.Random, alike: list[Path]) -> None:
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def _emptied(file: Path, draw: random.Random, alike: list[Path]) -> None:
    file.write_bytes(b"")


def _deleted(file: Path, draw: random.Random, alike: list[Path]) -> None:
    file.unlink()


def _swapped(file: Path, draw: random.Random, alike: list[Path]) -> None:
    others = _others(file, alike)
    elsewhere = [other for other in others if other.parents[-2] != file.parents[-2]] or others
    other = draw.choice(elsewhere)
    mine = file.read_bytes()
    file.write_bytes(other.read_bytes())
    other.write_bytes(mine)


def _duplicated(file: Path, draw: random.Random, alike: list[Path]) -> None:
    """A copy beside, as file managers, editors and synchronization write them, or under another number."""
    names = [f"{file.stem} (1){file.suffix}", f"{file.name}~", f"._{file.name}", f"{file.name}.bak"]
    if re.search(r"\d", file.stem):
        names.append(re.sub(r"\d+", lambda digits: str(int(digits[0]) + 1).zfill(len(digits[0])), file.name, count=1))
    copy = file.with_name(draw.choice(names))
    if not copy.exists():
        shutil.copyfile(file, copy)


def _garbage(file: Path, draw: random.Random, alike: list[Path]) -> None:
    file.write_bytes(draw.choice(GARBAGE))


def _resealed(file: Path, draw: random.Random, alike: list[Path]) -> None:
    """A manifest that someone edited who knows how it is sealed."""
    manifest = unseal(file.read_bytes(), str(file))
    splits = manifest["splits"]
    shards = splits[draw.choice([split for split in splits if splits[split]])]
    edits = (
        lambda: manifest.update(prefix=[7]),
        lambda: shards[0].update(rows=draw.choice([-1, 0, 7, 10**9])),
        lambda: shards.pop(),
        lambda: shards.append(shards[0]),
        lambda: shards[0].update(file="../" * draw.randrange(1, 4) + "record.json"),
        lambda: splits.pop("train"),
    )
    draw.choice(edits)()
    file.write_bytes(seal(manifest))


_DAMAGE = {
    "torn": _torn,
    "flipped": _flipped,
    "emptied": _emptied,
    "deleted": _deleted,
    "swapped": _swapped,
    "duplicated": _duplicated,
    "garbage": _garbage,
    "resealed": _resealed,
}


def other_results(store: Path, whole: Path) -> list[str]:
    """The artifacts whose records lack or differ in results from those of the whole store."""
    return [
        str(record.parent.relative_to(whole))
        for record in sorted(whole.glob("*/*/record.json"))
        if _result(store / record.relative_to(whole)) != _result(record)
    ]


def _result(record: Path) -> object:
    try:
        return json.loads(record.read_bytes())["result"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def other_files(store: Path, whole: Path) -> list[Path]:
    """The files of the store that lack or differ in content, of those that are the same bytes in every whole store."""
    patterns = ("*/*/predictions.jsonl", "dataset/*/*.parquet", "dataset/*/spiece.model")
    files = [file.relative_to(whole) for pattern in patterns for file in sorted(whole.glob(pattern))]
    return [file for file in files if _bytes(store / file) != _bytes(whole / file)]


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None
