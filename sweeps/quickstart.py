"""Quickstart: the paper's effect on one laptop, with no download.

What varies: initialization (random, a constant pre-attention layer norm, and two schemes from each of two synthetic
tasks) x learning rate x seed. The downstream task turns statements of Python's standard library into S-expressions.
"""

import dataclasses

from raysynth import (
    ConstantInit,
    Dataset,
    Finetune,
    FullInit,
    Pretrain,
    RandomInit,
    StatisticInit,
    Sweep,
    T5Config,
    downstream_tasks,
    synthetic_tasks,
    token_space,
)

MODEL = T5Config(
    vocab_size=1024,
    emb_dim=64,
    num_heads=4,
    head_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=128,
)
TOKENS = token_space(num_pieces=924)


def pretrain(synthetic):
    task = dataclasses.replace(synthetic_tasks[synthetic], min_length=4, max_length=24, tokens=TOKENS)
    data = Dataset(task=task, num_examples=100_000, num_validation=1_000)
    return Pretrain(
        data=data,
        model=MODEL,
        num_steps=4_000,
        eval_every=250,
        num_eval_examples=512,
        batch_size=32,
        input_length=32,
        target_length=32,
    )


def trial(synthetic, init, learning_rate, seed):
    schemes = {
        "random": lambda: RandomInit(MODEL),
        "pre-attention layer norm 0.2": lambda: ConstantInit(MODEL, where="pre_attention_layer_norm", value=0.2),
        "per param mean/sd": lambda: StatisticInit(pretrain(synthetic), group_by="parameter", statistic="mean_sd"),
        "full": lambda: FullInit(pretrain(synthetic)),
    }
    task = dataclasses.replace(downstream_tasks["python_ast"], learning_rate=learning_rate)
    return Finetune(task=task, init=schemes[init](), seed=seed)


sweep = Sweep(name="quickstart", claim="synthetic pre-training helps fine-tuning")
sweep.add(
    trial, synthetic=["none"], init=["random", "pre-attention layer norm 0.2"], learning_rate=[0.01], seed=range(3)
)
sweep.add(trial, synthetic=["identity", "set"], init=["per param mean/sd", "full"], learning_rate=[0.01], seed=range(3))
sweep.table(
    title="Statements of Python to S-expressions: test split, percent, mean (SD) over seeds",
    rows=("synthetic", "init"),
    best_of="learning_rate",
    baseline=("none", "random"),
    ceiling=("set", "full"),
)
sweep.learning_curves(by=("synthetic", "init"))

if __name__ == "__main__":
    sweep.main()
