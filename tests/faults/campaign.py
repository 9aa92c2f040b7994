"""Disturbs runs of a small sweep in many ways, each of which must end with the same results or with one line.

    python -m tests.faults.campaign --seed 7 --num 100

runs a hundred cases, drawn at random, one after another, and prints a table. Case 37 alone comes again with `--only 37`
beside the same options. A case is right if its runs, at most four, end in one of two ways: with exit status 0 and every
result equal to that of an undisturbed run, all bits; or with another exit status and one line that says why. A
traceback, a process that dies by itself or that does not end, and other results under exit status 0 break the rule. So
do runs that fail again and again without saying what heals the store; where that is `raysynth verify --repair`, the
case goes on with it. What nothing in a run would notice, `verify --deep` has to name.
"""

import argparse
import collections
import filecmp
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from raysynth.store.marks import here
from raysynth.store.store import Store
from tests.faults import one_process
from tests.faults.damage import VOUCHED, damage, other_files, other_results
from tests.faults.one_process import Fault
from tests.faults.sweep import write_texts

MAX_RERUNS = 3
LIMIT_SECONDS = 240
"""A run that takes longer hangs; on a quiet machine, one without Ray takes five seconds, one with Ray thirty."""
ERRORS = ("ENOSPC", "EIO", "EACCES")

_NOT_ONE_LINE = re.compile(
    r"Traceback \(most recent call last\)|\*\*\* \w+ received|Fatal Python error|terminate called|"
    r"^\[?\d{4}-\d\d-\d\d.*\.cc:\d+|\(raylet\)|\(pid=\d+",
    re.MULTILINE,
)
_SAYS_WHY = re.compile(r"error|failed|interrupted|blocked|diverged|lost|terminated", re.IGNORECASE)
_ADVICE = re.compile(r"--repair|delete|remove|import")
"""A refusal that lasts says what to do."""
_LISTS = re.compile(r"--repair")
"""`verify` lists on standard output what is wrong and whether `--repair` helps; this is what it is asked for."""


class Broken(Exception):
    """The rule is broken, in one line."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a command ended."""

    status: int
    """Below 0, the number of the signal that ended it."""
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The line that says why it did not succeed, else the last one."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        telling = [line for line in lines if _SAYS_WHY.search(line)]
        return (telling or lines or ["(nothing)"])[-1].strip()


def check(ran: Ran, *, killed_by: int | None = None) -> None:
    """Raise `Broken` unless a command ended with status 0, with one line, or by the signal that it was sent."""
    if bad := _NOT_ONE_LINE.search(ran.err + ran.out):
        lines = [line for line in (ran.err + ran.out)[bad.start() :].splitlines() if line and line[0] not in " \t^"]
        raise Broken(f"printed {bad[0]!r}: {lines[1] if len(lines) > 1 else lines[0]:.160}")
    if ran.status < 0 and -ran.status != killed_by:
        raise Broken(f"died by {signal.Signals(-ran.status).name}: {ran.last_line:.160}")
    if ran.status > 0 and not _SAYS_WHY.search(ran.err) and not _LISTS.search(ran.out):
        raise Broken(f"ended with status {ran.status} without a line that says why: {ran.last_line:.160}")


