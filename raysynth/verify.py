"""Whether everything in a store is as it was written, and what heals what is not.

Reads no weights and needs no JAX: what an artifact's record names is compared with the files and their checksums.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from raysynth.data.manifest import MANIFEST, read_from_store
from raysynth.errors import InputError, StoreError
from raysynth.store import leases, mirror
from raysynth.store.checkpoint_files import LIST, CheckpointFiles, read_list
from raysynth.store.marks import ALIVE_SECONDS, Watch, runs
from raysynth.store.records import DataResult, Mark, Record, WeightsResult
from raysynth.store.store import KINDS, SET_ASIDE, Store, is_plain

_PREDICTIONS = "predictions.jsonl"
_UNCHECKED = (SET_ASIDE, "compiled", "reports")
"""Directories of a store whose files nothing depends on."""
_LEFTOVER = re.compile(r"(^|/)\.probe-[0-9a-f]{32}$|\.[0-9a-f]{32}\.aside(/|$)")
"""Files under a temporary name, which a process left that was killed while it wrote them."""

Tick = Callable[[int], None]
"""Called with the number of bytes that were read since the last call."""


class Remedy(StrEnum):
    """What heals a finding."""

    MAKE_AGAIN = "--repair sets it aside, the next run makes it again"
    IMPORT_AGAIN = "--repair sets it aside, then import it again"
    SET_ASIDE = "--repair sets it aside, the next run needs none or makes it again"
    LIST_AGAIN = "--repair writes the list again"
    DELETE = "--repair deletes it"
    BY_HAND = "make it readable and run verify again"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something in a store that is not as it should be."""

    place: str
    """The artifact, or the file if it belongs to none."""
    problem: str
    """What is wrong with what, in one line."""
    remedy: Remedy
    path: str
    """What the remedy acts on, below the root of the store."""


def others(store: Store, watch: Watch) -> list[Mark]:
    """The marks of the runs that work on the store, as far as one look can tell."""
    marks = leases.marks_of_runs(store)
    return [mark for file, mark in marks.items() if mark is not None and watch.alive_at_first_sight(file, mark)]


def check_unused(store: Store, note: Callable[[str], object]) -> None:
    """Raise `InputError` if a run works on the store. Watches runs of other machines for two minutes if need be.

    `note` gets one line if it has to wait.
    """
    watch = Watch()
    first = {file: mark for file, mark in leases.marks_of_runs(store).items() if mark is not None}
    noted = False
    while True:
        marks = {file: mark for file, mark in leases.marks_of_runs(store).items() if mark is not None}
        for file, mark in marks.items():
            if runs(mark) or first.get(file) != mark:
                raise InputError(f"{store.uri}: process {mark.pid} on {mark.host} works on the store; repair it later")
        living = [mark for file, mark in marks.items() if watch.alive(file, mark)]
        if not living:
            return
        if not noted:
            noted = True
            note(f"waits up to {ALIVE_SECONDS} s for a sign of life of process {living[0].pid} on {living[0].host}")
        time.sleep(leases.LOOK_SECONDS)


# -------------------------------------------------------------------------------- checks


def num_bytes(store: Store) -> int:
    """How many bytes `findings` reads at most, if it reads the contents of files."""
    return sum(size for file, size in store.files_below("").items() if file.split("/")[0] in KINDS)


def findings(store: Store, read: "Reading", *, in_use: bool) -> Iterator[Finding]:
    """What is wrong in a store; what is still being made is left out while the store is `in_use`."""
    every = store.files_below("")  # a name with control characters is not raysynth's
    files = {file: every[file] for file in every if is_plain(file) and file.split("/")[0] not in _UNCHECKED}
    artifacts: dict[str, dict[str, int]] = {}
    for file, size in files.items():
        kind, _, rest = file.partition("/")
        label, slash, below = rest.partition("/")
        if kind in KINDS and slash and not _LEFTOVER.search(file):
            artifacts.setdefault(f"{kind}/{label}", {})[below] = size
        elif kind in KINDS and not slash and not _LEFTOVER.search(file):
            yield Finding(place=file, problem="is a file and no artifact", remedy=Remedy.SET_ASIDE, path=file)
    for where in sorted(artifacts):
        try:
            yield from _artifact(where, artifacts[where], store, read, in_use=in_use)
        except StoreError as error:
            yield Finding(place=where, problem=_short(error, where, store), remedy=Remedy.BY_HAND, path=where)
    for file in sorted(files):
        if file.startswith("speeds/") and file.endswith(".json") and (line := _unsealed(file, store)):
            yield Finding(place=file, problem=line, remedy=Remedy.SET_ASIDE, path=file)
    if not in_use:
        yield from _leftovers(files, store)


