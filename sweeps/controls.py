"""Controls: what remains of the benefit of Set when its structure is destroyed step by step.

Table:   none of the paper's. Exact match on statements of Python's standard library -> S-expressions, quickstart.py's
         task, by init scheme.
Varies:  init scheme: random; full, shuffled, mean/SD and four strengths of noise from Set; the mean/SD of attention
         alone, and all mean/SD with the layer norm 0.2 of the paper's Table 8; full and mean/SD from the IID control,
         which has Set's lengths and nothing to learn; x learning rate x seed. Each seed has pre-trainings of its own,
         which parts.py and later_tasks.py share.
Trials:  141 fine-tunings, 6 pre-trainings.
Cost:    35,250 steps of fine-tuning and at most 12,000 of pre-training; about twenty minutes on 2 cores.
Result:  shuffled weights and mean/SD keep 54 and 65 % of the benefit, and the mean/SD of a model that had nothing to
         learn seems to give as much (62 %, not settled). Noise of 2 SDs does harm. Three seeds settle 8 of 21
         differences (docs/beyond.md).
Command: python sweeps/controls.py run
"""

import dataclasses
import functools
from collections.abc import Callable

from raysynth import (
    ComposedInit,
    ConstantInit,
    Dataset,
    Finetune,
    FullInit,
    InitScheme,
    NoisedInit,
    Pretrain,
    RandomInit,
    StatisticInit,
    Sweep,
    T5Config,
    downstream_tasks,
    token_space,
)
from raysynth.specs.init_schemes import FamilyName
from raysynth.synthetic import simple_tasks
from raysynth.synthetic.iid_control import IIDControl

SEEDS = range(3)
TASK = dataclasses.replace(downstream_tasks["python_ast"], num_steps=250, eval_every=50)
MODEL = T5Config(
    vocab_size=512, emb_dim=64, num_heads=4, head_dim=16, num_encoder_layers=2, num_decoder_layers=2, mlp_dim=128
)
SET = dataclasses.replace(simple_tasks["set"], min_length=4, max_length=20, tokens=token_space(num_pieces=412))
SOURCES = {"set": SET, "iid_control": IIDControl(task=SET)}
NOISES = (0.25, 0.5, 1.0, 2.0)
"""In SDs of each parameter."""


def pretrain(synthetic: str, seed: int) -> Pretrain:
    return Pretrain(
        data=Dataset(task=SOURCES[synthetic], num_examples=64_000, num_validation=512, seed=seed),
        model=MODEL,
        seed=seed,
        num_steps=2_000,
        eval_every=250,
        batch_size=32,
        input_length=24,
        target_length=24,
        dropout_rate=0.0,
    )


def mean_sd(source: Pretrain, where: FamilyName = "all") -> StatisticInit:
    return StatisticInit(source, group_by="parameter", statistic="mean_sd", where=where)


Scheme = Callable[[Pretrain], InitScheme]
SCHEMES: dict[str, Scheme] = {"full": FullInit, "mean/SD": mean_sd}
OF_SET: dict[str, Scheme] = {
    "shuffled": lambda source: StatisticInit(source, group_by="parameter", statistic="shuffled"),
    "attention mean/SD": lambda source: mean_sd(source, "attention"),
    "mean/SD, pre-attn LN 0.2": lambda source: ComposedInit(
        schemes=(mean_sd(source), ConstantInit(MODEL, where="pre_attention_layer_norm", value=0.2))
    ),
    **{f"noised {scale:g}": functools.partial(NoisedInit, scale=scale) for scale in NOISES},
}


def trial(synthetic: str, init: Scheme | None, learning_rate: float, seed: int) -> Finetune:
    scheme = RandomInit(MODEL) if init is None else init(pretrain(synthetic, seed))
    return Finetune(task=dataclasses.replace(TASK, learning_rate=learning_rate), init=scheme, seed=seed)


RATES = [0.01, 0.02, 0.04, 0.06]
sweep = Sweep(name="controls", claim="what remains of the benefit without structure")
sweep.add(trial, synthetic=["none"], init={"random": None}, learning_rate=RATES[1:], seed=SEEDS)
sweep.add(trial, synthetic=["set"], init={**SCHEMES, **OF_SET}, learning_rate=RATES, seed=SEEDS)
sweep.add(trial, synthetic=["iid_control"], init=SCHEMES, learning_rate=RATES, seed=SEEDS)
sweep.table(
    title="Controls: percent, mean (SD) over seeds",
    rows=("synthetic", "init"),
    best_of="learning_rate",
    baseline=("none", "random"),
    ceiling=("set", "full"),
)

if __name__ == "__main__":
    sweep.main()