# -------------------------------------------------------------------------------- the ground of a campaign


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the cases of a campaign copy: the texts, a whole store, and one without its fine-tunings."""

    folder: Path

    @property
    def texts(self) -> Path:
        return self.folder / "texts"

    @property
    def whole(self) -> Path:
        return self.folder / "whole"

    @property
    def num_operations(self) -> int:
        """The number of file operations in an undisturbed run."""
        return len((self.folder / "counted.ops").read_text().splitlines())

    def prepare(self) -> None:
        """Make what is not in the folder yet."""
        if (self.folder / "counted.ops").exists():
            print(f"the whole store is the one in {self.folder}")
            return
        write_texts(self.texts)
        started = time.monotonic()
        self._make("whole")  # compiles
        first = time.monotonic() - started
        store = self.copy("empty", self.folder / "counted")
        started = time.monotonic()
        self._make("counted", Fault(folder=str(store), operation=0, what="EIO"))
        if others := other_results(store, self.whole) + other_files(store, self.whole):
            raise Broken(f"two undisturbed runs differ in {', '.join(map(str, others))}")
        shutil.rmtree(store)
        seconds = time.monotonic() - started
        print(f"undisturbed: {first:.1f} s, then {seconds:.1f} s with {self.num_operations} file operations")

    def _make(self, name: str, fault: Fault | None = None) -> None:
        arguments = ["sweep", "run", "--store", self.folder / name, "--data", f"code_translation={self.texts}"]
        process = one_process.start(arguments, self.folder / name, fault)
        process.join()
        if process.exitcode:
            raise Broken(f"an undisturbed run failed: {(self.folder / f'{name}.err').read_text()[-2000:]}")

    def copy(self, base: str, to: Path) -> Path:
        """Copy a store: `whole`, `sources` without fine-tunings, or `empty`."""
        to.mkdir(parents=True, exist_ok=True)
        if base != "empty":
            left_out = shutil.ignore_patterns("finetune") if base == "sources" else None
            shutil.copytree(self.whole, to, ignore=left_out, dirs_exist_ok=True)
        return to


# -------------------------------------------------------------------------------- a case


@dataclass(kw_only=True)
class Case:
    """One disturbance: where it happens, and what is known of it so far."""

    seed: int
    number: int
    kind: str
    ground: Ground
    folder: Path
    target: str = ""
    moment: str = ""
    reruns: int = 0
    end: str = ""
    seconds: float = 0.0
    logs: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(f"{self.seed} {self.number}")
        self.store = self.folder / "store"

    @property
    def line(self) -> str:
        """The case in one line."""
        parts = (f"{self.number:4d}", f"{self.kind:12}", self.target, self.moment, f"->  {self.end}")
        return "  ".join([*parts, f"({self.reruns} reruns, {self.seconds:.0f} s)"])

    def copy(self, base: str) -> None:
        """Begin with a copy of a store."""
        self.ground.copy(base, self.store)

    def start(self, *command, fault: Fault | None = None):
        """Start a command without Ray; without arguments, the run."""
        self.logs += 1
        if not command:
            command = ("sweep", "run", "--store", self.store, "--data", f"code_translation={self.ground.texts}")
        log = self.folder / f"log{self.logs}"
        process = one_process.start(command, log, fault)
        process.log = log
        return process

    def finish(self, process, *, killed_by: int | None = None) -> Ran:
        """Wait for a command that `start` started, and check how it ends."""
        process.join(LIMIT_SECONDS)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGUSR1)  # writes where each thread is
            time.sleep(1)
            process.kill()
            process.join()
            err = Path(f"{process.log}.err").read_text(errors="replace")
            frames = re.findall(r'File "[^"]*(raysynth/[^"]*)", line (\d+) in (\w+)', err)
            raise Broken(f"hangs in {', '.join(':'.join(frame) for frame in frames[:3])}")
        files = (Path(f"{process.log}.{suffix}") for suffix in ("out", "err"))
        out, err = (file.read_text(errors="replace") if file.exists() else "" for file in files)
        ran = Ran(status=process.exitcode, out=out, err=err)
        check(ran, killed_by=killed_by)
        return ran

    def run(self, *command, fault: Fault | None = None, killed_by: int | None = None) -> Ran:
        """Run a command without Ray, and check how it ends and, after status 0 of the run, its results."""
        ran = self.finish(self.start(*command, fault=fault), killed_by=killed_by)
        if not command:
            self.compare(ran)
        return ran

    def verify(self, *options: str) -> Ran:
        """Check the store."""
        return self.run("raysynth", "verify", "--store", self.store, *options)

    def compare(self, ran: Ran) -> None:
        """Raise `Broken` if a run with status 0 has other results than the undisturbed one."""
        if ran.status == 0 and (others := other_results(self.store, self.ground.whole)):
            raise Broken(f"status 0 and other results: {', '.join(others)}")

    def settle(self) -> str:
        """Run until the status is 0, and follow the advice of a refusal; returns how it ended.

        Raises `Broken` if the runs fail again and again without a word of what heals the store.
        """
        repaired, before = False, ""
        for self.reruns in range(MAX_RERUNS + 1):
            ran = self.run()
            if ran.status == 0:
                return "repaired" if repaired else "same"
            if "--repair" in ran.err and not repaired:
                self.verify("--repair")
                repaired = True
            elif ran.last_line == before:
                break
            before = ran.last_line
        if not _ADVICE.search(ran.err):
            raise Broken(f"fails again and again: {ran.last_line:.160}")
        return f"refused: {ran.last_line:.160}"

    def check_files(self, suspects: list[Path]) -> str:
        """After a right end: files that still are other than they should be are named by `verify --deep`, and healed.

        Returns "" if all files are right.
        """
        wrong = [*other_files(self.store, self.ground.whole), *suspects]
        verified = self.verify("--deep")
        if "invalid choice: 'verify'" in verified.err:
            raise Broken("there is no raysynth verify")
        for file in wrong:
            artifact = "/".join(file.parts[:2])
            if verified.status == 0 or artifact not in verified.out + verified.err:
                raise Broken(f"verify --deep does not name {file}")
        if verified.status == 0:
            return ""
        self.verify("--deep", "--repair")
        if (end := self.settle()) != "same":
            raise Broken(f"after verify --repair: {end}")
        if wrong := other_files(self.store, self.ground.whole):
            raise Broken(f"verify --repair and a run leave {', '.join(map(str, wrong))} wrong")
        verified = self.verify("--deep")
        if verified.status:
            raise Broken(
                f"verify --repair and a run do not satisfy verify: {(verified.out or verified.err).strip():.140}"
            )
        return "named by verify"

    def random_fault(self, what: str, *, then: str = "once") -> Fault:
        """A fault at a random operation of a run."""
        operation = self.draw.randrange(1, self.ground.num_operations)
        return Fault(folder=str(self.store), operation=operation, what=what, then=then)

    def interrupt(self) -> None:
        """Leave a store as a run leaves it that is killed at a random operation."""
        self.copy("empty")
        fault = self.random_fault("SIGKILL")
        self.moment = f"killed at operation {fault.operation}"
        self.run(fault=fault, killed_by=signal.SIGKILL)


# -------------------------------------------------------------------------------- kinds of disturbance


def damaged(case: Case) -> str:
    """A file of a whole store, of one without fine-tunings or of one that a killed run left is damaged."""
    base = case.draw.choice(["whole", "sources", "sources", "interrupted"])
    if base == "interrupted":
        case.interrupt()
    else:
        case.copy(base)
        case.moment = f"in a {base} store" if base == "whole" else "before fine-tuning"
    how, kind, file = damage(case.store, case.draw)
    relative = file.relative_to(case.store)
    case.target = f"{how} {kind} {relative}"
    content = file.read_bytes() if file.exists() else None
    end = case.settle()
    if end.startswith("refused"):
        return end
    reruns = case.reruns
    is_vouched = kind in VOUCHED and how != "duplicated"
    suspects = [relative] if is_vouched and _is_still_wrong(case, relative, content) else []
    named = case.check_files(suspects)
    case.reruns = reruns
    return named or end


def _is_still_wrong(case: Case, file: Path, damaged: bytes | None) -> bool:
    """Whether a file still has its damaged content, or is still missing from an artifact that was not made again."""
    if damaged is not None:
        return (case.store / file).exists() and (case.store / file).read_bytes() == damaged
    whole, record = case.ground.whole, Path(*file.parts[:2], "record.json")
    was_kept = (whole / file).exists() and filecmp.cmp(case.store / record, whole / record)
    return was_kept and not (case.store / file).exists()


def operation(case: Case) -> str:
    """One file operation of a run fails, or all that write from one on."""
    then = case.draw.choice(["once", "once", "writes"])
    case.copy("empty")
    fault = case.random_fault(case.draw.choice(ERRORS), then=then)
    return _fail(case, fault)


def each_operation(case: Case) -> str:
    """The operation with the number of the case fails."""
    case.copy("empty")
    what = ERRORS[case.number % len(ERRORS)]
    return _fail(case, Fault(folder=str(case.store), operation=case.number, what=what))


def _fail(case: Case, fault: Fault) -> str:
    process = case.start(fault=fault)
    case.moment = f"operation {fault.operation}"
    case.target = f"{fault.what} {fault.then}"
    try:
        ran = case.finish(process)
    finally:
        lines = Path(f"{process.log}.ops").read_text().splitlines()
        if len(lines) >= fault.operation:
            event, path = lines[fault.operation - 1].split("\t")
            case.target += f": {event} {os.path.relpath(path, case.store)}"
    case.compare(ran)
    return case.settle()


def killed(case: Case) -> str:
    """The run gets one to three signals, each in a run of its own."""
    case.copy("empty")
    targets, moments = [], []
    for _ in range(case.draw.randint(1, 3)):
        what = case.draw.choice(["SIGKILL", "SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"])
        fault = case.random_fault(what)
        targets.append(what)
        moments.append(str(fault.operation))
        case.target, case.moment = ", ".join(targets), f"operation {', '.join(moments)}"
        case.run(fault=fault, killed_by=signal.SIGKILL if what == "SIGKILL" else None)
    end = case.settle()
    if left := [*case.store.glob("leases/**/*.json"), *case.store.glob("drivers/*.json")]:
        raise Broken(f"left in the store: {', '.join(str(file.relative_to(case.store)) for file in left[:4])}")
    return end


def together(case: Case) -> str:
    """Two or three runs at once, of which one is killed or stopped for a while."""
    case.copy(case.draw.choice(["empty", "sources"]))
    processes = []
    for _ in range(case.draw.choice([2, 2, 3])):
        processes.append(case.start())
        time.sleep(case.draw.uniform(0, 3))
    what = case.draw.choice(["SIGKILL", "SIGTERM", "SIGSTOP", "nothing"])
    victim = case.draw.choice(processes)
    seconds = case.draw.uniform(0, 10)
    case.target, case.moment = f"{len(processes)} runs, one gets {what}", f"after {seconds:.1f} s"
    victim.join(seconds)
    if what != "nothing" and victim.exitcode is None:
        os.kill(victim.pid, getattr(signal, what))
        if what == "SIGSTOP":
            time.sleep(case.draw.uniform(0, 2 * one_process.ALIVE_SECONDS))
            os.kill(victim.pid, signal.SIGCONT)
    for process in processes:
        ran = case.finish(process, killed_by=signal.SIGKILL if process is victim else None)
        case.compare(ran)
        if ran.status and not (process is victim and what in ("SIGKILL", "SIGTERM")):
            raise Broken(f"a run that nobody disturbed ended with status {ran.status}: {ran.last_line:.140}")
    return case.settle()


def clock(case: Case) -> str:
    """Marks and leases of dead runs whose clocks, process numbers and boots are others."""
    case.interrupt()
    store = Store(str(case.store))
    mark = vars(here())
    day = case.draw.choice([-86400.0, 0.0, 86400.0])
    mark["time"] = case.draw.choice([time.time() + day, 0.0])
    place = case.draw.choice(["this host", "another host"])
    if place == "another host":
        others = {"host": "another-host", "machine": "another boot 1"}
    else:
        # The number of a dead run is that of a living process now: only its start can tell.
        others = {"pid": case.draw.choice([1, os.getpid(), os.getppid()]), "birth": "12345"}
    mark |= {name: value for name, value in others.items() if name in mark}
    driver = "01dc10c0"
    store.write_json(f"drivers/{driver}.json", mark)
    artifacts = [f"{file.parent.parent.name}/{file.parent.name}" for file in case.ground.whole.glob("*/*/record.json")]
    leased = case.draw.sample(sorted(artifacts), case.draw.randint(1, 3))
    for artifact in leased:
        store.write_json(f"leases/{artifact}.json", {"driver": driver})
        if not artifact.startswith("dataset") and case.draw.random() < 0.5:
            store.write_json(f"{artifact}/running.json", {**mark, "step": 2, "num_steps": 6})
    case.target = f"{place}, pid {mark['pid']}, {day / 3600:+.0f} h, {len(leased)} leases"
    return case.settle()


def full_disk(case: Case) -> str:
    """The disk is full at some moment, and has room later."""
    room = case.draw.randrange(8, 2048)
    case.store.mkdir(parents=True)
    with _mounted(case.store, f"size={room}k"):
        case.target = f"{room} KiB left"
        case.copy("empty")
        if case.run().status == 0:
            case.moment = "enough"
        subprocess.run(["mount", "-o", "remount,size=64m", str(case.store)], check=True)
        return case.settle()


def read_only(case: Case) -> str:
    """The store cannot be written; a whole one needs not be."""
    base = case.draw.choice(["whole", "sources", "empty"])
    verb = case.draw.choice(["run", "report", "status", "plan"])
    case.target, case.moment = f"{base} store", verb
    case.store.mkdir(parents=True)
    with _mounted(case.store, "size=64m"):
        case.copy(base)
        subprocess.run(["mount", "-o", "remount,ro", str(case.store)], check=True)
        data = ["--data", f"code_translation={case.ground.texts}"] if verb == "run" else []
        ran = case.run("sweep", verb, "--store", case.store, *data)
        if ran.status and not (verb == "run" and base != "whole"):
            raise Broken(f"{verb} needs to write: {ran.last_line:.140}")
        subprocess.run(["mount", "-o", "remount,rw", str(case.store)], check=True)
        return case.settle()


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    """A disk of its own at a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


