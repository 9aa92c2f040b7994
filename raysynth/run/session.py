"""The Ray session of a run: a local one that ends with it, or a cluster's; its environment; work for Ray Data."""

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
from typing import Any

import ray

from raysynth.errors import InputError, WorkerError
from raysynth.store.store import Store

HOSTS_AT_ONCE = 8
"""So many trials may wait for a host of a cluster."""


@contextlib.contextmanager
def session(
    address: str | None, variables: Mapping[str, str] | None = None, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[Callable[[], Any]]:
    """A Ray session, on this machine without an address, whose processes have these environment variables.

    `meanwhile` is called while Ray starts, which is seconds of waiting. Yields what begins to end the session, which
    takes a second, for those with work left that needs no Ray.
    """
    variables = dict(variables or {})
    if address:
        cluster = {"address": address, "runtime_env": {"env_vars": variables}}
        inherited = {}
    else:
        cluster = {"address": "local", "object_store_memory": 400 * 2**20}
        inherited = variables  # processes that inherit them start sooner than those with a `runtime_env`
        if not any(find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
            cluster["num_gpus"] = 0  # trials would hold them and train on the CPU
    with _environment(inherited), _thread() as aside:
        end = cache(lambda: aside.submit(ray.shutdown))
        imports = aside.submit(import_module, "ray.data")
        aside.submit(meanwhile)
        ray.init(include_dashboard=False, configure_logging=True, logging_level="ERROR", log_to_driver=False, **cluster)
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
    """A session for trials, and a directory on each host for their copies of inputs and their compiled programs."""
    place = Path(tempfile.gettempdir()) / "raysynth-cache" / hashlib.sha256(store.uri.encode()).hexdigest()[:8]
    compiled = store.local_root / "compiled" if store.local_root is not None else place / "compiled"
    variables = {
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # XLA's results on a CPU change with the number of threads, so there is one unless the user says otherwise.
        "NPROC": os.environ.get("NPROC", "1"),
        # The same bits in every run on the same kind of GPU.
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip(),
        # glibc gives large arrays back to the system after every step and pays a page fault for each page again:
        # keeping them, in huge pages, makes a small model's step take half the time. (And a process's start half as
        # long again, so a session that only draws data does without.)
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
        "MALLOC_TOP_PAD_": str(2**28),
    }
    tune = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the trial writes its own, with real steps
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the run; the store is what it goes on from
        "RAY_AIR_NEW_OUTPUT": "0",  # no box around an empty parameter space
        "TUNE_GLOBAL_CHECKPOINT_S": "100000",  # nobody reads Tune's own state
    }
    if address:
        # Trials that wait for a host make the cluster grow, so there must be as many as hosts to ask for at once.
        tune["TUNE_MAX_PENDING_TRIALS_PG"] = os.environ.get("TUNE_MAX_PENDING_TRIALS_PG", str(HOSTS_AT_ONCE))
    with _environment(tune), session(address, variables):
        yield place


@contextlib.contextmanager
def _thread() -> Iterator[ThreadPoolExecutor]:
    """A thread for work in turn; what has not begun when an exception comes is left."""
    thread = ThreadPoolExecutor(1)
    try:
        yield thread
    finally:
        thread.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# -------------------------------------------------------------------------------- work in a session

_AT_MOST = 32
"""Items in one Ray Data task; each task costs the driver some 20 ms, and nothing is told of it before its end."""


def spread(work: Callable[[Any], Any], items: Iterable[Any], *, tick: Callable[[int, int], None]) -> list[Any]:
    """`work` of every item by Ray Data, results in the order of the items.

    Raises the `InputError` that a worker raised, and `WorkerError` for anything else.
    """
    items = list(items)
    if not items:
        return []
    import ray.data  # here, because a session imports it while Ray starts

    def worked(batch: dict[str, Any]) -> dict[str, list[Any]]:
        answers: Any
        try:
            answers = [work(item) for item in pickle.loads(batch["items"][0])]
        except InputError as error:
            answers = error
        except Exception as error:
            answers = WorkerError.of(error)
        return {"start": batch["start"], "answers": [pickle.dumps(answers)]}

    each = min(_AT_MOST, math.ceil(len(items) / (4 * ray.cluster_resources().get("CPU", 1))))
    starts = range(0, len(items), each)
    groups = [{"start": start, "items": pickle.dumps(items[start : start + each])} for start in starts]
    answers: dict[int, list[Any]] = {}
    tick(0, len(items))
    blocks = ray.data.from_items(groups, override_num_blocks=len(groups))
    mapped = blocks.map_batches(worked, batch_size=1, **placement(ray.nodes()))
    for batch in mapped.iter_batches(batch_size=1, prefetch_batches=0):
        told = pickle.loads(batch["answers"][0])
        if isinstance(told, Exception):
            raise told
        answers[int(batch["start"][0])] = told
        tick(sum(map(len, answers.values())), len(items))
    return [answer for start in starts for answer in answers[start]]


def placement(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The arguments that keep tasks off the hosts of accelerators: on the largest other host, where there is one."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [node for node in nodes if node["Alive"] and node["Resources"].get("CPU")]
    plain = [node for node in alive if not {"TPU", "GPU"} & node["Resources"].keys()]
    if not plain or len(plain) == len(alive):
        return {}
    largest = max(plain, key=lambda node: node["Resources"]["CPU"])
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(largest["NodeID"], soft=True)}
