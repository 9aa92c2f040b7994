"""A Ray session of this machine: heard on loopback only, ended by every signal, and not waited for when it is lost."""

import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

OPEN = """
import os, sys, time
from raysynth.command_line import exit_status
from raysynth.run.session import session

def command():
    with session(None):
        print("open", flush=True)
        time.sleep(60)
    return 0

sys.exit(exit_status(command))
"""


def start(text, folder, **variables):
    file = folder / "command.py"
    file.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **variables}
    return subprocess.Popen(
        [sys.executable, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    )


def processes(group):
    """The numbers and command lines of the living processes that a command started."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session = (process / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if int(session) == group and state != "Z" and line:  # one that is ending has no command line any more
                yield int(process.name), line
        except OSError:
            pass


def listening(pids):
    """The addresses on which processes listen."""
    inodes = {}
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                words = fields[1].split(":")[0]
                packed = b"".join(struct.pack("<I", int(words[i : i + 8], 16)) for i in range(0, len(words), 8))
                inodes[fields[9]] = socket.inet_ntop(family, packed)
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("socket:[") and target[8:-1] in inodes:
                yield inodes[target[8:-1]]


def left(group):
    """The command lines of what a command left behind; killed, for the next test."""
    remaining = list(processes(group))
    for pid, _ in remaining:
        os.kill(pid, signal.SIGKILL)
    return [line for _, line in remaining]


@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGTERM, signal.SIGTERM),
        pytest.param((signal.SIGHUP,), marks=pytest.mark.long),
        pytest.param((signal.SIGINT, signal.SIGTERM), marks=pytest.mark.long),
    ],
)
def test_a_signal_ends_a_session_with_one_line(signals, tmp_path):
    command = start(OPEN, tmp_path)
    assert command.stdout.readline() == "open\n"
    heard = list(listening([pid for pid, _ in processes(command.pid)]))
    for number in signals:
        command.send_signal(number)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 128 + signals[0]
    assert errors == "interrupted; run the same command again to continue\n"
    assert left(command.pid) == []
    assert len(heard) > 3
    assert set(heard) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.mark.long
def test_a_signal_to_all_processes_of_the_command_ends_it_alike(tmp_path):
    command = start(OPEN, tmp_path)
    assert command.stdout.readline() == "open\n"
    os.killpg(command.pid, signal.SIGTERM)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 128 + signal.SIGTERM
    assert errors == "interrupted; run the same command again to continue\n"
    assert left(command.pid) == []


def test_a_signal_while_ray_starts_is_one_line_too(tmp_path):
    command = start(OPEN.replace("with session", 'print("starts", flush=True)\n    with session'), tmp_path)
    assert command.stdout.readline() == "starts\n"
    while not any("gcs_server" in line for _, line in processes(command.pid)):
        assert command.poll() is None
    command.terminate()
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 128 + signal.SIGTERM
    assert errors == "interrupted; run the same command again to continue\n"
    assert left(command.pid) == []


@pytest.mark.parametrize(
    ("process", "called"),
    [
        ("gcs_server", "Ray's control process (GCS)"),
        pytest.param("raylet/raylet", "Ray's scheduler (raylet)", marks=pytest.mark.long),
    ],
)
def test_a_lost_process_of_ray_ends_the_command_with_one_line(process, called, tmp_path):
    command = start(OPEN, tmp_path)
    assert command.stdout.readline() == "open\n"
    (pid,) = (pid for pid, line in processes(command.pid) if line.split()[0].endswith(process))
    os.kill(pid, signal.SIGKILL)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 1
    assert errors.startswith(f"error: {called} was killed by SIGKILL; run the same command again to continue (")
    assert errors.count("\n") == 1
    assert left(command.pid) == []


SPREAD = """
import ctypes, os, signal, sys
from pathlib import Path
from raysynth.command_line import exit_status
from raysynth.errors import WorkerError
from raysynth.run.session import session, spread

FOLDER = Path(os.environ["FOLDER"])

def once(number):
    mark = FOLDER / "killed"
    if number == 5 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number

def leave(number):
    if number == 5:
        sys.exit(3)

def crash(number):
    if number == 5:
        with (FOLDER / "crashes").open("a") as file:
            file.write("x")
        ctypes.string_at(0)

def order(number):
    return list({"a", "b", "c", "d", "e", "f", "g"})

def line(work):
    try:
        return spread(work, range(9), tick=lambda done, of: None, describe=lambda number: f"item {number}")
    except WorkerError as error:
        return str(error)

def command():
    with session(None):
        print(line(once))
        print(line(leave))
        print(line(crash))
        print(line(order))
    return 0

sys.exit(exit_status(command))
"""


def set_order(hash_seed):
    """The order of a set of texts in a process with that hash seed."""
    command = [sys.executable, "-c", 'print(",".join({"a", "b", "c", "d", "e", "f", "g"}))']
    return subprocess.check_output(command, text=True, env={"PYTHONHASHSEED": hash_seed}).strip().split(",")


def test_spread_goes_on_after_a_lost_process_and_gives_up_on_an_item_that_ends_it(tmp_path_factory):
    folder = tmp_path_factory.mktemp("x" * 80)  # Ray's sockets would not fit below it
    command = start(SPREAD, folder, TMPDIR=str(folder), FOLDER=str(folder), PYTHONHASHSEED="7")
    output, errors = command.communicate(timeout=300)
    lines = output.splitlines()
    assert lines[0] == str([number * number for number in range(9)]), errors
    assert lines[1].startswith("SystemExit: 3 (command.py, line ")
    assert lines[2] == "item 5 ended its process 3 times: its process ended with a Segmentation fault"
    assert lines[3] == str([set_order("0")] * 9), "not that of the driver's hash seed"
    assert set_order("0") != set_order("7")
    assert len((folder / "crashes").read_text()) <= 4
    assert command.returncode == 0
    assert errors == ""
    assert left(command.pid) == []
