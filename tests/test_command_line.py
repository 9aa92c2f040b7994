"""An uncaught `InputError` of a script is one line with its place in the script, and importing changes nothing."""

import signal
import subprocess
import sys
import time

import pytest

from raysynth import Sweep


def run_script(text, folder, *flags):
    file = folder / "sweep.py"
    file.write_text(text)
    return subprocess.run([sys.executable, *flags, str(file)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["raysynth", "raysynth.cli", "raysynth.sweep.command", "raysynth.paper"])
def test_importing_leaves_the_process_as_it_was(module):
    script = (
        "import os, sys\n"
        "before = sys.excepthook, dict(os.environ)\n"
        f"import {module}\n"
        "assert (sys.excepthook, dict(os.environ)) == before\n"
        "assert sys.excepthook is sys.__excepthook__\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


SWEEP = "import dataclasses\nfrom raysynth import *\nsweep = Sweep(name='s', claim='c')\n"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("synthetic_tasks['identty']", "unknown synthetic task 'identty' (did you mean 'identity'?)"),
        ("T5Config(num_heads=0)", "T5Config.num_heads must be an integer of at least 1, got 0"),
        ("dataclasses.replace(T5_SMALL, num_heads=0)", "T5Config.num_heads must be an integer of at least 1, got 0"),
        ("sweep.add(lambda seed: None, sead=[1])", "<lambda> takes seed, got the axes sead: "),
    ],
)
def test_a_typo_below_a_sweep_is_one_line_with_its_place(line, error, tmp_path):
    done = run_script(f"{SWEEP}{line}\n", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path}/sweep.py:4: error: {error}")
    assert done.stderr.count("\n") == 1


TASK = """
from dataclasses import dataclass
from raysynth import *
{decorator}
class Mine(SyntheticTask):
    name = "mine"
    size: {field}
    def draw(self, rng, count): ...
{below}
sweep = Sweep(name="s", claim="c")
"""


@pytest.mark.parametrize(
    ("decorator", "field", "below", "place", "error"),
    [
        ("", "int", "synthetic_tasks['identty']", 9, "unknown synthetic task 'identty'"),
        (
            "@dataclass(frozen=True)",
            "int = 1",
            "Dataset(task=Mine(), seed=2**32)",
            9,
            "Dataset.seed must be an integer",
        ),
        ("@dataclass", "int", "", 4, "cannot inherit non-frozen dataclass from a frozen one (use @dataclass(frozen="),
        ("@dataclass(frozen=True)", "list = []", "", 4, "mutable default <class 'list'> for field size is not allowed"),
        ("@dataclass(frozen=True)", "object = int", "Dataset(task=Mine())", 9, "Mine.size must be a number, text, "),
    ],
)
def test_a_mistake_above_the_sweep_is_one_line_too(decorator, field, below, place, error, tmp_path):
    done = run_script(TASK.format(decorator=decorator, field=field, below=below), tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path}/sweep.py:{place}: error: {error}")
    assert done.stderr.count("\n") == 1


def test_importing_in_a_script_leaves_the_hook_alone(tmp_path):
    script = "import sys\nimport raysynth.sweep.command\nassert sys.excepthook is sys.__excepthook__\n"
    assert run_script(script, tmp_path).returncode == 0


def test_a_typo_in_a_module_of_the_user_s_has_its_place(tmp_path):
    (tmp_path / "tasks.py").write_text("from raysynth import synthetic_tasks\n\n\nsynthetic_tasks['identty']\n")
    done = run_script(f"{SWEEP}import tasks\n", tmp_path)
    assert done.stderr.startswith(f"{tmp_path}/tasks.py:4: error: unknown synthetic task 'identty'")
    assert done.stderr.count("\n") == 1


