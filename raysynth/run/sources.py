"""The weights that fine-tunings start from: checked against their records, and made again where they are damaged."""

import tempfile
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any

from raysynth.errors import InputError, StoreError, first_line
from raysynth.report.status import import_command
from raysynth.specs.identity import Artifact, name
from raysynth.specs.pretraining import Pretrain, Pretrained, Source, SourceAt
from raysynth.store.checkpoint_files import LIST, problem, read_list, withdraw
from raysynth.store.records import Record
from raysynth.store.store import Store

_QUICK_BYTES = 2**31
"""Checkpoints of at most this size are read as a whole before a run starts, which takes a few seconds."""


def damaged_sources(artifacts: Iterable[Artifact], done: Set[Artifact], store: Store) -> dict[Pretrain, str]:
    """The finished pre-trainings that the artifacts start from and whose checkpoints are not whole, with the reason.

    They lose their records, so that they count as not done. Large or remote checkpoints are checked by the sizes of
    their files; whoever uses them checks their content. Raises `InputError` for damaged weights that were imported,
    which names the command that imports them.
    """
    inputs = {needed for artifact in artifacts for needed in artifact.inputs()} & done
    damaged = {}
    for source in sorted((one for one in inputs if isinstance(one, Pretrain | Pretrained)), key=name):
        record = store.status(source).record
        try:
            line = None if record is None else _first_problem(source, record, store)
        except OSError as error:  # such as a lack of permission, which says nothing about the weights
            raise StoreError(f"{store.uri}: cannot read {name(source)}: {first_line(error)}") from error
        if line is not None and isinstance(source, Pretrained):
            raise InputError(_import_again(source, line, store))
        if line is not None and isinstance(source, Pretrain):
            withdraw(name(source), store)
            damaged[source] = line
    return damaged


def _first_problem(source: Pretrain | Pretrained, record: Record, store: Store) -> str | None:
    """What is wrong with the first bad one of a source's checkpoints, as far as that is seen quickly."""
    digests = sorted(record.weights.digests.items())
    return next(filter(None, (_problem(source, step, digest, store) for step, digest in digests)), None)


def _problem(source: Pretrain | Pretrained, step: int, params_sha256: str, store: Store) -> str | None:
    """What is wrong with the checkpoint of a step, as far as that is seen quickly."""
    checkpoint = f"{name(source)}/checkpoints/{step}"
    content = store.read_bytes(f"{checkpoint}/{LIST}")
    if content is None:
        return f"{store.place}/{checkpoint}/{LIST} is missing"
    try:
        saved = read_list(content, f"{store.place}/{checkpoint}/{LIST}")
    except InputError as error:
        return str(error)
    if (saved.artifact, saved.step) != (name(source), step):
        return f"{store.place}/{checkpoint} holds step {saved.step} of {saved.artifact}"
    if saved.params_sha256 not in (None, params_sha256):
        return f"{store.place}/{checkpoint} holds other parameters than the record says"
    if store.local_root is not None and sum(file.size for file in saved.files.values()) <= _QUICK_BYTES:
        return problem(store.local_root / checkpoint, step=step, artifact=name(source))
    infos = store.filesystem.get_file_info([f"{store.root}/{checkpoint}/{file}" for file in saved.files])
    for file, info in zip(saved.files, infos, strict=True):
        if info.size != saved.files[file].size:
            return f"{store.place}/{checkpoint}/{file} is missing or has another size than was written"
    return None


def source_params(source: Source, store: Store, cache: Path) -> Any:
    """The parameters of a finished source, which are those that its record names.

    Raises `InputError` if they are damaged. A pre-training then loses its record, so that the next run makes it again;
    for weights that were imported, the line names the command that imports them.
    """
    from raysynth.model.checkpoints import checked_params  # needs JAX

    artifact, step = source.artifact, source.step if isinstance(source, SourceAt) else None
    record = store.status(artifact).record
    if record is None:
        raise InputError(f"{name(artifact)} is no longer done, because it was damaged: the next run makes it again")
    try:
        return checked_params(store.fetch(artifact, cache), record, step=step)
    except StoreError:
        raise
    except InputError as error:
        line = str(error)
    if store.local_root is None:  # perhaps only the copy on this host is damaged
        try:
            with tempfile.TemporaryDirectory(prefix="raysynth-") as fresh:
                return checked_params(store.fetch(artifact, Path(fresh)), record, step=step)
        except StoreError:
            raise
        except InputError as error:
            line = str(error).replace(fresh, store.place)
    if isinstance(artifact, Pretrained):
        raise InputError(_import_again(artifact, line, store))
    withdraw(name(artifact), store)
    raise InputError(f"{name(artifact)}, which this starts from, is damaged: {line}; the next run makes it again")


def _import_again(source: Pretrained, line: str, store: Store) -> str:
    return f"{name(source)} is damaged: {line}; import it again: {import_command(source, store)}"
