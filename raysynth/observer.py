"""What a run tells whoever watches it: one protocol for the terminal, TensorBoard, the store and tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an artifact is."""

    step: int
    num_steps: int
    scalars: Mapping[str, float]
    """Values to plot at `step`, by TensorBoard tag, such as `train/loss` or `validation/token_accuracy`."""


class Observer(Protocol):
    """Receives the events of artifacts, each known by its name. An exception raised here ends the artifact's run."""

    def started(self, artifact: str) -> None:
        """Work on an artifact began."""

    def progress(self, artifact: str, progress: Progress) -> None:
        """Steps were taken since the last report; the first report of a run has no scalars."""

    def evaluated(self, artifact: str, progress: Progress) -> None:
        """The model was evaluated at `progress.step`; the scalars are its scores, tagged `validation/...`."""

    def finished(self, artifact: str) -> None:
        """An artifact is done."""

    def failed(self, artifact: str, error: str) -> None:
        """An artifact failed; `error` is one line."""

    def noted(self, artifact: str, note: str) -> None:
        """Something about an artifact deserves attention; `note` is one line."""


class Silent:
    """Ignores every event; a base class for observers that need only some of them."""

    def started(self, artifact: str) -> None:
        pass

    def progress(self, artifact: str, progress: Progress) -> None:
        pass

    def evaluated(self, artifact: str, progress: Progress) -> None:
        pass

    def finished(self, artifact: str) -> None:
        pass

    def failed(self, artifact: str, error: str) -> None:
        pass

    def noted(self, artifact: str, note: str) -> None:
        pass
