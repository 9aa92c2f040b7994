"""The Ray session of a run, on this machine or on a cluster: its environment, and work for Ray Data in it."""

import contextlib
import logging
import math
import os
import pickle
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import ray
from ray import _raylet
from ray._private import ray_constants, utils, worker

from raysynth.environment import check_ray, memory_variables, trial_variables
from raysynth.errors import InputError, RayLost, WorkerError, first_line
from raysynth.run.address import cluster
from raysynth.run.aside import Aside
from raysynth.run.deaths import Reader
from raysynth.run.private import end_processes, scratch
from raysynth.run.quiet import environment, stderr_to
from raysynth.run.surroundings import cache_directory
from raysynth.run.watch import Watch, tail
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
    callers whose remaining work needs no Ray. What Ray writes to standard error meanwhile goes to a file. Raises
    `InputError` for an address without a cluster, and `RayLost` if Ray does not start or its processes end.
    """
    check_ray()
    variables = {
        **(variables or {}),
        # Parquet files may come from someone else, so their metadata is never unpickled.
        "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA": "0",
        # A task of the user's may depend on the order of a set of texts, which is then the same in every process.
        "PYTHONHASHSEED": "0",
    }
    address = cluster(address)
    arguments: dict[str, Any]
    inherited: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        room = stack.enter_context(scratch())
        if address:
            arguments = {"address": address, "runtime_env": {"env_vars": variables}}
        else:
            arguments = {"address": "local", "object_store_memory": 400 * 2**20, "_temp_dir": str(room / "ray")}
            inherited |= variables  # processes start sooner with inherited variables than with a `runtime_env`
            inherited |= {"RAY_ADDRESS": ""}
            if not _has_gpu_plugin():
                arguments["num_gpus"] = 0  # or trials would hold GPUs and train on the CPU
            stack.enter_context(_on_loopback(room))
        stack.enter_context(environment(inherited))
        stack.enter_context(_tamed())
        log = room / "driver.log"
        quiet = stack.enter_context(stderr_to(log))
        aside = stack.enter_context(Aside())
        imports = aside.submit(import_module, "ray.data")
        aside.submit(meanwhile)
        watch = Watch(address)
        try:
            ray.init(
                include_dashboard=False,
                configure_logging=True,
                logging_level=logging.ERROR,
                log_to_driver=False,
                **arguments,
            )
            watch.start()
            imports.result()
            _calm_ray_data()
            yield cache(lambda: aside.submit(watch.shut_down))
        except KeyboardInterrupt:
            if watch.fault is None:
                raise
        except Exception as error:
            if watch.fault is None and not ray.is_initialized() and not watch.ended:
                raise _not_started(error, log) from error
            if watch.fault is None:
                raise
        finally:
            quiet.stay = not watch.shut_down()
            if not address:
                end_processes(room)
        if watch.fault is not None:
            raise RayLost(f"{watch.fault}; run the same command again to continue (Ray's messages: {log})", tail(log))


def _has_gpu_plugin() -> bool:
    """Whether JAX could use a GPU of this machine."""
    return any(find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))


def _not_started(error: Exception, log: Path) -> RayLost:
    return RayLost(f"Ray did not start: {first_line(error)} (its messages: {log})", tail(log))


def _calm_ray_data() -> None:
    from ray.data import DataContext

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


@contextlib.contextmanager
def _on_loopback(room: Path) -> Iterator[None]:
    """Have Ray's processes of this machine listen on 127.0.0.1 alone, and talk to those only that know a secret."""
    token = room / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    # The variable is Ray's way to loopback. Its name tells of the systems where that is the default.
    variables = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }
    try:
        with environment(variables), mock.patch.object(ray_constants, "ENABLE_RAY_CLUSTER", False):
            _forget_token()
            yield
    finally:
        _forget_token()


