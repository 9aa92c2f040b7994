"""One Ray session that makes artifacts: data sets by Ray Data, the others in one Tune experiment beside them."""

import re
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.stopper import Stopper

from raysynth.data import shard_files
from raysynth.downstream.rows import BadRows
from raysynth.errors import InputError
from raysynth.run.cluster import promised
from raysynth.run.make_data import draw, write_texts
from raysynth.run.progress import Display
from raysynth.run.searcher import Dependencies
from raysynth.run.session import training_session
from raysynth.run.trial import trial
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.identity import Artifact, name
from raysynth.store.leases import Driver
from raysynth.store.store import Outcome, Store


class _Screen(tune.Callback):
    """Shows Tune's events and keeps the store's run mark fresh."""

    def __init__(self, display: Display, driver: Driver):
        self._display = display
        self._driver = driver

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that we never ask for

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        self._driver.beat()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._display.started(trial.config["artifact"])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if "num_steps" in result:
            self._display.progress(trial.config["artifact"], result)


class _Enough(Stopper):
    """Ends the run once so many artifacts have failed."""

    def __init__(self, searcher: Dependencies, max_failed: int):
        self._searcher = searcher
        self._max_failed = max_failed

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for a restore that we never ask for

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return len(self._searcher.failed) >= self._max_failed


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of a run's artifacts."""

    failed: dict[Artifact, str]
    """Those that failed or diverged, with the reason in one line."""
    outcomes: Counter[Outcome]


def execute(
    artifacts: list[Artifact],
    done: set[Artifact],
    store: Store,
    driver: Driver,
    *,
    data: dict[str, str],
    address: str | None,
    bad_rows: BadRows,
    max_failed: int | None,
) -> Ended:
    """Make every artifact whose inputs can be made.

    Ends early once `max_failed` have failed. Synthetic data sets are drawn meanwhile; only what needs one waits for it.
    """
    inputs = {needed for artifact in artifacts for needed in artifact.inputs()}
    kept = [artifact for artifact in inputs & done if isinstance(artifact, Dataset)]
    spoilt = {dataset for dataset in kept if not shard_files.intact(dataset, store)}
    texts = [artifact for artifact in artifacts if isinstance(artifact, TextDataset)]
    drawn = [artifact for artifact in artifacts if isinstance(artifact, Dataset)] + sorted(spoilt, key=name)
    trained = [artifact for artifact in artifacts if not isinstance(artifact, Dataset | TextDataset)]
    with Display(len(artifacts) + len(spoilt)) as display:
        write_texts([*texts, *drawn], store, driver, display, data, bad_rows)
        written = Counter({Outcome.SUCCEEDED: len(texts)})
        if not drawn and not trained:
            return Ended(failed={}, outcomes=written)
        with training_session(address, store) as cache:
            searcher = Dependencies(
                trained,
                (done - spoilt) | set(texts),
                awaited=set(drawn),
                store=store,
                driver=driver,
                watch=display,
                hosts=lambda: {node["NodeID"] for node in ray.nodes() if node["Alive"]},
            )
            drawing = threading.Thread(target=draw, args=(drawn, searcher, store, driver, display), daemon=True)
            drawing.start()
            while (max_failed is None or len(searcher.failed) < max_failed) and searcher.wait():
                _tune(trained, searcher, store, driver, display, cache, max_failed)
            while drawing.is_alive() and (max_failed is None or len(searcher.failed) < max_failed):
                drawing.join(1)
            return Ended(failed=searcher.failed, outcomes=written + searcher.outcomes())


def _tune(
    artifacts: list[Artifact],
    searcher: Dependencies,
    store: Store,
    driver: Driver,
    display: Display,
    cache: Path,
    max_failed: int | None,
) -> None:
    function = tune.with_parameters(
        trial, artifacts={name(artifact): artifact for artifact in artifacts}, store=store, cache=cache
    )
    with tempfile.TemporaryDirectory(prefix="raysynth-tune-") as scratch:  # Tune's own state is never restored
        tuner = tune.Tuner(
            tune.with_resources(function, trial_resources([*ray.nodes(), *promised()])),
            tune_config=tune.TuneConfig(search_alg=searcher, num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                callbacks=[_Screen(display, driver)],
                stop=None if max_failed is None else _Enough(searcher, max_failed),
            ),
        )
        tuner.fit()


def trial_resources(nodes: list[dict[str, Any]]) -> dict[str, float]:
    """What one trial takes: all TPU chips of a host (one process holds them), else one GPU, else one CPU.

    Raises `InputError` for a TPU slice of several hosts, by the resource that Ray gives the first of them.
    """
    slices = {match for node in nodes for match in map(re.compile(r"TPU-(.+)-(\d+)-head").fullmatch, node["Resources"])}
    for slice in filter(None, slices):
        generation, size = slice[1], int(slice[2])
        if size > 8:
            raise InputError(
                f"the TPU slice {generation}-{size} has several hosts, and a trial trains on one: "
                f"use slices of one host, such as {size // 8} of {generation}-8"
            )

    def most(device: str) -> float:
        return max((node["Resources"].get(device, 0) for node in nodes if node["Alive"]), default=0)

    if chips := most("TPU"):
        return {"CPU": 1, "TPU": chips}
    return {"CPU": 1, "GPU": 1} if most("GPU") else {"CPU": 1}
