"""A smaller quickstart, which tests run with `--tiny`: 18 fine-tunings, 2 pre-trainings and their data."""

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

SEEDS = range(2)
LEARNING_RATES = [0.01, 0.02]
TASK = downstream_tasks["python_ast"]
MODEL = T5Config(
    vocab_size=512,
    emb_dim=64,
    num_heads=4,
    head_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=128,
)


def pretrain(synthetic: str) -> Pretrain:
    tokens = token_space(num_pieces=412)
    task = dataclasses.replace(simple_tasks[synthetic], min_length=4, max_length=20, tokens=tokens)
    return Pretrain(
        data=Dataset(task=task, num_examples=100_000, num_validation=512),
        model=MODEL,
        num_steps=2_500,
        eval_every=250,
        batch_size=32,
        input_length=24,
        target_length=24,
        dropout_rate=0.0,
    )


def trial(synthetic: str, init: str, learning_rate: float, seed: int) -> Finetune:
    schemes: dict[str, Callable[[], InitScheme]] = {
        "random": lambda: RandomInit(MODEL),
        "pre-attn LN 0.2": lambda: ConstantInit(MODEL, where="pre_attention_layer_norm", value=0.2),
        "per param mean/SD": lambda: StatisticInit(pretrain(synthetic), group_by="parameter", statistic="mean_sd"),
        "full": lambda: FullInit(pretrain(synthetic)),
    }
    task = dataclasses.replace(TASK, learning_rate=learning_rate)
    return Finetune(task=task, init=schemes[init](), seed=seed)


shared = {"learning_rate": LEARNING_RATES, "seed": SEEDS}
sweep = Sweep(name="quickstart", claim="synthetic pre-training helps fine-tuning")
sweep.add(trial, synthetic=["none"], init=["random", "pre-attn LN 0.2"], **shared)
sweep.add(trial, synthetic=["identity"], init=["full"], learning_rate=LEARNING_RATES[:1], seed=SEEDS)
sweep.add(trial, synthetic=["set"], init=["per param mean/SD", "full"], **shared)
sweep.table(
    title="Python statements to S-expressions, test split: percent, mean (SD) over seeds",
    rows=("synthetic", "init"),
    best_of="learning_rate",
    baseline=("none", "random"),
    ceiling=("set", "full"),
)

if __name__ == "__main__":
    sweep.main()
