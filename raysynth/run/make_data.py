"""Makes data sets: texts are encoded before anything else, synthetic data are drawn with Ray or in this process."""

import threading
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial

from raysynth.data import shard_files
from raysynth.data.manifest import Manifest, result_of
from raysynth.data.shard_files import FORMER_RECORD, check_remade, delete_half_written, former_record
from raysynth.data.text_pairs import generate_text
from raysynth.errors import InputError, WorkerError, first_line
from raysynth.observer import Observer, Progress
from raysynth.run import generate
from raysynth.run.first_draws import check_first_draws
from raysynth.run.generate_corpus import generate_corpus, write_documents
from raysynth.run.spread import Spread, spread_here
from raysynth.run.surroundings import Run, Waits
from raysynth.specs.datasets import Dataset, TextCorpus, TextDataset
from raysynth.specs.identity import Artifact, name
from raysynth.store.leases import LOOK_SECONDS
from raysynth.store.marks import provenance
from raysynth.store.records import Outcome
from raysynth.store.store import State, Store


def damaged_inputs(artifacts: list[Artifact], done: set[Artifact], store: Store) -> set[Dataset | TextDataset]:
    """The finished data sets that the artifacts need and that no longer match their records.

    The record of such a data set is set aside, so that it counts as not done.
    """
    inputs = {needed for artifact in artifacts for needed in artifact.inputs()}
    datasets = [artifact for artifact in inputs & done if isinstance(artifact, Dataset | TextDataset)]
    return {dataset for dataset in datasets if not shard_files.intact(dataset, store)}


def make_data(dataset: Dataset | TextDataset, run: Run) -> str | None:
    """Make one data set with Ray; returns why it could not be made, in one line, or None."""
    check_tasks([dataset], run)
    write_texts([dataset], run)
    if isinstance(dataset, TextDataset):
        return None
    import ray  # which texts do not need

    from raysynth.run.session import session, spread

    with session(run.address, meanwhile=partial(generate.compile_for, dataset.task)) as end:
        failed = draw(
            [dataset],
            run,
            run.observer,
            spread=spread,
            done_with_ray=end,
            ray_is_lost=lambda: not ray.is_initialized(),
        )
    return failed.get(dataset)


def make_data_here(dataset: Dataset | TextDataset, run: Run) -> str | None:
    """Make one data set in this process; returns why it could not be made, in one line, or None."""
    check_tasks([dataset], run)
    write_texts([dataset], run)
    if isinstance(dataset, TextDataset):
        return None
    return draw([dataset], run, run.observer, spread=spread_here).get(dataset)


def check_tasks(datasets: Iterable[Dataset | TextDataset], run: Run) -> None:
    """Raise `InputError` for a task of one's own that draws what it must not. Starts processes, so no threads yet."""
    for dataset in datasets:
        if isinstance(dataset, Dataset):
            check_first_draws(dataset, partial(run.observer.noted, name(dataset)))


def write_texts(datasets: Iterable[Dataset | TextDataset], run: Run) -> None:
    """Make the downstream data sets, and write the documents of text corpora for the workers that draw from them.

    Raises `InputError` for files that are missing or broken.
    """
    for dataset in datasets:
        was_damaged = former_record(run.store, name(dataset)) is not None
        if was_damaged:
            run.observer.noted(name(dataset), "does not match its record and is made again")
        try:
            if isinstance(dataset, TextDataset):
                _write_pairs(dataset, run)
            elif isinstance(dataset.task, TextCorpus) and run.store.status(dataset).state is not State.DONE:
                write_documents(dataset, run.store, run.locations)
        except InputError as error:
            if not was_damaged:
                raise
            raise InputError(f"{name(dataset)} was damaged and cannot be made again: {error}") from None


