"""Descriptions that train in a second, and observers that interrupt them."""

import dataclasses

from raysynth import Best, Dataset, Pretrain, T5Config, downstream_tasks, synthetic_tasks, token_space
from raysynth.downstream.python_ast import PythonAST
from raysynth.observer import Silent

MODEL = T5Config(
    vocab_size=256, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1, mlp_dim=32
)
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
TASK = dataclasses.replace(
    downstream_tasks["python_ast"],
    data=dataclasses.replace(
        downstream_tasks["python_ast"].data,
        texts=PythonAST(max_source_chars=16),
        vocabulary=dataclasses.replace(downstream_tasks["python_ast"].data.vocabulary, num_pieces=156),
        num_train=300,
        num_validation=24,
        num_test=20,
    ),
    num_steps=6,
    eval_every=3,
    batch_size=8,
    input_length=16,
    target_length=24,
    decode_length=24,
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
