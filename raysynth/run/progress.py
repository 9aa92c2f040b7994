"""What a run shows while it goes: bars on a terminal, lines elsewhere."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_SECONDS = 15.0
"""Where there is no terminal, a running artifact gets a line at most this often."""


class Display:
    """Progress of a run's artifacts; use as a context manager."""

    def __init__(self, total: int):
        self._console = Console(file=sys.stderr)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._total = total
        self._finished = 0
        self._all = self._bars.add_task("all artifacts", total=total, note="")
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}
        self._began = time.monotonic()

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, artifact: str) -> None:
        if artifact not in self._tasks:
            self._tasks[artifact] = self._bars.add_task(artifact, total=None, note="starting")
            self._told[artifact] = time.monotonic()
            self._line(f"started  {artifact}")

    def progress(self, artifact: str, result: dict[str, Any]) -> None:
        """`result` holds step and num_steps, and perhaps scalars to show."""
        self.started(artifact)
        note = _note(result)
        self._bars.update(self._tasks[artifact], total=result["num_steps"], completed=result["step"], note=note)
        if time.monotonic() - self._told[artifact] > LINE_SECONDS:
            self._told[artifact] = time.monotonic()
            self._line(f"running  {artifact}  {result['step']:,} of {result['num_steps']:,}  {note}")

    def finished(self, artifact: str) -> None:
        self._end(artifact)
        self._say(f"[green]done[/green]     {artifact}", f"done     {artifact}")

    def failed(self, artifact: str, error: str) -> None:
        self._end(artifact)
        self._say(f"[red]failed[/red]   {artifact}: {error}", f"failed   {artifact}: {error}")

    def warn(self, line: str) -> None:
        self._say(f"[yellow]warning[/yellow]  {line}", f"warning  {line}")

    def noted(self, artifact: str, note: str) -> None:
        """Show something about an artifact that deserves notice."""
        self._say(f"[yellow]note[/yellow]     {artifact}: {note}", f"note     {artifact}: {note}")

    def _end(self, artifact: str) -> None:
        task = self._tasks.pop(artifact, None)
        if task is not None:
            self._bars.remove_task(task)
        self._finished += 1
        self._bars.advance(self._all)

    def _say(self, marked: str, plain: str) -> None:
        if self._console.is_terminal:
            self._console.print(marked, highlight=False)
        else:
            self._line(plain)

    def _line(self, text: str) -> None:
        if not self._console.is_terminal:
            seconds = time.monotonic() - self._began
            print(f"{seconds:6.0f} s  {self._finished:3d} of {self._total} done  {text}", file=sys.stderr, flush=True)


def _note(result: dict[str, Any]) -> str:
    notes = {"validation/token_accuracy": "val accuracy", "train/token_accuracy": "accuracy", "train/loss": "loss"}
    told = [f"{label} {result[key]:.3f}" for key, label in notes.items() if key in result]
    if "examples_per_second" in result:
        told.append(f"{result['examples_per_second']:,.0f} examples/s")
    return "  ".join(told)
