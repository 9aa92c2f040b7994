"""What remains of a sweep: training steps left, and the hours that they take at known speeds.

Reads only the store, so it works from any machine.
"""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from raysynth.specs.datasets import Dataset, TextCorpus, TextDataset
from raysynth.specs.finetuning import Finetune
from raysynth.specs.flops import training_flops
from raysynth.specs.identity import Artifact, describe
from raysynth.specs.models import T5Config
from raysynth.specs.pretraining import Pretrain
from raysynth.specs.recipes import AtStep, Recipe
from raysynth.store.store import State, Status, Store
from raysynth.store.typed import read_object
from raysynth.synthetic.base import SyntheticTask

# -------------------------------------------------------------------------------- cost


@dataclass(frozen=True, kw_only=True)
class Times:
    """How long the parts of trainings take on one host, as far as it is known."""

    seconds_per_step: Mapping[Artifact, float | None]
    evaluation_seconds: Mapping[Artifact, float] = field(default_factory=dict)
    """Seconds of the evaluations that a training has left, decoding included; they are left out of the others."""
    notes: tuple[str, ...] = ()
    """What the times rest on, in lines to print above their sum."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What remains of a sweep."""

    steps: int
    """Training steps left."""
    hours: float
    """Hours of one host for the steps whose speed is known, with the evaluations whose time is."""
    unknown: int
    """Number of trainings with steps left whose speed is unknown."""

    def text(self, *, num_workers: int = 1, price: float | None = None) -> str:
        """Describe the cost in one line, with the time on several hosts and the money at a price per host-hour."""
        seconds = 3600 * self.hours
        device_time = f"{self.hours:,.0f} device-hours" if self.hours >= 10 else f"{duration(seconds)} of device time"
        shared = f", {duration(seconds / num_workers)} on {num_workers} workers" if num_workers > 1 else ""
        money = f", {self.hours * price:,.2f} at {price:g} an hour" if price is not None else ""
        if self.unknown and not self.hours:
            return f"{self.steps:,} training steps, device time unknown (plan --measure times them)"
        trainings = "1 training" if self.unknown == 1 else f"{self.unknown} trainings"
        rest = f" and {trainings} of unknown speed (plan --measure)" if self.unknown else ""
        return f"{self.steps:,} training steps, {device_time}{shared}{money}{rest}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it, such as `0.4 s`, `12 min`, `3.5 h` or `2.1 days`."""
    limits = {"s": 99.5, "min": 99.5 * 60, "h": 72 * 3600, "days": math.inf}
    sizes = {"s": 1.0, "min": 60.0, "h": 3600.0, "days": 86_400.0}
    unit = next(unit for unit, limit in limits.items() if seconds < limit)
    number = seconds / sizes[unit]
    return f"{number:,.0f} {unit}" if number >= 10 or not number else f"{number:.2g} {unit}"


def remaining(statuses: Mapping[Artifact, Status], store: Store) -> Cost:
    """The cost of all artifacts that are neither done nor diverged."""
    return cost(statuses, statuses, Times(seconds_per_step=speeds(statuses, store)))


def cost(artifacts: Iterable[Artifact], statuses: Mapping[Artifact, Status], times: Times) -> Cost:
    """The cost of the artifacts that are neither done nor diverged."""
    left = [artifact for artifact in artifacts if statuses[artifact].state not in (State.DONE, State.DIVERGED)]
    steps = {artifact: steps_left(artifact, statuses[artifact]) for artifact in left}
    seconds = sum(seconds_left(artifact, statuses[artifact], times) or 0.0 for artifact in left)
    return Cost(
        steps=sum(steps.values()),
        hours=seconds / 3600,
        unknown=sum(bool(steps[artifact]) and times.seconds_per_step[artifact] is None for artifact in left),
    )


def steps_left(artifact: Artifact, status: Status) -> int:
    """Training steps left; a selection that depends on scores may skip some."""
    recipe = recipe_of(artifact)
    if recipe is None or status.state is State.DONE:
        return 0
    return max(0, last_step(recipe) - first_step(status))


def first_step(status: Status) -> int:
    """The step that a training has reached."""
    return 0 if status.progress is None else status.progress.step


def last_step(recipe: Recipe) -> int:
    """The step at which a training ends at the latest: a fixed step that is selected is its last one."""
    return recipe.selection.step if isinstance(recipe.selection, AtStep) else recipe.num_steps


