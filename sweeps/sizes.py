"""Sizes: whether the statistics of a small pre-trained model help a larger one, which is dearer to pre-train.

Table:   none of the paper's. Exact match on statements of Python's standard library -> S-expressions, quickstart.py's
         task, of a model with twice the layers and 1.5 times the width of quickstart.py's.
Varies:  init scheme of the larger model (random; full and mean/SD from the same size; mean/SD by parameter and across
         layers from the small size), pre-trained on Set x learning rate x seed; each seed has pre-trainings of its own.
Trials:  48 fine-tunings, 6 pre-trainings.
Cost:    12,000 steps of fine-tuning and at most 12,000 of pre-training; 17 minutes on 2 cores beside tests.
Result:  statistics of the small model do not clearly help the larger one; those of its own size close 43 % of the gap.
         Three seeds settle 4 of 7 differences (docs/beyond.md).
Command: python sweeps/sizes.py run
"""

import dataclasses
from collections.abc import Callable

from raysynth import (
    Dataset,
    Finetune,
    FullInit,
    InitScheme,
    Pretrain,
    RandomInit,
    StatisticInit,
    Sweep,
    T5Config,
    downstream_tasks,
    token_space,
)
from raysynth.synthetic import simple_tasks

SEEDS = range(3)
TASK = dataclasses.replace(downstream_tasks["python_ast"], num_steps=250, eval_every=50)
SMALL = T5Config(
    vocab_size=512, emb_dim=64, num_heads=4, head_dim=16, num_encoder_layers=2, num_decoder_layers=2, mlp_dim=128
)
LARGE = dataclasses.replace(SMALL, emb_dim=96, num_heads=6, num_encoder_layers=4, num_decoder_layers=4, mlp_dim=192)
SET = dataclasses.replace(simple_tasks["set"], min_length=4, max_length=20, tokens=token_space(num_pieces=412))


def pretrain(model: T5Config, seed: int) -> Pretrain:
    return Pretrain(
        data=Dataset(task=SET, num_examples=64_000, num_validation=512, seed=seed),
        model=model,
        seed=seed,
        num_steps=2_000,
        eval_every=250,
        batch_size=32,
        input_length=24,
        target_length=24,
        dropout_rate=0.0,
    )


Scheme = Callable[[int], InitScheme]
SCHEMES: dict[str, Scheme] = {
    "mean/SD": lambda seed: StatisticInit(pretrain(LARGE, seed), group_by="parameter", statistic="mean_sd"),
    "mean/SD of the small model": lambda seed: StatisticInit(
        pretrain(SMALL, seed), group_by="parameter", statistic="mean_sd", onto=LARGE
    ),
    "across layers mean/SD of the small model": lambda seed: StatisticInit(
        pretrain(SMALL, seed), group_by="type", statistic="mean_sd", onto=LARGE
    ),
}


def trial(init: Scheme, learning_rate: float, seed: int) -> Finetune:
    return Finetune(task=dataclasses.replace(TASK, learning_rate=learning_rate), init=init(seed), seed=seed)


RATES = [0.01, 0.02, 0.04, 0.06]
sweep = Sweep(name="sizes", claim="statistics of a small model for a larger one")
sweep.add(trial, init={"random": lambda seed: RandomInit(LARGE), **SCHEMES}, learning_rate=RATES[1:], seed=SEEDS)
sweep.add(trial, init={"full": lambda seed: FullInit(pretrain(LARGE, seed))}, learning_rate=RATES, seed=SEEDS)
sweep.table(
    title="A larger model: percent, mean (SD) over seeds",
    rows=("init",),
    best_of="learning_rate",
    baseline=("random",),
    ceiling=("full",),
)

if __name__ == "__main__":
    sweep.main()
