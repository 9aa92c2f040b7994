"""The Ray session of a run, on this machine or on a cluster: its environment, and work for Ray Data in it."""

import contextlib
import hashlib
import logging
import math
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import ray

from raysynth.environment import check_interpreter, trial_variables
from raysynth.errors import InputError, WorkerError
from raysynth.store.store import Store

Item = TypeVar("Item")
Answer = TypeVar("Answer")

HOSTS_AT_ONCE = 8
"""How many trials may wait for a host of a cluster."""


@contextlib.contextmanager
def session(
    address: str | None, variables: Mapping[str, str] | None = None, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[Callable[[], Any]]:
    """A Ray session whose processes have these environment variables; without an address, on this machine.

    Calls `meanwhile` while Ray starts, which takes seconds. Yields a function that starts shutting Ray down, for
    callers whose remaining work needs no Ray.
    """
    check_interpreter()
    # Parquet files may come from someone else, so their metadata is never unpickled.
    variables = {**(variables or {}), "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA": "0"}
    arguments: dict[str, Any]
    if address:
        arguments = {"address": address, "runtime_env": {"env_vars": variables}}
        inherited: dict[str, str] = {}
    else:
        arguments = {"address": "local", "object_store_memory": 400 * 2**20}
        inherited = variables  # processes start sooner with inherited variables than with a `runtime_env`
        if not any(find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
            arguments["num_gpus"] = 0  # or trials would hold GPUs and train on the CPU
    with _environment(inherited), _thread() as aside:
        end = cache(lambda: aside.submit(ray.shutdown))
        imports = aside.submit(import_module, "ray.data")
        aside.submit(meanwhile)
        ray.init(
            include_dashboard=False,
            configure_logging=True,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **arguments,
        )
        try:
            imports.result()
            from ray.data import DataContext

            logging.getLogger("ray.data").setLevel(logging.ERROR)
            context = DataContext.get_current()
            context.enable_progress_bars = False
            context.print_on_execution_start = False
            yield end
        finally:
            end().result()


@contextlib.contextmanager
def training_session(address: str | None, store: Store) -> Iterator[Path]:
    """A session for trials. Yields the directory where each host keeps its copies of inputs and compiled programs."""
    place = Path(tempfile.gettempdir()) / "raysynth-cache" / hashlib.sha256(store.uri.encode()).hexdigest()[:8]
    variables = {
        # Not in the store: compiled programs are executed, and a store may come from someone else.
        "JAX_COMPILATION_CACHE_DIR": str(place / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **trial_variables(os.environ),
        # By default glibc returns large arrays to the system after every step and then pays a page fault for each page.
        # Keeping them, in huge pages, halves the time of a small model's step. A process starts 50 % slower with
        # these, so a session that only draws data does without.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
        "MALLOC_TOP_PAD_": str(2**28),
    }
    tune = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the trial writes its own, with real steps
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the run at once; a rerun continues from the store
        "RAY_AIR_NEW_OUTPUT": "0",  # no box around an empty parameter space
        "TUNE_GLOBAL_CHECKPOINT_S": "100000",  # nobody reads Tune's own state
    }
    if address:
        # Waiting trials make the cluster grow, so there must be one for each host that it may ask for at once.
        tune["TUNE_MAX_PENDING_TRIALS_PG"] = os.environ.get("TUNE_MAX_PENDING_TRIALS_PG", str(HOSTS_AT_ONCE))
    with _environment(tune), session(address, variables):
        yield place


@contextlib.contextmanager
def _thread() -> Iterator[ThreadPoolExecutor]:
    """One thread that does its work in order; on an exception, work that has not begun is dropped."""
    thread = ThreadPoolExecutor(1)
    try:
        yield thread
    finally:
        thread.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# -------------------------------------------------------------------------------- work in a session

_MAX_ITEMS = 32
"""Most items in one Ray Data task. A task costs the driver some 20 ms, and reports nothing before it ends."""


def spread(work: Callable[[Item], Answer], items: Iterable[Item], *, tick: Callable[[int, int], None]) -> list[Answer]:
    """Apply `work` to every item with Ray Data; returns the answers in the order of the items.

    Calls `tick` with the numbers of finished items and of all items. Raises the `InputError` that a worker raised, and
    `WorkerError` for any other exception.
    """
    items = list(items)
    if not items:
        return []
    import ray.data  # not at the top, because a session imports it while Ray starts

    def work_on(batch: dict[str, Any]) -> dict[str, list[Any]]:
        answers: list[Answer] | InputError | WorkerError
        try:
            answers = [work(item) for item in pickle.loads(batch["items"][0])]
        except InputError as error:
            answers = error
        except Exception as error:
            answers = WorkerError.of(error)
        return {"start": batch["start"], "answers": [pickle.dumps(answers)]}

    num_cpus: float = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]  # Ray has no types here
    num_each = min(_MAX_ITEMS, math.ceil(len(items) / (4 * num_cpus)))
    starts = range(0, len(items), num_each)
    groups = [{"start": start, "items": pickle.dumps(items[start : start + num_each])} for start in starts]
    answers: dict[int, list[Answer]] = {}
    tick(0, len(items))
    blocks = ray.data.from_items(groups, override_num_blocks=len(groups))
    mapped = blocks.map_batches(work_on, batch_size=1, **placement(nodes()))
    for batch in mapped.iter_batches(batch_size=1, prefetch_batches=0):
        answer = pickle.loads(batch["answers"][0])
        if isinstance(answer, Exception):
            raise answer
        answers[int(batch["start"][0])] = answer
        tick(sum(map(len, answers.values())), len(items))
    return [answer for start in starts for answer in answers[start]]


def nodes() -> list[dict[str, Any]]:
    """What Ray knows of each node of the session's cluster, living or not."""
    every: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray has no types here
    return every


def placement(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Ray Data arguments that keep tasks off hosts with accelerators: on the largest other host, if there is one."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [node for node in nodes if node["Alive"] and node["Resources"].get("CPU")]
    plain = [node for node in alive if not {"TPU", "GPU"} & node["Resources"].keys()]
    if not plain or len(plain) == len(alive):
        return {}
    largest = max(plain, key=lambda node: node["Resources"]["CPU"])
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(largest["NodeID"], soft=True)}