def _write_pairs(dataset: TextDataset, run: Run) -> None:
    waits = Waits(run)
    while not run.driver.lease(dataset):
        waits.waiting(dataset)
        time.sleep(LOOK_SECONDS)
    started, note = time.time(), ""
    try:
        if run.store.status(dataset).state is not State.DONE:
            run.observer.started(name(dataset))
            manifest = generate_text(dataset, run.store, run.locations, run.bad_rows)
            _record(dataset, run, manifest, started)
            if manifest.skipped_rows:
                note = f"{manifest.skipped_rows} bad rows skipped, the first: {manifest.first_skipped[0]}"
    finally:
        run.driver.release(dataset)
    run.observer.finished(name(dataset))
    if note:
        run.observer.noted(name(dataset), note)


def draw(
    datasets: Iterable[Dataset],
    run: Run,
    ends: Observer,
    *,
    spread: Spread,
    done_with_ray: Callable[[], object] = lambda: None,
    ray_is_lost: Callable[[], bool] = lambda: False,
    stop: Callable[[], bool] = lambda: False,
    busy: threading.Event | None = None,
) -> dict[Dataset, str]:
    """Make the data sets that no other run makes, one after another, and wait for the others; returns the errors.

    `ends` is told how each data set ended, `run.observer` all else. `spread` draws shards. Calls `done_with_ray` once
    the last data set needs Ray no longer. Begins nothing more once `stop` holds, and returns at an error after
    `ray_is_lost`. `busy` is set while there is something to draw, and not while all that is left is made elsewhere.
    """
    waiting, waits, needs_ray = list(datasets), Waits(run), True
    busy = busy or threading.Event()
    failed: dict[Dataset, str] = {}

    def one_less() -> None:
        nonlocal needs_ray
        if not waiting:
            needs_ray = False
            done_with_ray()

    while waiting and not stop():
        dataset = next((dataset for dataset in waiting if run.driver.lease(dataset)), None)
        if dataset is None:
            busy.clear()
            for each in waiting:
                waits.waiting(each)
            time.sleep(LOOK_SECONDS)
            continue
        busy.set()
        waiting.remove(dataset)
        try:
            if run.store.status(dataset).state is not State.DONE:  # else another run made it
                run.observer.started(name(dataset))
                _draw(dataset, run, spread, one_less)
        except Exception as error:
            if needs_ray and ray_is_lost() and not isinstance(error, InputError):
                return failed  # the run ended under this thread
            failed[dataset] = str(error) if isinstance(error, InputError | WorkerError) else _class_and_line(error)
            log = error.log if isinstance(error, WorkerError) else traceback.format_exc()
            run.store.fail(dataset, outcome=Outcome.FAILED, error=failed[dataset], log=log)
            ends.failed(name(dataset), failed[dataset])
        else:
            ends.finished(name(dataset))
        run.driver.release(dataset)
    busy.clear()
    return failed


def _draw(dataset: Dataset, run: Run, spread: Spread, done_with_ray: Callable[[], None]) -> None:
    started = time.time()
    make = generate_corpus if isinstance(dataset.task, TextCorpus) else generate.generate
    manifest = make(
        dataset,
        run.store,
        spread=spread,
        tick=_tick(run, dataset),
        warn=partial(run.observer.noted, name(dataset)),
        drawn=done_with_ray,
    )
    _record(dataset, run, manifest, started)


def _class_and_line(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _tick(run: Run, dataset: Dataset) -> generate.Tick:
    """A function that reports how many examples are drawn and how fast."""
    started = time.monotonic()

    def tick(num_drawn: int, num_examples: int) -> None:
        run.driver.beat()
        speed = {"speed/examples_per_second": num_drawn / (time.monotonic() - started)}
        run.observer.progress(name(dataset), Progress(step=num_drawn, num_steps=num_examples, scalars=speed))

    return tick


def _record(dataset: Dataset | TextDataset, run: Run, manifest: Manifest, started: float) -> None:
    check_remade(dataset, manifest, run.store)
    run.store.record(dataset, result=result_of(manifest), provenance=provenance(started))
    run.store.delete(f"{name(dataset)}/{FORMER_RECORD}")
    delete_half_written(run.store, name(dataset))