# -------------------------------------------------------------------------------- with Ray


RAY_PROCESSES = {
    "driver": r"",
    "raylet": r"[^ ]*/raylet( .*)?",
    "GCS": r"[^ ]*/gcs_server( .*)?",
    "data worker": r"ray::.*(Map|map|Read).*",
    "trial worker": r"ray::.*(ImplicitFunc|_Trainable|trial).*",
    "any worker": r"ray::.*",
}
"""Patterns of the command lines of a run's processes."""


def ray_killed(case: Case) -> str:
    """A process of a run with Ray gets a signal."""
    with _ONE_WITH_RAY:
        return _kill_with_ray(case)


_ONE_WITH_RAY = threading.Lock()


def _kill_with_ray(case: Case) -> str:
    case.copy(case.draw.choice(["empty", "empty", "sources"]))
    name = case.draw.choice(list(RAY_PROCESSES))
    what = case.draw.choice(["SIGKILL", "SIGKILL", "SIGTERM", "SIGHUP", "SIGSTOP"])
    seconds = case.draw.uniform(0, 8)
    case.target, case.moment = f"{name} gets {what}", f"{seconds:.1f} s after its start"
    process = _start_with_ray(case)
    mine = {process.pid}
    try:
        pid = _wait_for(process, name, mine)
        if pid is not None:
            time.sleep(seconds)
            with suppress(ProcessLookupError):
                os.kill(pid, getattr(signal, what))
                if what == "SIGSTOP":
                    time.sleep(case.draw.uniform(0, 10))
                    os.kill(pid, signal.SIGCONT)
        else:
            case.moment += ", not seen"
        mine |= set(descendants(process.pid))
        ran = _end_with_ray(case, process)
        by = getattr(signal, what) if name == "driver" and what == "SIGKILL" else None
        check(ran, killed_by=by)
        case.compare(ran)
        return _settle_with_ray(case, mine)
    finally:
        _clear(mine)