def seconds_left(artifact: Artifact, status: Status, times: Times) -> float | None:
    """Seconds of one host that a training has left, or None if its speed is unknown or it is none."""
    seconds = times.seconds_per_step[artifact]
    if seconds is None:
        return None
    return steps_left(artifact, status) * seconds + times.evaluation_seconds.get(artifact, 0.0)


# -------------------------------------------------------------------------------- speed


def any_device(device: str | None) -> bool:
    """Whether a device counts where all of them do."""
    return True


def speeds(
    statuses: Mapping[Artifact, Status], store: Store, is_device: Callable[[str | None], bool] = any_device
) -> dict[Artifact, float | None]:
    """Seconds per step of each artifact, or None if unknown or not trained.

    The speed is that of the slowest record of the same shape. Without such a record, it is the measured one of
    `plan --measure`. Only those of devices for which `is_device` is true count.
    """
    recorded: dict[_Shape, float] = {}
    for artifact, status in statuses.items():
        shape = _shape(artifact)
        provenance = None if status.record is None else status.record.provenance
        if shape is None or provenance is None or not is_device(provenance.device):
            continue
        if (seconds := provenance.seconds_per_step) is not None:
            recorded[shape] = max(seconds, recorded.get(shape, 0.0))
    measured: dict[str, float | None] = {}
    result: dict[Artifact, float | None] = {}
    for artifact, status in statuses.items():
        shape, file = _shape(artifact), speed_file(artifact)
        if shape is None or file is None:
            result[artifact] = None
        elif shape in recorded or status.state is State.DONE:
            result[artifact] = recorded.get(shape)
        else:
            if file not in measured:
                speed = store.read_if_whole(file, Speed.read)
                measured[file] = None if speed is None or not is_device(speed.device) else speed.seconds_per_step
            result[artifact] = measured[file]
    return result


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What `plan --measure` writes of a shape."""

    seconds_per_step: float
    device: str
    threads: int | None = None
    """Those of a trial; None for one per processor."""
    assumed: str = ""
    """What is not as in training, in words; empty if nothing."""

    @staticmethod
    def read(value: Any, place: str) -> "Speed":
        """The speed in a JSON value; errors name `place`."""
        return read_object(Speed, value, place)


def recipe_of(artifact: Artifact) -> Recipe | None:
    """The recipe that an artifact is trained by; None if it is not trained."""
    if isinstance(artifact, Finetune):
        return artifact.task
    return artifact if isinstance(artifact, Pretrain) else None


def step_flops(artifact: Artifact) -> float:
    """FLOPs of a training step on rows of the recipe's full lengths; 0 for what is not trained."""
    recipe = recipe_of(artifact)
    if recipe is None or not isinstance(artifact, Pretrain | Finetune):
        return 0.0
    return training_flops(
        artifact.model,
        num_rows=recipe.batch_size,
        input_length=recipe.input_length,
        target_length=recipe.target_length,
    )


def data_of(artifact: Pretrain | Finetune) -> Dataset | TextDataset:
    """The data set that an artifact is trained on."""
    return artifact.data if isinstance(artifact, Pretrain) else artifact.task.data


def speed_file(artifact: Artifact) -> str | None:
    """Path in the store of the speed measured for an artifact's model, batch, lengths and data; None if not trained."""
    shape = _shape(artifact)
    if shape is None:
        return None
    return _speed_file(*shape)


@functools.cache
def _speed_file(model: T5Config, *others: Any) -> str:
    *numbers, data = others
    text = json.dumps([describe(model), *numbers, describe(data)], sort_keys=True)
    return f"speeds/{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"


_Shape = tuple[T5Config, int, int, int, SyntheticTask | TextCorpus | TextDataset]
"""Model, batch size, input length, target length and data."""


def _shape(artifact: Artifact) -> _Shape | None:
    """What the speed of a step depends on; None if the artifact is not trained."""
    if isinstance(artifact, Finetune):
        recipe: Recipe = artifact.task
        return artifact.model, recipe.batch_size, recipe.input_length, recipe.target_length, artifact.task.data
    if isinstance(artifact, Pretrain):
        return artifact.model, artifact.batch_size, artifact.input_length, artifact.target_length, artifact.data.task
    return None
