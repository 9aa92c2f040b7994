"""Quickstart: the paper's effect on one laptop, with no download.

Table:   exact match on statements of Python's standard library -> S-expressions, by initialization.
Varies:  init scheme (random, pre-attention layer norm 0.2, per param mean/SD from Set, full from Set and from Identity)
         x learning rate x seed; each seed has synthetic data and pre-trainings of its own.
Trials:  51 fine-tunings of 250 steps and 6 pre-trainings of at most 4,000 steps.
Cost:    seven to ten minutes on 2 idle cores, vocabulary and data included.
Command: python sweeps/quickstart.py run
"""

import dataclasses
from collections.abc import Callable

from raysynth import (
    ConstantInit,
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
MODEL = T5Config(
    vocab_size=512,
    emb_dim=64,
    num_heads=4,
    head_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=128,
)


def pretrain(synthetic: str, seed: int) -> Pretrain:
    tokens = token_space(num_pieces=412)
    task = dataclasses.replace(simple_tasks[synthetic], min_length=4, max_length=20, tokens=tokens)
    return Pretrain(
        data=Dataset(task=task, num_examples=130_000, num_validation=512, seed=seed),
        model=MODEL,
        seed=seed,
        num_steps=4_000,
        eval_every=250,
        batch_size=32,
        input_length=24,
        target_length=24,
        dropout_rate=0.0,
    )


def trial(synthetic: str, init: str, learning_rate: float, seed: int) -> Finetune:
    def source() -> Pretrain:
        return pretrain(synthetic, seed)

    schemes: dict[str, Callable[[], InitScheme]] = {
        "random": lambda: RandomInit(MODEL),
        "pre-attn LN 0.2": lambda: ConstantInit(MODEL, where="pre_attention_layer_norm", value=0.2),
        "per param mean/SD": lambda: StatisticInit(source(), group_by="parameter", statistic="mean_sd"),
        "full": lambda: FullInit(source()),
    }
    task = dataclasses.replace(TASK, learning_rate=learning_rate)
    return Finetune(task=task, init=schemes[init](), seed=seed)


sweep = Sweep(name="quickstart", claim="synthetic pre-training helps fine-tuning")
# The best rate of every row lies inside its grid.
sweep.add(trial, synthetic=["none"], init=["random"], learning_rate=[0.02, 0.04, 0.06], seed=SEEDS)
sweep.add(trial, synthetic=["none"], init=["pre-attn LN 0.2"], learning_rate=[0.04, 0.06, 0.08], seed=SEEDS)
sweep.add(trial, synthetic=["set"], init=["per param mean/SD"], learning_rate=[0.02, 0.04, 0.06], seed=SEEDS)
sweep.add(trial, synthetic=["set", "identity"], init=["full"], learning_rate=[0.01, 0.02, 0.04, 0.06], seed=SEEDS)
sweep.table(
    title="Python statements to S-expressions, test split: percent, mean (SD) over seeds",
    rows=("synthetic", "init"),
    best_of="learning_rate",
    baseline=("none", "random"),
    ceiling=("set", "full"),
)

if __name__ == "__main__":
    sweep.main()
