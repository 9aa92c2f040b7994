"""What a run shows on its terminal: progress bars, or lines where the output is not a terminal."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from raysynth.command_line import screen
from raysynth.errors import printable
from raysynth.observer import Progress

LINE_SECONDS = 15.0
"""Without a terminal, a running artifact gets a line at most this often."""

_SHOWN = {
    "validation/token_accuracy": "val accuracy {:.3f}",
    "train/token_accuracy": "accuracy {:.3f}",
    "train/loss": "loss {:.3f}",
    "speed/examples_per_second": "{:,.0f} examples/s",
}
"""How each scalar that a line shows is written, in this order."""


class Terminal:
    """Shows the progress of a run's artifacts; an `Observer`, and a context manager."""

    def __init__(self, num_artifacts: int):
        self._console = Console(file=screen())
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
            redirect_stderr=False,  # what libraries write there is not for the terminal
        )
        self._num_artifacts = num_artifacts
        self._num_finished = 0
        self._all = self._bars.add_task("all artifacts", total=num_artifacts, note="")
        self._tasks: dict[str, TaskID] = {}
        self._last_line: dict[str, float] = {}
        self._began = time.monotonic()

    def __enter__(self) -> "Terminal":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, artifact: str) -> None:
        """Give an artifact a bar of its own."""
        if artifact not in self._tasks:
            self._tasks[artifact] = self._bars.add_task(printable(artifact), total=None, note="starting")
            self._last_line[artifact] = time.monotonic()
            self._print_line(f"started  {artifact}")

    def progress(self, artifact: str, progress: Progress) -> None:
        """Move an artifact's bar."""
        self.started(artifact)
        note = _note(progress.scalars)
        self._bars.update(self._tasks[artifact], total=progress.num_steps, completed=progress.step, note=note)
        if time.monotonic() - self._last_line[artifact] > LINE_SECONDS:
            self._last_line[artifact] = time.monotonic()
            self._print_line(f"running  {artifact}  {progress.step:,} of {progress.num_steps:,}  {note}")

    def evaluated(self, artifact: str, progress: Progress) -> None:
        """Show the scores in the artifact's bar."""
        self.progress(artifact, progress)

    def finished(self, artifact: str) -> None:
        """Replace an artifact's bar by a line."""
        self._end(artifact)
        self._print("green", "done", artifact)

    def failed(self, artifact: str, error: str) -> None:
        """Replace an artifact's bar by a line with the reason."""
        self._end(artifact)
        self._print("red", "failed", f"{artifact}: {error}")

    def noted(self, artifact: str, note: str) -> None:
        """Print what deserves attention."""
        self._print("yellow", "note", f"{artifact}: {note}")

    def _end(self, artifact: str) -> None:
        task = self._tasks.pop(artifact, None)
        if task is not None:
            self._bars.remove_task(task)
        self._num_finished += 1
        self._bars.advance(self._all)

    def _print(self, color: str, word: str, text: str) -> None:
        if self._console.is_terminal:
            self._console.print(Text.assemble((f"{word:8}", color), f" {printable(text)}"))
        else:
            self._print_line(f"{word:8} {text}")

    def _print_line(self, text: str) -> None:
        if not self._console.is_terminal:
            seconds = time.monotonic() - self._began
            counts = f"{self._num_finished:3d} of {self._num_artifacts} done"
            print(f"{seconds:6.0f} s  {counts}  {printable(text)}", file=self._console.file, flush=True)


def _note(scalars: Mapping[str, float]) -> str:
    return "  ".join(text.format(scalars[tag]) for tag, text in _SHOWN.items() if tag in scalars)
