"""What a run shows on its terminal: progress bars, or lines where the output is not a terminal."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from raysynth.command_line import screen
from raysynth.errors import printable
from raysynth.observer import Progress
from raysynth.run.estimate import Estimate, clock

LINE_SECONDS = 15.0
"""Without a terminal, a running artifact gets a line at most this often."""

BAR_WIDTH, NOTE_WIDTH = 80, 110
"""A terminal shows bars and elapsed times from so many columns on, and losses and accuracies from so many."""

_SHOWN = {
    "validation/token_accuracy": "val accuracy {:.3f}",
    "train/token_accuracy": "accuracy {:.3f}",
    "train/loss": "loss {:.3f}",
    "speed/examples_per_second": "{:,.0f} examples/s",
}
"""How each scalar that a line shows is written, in this order."""


class Terminal:
    """Shows the progress of a run's artifacts; an `Observer`, and a context manager."""

    def __init__(self, num_artifacts: int, estimate: Estimate | None = None):
        self._console = Console(file=screen())
        self._bars = Bars(
            *_columns(self._console.width),
            console=self._console,
            disable=not self._console.is_terminal,
            redirect_stderr=False,  # what libraries write there is not for the terminal
        )
        self._estimate = estimate or Estimate()
        self._num_artifacts = num_artifacts
        self._num_finished = 0
        self._all = self._bars.add_task("all artifacts", total=num_artifacts, note="", left="")
        self._tasks: dict[str, TaskID] = {}
        self._last_line: dict[str, float] = {}
        self._last_estimate, self._left = float("-inf"), ""
        self._began = time.monotonic()

    def __enter__(self) -> "Terminal":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, artifact: str) -> None:
        """Give an artifact a bar of its own."""
        if artifact not in self._tasks:
            self._estimate.started(artifact)
            self._tasks[artifact] = self._bars.add_task(printable(artifact), total=None, note="starting", left="")
            self._last_line[artifact] = time.monotonic()
            self._print_line(f"started  {artifact}")

    def progress(self, artifact: str, progress: Progress) -> None:
        """Move an artifact's bar."""
        self.started(artifact)
        self._estimate.progress(artifact, progress)
        note, left = _note(progress.scalars), clock(self._estimate.seconds_left_of(artifact))
        self._bars.update(
            self._tasks[artifact], total=progress.num_steps, completed=progress.step, note=note, left=left
        )
        self._show_left()
        if time.monotonic() - self._last_line[artifact] > LINE_SECONDS:
            self._last_line[artifact] = time.monotonic()
            self._print_line(f"running  {artifact}  {progress.step:,} of {progress.num_steps:,}  {note}")

    def evaluated(self, artifact: str, progress: Progress) -> None:
        """Show the scores in the artifact's bar."""
        self.progress(artifact, progress)

    def finished(self, artifact: str) -> None:
        """Replace an artifact's bar by a line."""
        self._estimate.ended(artifact)
        self._end(artifact)
        self._print("green", "done", artifact)

    def failed(self, artifact: str, error: str) -> None:
        """Replace an artifact's bar by a line with the reason."""
        self._estimate.failed(artifact)
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
        self._show_left()

    def _show_left(self) -> None:
        """Show the estimate of the whole run, which takes a while for thousands of artifacts, once a second at most."""
        if time.monotonic() - self._last_estimate > 1:
            self._last_estimate = time.monotonic()
            self._left = clock(self._estimate.seconds_left())
            self._bars.update(self._all, left=self._left)

    def _print(self, color: str, word: str, text: str) -> None:
        if self._console.is_terminal:
            self._console.print(Text.assemble((f"{word:8}", color), f" {printable(text)}"))
        else:
            self._print_line(f"{word:8} {text}")

    def _print_line(self, text: str) -> None:
        if not self._console.is_terminal:
            seconds = time.monotonic() - self._began
            counts = f"{self._num_finished:3d} of {self._num_artifacts} done"
            counts += f", {self._left} left" if self._left else ""
            print(f"{seconds:6.0f} s  {counts}  {printable(text)}", file=self._console.file, flush=True)


def _columns(width: int) -> list[ProgressColumn]:
    """The columns that fit a terminal: names are cut, counts never."""
    counts = MofNCompleteColumn(table_column=Column(no_wrap=True, justify="right"))
    left = TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True, justify="right", min_width=7))
    beside = 24 if width < BAR_WIDTH else 50 if width < NOTE_WIDTH else 90
    cut = Column(no_wrap=True, overflow="ellipsis", max_width=max(8, width - beside))
    names = TextColumn("{task.description}", markup=False, table_column=cut)
    if width < BAR_WIDTH:
        return [names, counts, left]
    columns = [names, BarColumn(bar_width=None), counts, TimeElapsedColumn(), left]
    if width < NOTE_WIDTH:
        return columns
    return [*columns, TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True))]


def _note(scalars: Mapping[str, float]) -> str:
    return "  ".join(text.format(scalars[tag]) for tag, text in _SHOWN.items() if tag in scalars)
