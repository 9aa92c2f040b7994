"""Descriptions that train in a second, and observers that interrupt them."""

import dataclasses
from unittest import mock

from raysynth import Best, Dataset, Pretrain, synthetic_tasks, token_space
from raysynth.model import train
from raysynth.observer import Silent
from tests.tiny import MODEL, TASK

__all__ = ["DATA", "MODEL", "PRETRAIN", "TASK", "Killed", "KillsAtEvaluation", "KillsAtProgress", "one_step_a_call"]

DATA = Dataset(
    task=dataclasses.replace(
        synthetic_tasks["identity"], min_length=2, max_length=10, tokens=token_space(num_pieces=156)
    ),
    num_examples=200,
    num_validation=48,
)
PRETRAIN = Pretrain(
    data=DATA,
    model=MODEL,
    num_steps=12,
    eval_every=3,
    num_eval_examples=40,
    batch_size=8,
    input_length=12,
    target_length=12,
    selection=Best("token_accuracy"),
)


class Killed(Exception):
    """Stands for a power cut."""


class KillsAtProgress(Silent):
    """Kills a run after a step, before its evaluation."""

    def __init__(self, step):
        self.step = step

    def progress(self, artifact, progress):
        if progress.step == self.step:
            raise Killed


class KillsAtEvaluation(Silent):
    """Kills a run between a step's evaluation and its checkpoint."""

    def __init__(self, step):
        self.step = step

    def evaluated(self, artifact, progress):
        if progress.step == self.step:
            raise Killed


def one_step_a_call():
    """A context in which calls make one step each, as those of large models do, so that every step is reported."""
    return mock.patch.object(train, "steps_per_call", return_value=1)
