"""Data sets in a Ray session: texts are encoded before it starts, synthetic ones are drawn in it."""

import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import ray

from raysynth.data.manifest import Manifest, TextManifest
from raysynth.data.text_pairs import generate_text
from raysynth.downstream.rows import BadRows
from raysynth.errors import InputError, WorkerError
from raysynth.run import generate
from raysynth.run.generate_corpus import generate_corpus, write_documents
from raysynth.run.progress import Display
from raysynth.run.session import session
from raysynth.specs.datasets import Dataset, TextCorpus, TextDataset
from raysynth.specs.identity import Artifact, name
from raysynth.store.leases import LOOK_SECONDS, Driver
from raysynth.store.marks import provenance
from raysynth.store.store import Outcome, State, Store


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
            with session(address, meanwhile=partial(generate.compile_for, dataset.task)) as end:
                draw([dataset], ends, store, driver, display, drawn=end)
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
            write_documents(dataset, store, data)


def _write_pairs(
    dataset: TextDataset, store: Store, driver: Driver, display: Display, data: dict[str, str], bad_rows: BadRows
) -> None:
    while not driver.lease(dataset):
        time.sleep(LOOK_SECONDS)
    started, note = time.time(), ""
    try:
        if store.status(dataset).state is not State.DONE:
            display.started(name(dataset))
            manifest = generate_text(dataset, store, data, bad_rows)
            _record(dataset, store, manifest, started)
            if manifest.skipped_rows:
                note = f"{manifest.skipped_rows} bad rows skipped, the first: {manifest.first_skipped[0]}"
    finally:
        driver.release(dataset)
    display.finished(name(dataset))
    if note:
        display.noted(name(dataset), note)


def draw(
    datasets: list[Dataset],
    ends: Ends,
    store: Store,
    driver: Driver,
    display: Display,
    *,
    drawn: Callable[[], object] = lambda: None,
) -> None:
    """Make the data sets that no other run makes, one after another, and wait for the others.

    Calls `drawn` where the last one needs no Ray any more.
    """
    waiting, needs_ray = list(datasets), True

    def drawn_one() -> None:
        nonlocal needs_ray
        if not waiting:
            needs_ray = False
            drawn()

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
            make = generate_corpus if isinstance(dataset.task, TextCorpus) else generate.generate
            manifest = make(dataset, store, tick=_tick(display, driver, dataset), warn=display.warn, drawn=drawn_one)
            _record(dataset, store, manifest, started)
        except Exception as error:
            if needs_ray and not ray.is_initialized():
                return  # the run was ended under this thread
            told = isinstance(error, InputError | WorkerError)
            line = str(error) if told else f"{type(error).__name__}: {error}".splitlines()[0]
            log = error.log if isinstance(error, WorkerError) else traceback.format_exc()
            store.fail(dataset, outcome=Outcome.FAILED, error=line, log=log)
            ends.unmade(dataset, line)
        else:
            ends.made(dataset)


def _tick(display: Display, driver: Driver, dataset: Dataset) -> generate.Tick:
    """Shows how many examples are drawn and how fast."""
    started = time.monotonic()

    def tick(drawn: int, of: int) -> None:
        driver.beat()
        speed = drawn / (time.monotonic() - started)
        display.progress(name(dataset), {"step": drawn, "num_steps": of, "examples_per_second": speed})

    return tick


def _record(dataset: Dataset | TextDataset, store: Store, manifest: Manifest, started: float) -> None:
    result: dict[str, Any] = {"rows": manifest.num_rows, "sha256": manifest.digest}
    if isinstance(manifest, TextManifest):
        result["skipped_rows"] = manifest.skipped_rows
    store.record(dataset, result=result, provenance=provenance(started))