def _forget_token() -> None:
    """Have Ray read its settings of tokens again."""
    with contextlib.suppress(AttributeError):  # older versions of Ray have no tokens
        compiled: Any = _raylet
        compiled.Config.initialize("")
        compiled.AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _tamed() -> Iterator[None]:
    """Keep Ray from handling SIGTERM by an exit of its own, and from printing its messages to standard output."""
    with (
        mock.patch.object(utils, "set_sigterm_handler"),
        mock.patch.object(worker, "print_to_stdstream", lambda data, **_: print(*data["lines"], file=sys.stderr)),
    ):
        yield


@contextlib.contextmanager
def training_session(
    address: str | None, store: Store, num_cpus: int = 1, *, step_flops: float = 0.0
) -> Iterator[Path]:
    """A session for trials. Yields the directory where each host keeps its copies of inputs.

    `num_cpus` is the number of threads that a trial computes with on a CPU, `step_flops` the FLOPs of the largest
    training step. Raises `InputError` where another user could write that directory.
    """
    place = cache_directory(store)
    on_cpu = cluster(address) is None and not _has_gpu_plugin()  # elsewhere the large arrays of a step are on a device
    variables = {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **trial_variables(os.environ, num_cpus),
        # A process starts 50 % slower with these, so a session that only draws data does without.
        **memory_variables(step_flops if on_cpu else 0.0),
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
    with environment(tune), session(address, variables):
        yield place


# -------------------------------------------------------------------------------- work in a session

MAX_ENDS = 3
"""How often an item of `spread` may end the process that works on it."""
_MAX_ITEMS = 32
"""Most items in one Ray Data task. A task costs the driver some 20 ms, and reports nothing before it ends."""


def spread(
    work: Callable[[Item], Answer],
    items: Iterable[Item],
    *,
    tick: Callable[[int, int], None],
    describe: Callable[[Item], str] = str,
) -> list[Answer]:
    """Apply `work` to every item with Ray Data; returns the answers in the order of the items.

    Calls `tick` with the numbers of finished items and of all items. Work that was lost with its process or its host is
    done again, one item at a time. Raises the `InputError` that a worker raised, and `WorkerError` for any other
    exception and for an item whose process ended `MAX_ENDS` times, which `describe` names.
    """
    items = list(items)
    if not items:
        return []
    num_cpus: float = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]  # Ray has no types here
    num_each = min(_MAX_ITEMS, math.ceil(len(items) / (4 * num_cpus)))
    starts = range(0, len(items), num_each)
    groups = [{"start": start, "items": pickle.dumps(items[start : start + num_each])} for start in starts]
    answers: dict[int, Answer] = {}

    def keep(start: int, answer: bytes) -> None:
        some = pickle.loads(answer)
        if isinstance(some, Exception):
            raise some
        answers.update(enumerate(some, start=start))
        tick(len(answers), len(items))

    tick(0, len(items))
    reader = Reader(logs())
    work_on, lost = partial(_work_on, work), ""
    try:
        _with_ray_data(work_on, groups, keep)
    except ray.exceptions.RayError as error:  # an answer is gone with its host
        if isinstance(error, ray.exceptions.RayTaskError):
            raise WorkerError(f"Ray Data failed: {first_line(error)}", str(error)) from None
        lost = str(error)
    left = [number for number in range(len(items)) if number not in answers]
    for number in _one_by_one(work_on, items, left, keep):
        line = f"{describe(items[number])} ended its process {MAX_ENDS} times"
        death = reader(None)
        raise WorkerError(f"{line}: {death.cause}" if death.cause else line, death.log or lost)
    return [answers[number] for number in range(len(items))]


def _work_on(work: Callable[[Item], Answer], items: bytes) -> bytes:
    """The pickled answers to pickled items, or the exception instead of them."""
    answers: list[Answer] | InputError | WorkerError
    try:
        answers = [work(item) for item in pickle.loads(items)]
    except InputError as error:
        answers = error
    except BaseException as error:  # code of the user's may raise SystemExit, which would end the process
        answers = WorkerError.of(error)
    return pickle.dumps(answers)