def test_other_errors_below_a_sweep_are_python_s(tmp_path):
    done = run_script(f"{SWEEP}sweep.table(title='t', rows=('a',), ceilin=1)\n", tmp_path)
    assert done.stderr.startswith("Traceback")
    assert "unexpected keyword argument 'ceilin'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "before",
    [
        "import sys\nsys.ps1 = '>>> '\n",  # an interactive session
        "import sys\nsys.excepthook = lambda *error: print('mine', file=sys.stderr)\n",
    ],
)
def test_a_session_and_a_hook_of_the_user_s_are_left_alone(before, tmp_path):
    done = run_script(f"{before}hook = sys.excepthook\n{SWEEP}assert sys.excepthook is hook\n", tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_sweep_outside_a_script_leaves_the_hook_alone():
    hook = sys.excepthook
    Sweep(name="s", claim="c")
    assert sys.excepthook is hook


COMMAND = """
import signal, sys, time
from raysynth.command_line import exit_status

def command():
    print("began", flush=True)
    {work}
    return 0

sys.exit(exit_status(command))
"""
HINT = "interrupted; run the same command again to continue\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("work", ["time.sleep(60)", "try: time.sleep(60)\n    except KeyboardInterrupt: pass"])
def test_a_signal_ends_a_command_with_one_line_and_its_number(number, work, tmp_path):
    file = tmp_path / "command.py"
    file.write_text(COMMAND.format(work=work))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = subprocess.Popen([sys.executable, str(file)], **pipes)
    assert command.stdout.readline() == "began\n"
    command.send_signal(number)
    assert command.communicate()[1] == HINT
    assert command.returncode == 128 + number


IN_A_THREAD = """import os, threading
    def die():
        time.sleep(0.5)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    threading.Thread(target=die).start()
    {sleep}"""


@pytest.mark.parametrize(
    "sleep",
    [
        "time.sleep(60)",
        "from raysynth.command_line import leave_though_stuck\n    with leave_though_stuck(): time.sleep(60)",
    ],
)
def test_a_signal_that_another_thread_takes_wakes_the_main_thread(sleep, tmp_path):
    file = tmp_path / "command.py"
    file.write_text(COMMAND.format(work=IN_A_THREAD.format(sleep=sleep)))
    began = time.monotonic()
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, HINT)
    assert time.monotonic() - began < 55


STUCK = [
    # Minutes in a library.
    "import hashlib; from raysynth import command_line; command_line.STUCK_SECONDS = 0.2\n"
    "    with command_line.leave_though_stuck(): hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
    # A callback that Python does not let fail.
    "import gc; from raysynth import command_line; gc.callbacks.append(lambda *_: time.sleep(60))\n"
    "    with command_line.leave_though_stuck(): gc.collect()",
]


@pytest.mark.parametrize("work", STUCK)
def test_a_signal_ends_a_command_whose_main_thread_cannot_notice_it(work, tmp_path):
    file = tmp_path / "command.py"
    file.write_text(COMMAND.format(work=work))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = subprocess.Popen([sys.executable, str(file)], **pipes)
    assert command.stdout.readline() == "began\n"
    time.sleep(1)  # until it is in the library; sooner or later, the end is the same
    command.send_signal(signal.SIGTERM)
    assert command.communicate(timeout=60)[1] == HINT
    assert command.returncode == 128 + signal.SIGTERM


def test_an_ignored_signal_stays_ignored(tmp_path):
    file = tmp_path / "command.py"
    file.write_text(COMMAND.format(work="signal.raise_signal(signal.SIGHUP)"))
    done = subprocess.run(["nohup", sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("shell", "status", "errors"),
    [
        ("{} >&-", 0, ""),
        ("{} <&- 2>&1", 0, ""),
        ("({}; echo $? >&2) | true", 0, "1\n"),
    ],
)
def test_closed_and_broken_streams_are_no_traceback(shell, status, errors, tmp_path):
    file = tmp_path / "command.py"
    file.write_text(COMMAND.format(work="time.sleep(0.3); print('x' * 100_000)"))
    line = shell.format(f"{sys.executable} {file}")
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, errors)


def test_a_full_disk_is_one_line(tmp_path):
    file = tmp_path / "command.py"
    file.write_text(COMMAND.format(work="raise OSError(28, 'No space left on device', 'file')"))
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device: 'file'\n")
