"""Why a worker's process ended, from what it and Ray left in the logs of this machine and from the kernel's counts."""

import re
from dataclasses import dataclass
from pathlib import Path

from raysynth.run.watch import tail


@dataclass(frozen=True, kw_only=True)
class Death:
    """How a process ended."""

    cause: str = ""
    """One line; empty if unknown."""
    is_final: bool = False
    """Whether another process would end in the same way."""
    log: str = ""
    """The end of what it wrote to standard error."""


_CAUSES = (
    (re.compile(r"Unknown flags? in XLA_FLAGS: *(.+)"), "XLA does not know the flag {} in XLA_FLAGS", True),
    (re.compile(r"Fatal Python error: (.+)"), "its process ended with a {}", False),
    (re.compile(r"(No space left on device)"), "its process ended: {}", False),
    (re.compile(r"^F\d{4} .*\] (.+)", re.MULTILINE), "its process ended: {}", False),
    (
        re.compile(r"terminate called after throwing an instance of (.+)"),
        "its process ended with a C++ exception {}",
        False,
    ),
)
"""What standard error says before a process ends, what to say of it, and whether that is final."""

_MEMORY = re.compile(r"Killing .* was ([\d.]+[GM]B) used / ([\d.]+[GM]B) limit")
"""Ray's message on a process that it ends because the host's memory is nearly full."""


class Reader:
    """Finds out why processes ended; made while the session is open, before any of them ends."""

    def __init__(self, logs: Path | None):
        """`logs` is the directory of the session's logs on this machine."""
        self._logs = logs
        self._killed = _kernel_kills()
        self._reported = len(self._ray_kills())

    def __call__(self, pid: int | None) -> Death:
        """How the process with a number ended; without a number, the last one that said why."""
        texts = self._stderr(pid)
        for text in texts:
            for pattern, words, is_final in _CAUSES:
                if (match := pattern.search(text)) is not None:
                    return Death(cause=words.format(match[1].strip().rstrip(".")), is_final=is_final, log=text)
        return Death(cause=self._memory(), log="" if pid is None else "".join(texts))

    def _memory(self) -> str:
        """Whether memory ran out since the last death, in words."""
        kills = self._ray_kills()
        if len(kills) > self._reported:
            self._reported = len(kills)
            return f"its process ran out of memory: the host used {kills[-1][0]} of {kills[-1][1]}"
        if (killed := _kernel_kills()) > self._killed:
            self._killed = killed
            return f"its process ran out of memory{_peak()}: the kernel ended it"
        return ""

    def _ray_kills(self) -> list[tuple[str, str]]:
        if self._logs is None:
            return []
        try:
            return _MEMORY.findall((self._logs / "raylet.out").read_text(errors="replace"))
        except OSError:
            return []

    def _stderr(self, pid: int | None) -> list[str]:
        """The ends of what a process, or every process, wrote to standard error; the last one to write comes first."""
        if self._logs is None:
            return []
        files = self._logs.glob(f"worker-*-{'*' if pid is None else pid}.err")
        return [tail(file) for file in sorted(files, key=lambda file: -file.stat().st_mtime)]


_GROUP = Path("/sys/fs/cgroup")


def _kernel_kills() -> int:
    """How many processes of this container the kernel ended for lack of memory."""
    match = re.search(r"^oom_kill (\d+)", tail(_GROUP / "memory.events"), re.MULTILINE)
    return int(match[1]) if match is not None else 0


def _peak() -> str:
    peak = tail(_GROUP / "memory.peak").strip()
    limit = tail(_GROUP / "memory.max").strip()
    if not peak.isdigit():
        return ""
    most = f" of {int(limit) / 2**30:.1f} GiB" if limit.isdigit() else ""
    return f" at a peak of {int(peak) / 2**30:.1f} GiB{most}"
