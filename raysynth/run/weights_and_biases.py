"""Shows a training on Weights & Biases: one run an artifact, which goes on under the same id after an interruption.

Nothing that fails there fails the training: the first failure is noted, and nothing more is sent.
"""

import html
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysynth.environment import is_installed
from raysynth.errors import InputError, first_line
from raysynth.run.quiet import environment
from raysynth.specs.identity import Artifact, describe, name

INIT_SECONDS = 30.0
"""Most time for the service to answer when a run begins."""
FINISH_SECONDS = 60.0
"""Most time for it to take what is left when a run ends. The package itself waits as long as there is no network."""


def check_installed() -> None:
    """Raise `InputError` unless the package `wandb` is installed."""
    if not is_installed("wandb"):
        raise InputError("--wandb needs the package wandb: pip install 'raysynth[wandb]'")


def run_id(artifact: Artifact) -> str:
    """The id of an artifact's run, such as `finetune-3fb5a7f9`."""
    return f"{artifact.kind}-{name(artifact).rpartition('-')[2]}"


class WandbRun:
    """Sends scalars and texts of a training; `note` is told, in one line, of the first failure."""

    def __init__(self, artifact: Artifact, project: str, *, directory: Path, note: Callable[[str], None]):
        """`directory` holds what W&B writes on this machine, unless `WANDB_DIR` names another one."""
        self._note = note
        self._run: Any = None
        self._has_failed = False
        self._step, self._values = 0, dict[str, Any]()
        self._guarded(lambda: self._begin(artifact, project, directory))

    def _begin(self, artifact: Artifact, project: str, directory: Path) -> None:
        import wandb

        if "WANDB_DIR" not in os.environ:
            directory.mkdir(parents=True, exist_ok=True)
        with environment({"WANDB_SILENT": "true"}):  # or it asks for a key on a terminal, and the training waits
            self._run = wandb.init(
                project=project,
                id=run_id(artifact),
                name=name(artifact),
                group=artifact.kind,
                config=describe(artifact),
                resume="allow",
                reinit="create_new",
                dir=os.environ.get("WANDB_DIR") or str(directory),
                settings=wandb.Settings(
                    silent=True, console="off", disable_git=True, save_code=False, init_timeout=INIT_SECONDS
                ),
            )
        # A resumed training repeats the steps since its last checkpoint, which W&B's own step refuses.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Plot a value."""
        self._add(tag, value, step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Show a text as it is."""

        def add() -> None:
            import wandb

            self._add(tag, wandb.Html(f"<pre>{html.escape(text)}</pre>"), step)

        self._guarded(add)

    def _add(self, tag: str, value: Any, step: int) -> None:
        if step != self._step or tag in self._values:
            self.flush()
        self._step = step
        self._values[tag] = value

    def flush(self) -> None:
        """Send what is collected of a step."""
        values, self._values = self._values, {}
        if values:
            self._guarded(lambda: self._run.log({"step": self._step, **values}))

    def close(self, exit_code: int) -> None:
        """End the run, which has failed unless the code is 0."""
        self.flush()
        thread = threading.Thread(
            target=self._guarded, args=(lambda: self._run.finish(exit_code=exit_code),), daemon=True
        )
        thread.start()
        thread.join(FINISH_SECONDS)
        if thread.is_alive():
            self._has_failed = True
            self._note(f"Weights & Biases has not taken everything in {FINISH_SECONDS:g} seconds")

    def _guarded(self, call: Callable[[], object]) -> None:
        if self._has_failed:
            return
        try:
            call()
        except Exception as error:
            if self._has_failed:  # the run was given up meanwhile
                return
            self._has_failed = True
            self._note(f"nothing more goes to Weights & Biases: {type(error).__name__}: {first_line(error)}")
