"""The machine and the code that a process runs on, for the provenance of records."""

import functools
import platform
import re
import subprocess
from pathlib import Path

_RELEVANT = re.compile(r"f16c|fma|avx\w*|amx\w*|asimd\w*|sve\w*|i8mm|bf16")
"""Instruction sets by which compilers choose how to compute."""


@functools.cache
def processor() -> str:
    """The CPU's model with the instruction sets for arithmetic, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    return described(text) or platform.machine()


def described(cpuinfo: str) -> str:
    """The model and the relevant instruction sets of the first CPU in the text of /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in cpuinfo.split("\n"):
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    names = ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU revision")
    model = [fields["model name"]] if "model name" in fields else []
    model += [f"{name} {fields[name]}" for name in names[1:] if name in fields]
    features = sorted(filter(_RELEVANT.fullmatch, (fields.get("flags") or fields.get("Features", "")).split()))
    return ", ".join([*model, *([" ".join(features)] if features else [])])


def free_memory() -> int | None:
    """Bytes of this host's memory that a process may still use, within its container's limit; None if unknown."""
    found = []
    if match := re.search(r"^MemAvailable: *(\d+) kB", _text("/proc/meminfo"), re.MULTILINE):
        found.append(int(match[1]) * 2**10)
    limit, used = (_text(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    if limit.isdigit() and used.isdigit():
        cached = re.search(r"^inactive_file (\d+)", _text("/sys/fs/cgroup/memory.stat"), re.MULTILINE)
        found.append(int(limit) - int(used) + (int(cached[1]) if cached else 0))
    return min(found, default=None)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


@functools.cache
def commit() -> str | None:
    """The last Git commit of the package's code, with "-dirty" if the code was changed since.

    None if the package is not in a checkout of its own, or Git is missing.
    """
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return None
    last = _git(package, "log", "-1", "--format=%H", "--", ".")
    changes = _git(package, "status", "--porcelain", "--", ".")
    return _marked(last, is_dirty=bool(changes)) if changes is not None else None


def commit_of(file: Path) -> str | None:
    """The commit that the repository of a file is at, with "-dirty" if tracked files were changed since.

    A file that the repository does not hold is a change too. None if there is no repository, or Git is missing.
    """
    if not file.is_file():
        return None
    folder = file.absolute().parent
    last = _git(folder, "rev-parse", "--verify", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    is_held = bool(_git(folder, "ls-files", "--", file.name))
    return _marked(last, is_dirty=bool(changes) or not is_held) if changes is not None else None


def _git(folder: Path, *command: str) -> str | None:
    """What a Git command prints in a folder; None if it fails."""
    git = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *command]
    try:
        done = subprocess.run(git, capture_output=True, errors="replace", check=True, timeout=10)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _marked(last: str | None, *, is_dirty: bool) -> str | None:
    return last + "-dirty" * is_dirty if last else None
