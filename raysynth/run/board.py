"""An observer that takes a training's progress to TensorBoard, W&B, the store and the driver of its run."""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from raysynth.errors import StoreError, printable
from raysynth.observer import Progress, Silent
from raysynth.report.predictions import samples
from raysynth.run.surroundings import BoardSettings, cache_directory
from raysynth.run.weights_and_biases import WandbRun
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import Artifact
from raysynth.specs.pretraining import Pretrain, Source, SourceAt
from raysynth.store.records import Metrics
from raysynth.store.store import Store, Workspace

REPORT_SECONDS = 1.0
"""Least time between two reports to the driver."""
MARK_SECONDS = 10.0
"""Least time between two signs of life in the store."""

Report = Callable[[dict[str, Any]], None]
"""Sends a dict to the driver."""


class Board(Silent):
    """An observer that takes a training's progress to TensorBoard, Weights & Biases, the store and the driver.

    A context manager too: what is shown ends with the block, as failed if that raises.
    """

    def __init__(
        self,
        artifact: Artifact,
        workspace: Workspace,
        store: Store,
        report: Report,
        check_lease: Callable[[], None],
        settings: BoardSettings = BoardSettings(),  # noqa: B008  # it is frozen
    ):
        self._artifact = artifact
        self._workspace = workspace
        self._store = store
        self._report = report
        self._check_lease = check_lease
        self._settings = settings
        self._events: _NoEvents | None = None
        self._last_report = self._last_mark = float("-inf")
        self._seconds_per_step: float | None = None

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._events is not None:
            self._events.close(exit_code=0 if kind is None else 1)

    def progress(self, artifact: str, progress: Progress) -> None:
        """Plot the scalars; now and then, mark the store and report to the driver."""
        self._plot(progress)
        if time.monotonic() - self._last_mark > MARK_SECONDS:
            self._mark(progress)
        if time.monotonic() - self._last_report > REPORT_SECONDS:
            self._send(progress)

    def evaluated(self, artifact: str, progress: Progress) -> None:
        """Plot the scores, and let everyone see them at once."""
        self._plot(progress).flush()
        self._mark(progress)
        self._send(progress)

    def noted(self, artifact: str, note: str) -> None:
        """Let the driver show a line."""
        self._report({"note": note})

    def write_test(self, scores: Metrics, step: int) -> None:
        """Write the test scores at the selected step, and some predictions as text."""
        assert self._events is not None, "training reports its first step before it can end"
        for metric, value in scores.items():
            self._events.scalar(plotted(self._artifact.kind, f"test/{metric}"), value, step)
        file = self._workspace.path / "predictions.jsonl"
        rows = samples(file.read_bytes(), str(file), num_each=NUM_PREDICTIONS) if file.exists() else []
        for word, is_right in (("right", True), ("wrong", False)):
            if some := [row for row in rows if row["right"] is is_right]:
                self._events.text(f"{self._artifact.kind}/predictions/{word}", _as_text(some), step)

    def _plot(self, progress: Progress) -> "_NoEvents":
        if self._events is None:
            self._events = _All(self._sinks(progress.step))
        for tag, value in progress.scalars.items():
            self._events.scalar(plotted(self._artifact.kind, tag), value, progress.step)
        self._seconds_per_step = progress.scalars.get("speed/seconds_per_step", self._seconds_per_step)
        return self._events

    def _sinks(self, first_step: int) -> "Iterable[_NoEvents | WandbRun]":
        if writes_events():
            yield _EventFile(self._workspace.path, self._artifact, self._settings.metrics, first_step=first_step)
        if self._settings.wandb_project is not None:
            yield WandbRun(
                self._artifact,
                self._settings.wandb_project,
                directory=cache_directory(self._store),
                note=lambda line: self._report({"note": line}),
            )

    def _mark(self, progress: Progress) -> None:
        with contextlib.suppress(StoreError):  # the mark only informs, and the next one may succeed
            self._check_lease()
            self._store.progress(
                self._artifact,
                step=progress.step,
                num_steps=progress.num_steps,
                seconds_per_step=self._seconds_per_step,
            )
        self._last_mark = time.monotonic()

    def _send(self, progress: Progress) -> None:
        self._report({"progress": {**vars(progress), "scalars": dict(progress.scalars)}})
        self._last_report = time.monotonic()


