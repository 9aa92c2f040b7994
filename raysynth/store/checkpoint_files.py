"""The files of a checkpoint: a sealed list in its directory names its artifact, its step and the checksum of each file.

Needs no JAX, so that a driver can check checkpoints before anything starts.
"""

import errno
from dataclasses import asdict, dataclass
from pathlib import Path

from raysynth.errors import InputError
from raysynth.store.checksums import Checksums, altered, checksums, read_checksums
from raysynth.store.files import is_special, write_whole
from raysynth.store.sealed import seal, unseal
from raysynth.store.store import Store

LIST = "checksums.json"
"""The list's name in the directory of a checkpoint. A checkpoint without it was never finished."""

CHECKPOINT_SECONDS = 600.0
"""By default, a training whose last checkpoint is this old writes one between evaluations too."""


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """What the list of a checkpoint says."""

    artifact: str
    """The artifact's name, such as `pretrain/set.seed0-1c575405`."""
    step: int
    files: Checksums
    params_sha256: str | None = None
    """Of the checkpoint that a finished artifact consists of: the digest of its parameters that the record names."""


def write_list(checkpoint: Path, *, artifact: str, step: int) -> None:
    """Write the list of a checkpoint from the files that are on disk, which finishes the checkpoint."""
    files = {file: asdict(entry) for file, entry in checksums(checkpoint).items() if file != LIST}
    write_whole(checkpoint / LIST, seal({"artifact": artifact, "step": step, "files": files}))


def add_digest(checkpoint: Path, params_sha256: str) -> None:
    """Add the digest of its parameters to the list of a checkpoint, by which a record of others is recognized."""
    value = unseal((checkpoint / LIST).read_bytes(), str(checkpoint / LIST))
    write_whole(checkpoint / LIST, seal({**value, "params_sha256": params_sha256}))


def read_list(content: bytes, place: str) -> CheckpointFiles:
    """The list in a file's content; raises `InputError`, which names `place`, for anything that `write_list` did not
    write."""
    match unseal(content, place):
        case {"artifact": str(artifact), "step": int(step), "files": files, **others} if others.keys() <= {
            "params_sha256"
        } and isinstance(others.get("params_sha256", ""), str):
            return CheckpointFiles(artifact=artifact, step=step, files=read_checksums(files, place), **others)
    raise InputError(f"{place} is damaged: it must hold an artifact, a step and files")


def problem(checkpoint: Path, *, step: int, artifact: str | None = None) -> str | None:
    """Why a directory is not a whole checkpoint of that step, in one line, or None if it is.

    With `artifact`, a checkpoint of another artifact is a problem too. Files that the list does not name are ignored.
    """
    file = checkpoint / LIST
    try:
        if is_special(file):
            return f"{file} is damaged: it is no file"
        saved = read_list(file.read_bytes(), str(file))
        if saved.step != step or artifact not in (None, saved.artifact):
            return f"{checkpoint} holds step {saved.step} of {saved.artifact}"
        return altered(checkpoint, saved.files)
    except (FileNotFoundError, NotADirectoryError):
        return f"{file if checkpoint.is_dir() else checkpoint} is missing"
    except InputError as error:
        return str(error)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EISDIR):
            raise  # such as a lack of permission: nothing is wrong with the file
        return f"{checkpoint} cannot be read: {error.strerror}"


def withdraw(artifact: str, store: Store) -> None:
    """Let a trained or imported artifact whose weights are damaged be made again, from its beginning."""
    for path in ("record.json", "files.json", "checkpoints"):
        store.delete(f"{artifact}/{path}")
