"""A task of one's own draws its first examples twice in a process of its own, before anything is spent on it."""

import os
import random
import select
import signal
import sys
from collections.abc import Callable

import numpy as np

from raysynth.data.draws import drawn_rows
from raysynth.errors import InputError
from raysynth.specs.datasets import Dataset
from raysynth.synthetic.base import SyntheticTask
from raysynth.synthetic.contract import has_own_code
from raysynth.tokens.ragged import Ragged

_MAX_EXAMPLES = 200
_NOTE_SECONDS = 10.0
"""A longer wait says once what it waits for."""


def check_first_draws(dataset: Dataset, note: Callable[[str], None]) -> None:
    """Raise `InputError` if the task's first examples are not what they must be.

    They must be rows of ids, and the same when drawn again whatever the state of global random generators. A task that
    ends or kills its process is found too. Other exceptions are left to the workers, whose tracebacks are kept.
    """
    task = dataset.task
    if not isinstance(task, SyntheticTask) or not has_own_code(task) or not hasattr(os, "fork"):
        return
    problem = _in_another_process(task.name, lambda: _problem(dataset), note)
    if problem:
        raise InputError(problem)


def _problem(dataset: Dataset) -> str:
    """What is wrong with the first examples in one line, or nothing."""
    task = dataset.task.name
    try:
        first, second = (_drawn(dataset, global_seed) for global_seed in (1, 2))
    except InputError as error:
        return str(error) if str(error).startswith(task) else f"{task}.draw: {error}"
    except Exception:
        return ""
    for what, one, other in zip(("inputs", "targets"), first, second, strict=True):
        if not (np.array_equal(one.offsets, other.offsets) and np.array_equal(one.values, other.values)):
            return (
                f"{task}.draw must depend on nothing but rng and count, but drew other {what} when it was called "
                "again with the same"
            )
    return ""


def _drawn(dataset: Dataset, global_seed: int) -> tuple[Ragged, Ragged]:
    random.seed(global_seed)
    np.random.seed(global_seed)
    return drawn_rows(dataset, 0, min(dataset.shard_size, _MAX_EXAMPLES))


def _in_another_process(task: str, problem: Callable[[], str], note: Callable[[str], None]) -> str:
    """What a function returns in a copy of this process, or a line that says that the copy died of it."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            # Another thread may hold the locks of the old ones. A worker's output is not shown either.
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # for the rest of the process
            signal.set_wakeup_fd(-1)  # signals to the copy are not ones to this process
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.write(write_end, b"." + problem().encode("utf-8", "replace")[:4_000])
        finally:
            os._exit(0)
    os.close(write_end)
    try:
        if not select.select([read_end], [], [], _NOTE_SECONDS)[0]:
            note(f"{task}.draw has not returned its first {_MAX_EXAMPLES} examples yet")
        answer = b""
        while part := os.read(read_end, 65_536):
            answer += part
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(read_end)
        _, status = os.waitpid(child, 0)
    if answer:
        return answer[1:].decode(errors="replace")
    code = os.waitstatus_to_exitcode(status)
    cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return f"{task}.draw must return examples, but it ended its process ({cause})"
