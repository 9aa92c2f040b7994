"""Beyond the paper: every simple task, mixtures of tasks, composed init schemes, statistics for another size.

Table:   none of the paper's. Five tables of exact match on statements of Python's standard library -> S-expressions,
         quickstart.py's task at a learning rate of 0.02: it needs no files, and 400 steps show differences.
Varies:  (1) the 18 simple tasks x full or mean/SD; (2) mixtures against their parts; (3) schemes alone and together;
         (4) source's size x group, for a larger model. Two seeds throughout.
Trials:  102 fine-tunings, 21 pre-trainings.
Cost:    40,800 steps of fine-tuning and at most 52,500 of pre-training; at most 3 core-hours,
         as `plan --measure` told on a busy machine.
Command: python sweeps/beyond.py run
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from raysynth import (
    ComposedInit,
    ConstantInit,
    Dataset,
    Finetune,
    FullInit,
    InitScheme,
    Mixture,
    Pretrain,
    RandomInit,
    StatisticInit,
    Sweep,
    SyntheticTask,
    T5Config,
    downstream_tasks,
    token_space,
)
from raysynth.synthetic import simple_tasks

# For one of the paper's, take raysynth.paper's TASKS["MTOP"], T5_SMALL, T5_BASE, simple_tasks and pretraining.
TASK = dataclasses.replace(downstream_tasks["python_ast"], learning_rate=0.02)
SMALL = T5Config(
    vocab_size=512, emb_dim=64, num_heads=4, head_dim=16, num_encoder_layers=2, num_decoder_layers=2, mlp_dim=128
)
LARGE = dataclasses.replace(SMALL, emb_dim=96, num_heads=6, num_encoder_layers=4, num_decoder_layers=4, mlp_dim=192)
TOKENS = token_space(num_pieces=412)
SIMPLE = {
    name: dataclasses.replace(task, min_length=4, max_length=20, tokens=TOKENS) for name, task in simple_tasks.items()
}
SET, IDENTITY = SIMPLE["set"], SIMPLE["identity"]


def pretrain(synthetic: SyntheticTask, model: T5Config) -> Pretrain:
    return Pretrain(
        data=Dataset(task=synthetic, num_examples=100_000, num_validation=512),
        model=model,
        num_steps=2_500,
        eval_every=250,
        batch_size=32,
        input_length=24,
        target_length=42,  # Duplicate doubles its input
        dropout_rate=0.0,
    )


def mean_sd(source: Pretrain, **fields: Any) -> StatisticInit:
    return StatisticInit(source, **{"group_by": "parameter", "statistic": "mean_sd", **fields})


def layer_norms(model: T5Config) -> ConstantInit:
    return ConstantInit(model, where="pre_attention_layer_norm", value=0.2)


MIXTURES = [Mixture(tasks=(SET, IDENTITY)), Mixture(tasks=tuple(SIMPLE.values()))]

Scheme = Callable[[SyntheticTask, T5Config], InitScheme]
RANDOM: dict[str, Scheme] = {"random": lambda _, model: RandomInit(model)}
MAIN: dict[str, Scheme] = {
    "full": lambda task, model: FullInit(pretrain(task, model)),
    "mean/SD": lambda task, model: mean_sd(pretrain(task, model)),
}
COMPOSED: dict[str, Scheme] = {
    "attention mean/SD": lambda task, model: mean_sd(pretrain(task, model), where="attention"),
    "mean/SD, pre-attn LN 0.2": lambda task, model: ComposedInit(
        schemes=(mean_sd(pretrain(task, model)), layer_norms(model))
    ),
    "attention mean/SD, pre-attn LN 0.2": lambda task, model: ComposedInit(
        schemes=(mean_sd(pretrain(task, model), where="attention"), layer_norms(model))
    ),
    "attention mean/SD, MLP mean/SD of identity": lambda task, model: ComposedInit(
        schemes=(mean_sd(pretrain(task, model), where="attention"), mean_sd(pretrain(IDENTITY, model), where="mlp"))
    ),
}
ACROSS: dict[str, Scheme] = {
    "mean/SD of the small model": lambda task, model: mean_sd(pretrain(task, SMALL), onto=model),
    "across layers mean/SD of the small model": lambda task, model: mean_sd(
        pretrain(task, SMALL), group_by="type", onto=model
    ),
}


def trial(synthetic: SyntheticTask, init: Scheme, model: T5Config, seed: int) -> Finetune:
    return Finetune(task=TASK, init=init(synthetic, model), seed=seed)


small, large = ({"model": model, "seed": range(2)} for model in ({"small": SMALL}, {"large": LARGE}))
sweep = Sweep(name="beyond", claim="what else synthetic tasks give")
sweep.add(trial, synthetic=["none"], init={**RANDOM, "pre-attn LN 0.2": lambda _, model: layer_norms(model)}, **small)
sweep.add(trial, synthetic=[*SIMPLE.values(), *MIXTURES], init=MAIN, **small)
sweep.add(trial, synthetic=[SET], init=COMPOSED, **small)
sweep.add(trial, synthetic=["none"], init=RANDOM, **large)
sweep.add(trial, synthetic=[SET], init={**MAIN, **ACROSS}, **large)

ROWS, BASELINE, CEILING = ("synthetic", "init"), ("none", "random"), ("set", "full")
for init in MAIN:
    chosen = {"model": ("small",), "init": ("random", init), "synthetic": ("none", *SIMPLE)}
    sweep.table(title=f"Every simple task, {init}", where=chosen, rows=ROWS, baseline=BASELINE, ceiling=("set", init))
mixed = ("none", "set", "identity", *(mixture.name for mixture in MIXTURES))
sweep.table(
    title="Mixtures and their parts",
    where={"model": ("small",), "init": ("random", *MAIN), "synthetic": mixed},
    rows=ROWS,
    baseline=BASELINE,
    ceiling=CEILING,
)
sweep.table(
    title="Schemes alone and together",
    where={"model": ("small",), "synthetic": ("none", "set")},
    rows=ROWS,
    baseline=BASELINE,
    ceiling=CEILING,
)
sweep.table(title="A larger model", where={"model": ("large",)}, rows=ROWS, baseline=BASELINE, ceiling=CEILING)

if __name__ == "__main__":
    sweep.main()
