"""How long the rest of a run takes, from the steps per second that its trainings show."""

import datetime
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from raysynth.observer import Progress
from raysynth.report.cost import recipe_of, speed_file, step_flops
from raysynth.specs.identity import Artifact, name


@dataclass(kw_only=True)
class _Training:
    """A training that is not over yet."""

    shape: str
    """Trainings of the same shape have the same speed."""
    needs: tuple[str, ...]
    steps_left: int
    has_begun: bool = False
    warm: tuple[float, int] | None = None
    """When this attempt had its first speed, by which time it has compiled, and the steps that were left then."""


class Estimate:
    """Follows the trainings of a run and estimates the seconds until the last one ends.

    Each training counts with its steps left times the seconds per step of its shape, as measured in this run, or else
    as the store knows it, or else by its FLOPs beside those of a shape that is known. A training that has not begun
    also counts with the time that finished ones took beside their steps, for evaluation and test, but not with that of
    compilation: all but the first few find their programs compiled.
    """

    def __init__(self, artifacts: Iterable[Artifact] = (), speeds: Mapping[Artifact, float | None] | None = None):
        """`speeds` are seconds per step that are known before the run; see `raysynth.report.cost.speeds`."""
        self._trainings: dict[str, _Training] = {}
        self._seconds: dict[str, float] = {}
        """Seconds per step by shape."""
        self._measured: dict[str, tuple[float, int]] = {}
        """By shape, the seconds and steps that this run has measured: single intervals are too short to go by."""
        self._flops: dict[str, float] = {}
        """FLOPs of a step by shape, with full rows for all of them."""
        self._beside: dict[str, list[float]] = {}
        """By shape, the seconds that each finished training took beside its steps once it had compiled."""
        self._totals = (0.0, 0.0)
        """The seconds of finished trainings beside their steps and in their steps."""
        self._most_at_once = 1
        for artifact in artifacts:
            recipe, shape = recipe_of(artifact), speed_file(artifact)
            if recipe is None or shape is None:
                continue
            self._flops[shape] = step_flops(artifact)
            self._trainings[name(artifact)] = _Training(
                shape=shape,
                needs=tuple(map(name, artifact.inputs())),
                steps_left=recipe.num_steps,
            )
            known = (speeds or {}).get(artifact)
            if known is not None:
                self._seconds[shape] = known

    def started(self, artifact: str) -> None:
        """Note that an artifact begins, again perhaps."""
        training = self._trainings.get(artifact)
        if training is not None:
            training.has_begun = True
            self._most_at_once = max(self._most_at_once, sum(each.has_begun for each in self._trainings.values()))

    def progress(self, artifact: str, progress: Progress) -> None:
        """Note how far a training is and how fast."""
        training = self._trainings.get(artifact)
        if training is None:
            return
        num_steps = training.steps_left - (progress.num_steps - progress.step)
        training.steps_left -= num_steps
        seconds = progress.scalars.get("speed/seconds_per_step")
        if seconds is None and not progress.scalars:  # the first report of an attempt
            training.warm = None
        elif seconds is not None and training.warm is None:  # the first interval includes compilation
            training.warm = time.monotonic(), training.steps_left
        elif seconds is not None and num_steps > 0:
            sum_seconds, sum_steps = self._measured.get(training.shape, (0.0, 0))
            sum_seconds, sum_steps = sum_seconds + num_steps * seconds, sum_steps + num_steps
            self._measured[training.shape] = sum_seconds, sum_steps
            self._seconds[training.shape] = sum_seconds / sum_steps

    def ended(self, artifact: str) -> None:
        """Note that an artifact is done."""
        training = self._trainings.pop(artifact, None)
        if training is None or training.warm is None or not self._seconds:
            return
        warm, steps_left = training.warm
        in_steps = (steps_left - training.steps_left) * self._seconds_per_step(training)
        beside = max(0.0, time.monotonic() - warm - in_steps)
        self._beside.setdefault(training.shape, []).append(beside)
        sum_beside, sum_in_steps = self._totals
        self._totals = sum_beside + beside, sum_in_steps + in_steps

    def failed(self, artifact: str) -> None:
        """Note that an artifact has failed: what needs it will not begin either."""
        lost = {artifact}
        for each, training in self._trainings.items():  # inputs come first
            if lost.intersection(training.needs):
                lost.add(each)
        self._trainings = {each: training for each, training in self._trainings.items() if each not in lost}

    def seconds_left(self) -> float | None:
        """Seconds until the last training ends, or None while no speed is known.

        As many trainings run at once as ever did in this run. No estimate is shorter than the longest chain of a
        training and those that wait for it.
        """
        if not self._seconds and self._trainings:
            return None
        chains: dict[str, float] = {}
        total = 0.0
        # Inputs come first, so backwards each training follows all that wait for it.
        for artifact, training in reversed(self._trainings.items()):
            seconds = self._own_seconds(training)
            total += seconds
            chain = seconds + chains.get(artifact, 0.0)
            chains[artifact] = chain
            for needed in training.needs:
                chains[needed] = max(chain, chains.get(needed, 0.0))
        return max([total / self._most_at_once, *chains.values()])

    def seconds_left_of(self, artifact: str) -> float | None:
        """Seconds until a training ends, or None if it is none or its speed is unknown."""
        training = self._trainings.get(artifact)
        return None if training is None or not self._seconds else self._own_seconds(training)

    def _own_seconds(self, training: _Training) -> float:
        seconds = training.steps_left * self._seconds_per_step(training)
        if training.has_begun:
            return seconds
        if training.shape in self._beside:
            return seconds + statistics.median(self._beside[training.shape])
        sum_beside, sum_in_steps = self._totals
        return seconds * (1.0 + sum_beside / sum_in_steps) if sum_in_steps else seconds

    def _seconds_per_step(self, training: _Training) -> float:
        if training.shape not in self._seconds:
            known, seconds = next(iter(self._seconds.items()))
            return seconds * self._flops[training.shape] / self._flops[known]
        return self._seconds[training.shape]


def clock(seconds: float | None) -> str:
    """A time left as hours, minutes and seconds, such as `0:01:52`; empty if unknown."""
    return "" if seconds is None else str(datetime.timedelta(seconds=round(seconds)))