def _artifact(
    where: str, files: Mapping[str, int], store: Store, read: "Reading", *, in_use: bool
) -> Iterator[Finding]:
    again = Remedy.IMPORT_AGAIN if where.startswith("pretrained/") else Remedy.MAKE_AGAIN
    try:
        record = store.record_of(where)
    except StoreError:
        raise
    except InputError as error:
        yield Finding(place=where, problem=_short(error, where, store), remedy=again, path=where)
        return
    if record is None:
        if not in_use:
            yield from _unfinished(where, files, store, read)
        return
    problems = list(_vital(record, files, store, read))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        yield Finding(place=where, problem=problems[0] + more, remedy=again, path=where)
        return
    yield from _list(where, files, record, store, read)
    for file in sorted(files):
        # The record holds what these say, so a done artifact does not need them.
        if file.startswith("evaluations/") and (line := _unsealed(f"{where}/{file}", store)):
            yield Finding(place=where, problem=line, remedy=Remedy.SET_ASIDE, path=f"{where}/{file}")
        if file in ("running.json", "failure.json"):
            problem = f"{file} stayed behind though the artifact is done"
            yield Finding(place=where, problem=problem, remedy=Remedy.DELETE, path=f"{where}/{file}")


def _vital(record: Record, files: Mapping[str, int], store: Store, read: "Reading") -> Iterator[str]:
    """What is wrong with the files that a done artifact consists of, one line each."""
    if isinstance(record.result, DataResult):
        yield from _data(record.artifact, record.result, files, store, read)
    else:
        yield from _weights(record.artifact, record.result, files, store, read)


def _data(where: str, result: DataResult, files: Mapping[str, int], store: Store, read: "Reading") -> Iterator[str]:
    try:
        manifest = read_from_store(store, where)
    except StoreError:
        raise
    except InputError as error:
        yield _short(error, where, store)
        return
    if manifest is None:
        yield f"{MANIFEST} is missing"
    elif manifest.digest != result.sha256:
        yield f"{MANIFEST} is not the one that the record names"
    elif {split.value: count for split, count in manifest.num_rows.items()} != result.rows:
        yield f"{MANIFEST} has other numbers of rows than the record"
    else:
        for file, sha256 in manifest.files.items():
            if file not in files:
                yield f"{file} is missing"
            elif read.sha256(f"{where}/{file}", store) not in (None, sha256):
                yield f"{file} has another content than was written"


def _weights(
    where: str, result: WeightsResult, files: Mapping[str, int], store: Store, read: "Reading"
) -> Iterator[str]:
    for step, params_sha256 in sorted(result.digests.items()):
        yield from _checkpoint(where, str(step), files, store, read, params_sha256)
    if result.test is None:
        return
    if _PREDICTIONS not in files:
        yield f"{_PREDICTIONS} is missing"
        return
    sha256 = read.sha256(f"{where}/{_PREDICTIONS}", store)
    if None not in (sha256, result.predictions_sha256) and sha256 != result.predictions_sha256:
        yield f"{_PREDICTIONS} has another content than was written"


def _checkpoint(
    where: str,
    step: str,
    files: Mapping[str, int],
    store: Store,
    read: "Reading",
    params_sha256: str | None = None,
) -> Iterator[str]:
    """What is wrong with the checkpoint of a step, one line each; its list must not name other parameters."""
    place = f"checkpoints/{step}"
    try:
        saved = _checkpoint_list(where, step, store)
    except StoreError:
        raise
    except InputError as error:
        yield _short(error, where, store)
        return
    if None not in (params_sha256, saved.params_sha256) and saved.params_sha256 != params_sha256:
        yield f"{place} holds other parameters than the record says"
    expected = saved.files
    for file in sorted(expected):
        path, size = f"{place}/{file}", files.get(f"{place}/{file}")
        if size is None:
            yield f"{path} is missing"
        elif size != expected[file].size:
            yield f"{path} has {size} bytes instead of {expected[file].size}"
        elif read.sha256(f"{where}/{path}", store) not in (None, expected[file].sha256):
            yield f"{path} has another content than was written"


def _checkpoint_list(where: str, step: str, store: Store) -> CheckpointFiles:
    """The files of a checkpoint; raises `InputError` unless its list is that of this artifact and step."""
    file = f"{where}/checkpoints/{step}/{LIST}"
    place, content = f"{store.uri}: {file}", store.read_bytes(file)
    if content is None:
        raise InputError(f"{place} is missing")
    saved = read_list(content, place)
    if (saved.artifact, saved.step) != (where, int(step)):
        raise InputError(f"{place} belongs to step {saved.step} of {saved.artifact}")
    return saved


