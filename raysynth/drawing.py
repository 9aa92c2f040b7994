"""Data sets in a Ray session: texts are encoded before it starts, synthetic ones are drawn in it."""

import contextlib
import hashlib
import logging
import os
import tempfile
import time
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import ray

from raysynth import shards
from raysynth.datasets import Dataset, TextCorpus, TextDataset
from raysynth.display import Display
from raysynth.errors import InputError, WorkerError
from raysynth.files import BadRows
from raysynth.specs import Artifact, name
from raysynth.store import LOOK_SECONDS, Driver, Outcome, State, Store, provenance

HOSTS_AT_ONCE = 8
"""So many trials may wait for a host of a cluster."""


class Ends(Protocol):
    """Who is told of the end of each data set."""

    def made(self, artifact: Artifact) -> None: ...
    def unmade(self, artifact: Artifact, error: str) -> None: ...


def make_data(
    dataset: Dataset | TextDataset,
    store: Store,
    driver: Driver,
    *,
    data: dict[str, str],
    address: str | None,
    bad_rows: BadRows,
) -> str | None:
    """Make one data set; returns why it could not be made, in one line, or None."""
    with Display(1) as display:
        ends = _Shown(driver, display)
        write_texts([dataset], store, driver, display, data, bad_rows)
        if isinstance(dataset, Dataset):
            with session(address, store):
                draw([dataset], ends, store, driver, display)
    return ends.error


class _Shown:
    """Shows the end of a data set that nothing waits for."""

    def __init__(self, driver: Driver, display: Display):
        self._driver, self._display = driver, display
        self.error: str | None = None

    def made(self, artifact: Artifact) -> None:
        self._display.finished(name(artifact))
        self._driver.release(artifact)

    def unmade(self, artifact: Artifact, error: str) -> None:
        self.error = error
        self._display.failed(name(artifact), error)
        self._driver.release(artifact)


def write_texts(
    datasets: list[Dataset | TextDataset],
    store: Store,
    driver: Driver,
    display: Display,
    data: dict[str, str],
    bad_rows: BadRows,
) -> None:
    """Make the downstream data sets, and leave the documents of text corpora for those that draw from them.

    Before a cluster starts: a missing file must not cost its time. Raises `InputError` for files that are missing or
    broken.
    """
    for dataset in datasets:
        if isinstance(dataset, TextDataset):
            _write_pairs(dataset, store, driver, display, data, bad_rows)
        elif isinstance(dataset.task, TextCorpus) and store.status(dataset).state is not State.DONE:
            shards.write_documents(dataset, store, data)


def _write_pairs(
    dataset: TextDataset, store: Store, driver: Driver, display: Display, data: dict[str, str], bad_rows: BadRows
) -> None:
    while not driver.lease(dataset):
        time.sleep(LOOK_SECONDS)
    started, note = time.time(), ""
    if store.status(dataset).state is not State.DONE:
        display.started(name(dataset))
        manifest = shards.generate_text(dataset, store, data, bad_rows)
        _record(dataset, store, manifest, started)
        if manifest["skipped_rows"]:
            note = f"{manifest['skipped_rows']} bad rows skipped, the first: {manifest['first_skipped'][0]}"
    driver.release(dataset)
    display.finished(name(dataset))
    if note:
        display.noted(name(dataset), note)


def draw(datasets: list[Dataset], ends: Ends, store: Store, driver: Driver, display: Display) -> None:
    """Make the data sets that no other run makes, one after another, and wait for the others."""
    waiting = list(datasets)
    while waiting:
        dataset = next((dataset for dataset in waiting if driver.lease(dataset)), None)
        if dataset is None:
            time.sleep(LOOK_SECONDS)
            continue
        waiting.remove(dataset)
        if store.status(dataset).state is State.DONE:  # by another run
            ends.made(dataset)
            continue
        display.started(name(dataset))
        started = time.time()
        try:
            make = shards.generate_corpus if isinstance(dataset.task, TextCorpus) else shards.generate
            manifest = make(dataset, store, tick=_tick(display, driver, dataset), warn=display.warn)
            _record(dataset, store, manifest, started)
        except Exception as error:
            if not ray.is_initialized():
                return  # the run was ended under this thread
            told = isinstance(error, InputError | WorkerError)
            line = str(error) if told else f"{type(error).__name__}: {error}".splitlines()[0]
            log = error.log if isinstance(error, WorkerError) else traceback.format_exc()
            store.fail(dataset, outcome=Outcome.FAILED, error=line, log=log)
            ends.unmade(dataset, line)
        else:
            ends.made(dataset)


def _tick(display: Display, driver: Driver, dataset: Dataset) -> shards.Tick:
    """Shows how many examples are drawn and how fast."""
    started = time.monotonic()

    def tick(drawn: int, of: int) -> None:
        driver.beat()
        speed = drawn / (time.monotonic() - started)
        display.progress(name(dataset), {"step": drawn, "num_steps": of, "examples_per_second": speed})

    return tick


def _record(dataset: Dataset | TextDataset, store: Store, manifest: dict[str, Any], started: float) -> None:
    counts = {split: sum(shard["rows"] for shard in files) for split, files in manifest["splits"].items()}
    result = {"rows": counts, "sha256": shards.manifest_digest(manifest)}
    if "skipped_rows" in manifest:
        result["skipped_rows"] = manifest["skipped_rows"]
    store.record(dataset, result=result, provenance=provenance(started))


@contextlib.contextmanager
def session(address: str | None, store: Store) -> Iterator[Path]:
    """A Ray session, and a directory on each host for its copies of inputs and its compiled programs."""
    before = dict(os.environ)
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the trial writes its own, with real steps
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the run; the store is what it goes on from
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # no box around an empty parameter space
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "100000"  # nobody reads Tune's own state
    cache = Path(tempfile.gettempdir()) / "raysynth-cache" / hashlib.sha256(store.uri.encode()).hexdigest()[:8]
    compiled = store.local_root / "compiled" if store.local_root is not None else cache / "compiled"
    variables = {
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # The same bits in every run on the same kind of GPU.
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip(),
        # glibc gives large arrays back to the system after every step and pays a page fault for each page again:
        # keeping them, in huge pages, makes a small model's step take half the time.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
        "MALLOC_TOP_PAD_": str(2**28),
    }
    if address:
        # Trials that wait for a host make the cluster grow, so there must be as many as hosts to ask for at once.
        os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(HOSTS_AT_ONCE))
        cluster = {"address": address, "runtime_env": {"env_vars": variables}}
    else:
        os.environ.update(variables)  # processes that inherit them start sooner than those with a `runtime_env`
        cluster = {"address": "local", "object_store_memory": 400 * 2**20}
        if not any(find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
            cluster["num_gpus"] = 0  # trials would hold them and train on the CPU
    ray.init(include_dashboard=False, configure_logging=True, logging_level="ERROR", log_to_driver=False, **cluster)
    try:
        from ray.data import DataContext  # here, because workers start meanwhile

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        yield cache
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)