def _settle_with_ray(case: Case, mine: set[int]) -> str:
    for case.reruns in range(MAX_RERUNS + 1):
        process = _start_with_ray(case)
        mine.add(process.pid)
        ran = _end_with_ray(case, process)
        check(ran)
        case.compare(ran)
        if ran.status == 0:
            return "same"
    raise Broken(f"fails again and again: {ran.last_line:.160}")


def _start_with_ray(case: Case) -> subprocess.Popen:
    case.logs += 1
    log = case.folder / f"log{case.logs}"
    environment = {
        **os.environ,
        "XLA_FLAGS": "",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")])),
    }
    command = [sys.executable, one_process.SWEEP, "run", "--store", case.store]
    command += ["--data", f"code_translation={case.ground.texts}"]
    with open(f"{log}.out", "w") as out, open(f"{log}.err", "w") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True, env=environment)
    process.log = log
    return process


def _end_with_ray(case: Case, process: subprocess.Popen) -> Ran:
    try:
        status = process.wait(LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        last = Path(f"{process.log}.err").read_text(errors="replace").strip().splitlines()[-1:]
        raise Broken(f"hangs; its last line is {last}") from None
    out, err = (Path(f"{process.log}.{suffix}").read_text(errors="replace") for suffix in ("out", "err"))
    return Ran(status=status, out=out, err=err)


def _wait_for(process: subprocess.Popen, name: str, mine: set[int]) -> int | None:
    """The number of a process of the run of that kind, once there is one."""
    while process.poll() is None:
        if name == "driver":
            return process.pid
        below = descendants(process.pid)
        mine |= set(below)
        for pid, command in below.items():
            if re.fullmatch(RAY_PROCESSES[name], command):
                return pid
        time.sleep(0.1)
    return None


def descendants(pid: int) -> dict[int, str]:
    """The command lines of the processes below a process."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                parents.setdefault(parent, []).append(int(folder.name))
    below, left = {}, [pid]
    while left:
        for child in parents.get(left.pop(), []):
            left.append(child)
            with suppress(OSError):
                command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ")
                below[child] = command.decode(errors="replace").strip()
    return below


def _clear(pids: set[int]) -> None:
    """End what is left of a case's own processes."""
    for pid in pids:
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"ray" in command:
                os.kill(pid, signal.SIGKILL)


# -------------------------------------------------------------------------------- the campaign


KINDS: dict[str, Callable[[Case], str]] = {
    "damaged": damaged,
    "operation": operation,
    "each-operation": each_operation,
    "killed": killed,
    "together": together,
    "clock": clock,
    "full-disk": full_disk,
    "read-only": read_only,
    "ray-killed": ray_killed,
}
WEIGHTS = {
    "damaged": 40,
    "operation": 20,
    "killed": 14,
    "together": 6,
    "clock": 6,
    "full-disk": 4,
    "read-only": 2,
    "ray-killed": 8,
}
"""How many of a hundred cases are of which kind, about."""


def can_mount() -> bool:
    """Whether this process may mount a disk."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with _mounted(Path(folder), "size=64k"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def run_case(seed: int, number: int, kinds: list[str], ground: Ground) -> Case:
    """Run one case; its end begins with `BROKEN` if it broke the rule."""
    draw = random.Random(f"{seed} {number} kind")
    kind = draw.choices(kinds, [WEIGHTS.get(kind, 1) for kind in kinds])[0]
    case = Case(seed=seed, number=number, kind=kind, ground=ground, folder=ground.folder / f"case{number}")
    if case.store.is_mount():  # by a campaign that was killed
        subprocess.run(["umount", "--lazy", str(case.store)], check=True)
    shutil.rmtree(case.folder, ignore_errors=True)
    case.folder.mkdir()
    started = time.monotonic()
    try:
        case.end = KINDS[kind](case)
        shutil.rmtree(case.folder, ignore_errors=True)
    except Broken as broken:
        case.end = f"BROKEN: {broken}"
    case.seconds = time.monotonic() - started
    return case


def table(counts: collections.Counter[tuple[str, str]]) -> str:
    """How many cases of each kind ended in each way."""
    ends = sorted({end for _, end in counts})
    lines = [["kind", *ends]]
    lines += [[kind, *(str(counts[kind, end]) for end in ends)] for kind in sorted({kind for kind, _ in counts})]
    return "\n" + "\n".join(f"{line[0]:16}" + "".join(f"{cell:>18}" for cell in line[1:]) for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign; returns 1 if a case broke the rule."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num", type=int, default=100, help="number of cases (default: 100)")
    parser.add_argument("--kinds", help=f"comma-separated, of {', '.join(KINDS)} (default: all but each-operation)")
    parser.add_argument("--only", type=int, action="append", metavar="NUMBER", help="only this case; may be repeated")
    parser.add_argument("--folder", type=Path, help="where to work, and to find the whole store of an earlier campaign")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time (default: 1)")
    options = parser.parse_args(arguments)
    kinds = options.kinds.split(",") if options.kinds else list(WEIGHTS)
    if unknown := set(kinds) - KINDS.keys():
        parser.error(f"unknown kinds: {', '.join(unknown)}")
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")  # of killed runs
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that disks are unmounted
    if not can_mount():
        print("left out: full-disk and read-only, which mount a disk")
        kinds = [kind for kind in kinds if kind not in ("full-disk", "read-only")]
    folder = options.folder or Path(tempfile.mkdtemp(prefix="raysynth-campaign-"))
    folder.mkdir(parents=True, exist_ok=True)
    ground = Ground(folder=folder.resolve())
    os.environ[one_process.COMPILED] = str(ground.folder / "compiled")
    ground.prepare()
    numbers = options.only or range(1, options.num + 1)
    again = f"python -m tests.faults.campaign --seed {options.seed}"
    again += (f" --kinds {options.kinds}" if options.kinds else "") + f" --folder {folder}"
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    with ThreadPoolExecutor(options.jobs) as pool:
        for case in pool.map(lambda number: run_case(options.seed, number, kinds, ground), numbers):
            counts[case.kind, case.end.split(":")[0]] += 1
            print(case.line, flush=True)
            if case.end.startswith("BROKEN"):
                print(f"      again: {again} --only {case.number}; see {case.folder}", flush=True)
    print(table(counts))
    broken = sum(count for (_, end), count in counts.items() if end == "BROKEN")
    print(f"{counts.total()} cases with seed {options.seed}, {broken} broke the rule")
    if options.folder is None and not broken:
        shutil.rmtree(folder)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