def _unfinished(where: str, files: Mapping[str, int], store: Store, read: "Reading") -> Iterator[Finding]:
    """What a later run would not go on from. It finds this out itself; here it is said beforehand."""
    steps = {file.split("/")[1] for file in files if re.fullmatch(rf"checkpoints/[0-9]+/{LIST}", file)}
    for step in sorted(steps, key=int):
        for problem in list(_checkpoint(where, step, files, store, read))[:1]:
            yield Finding(place=where, problem=problem, remedy=Remedy.SET_ASIDE, path=f"{where}/checkpoints/{step}")
    for file in sorted(files):
        is_ours = file.endswith(".json") and not file.startswith("checkpoints/")
        if is_ours and (line := _unsealed(f"{where}/{file}", store)):
            yield Finding(place=where, problem=line, remedy=Remedy.SET_ASIDE, path=f"{where}/{file}")


def _list(where: str, files: Mapping[str, int], record: Record, store: Store, read: "Reading") -> Iterator[Finding]:
    """What is wrong with the list by which a remote artifact is copied."""
    if store.local_root is not None:
        return
    problem: str | None = None
    try:
        listed = mirror.read_list(store, where)
    except StoreError:
        raise
    except InputError as error:
        problem = _short(error, where, store)
    else:
        if listed is None:
            problem = f"{mirror.LIST} is missing"
        else:
            for file, expected in listed.files.items():
                if files.get(file) != expected.size:
                    problem = f"{file} is missing or has another size than {mirror.LIST} says"
                elif read.sha256(f"{where}/{file}", store) not in (None, expected.sha256):
                    problem = f"{file} has another content than {mirror.LIST} says"
            missing = [file for file in _needed(record, files) if file not in listed.files]
            if missing:
                problem = f"{mirror.LIST} does not name {missing[0]}"
    if problem is not None:
        yield Finding(place=where, problem=problem, remedy=Remedy.LIST_AGAIN, path=where)


def _needed(record: Record, files: Mapping[str, int]) -> list[str]:
    """The files of a done artifact that others read."""
    if isinstance(record.result, DataResult):
        return [file for file in files if "/" not in file and file.endswith((".parquet", ".model", MANIFEST))]
    checkpoints = tuple(f"checkpoints/{step}/" for step in record.result.digests)
    return [file for file in files if file.startswith(checkpoints) or file == _PREDICTIONS]


def _leftovers(files: Mapping[str, int], store: Store) -> Iterator[Finding]:
    """What dead runs left behind. No run may be working on the store."""
    for file in sorted(files):
        if _LEFTOVER.search(file):
            problem = "is a file that a killed process did not finish"
            yield Finding(place=file, problem=problem, remedy=Remedy.DELETE, path=file)
    for file in sorted(leases.marks_of_runs(store)):
        yield Finding(place=file, problem="is the mark of a run that is gone", remedy=Remedy.DELETE, path=file)
    for where, file in sorted(leases.leased_artifacts(store).items()):
        yield Finding(place=where, problem="is leased to a run that is gone", remedy=Remedy.DELETE, path=file)


def _unsealed(file: str, store: Store) -> str | None:
    """What is wrong with a file that should be a JSON object with its checksum, in one line, or None."""
    try:
        store.read_json(file)
    except StoreError:
        raise
    except InputError as error:
        return _short(error, file.rpartition("/")[0], store)
    return None


def _short(error: InputError, where: str, store: Store) -> str:
    """An error's line without what its place in the table says anyway."""
    line = str(error).partition("; to heal it")[0]
    for prefix in (f"{store.uri}: ", f"{store.uri}/", f"{where}/"):
        line = line.removeprefix(prefix)
    return line


# -------------------------------------------------------------------------------- reading


class Reading:
    """Whether the contents of files are read."""

    def sha256(self, path: str, store: Store) -> str | None:
        """The SHA-256 of a file's content in hex, or None where contents are not read."""
        return None


class DeepReading(Reading):
    """Reads all contents, and tells how many bytes it has read."""

    def __init__(self, tick: Tick):
        self._tick = tick

    def sha256(self, path: str, store: Store) -> str | None:
        """The SHA-256 of a file's content in hex."""
        checksum = store.checksum(path)
        self._tick(checksum.size)
        return checksum.sha256


# -------------------------------------------------------------------------------- repair


def repair(finding: Finding, store: Store) -> str:
    """Set aside, delete or write again what a finding names; returns what was done, in one line.

    Raises `InputError` for what needs a person.
    """
    path = finding.path
    if finding.remedy is Remedy.BY_HAND:
        raise InputError(f"{finding.place}: {finding.problem}")
    if finding.remedy is Remedy.DELETE:
        store.delete(path)
        return f"deleted {path}"
    if finding.remedy is Remedy.LIST_AGAIN:
        record = store.record_of(path)
        if record is None:
            return f"{path} is gone"
        files = {file.removeprefix(f"{path}/"): size for file, size in store.files_below(path).items()}
        store.write_list(path, _needed(record, files), {})
        return f"wrote {path}/{mirror.LIST} again"
    if not store.exists(path):
        return f"{path} is gone"
    return f"moved {path} to {store.set_aside(path)}"
