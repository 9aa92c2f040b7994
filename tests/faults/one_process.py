"""Runs raysynth's commands in one process each, without Ray, so that hundreds of runs take minutes.

Everything of a run but Ray is real: the store, the leases, the drawing thread, the searcher, the trials, the tables.
In place of Ray, trials and shards are made one after another in the process of the run. Processes come from a server
that has imported all libraries, so that none of them spends seconds on imports.
"""

import contextlib
import errno
import faulthandler
import functools
import logging
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import traceback
import types
import warnings
from dataclasses import dataclass
from pathlib import Path

SWEEP = Path(__file__).with_name("sweep.py")
ALIVE_SECONDS = 6
"""In these runs, a mark of another host counts as living for so long."""

COMPILED = "RAYSYNTH_CAMPAIGN_COMPILED"
"""The environment variable that names the directory of compiled programs, which all runs share."""

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["raysynth.run.execute", "raysynth.model.train", "raysynth.report.write", "matplotlib.pyplot", "ray.data", "numba"]
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to a run at one of its file operations below a folder."""

    folder: str
    operation: int
    """The number of the operation, from 1; 0 lets all of them pass."""
    what: str
    """The name of an error such as `ENOSPC`, or of a signal such as `SIGKILL`."""
    then: str = "once"
    """`once`, or `writes` where all later operations that write fail too."""


def start(arguments, log: Path, fault: Fault | None = None):
    """Start a command, `["sweep", …]` or `["raysynth", …]`, as a process that prints to files named after `log`."""
    process = SERVER.Process(target=_run, args=(list(map(str, arguments)), log, fault))
    process.start()
    return process


def _run(arguments, log, fault):
    for descriptor, suffix in ((1, "out"), (2, "err")):
        target = os.open(f"{log}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(target, descriptor)
    sys.stdin = open(os.devnull)  # noqa: SIM115
    warnings.simplefilter("ignore")
    faulthandler.register(signal.SIGUSR1)  # says where each thread is
    # These are a trial's libraries, and would be in the log of its process.
    sys.unraisablehook = lambda _: None
    logging.disable(logging.CRITICAL)
    status = 1
    try:
        _without_ray()
        if fault is not None:
            _Faults(fault, Path(f"{log}.ops"))
        sys.argv = arguments
        if arguments[0] == "sweep":
            runpy.run_path(str(SWEEP), run_name="__main__")
        else:
            from raysynth.cli import main

            sys.exit(main(arguments[1:]))
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # as Python does at the end of a process: waits for threads that are no daemons
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


# -------------------------------------------------------------------------------- instead of Ray


def _without_ray():
    import ray
    from ray import tune

    import raysynth.run.session as session
    import raysynth.run.surroundings as surroundings
    import raysynth.store.marks as marks

    node = {"NodeID": "here", "Alive": True, "Resources": {"CPU": 1.0}}
    _replace(session.session, _session)
    _replace(surroundings.compiled_directory, lambda cache, threads: Path(os.environ[COMPILED]))
    _replace(session.spread, _spread)
    _replace(session.nodes, lambda: [node])
    ray.is_initialized = lambda: True
    ray.get_runtime_context = lambda: types.SimpleNamespace(get_node_id=lambda: "here")
    tune.with_parameters = functools.partial
    tune.with_resources = lambda function, resources: function
    tune.Tuner = _Tuner
    marks.ALIVE_SECONDS = ALIVE_SECONDS


def _replace(original, substitute):
    """Put a substitute wherever a module of raysynth has a function."""
    for module in [module for name, module in sys.modules.items() if name.startswith("raysynth")]:
        for name, value in list(vars(module).items()):
            if value is original:
                setattr(module, name, substitute)


@contextlib.contextmanager
def _session(address, variables=None, meanwhile=lambda: None, **_):
    os.environ.update(variables or {})
    meanwhile()
    yield lambda: None


def _spread(work, items, *, tick, **_):
    from raysynth.errors import InputError, WorkerError

    items, answers = list(items), []
    for item in items:
        try:
            answers.append(work(item))
        except InputError:
            raise
        except Exception as error:
            raise WorkerError.of(error) from None
        tick(len(answers), len(items))
    return answers


class _Tuner:
    """Makes what the searcher suggests, one trial after another."""

    def __init__(self, function, *, tune_config, run_config, **_):
        self._function, self._searcher = function, tune_config.search_alg
        self._callback = run_config.callbacks[0]

    def fit(self):
        from ray import tune

        for number in range(1000):
            config = self._searcher.suggest(str(number))
            if not isinstance(config, dict):
                return
            trial = types.SimpleNamespace(config=config)
            last = {}
            stderr = _WorkerStderr()

            def report(result, *, number=number, trial=trial, last=last, stderr=stderr):
                with stderr.of_the_driver():
                    last.update(result)
                    self._searcher.on_trial_result(str(number), result)
                    self._callback.on_trial_result(0, [], trial, result)

            tune.report = report
            self._callback.on_trial_start(0, [], trial)
            error = False
            try:
                with stderr:
                    self._function(config)
            except Exception:  # it would end the process of the trial
                error = True
            self._searcher.on_trial_complete(str(number), last, error=error)
            self._callback.on_step_end(0, [])


class _WorkerStderr:
    """Standard error while a trial runs: what its threads print would be in the log of a process, not on the screen."""

    def __init__(self):
        self._screen = sys.stderr
        self._others = {*threading.enumerate()} - {threading.main_thread()}
        self._reports = False

    def __getattr__(self, name):
        return getattr(self._screen, name)

    def write(self, text):
        if self._reports or threading.current_thread() in self._others:
            return self._screen.write(text)
        return len(text)

    @contextlib.contextmanager
    def of_the_driver(self):
        self._reports = True
        yield
        self._reports = False

    def __enter__(self):
        sys.stderr = self

    def __exit__(self, *_):
        sys.stderr = self._screen


# -------------------------------------------------------------------------------- faults


class _Faults:
    """Counts a run's file operations below a folder, and lets one of them fail or be the last.

    Python announces each `open`, rename and the like to audit hooks; those of Arrow are counted where the store's file
    system is called. What TensorStore does in C++ is not counted.
    """

    READS = ("os.listdir", "os.scandir", "get_file_info", "open_input_stream", "open_input_file")
    WRITES = (
        *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"),
        *("open_output_stream", "create_dir", "move", "delete_file", "delete_dir"),
    )

    def __init__(self, fault: Fault, file: Path):
        self._fault = fault
        self._lock = threading.Lock()
        self._count = 0
        self._log = file.open("w")
        self._busy = threading.local()
        self._wrap_arrow()
        sys.addaudithook(self._heard)

    def _wrap_arrow(self):
        from raysynth.store.store import Store

        original = Store.__init__

        def init(store, uri):
            original(store, uri)
            store.filesystem = _Watched(store.filesystem, self._operation)

        Store.__init__ = init

    def _heard(self, event, arguments):
        if event == "open":
            path, mode, flags = arguments
            writes = (mode is not None and not set(mode).isdisjoint("wax+")) or bool(
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            )
            self._operation("open for writing" if writes else "open", path, writes)
        elif event in self.READS or event in self.WRITES:
            self._operation(event, arguments[0] if arguments else "", event in self.WRITES)

    def _operation(self, event, path, writes):
        if isinstance(path, bytes):
            path = path.decode(errors="replace")
        if not isinstance(path, str | os.PathLike) or not str(path).startswith(self._fault.folder):
            return
        if getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            with self._lock:
                self._count += 1
                count = self._count
                self._log.write(f"{event}\t{path}\n")
                self._log.flush()
        finally:
            self._busy.now = False
        fault = self._fault
        later = fault.then == "writes" and 0 < fault.operation <= count and writes
        if count == fault.operation or later:
            if fault.what.startswith("SIG"):
                os.kill(os.getpid(), getattr(signal, fault.what))
                return
            number = getattr(errno, fault.what)
            raise OSError(number, os.strerror(number), str(path))


class _Watched:
    """A file system that announces its operations."""

    def __init__(self, filesystem, operation):
        self._filesystem = filesystem
        self._operation = operation

    def __getattr__(self, name):
        value = getattr(self._filesystem, name)
        if name not in (*_Faults.READS, *_Faults.WRITES):
            return value

        def call(target, *arguments, **options):
            path = getattr(target, "base_dir", target)
            self._operation(name, path, name in _Faults.WRITES)
            return value(target, *arguments, **options)

        return call
