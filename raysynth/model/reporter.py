"""Times training and reports its progress, without making the device wait for every step."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import jax
import numpy as np

from raysynth.model.calls import Call
from raysynth.model.step import Counts, check_finite
from raysynth.observer import Observer, Progress
from raysynth.specs.recipes import Recipe
from raysynth.store.records import Timing


class Reporter:
    """Reports the progress of one artifact about every hundredth of its steps, and adds up its times.

    A report waits for the end of a call of the device.
    """

    def __init__(self, artifact: str, recipe: Recipe, *, first_step: int, observer: Observer):
        self._artifact = artifact
        self._recipe = recipe
        self._observer = observer
        self._steps_per_report = max(1, min(recipe.num_steps // 100, recipe.eval_every))
        self._intervals: list[tuple[int, float]] = []
        """Steps and seconds between two reports; the first interval includes compilation."""
        self._evaluation_seconds = 0.0
        self._start_interval(first_step)
        observer.progress(artifact, self._progress(first_step, {}))

    def _start_interval(self, step: int) -> None:
        self._counts: list[tuple[int, Counts]] = []
        self._num_tokens = 0
        self._interval_step, self._interval_time = step, time.monotonic()

    def after_call(self, call: Call, counts: Counts, learning_rate: np.float32) -> None:
        """Keep a call's counts, [steps]; at the end of an interval, fetch them from the device and report their sums.

        `learning_rate` is that of the last step. Raises `Diverged` if the loss is not finite.
        """
        step = call.last_step
        self._counts.append((len(call.batches), counts))
        self._num_tokens += sum(block.num_tokens for blocks in call.batches for block in blocks)
        num_steps = step - self._interval_step
        is_end = step // self._steps_per_report > self._interval_step // self._steps_per_report
        if not is_end and step != self._recipe.num_steps:
            return
        sums = _sums(self._counts)
        check_finite(sums["loss"], step)
        seconds = time.monotonic() - self._interval_time
        self._intervals.append((num_steps, seconds))
        scalars = {
            "train/loss": sums["loss"] / sums["weight"],
            "train/token_accuracy": sums["correct"] / sums["weight"],
            "learning_rate": float(learning_rate),
            "speed/tokens_per_second": self._num_tokens / seconds,
            "speed/seconds_per_step": seconds / num_steps,
        }
        self._observer.progress(self._artifact, self._progress(step, scalars))
        self._start_interval(step)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Excludes evaluating and saving from the seconds per step."""
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self._evaluation_seconds += seconds
        self._interval_time += seconds

    def evaluated(self, step: int, scores: Mapping[str, float]) -> None:
        """Report an evaluation."""
        scalars = {f"validation/{name}": value for name, value in scores.items()}
        self._observer.evaluated(self._artifact, self._progress(step, scalars))

    def timing(self) -> Timing:
        """Seconds of the parts so far; those per step leave out the first interval, which compiles."""
        later = self._intervals[1:]
        return Timing(
            evaluation_seconds=self._evaluation_seconds,
            train_seconds=sum(seconds for _, seconds in self._intervals),
            seconds_per_step=sum(seconds for _, seconds in later) / sum(steps for steps, _ in later) if later else None,
        )

    def _progress(self, step: int, scalars: Mapping[str, float]) -> Progress:
        return Progress(step=step, num_steps=self._recipe.num_steps, scalars=scalars)


def _sums(counts: list[tuple[int, Counts]]) -> dict[str, float]:
    """The float32 sums over all steps, added one after another."""
    fetched = jax.device_get([arrays for _, arrays in counts])
    sums = {}
    for name in fetched[0]:
        steps = np.concatenate([arrays[name][:num] for (num, _), arrays in zip(counts, fetched, strict=True)])
        sums[name] = float(np.add.accumulate(steps, dtype=np.float32)[-1])
    return sums
