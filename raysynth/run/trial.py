"""What Tune runs: one artifact from its inputs in the store to its record, with TensorBoard scalars and hparams."""

import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams as hparams_summary

from raysynth.downstream.metrics import METRICS
from raysynth.errors import Diverged, InputError
from raysynth.model.devices import device
from raysynth.observer import Progress, Silent
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import Artifact, name
from raysynth.specs.pretraining import Pretrain
from raysynth.store.marks import provenance
from raysynth.store.store import Outcome, Store, Workspace

REPORT_SECONDS = 1.0
"""At least this long between two reports to the driver."""
MARK_SECONDS = 10.0
"""At least this long between two signs of life in the store."""


def trial(config: dict[str, str], *, artifacts: dict[str, Artifact], store: Store, cache: Path) -> None:
    """Make the artifact that `config` names; an exception becomes its failure record, not the end of the sweep."""
    artifact = artifacts[config["artifact"]]
    node = ray.get_runtime_context().get_node_id()
    tune.report({"node": node})
    try:
        store.forget_failure(artifact)
        make(artifact, store=store, cache=cache, tell=lambda result: tune.report(result), node=node)
    except Exception as error:
        final = isinstance(error, InputError | Diverged)
        line = _first_line(error) if final else f"{type(error).__name__}: {_first_line(error)}"
        outcome = Outcome.DIVERGED if isinstance(error, Diverged) else Outcome.FAILED
        store.fail(artifact, outcome=outcome, error=line, log=traceback.format_exc())
        tune.report({"outcome": outcome, "error": line, "again": not final})
    else:
        tune.report({"outcome": Outcome.SUCCEEDED})


def make(artifact: Artifact, *, store: Store, cache: Path, tell: Callable[[dict[str, Any]], None], node: str) -> None:
    """Train an artifact in its workspace and write its record, on the Ray node of that id."""
    from raysynth.model import train  # JAX is imported where a trial runs, never in the driver

    started = time.time()
    with store.workspace(artifact) as workspace:
        board = _Board(artifact, workspace, store, tell)
        try:
            if isinstance(artifact, Pretrain):
                data = store.fetch(artifact.data, cache)
                outcome = train.pretrain(
                    artifact, data=data, directory=workspace.path, observer=board, saved=workspace.push
                )
            elif isinstance(artifact, Finetune):
                data = store.fetch(artifact.task.data, cache)
                sources = {}
                for source in artifact.init.sources:
                    record = store.status(source).record
                    assert record is not None, "the searcher starts a trial only when its inputs are done"
                    sources[source] = (store.fetch(source, cache), int(record["result"]["selected_step"]))
                outcome = train.finetune(
                    artifact,
                    data=data,
                    sources=sources,
                    directory=workspace.path,
                    observer=board,
                    saved=workspace.push,
                )
            else:
                raise TypeError(f"{name(artifact)} is not made by a trial")
            board.finish(outcome.result)
        finally:
            board.close()
        workspace.push()
        told = {**provenance(started), "node": node, "device": device(), **outcome.timing}
        store.record(artifact, result=outcome.result, provenance=told)


class _Board(Silent):
    """Takes a run's progress to TensorBoard, the store and the driver."""

    def __init__(self, artifact: Artifact, workspace: Workspace, store: Store, tell: Callable[[dict[str, Any]], None]):
        self._artifact = artifact
        self._workspace = workspace
        self._store = store
        self._tell = tell
        self._writer: SummaryWriter | None = None
        self._told = self._marked = float("-inf")
        self._speed: float | None = None

    def progress(self, artifact: str, progress: Progress) -> None:
        self._report(progress, evaluated=False)

    def evaluated(self, artifact: str, progress: Progress) -> None:
        self._report(progress, evaluated=True)

    def _report(self, progress: Progress, *, evaluated: bool) -> None:
        now = time.monotonic()
        if self._writer is None:
            self._writer = SummaryWriter(
                str(self._workspace.path), purge_step=progress.step + 1 if progress.step else None
            )
            for summary in _hparams(self._artifact):
                self._writer.file_writer.add_summary(summary)
        for tag, value in progress.scalars.items():
            self._writer.add_scalar(tag, value, progress.step)
        self._speed = progress.scalars.get("speed/seconds_per_step", self._speed)
        if evaluated:
            self._writer.flush()
        if evaluated or now - self._marked > MARK_SECONDS:
            self._store.progress(
                self._artifact, step=progress.step, num_steps=progress.num_steps, seconds_per_step=self._speed
            )
            self._marked = now
        if evaluated or now - self._told > REPORT_SECONDS:
            self._tell({"step": progress.step, "num_steps": progress.num_steps, **progress.scalars})
            self._told = now

    def finish(self, result: dict[str, Any]) -> None:
        """Write the final metrics at the selected step, so that HParams has a column for each."""
        assert self._writer is not None
        for metric, value in result.get("test", {}).items():
            self._writer.add_scalar(f"test/{metric}", value, result["selected_step"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _hparams(artifact: Artifact) -> Iterable[Any]:
    """TensorBoard's HParams declaration: the same flat columns for every run, or the page would show those of one."""
    sources = (artifact,) if isinstance(artifact, Pretrain) else artifact.init.sources
    values = {
        "kind": artifact.kind,
        "task": artifact.task.name if isinstance(artifact, Finetune) else artifact.data.task.name,
        "init": artifact.init.name if isinstance(artifact, Finetune) else "random",
        "source": " ".join(source.source_name for source in sources) or "-",
        "learning_rate": artifact.task.learning_rate if isinstance(artifact, Finetune) else 0.0,
        "seed": artifact.seed,
    }
    metrics = {"validation/token_accuracy": None, **{f"test/{metric}": None for metric in METRICS}}
    experiment, start, _ = hparams_summary(values, metrics)
    return experiment, start


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else "no message"
