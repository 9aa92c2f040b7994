"""Environment variables that change results: which ones raysynth sets in trials, refuses, and keeps in records.

The settings of JAX are in `model/settings.py`, because they can be changed after the start of a process too.
"""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from raysynth.errors import InputError

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
"""The same bits in every run on the same kind of GPU."""

_HARMLESS_XLA_FLAGS = ("xla_force_host_platform_device_count", "xla_gpu_cuda_data_dir", "xla_gpu_deterministic_ops")
_HARMLESS_XLA_PREFIX = "xla_dump_"
"""XLA flags that change no bits, and the number of CPU devices, which each record has."""

_REFUSED = {
    "NVIDIA_TF32_OVERRIDE": (),
    "ONEDNN_DEFAULT_FPMATH_MODE": ("STRICT",),
    "DNNL_DEFAULT_FPMATH_MODE": ("STRICT",),
}
"""Variables by which a library computes in another precision, with their harmless values."""

_SMALL_STEP_FLOPS = 10e9
"""Steps with more FLOPs have large arrays. A core of a CPU takes some 0.1 s for these."""

_RECORDED = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS", "JAX_PJRT_CLIENT_CREATE_OPTIONS")


SWEEP_COMMIT = "RAYSYNTH_SWEEP_COMMIT"
"""Set by a run for its processes: the commit of the sweep file's repository, which records hold."""


def check_environment(variables: Mapping[str, str]) -> None:
    """Raise `InputError` if an environment variable would change results behind a description's back."""
    for name, harmless in _REFUSED.items():
        value = variables.get(name, "")
        if value and value.upper() not in harmless:
            raise InputError(f"{name} changes results; unset it, got {value!r:.80}")
    for flag in _flags(variables.get("XLA_FLAGS", "")):
        option, _, value = flag.partition("=")
        harmless_name = option.removeprefix("--")
        if option == harmless_name or not (
            harmless_name in _HARMLESS_XLA_FLAGS or harmless_name.startswith(_HARMLESS_XLA_PREFIX)
        ):
            allowed = ", ".join(f"--{name}" for name in (*_HARMLESS_XLA_FLAGS, f"{_HARMLESS_XLA_PREFIX}*"))
            raise InputError(f"XLA_FLAGS may hold only flags that leave results alone ({allowed}), got {flag!r:.80}")
        if harmless_name == "xla_gpu_deterministic_ops" and value.lower() not in ("", "true", "1"):
            raise InputError(f"XLA_FLAGS: --xla_gpu_deterministic_ops must be true, got {value!r:.80}")
    num_threads(variables)


@contextlib.contextmanager
def made_by(commit: str | None) -> Iterator[None]:
    """Have the records that the block's processes write hold this commit of the sweep file's repository."""
    before = os.environ.pop(SWEEP_COMMIT, None)
    if commit is not None:
        os.environ[SWEEP_COMMIT] = commit
    try:
        yield
    finally:
        os.environ.pop(SWEEP_COMMIT, None)
        if before is not None:
            os.environ[SWEEP_COMMIT] = before


def check_ray() -> None:
    """Raise `InputError` unless Ray is installed and starts in this process.

    It does not under `python -OO`, which drops the docstrings that Ray reads while it is imported.
    """
    if not is_installed("ray"):
        raise InputError("Ray is not installed: pip install 'ray[data,tune]', or do without it where --in-process can")
    if sys.flags.optimize > 1:
        raise InputError("Ray does not start under python -OO or PYTHONOPTIMIZE=2; -O and PYTHONOPTIMIZE=1 are fine")


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without doing so."""
    try:
        return find_spec(package) is not None
    except ImportError:  # of whatever hides it
        return False


def _flags(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # an open quote
        return text.split()


def trial_variables(variables: Mapping[str, str], num_cpus: int | None = None) -> dict[str, str]:
    """The variables with which a trial's process starts, from those of the driver; raises as `check_environment`.

    `num_cpus` is as `cpus_per_trial` returns it, which None calls.
    """
    check_environment(variables)
    threads = str(num_cpus or cpus_per_trial(None, variables))
    return {
        "NPROC": threads,
        "PJRT_NPROC": threads,  # XLA prefers it to NPROC
        "XLA_FLAGS": f"{variables.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip(),
        **({SWEEP_COMMIT: variables[SWEEP_COMMIT]} if SWEEP_COMMIT in variables else {}),
    }


def cpus_per_trial(option: int | None, variables: Mapping[str, str]) -> int:
    """The number of CPUs, and so of threads, of a trial: the option's, else that of the driver's `NPROC`, else one.

    One by default whatever the host has, because XLA's results on a CPU change with the number of threads. Raises
    `InputError` if the option and the variable differ.
    """
    threads = num_threads(variables)
    if option is not None and threads not in (None, option):
        name = "PJRT_NPROC" if "PJRT_NPROC" in variables else "NPROC"
        raise InputError(f"--cpus-per-trial is {option}, but {name} is {threads}; unset {name}")
    return option or threads or 1


def memory_variables(step_flops: float) -> dict[str, str]:
    """How glibc gives memory to a process whose largest training step has this many FLOPs.

    By default glibc returns large arrays to the system after every step and then pays a page fault for each page.
    Keeping them, in huge pages, halves the time of a small model's step. But glibc keeps arrays of more than 64 MiB in
    its first arena only. Processes of large steps have just that one, which saves up to a fifth of their time.
    Compilation and small steps are faster where each thread has an arena.
    """
    return {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
        "MALLOC_TOP_PAD_": str(2**28),
        **({"MALLOC_ARENA_MAX": "1"} if step_flops > _SMALL_STEP_FLOPS else {}),
    }


def num_threads(variables: Mapping[str, str]) -> int | None:
    """The number of threads that XLA uses on a CPU; None if no variable says it, which means one per processor.

    Raises `InputError` for a value that is not a positive whole number.
    """
    for name in ("PJRT_NPROC", "NPROC"):
        value = variables.get(name)
        if value is not None:
            if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) > 0):
                raise InputError(f"{name} must be a positive whole number, got {value!r:.80}")
            return int(value)
    return None


def recorded_variables() -> dict[str, str]:
    """The variables of this process that a record keeps, because they choose devices and their programs."""
    return {name: value for name in _RECORDED if (value := os.environ.get(name))}