def writes_events() -> bool:
    """Whether event files are written: tensorboardX, which does that, may be absent where Ray is."""
    try:
        import tensorboardX  # noqa: F401  # loads Protocol Buffers, which only trainings need
    except ImportError:
        return False
    return True


class _NoEvents:
    """Plots nothing."""

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Plot a value."""

    def text(self, tag: str, text: str, step: int) -> None:
        """Show a text in Markdown."""

    def flush(self) -> None:
        """Let everyone see what is plotted."""

    def close(self, exit_code: int) -> None:
        """End what is shown; any code but 0 says that the training failed."""


class _All(_NoEvents):
    """Plots on several boards."""

    def __init__(self, boards: "Iterable[_NoEvents | WandbRun]"):
        self._boards = list(boards)

    def scalar(self, tag: str, value: float, step: int) -> None:
        for board in self._boards:
            board.scalar(tag, value, step)

    def text(self, tag: str, text: str, step: int) -> None:
        for board in self._boards:
            board.text(tag, text, step)

    def flush(self) -> None:
        for board in self._boards:
            board.flush()

    def close(self, exit_code: int) -> None:
        for board in self._boards:
            board.close(exit_code)


class _EventFile(_NoEvents):
    """A TensorBoard event file; what an earlier attempt wrote after `first_step` is no longer shown."""

    def __init__(self, directory: Path, artifact: Artifact, metrics: tuple[str, ...], *, first_step: int):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(directory), purge_step=first_step + 1 if first_step else 0)
        for summary in _hparams(artifact, metrics):
            self._writer.file_writer.add_summary(summary)

    def scalar(self, tag: str, value: float, step: int) -> None:
        self._writer.add_scalar(tag, value, step)

    def text(self, tag: str, text: str, step: int) -> None:
        self._writer.add_text(tag, text, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self, exit_code: int) -> None:
        self._writer.close()


def plotted(kind: str, tag: str) -> str:
    """The tag under which a scalar of a training of that kind is plotted.

    TensorBoard sorts cards by their tags: losses, accuracies and scores come first, then learning rates and speeds.
    """
    if tag.startswith(_FIRST):
        return f"{kind}/{tag}"
    group, _, rest = tag.rpartition("/")
    return f"{group or 'schedule'}/{kind}/{rest}"


_FIRST = ("train/", "validation/", "test/")

NUM_PREDICTIONS = 5
"""Most right and most wrong predictions that the page shows of a run."""


def _as_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Predictions as Markdown: code, because they may hold any sign."""
    fields = ("source", "target", "prediction")
    blocks = ("\n".join(f"    {field + ':':11} {printable(row[field])}" for field in fields) for row in rows)
    return "\n    \n".join(blocks)


def _num_steps(source: Source) -> int:
    """For how many steps a source was trained here, as far as it is used."""
    return source.step if isinstance(source, SourceAt) else getattr(source, "num_steps", 0)


def _hparams(artifact: Artifact, test_metrics: tuple[str, ...]) -> Iterable[Any]:
    """TensorBoard's HParams declaration. Every run has the same columns, or the page would show those of one run."""
    from tensorboardX.summary import hparams

    assert isinstance(artifact, Pretrain | Finetune), "only these are trained"
    sources = (artifact,) if isinstance(artifact, Pretrain) else artifact.init.sources
    recipe = artifact.task if isinstance(artifact, Finetune) else artifact
    model = artifact.model
    values = {
        "kind": artifact.kind,
        "task": artifact.task.name if isinstance(artifact, Finetune) else artifact.data.task.name,
        "init": artifact.init.name if isinstance(artifact, Finetune) else "random",
        "source": " ".join(source.source_name for source in sources) or "-",
        "model": f"{model.num_encoder_layers}+{model.num_decoder_layers} layers, width {model.emb_dim}",
        "num_steps": recipe.num_steps,
        "source_steps": sum(map(_num_steps, sources)),
        "learning_rate": artifact.task.learning_rate if isinstance(artifact, Finetune) else 0.0,
        "seed": artifact.seed,
    }
    metrics = {
        **{plotted("finetune", f"test/{metric}"): None for metric in test_metrics},
        **{plotted(kind, "validation/token_accuracy"): None for kind in ("finetune", "pretrain")},
    }
    experiment, start, _ = hparams(values, metrics)
    return experiment, start