def _with_ray_data(
    work_on: Callable[[bytes], bytes], groups: list[dict[str, Any]], keep: Callable[[int, bytes], None]
) -> None:
    """Work on the groups; keeps the answers of those whose process did not end meanwhile."""
    import ray.data  # not at the top, because a session imports it while Ray starts

    this_call = secrets.token_hex(8)

    def map_batch(batch: dict[str, Any]) -> dict[str, list[Any]]:
        with _first_try(f"{this_call}-{batch['start'][0]}") as is_first:
            return {"start": batch["start"], "answers": [work_on(batch["items"][0]) if is_first else b""]}

    blocks = ray.data.from_items(groups, override_num_blocks=len(groups))
    mapped = blocks.map_batches(map_batch, batch_size=1, **placement(nodes()))
    for batch in mapped.iter_batches(batch_size=1, prefetch_batches=0):
        if answer := batch["answers"][0]:
            keep(int(batch["start"][0]), answer)


@contextlib.contextmanager
def _first_try(work: str) -> Iterator[bool]:
    """Whether a piece of work begins on this host for the first time.

    Ray Data tries again for ever what ends its process, and has no argument against it. A process that ends leaves a
    file here, by which the next one knows.
    """
    begun = (logs() or Path(tempfile.gettempdir())) / f"raysynth-begun-{work}"
    try:
        begun.touch(exist_ok=False)
    except FileExistsError:
        yield False
    else:
        yield True
    begun.unlink(missing_ok=True)


def _one_by_one(
    work_on: Callable[[bytes], bytes], items: Sequence[Item], numbers: list[int], keep: Callable[[int, bytes], None]
) -> Iterator[int]:
    """Do the items with these numbers each in a task of its own, again if it is lost with its host.

    Yields the number of an item whose process ended `MAX_ENDS` times on a host that lives.
    """

    def work_on_one(item: bytes) -> bytes:  # Ray takes functions only
        return work_on(item)

    task = ray.remote(max_retries=0, num_cpus=1, **placement(nodes()))(work_on_one)
    ends: Counter[int] = Counter()
    going = {task.remote(pickle.dumps([items[number]])): number for number in numbers}
    while going:
        (ready,), _ = ray.wait(list(going), num_returns=1)
        number = going.pop(ready)
        try:
            answer = ray.get(ready)
        except (ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError):
            pass  # the host is gone, or the answer with it
        except ray.exceptions.RayError:
            ends[number] += 1
            if ends[number] == MAX_ENDS:
                for other in going:
                    ray.cancel(other, force=True)
                yield number
        else:
            keep(number, answer)
            continue
        going[task.remote(pickle.dumps([items[number]]))] = number


def nodes() -> list[dict[str, Any]]:
    """What Ray knows of each node of the session's cluster, living or not."""
    every: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray has no types here
    return every


def logs() -> Path | None:
    """The directory of the session's logs on this machine."""
    node: Any = worker._global_node
    return None if node is None else Path(node.get_logs_dir_path())


def placement(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Arguments of Ray and Ray Data that keep tasks off hosts with accelerators, if there are other hosts."""
    alive = [node for node in nodes if node["Alive"] and node["Resources"].get("CPU")]
    plain = [node for node in alive if not {"TPU", "GPU"} & node["Resources"].keys()]
    if not plain or len(plain) == len(alive):
        return {}
    ids = ",".join(node["NodeID"] for node in plain)
    on_plain: dict[str, Any] = {"label_selector": {"ray.io/node-id": f"in({ids})"}}
    if any(_HEAD in node["Resources"] for node in plain):
        return on_plain
    # These hosts may all be lost, and then the tasks must run elsewhere. Ray may do so too while all of them are busy.
    return {**on_plain, "fallback_strategy": [{"label_selector": {}}]}


_HEAD = "node:__internal_head__"
"""A resource of the head, which lives as long as the cluster."""
