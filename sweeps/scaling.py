"""Scaling: how many steps of pre-training, and how many different examples, are enough.

Table:   none of the paper's. Exact match on statements of Python's standard library -> S-expressions, quickstart.py's
         task, by the step of the pre-training that fine-tuning starts from and by the size of its data.
Varies:  pre-training on Set: number of examples x step (0 is random initialization) x learning rate x seed. One
         pre-training serves all its steps; each seed has data and pre-trainings of its own.
Trials:  189 fine-tunings, 9 pre-trainings.
Cost:    47,250 steps of fine-tuning and 36,000 of pre-training; 47 minutes on 2 cores beside tests.
Result:  the benefit comes with learning the task: none at step 500, two thirds at 1,000, nine tenths at 2,000 of 4,000.
         With 2,000 examples there is none, and 16,000 do as well as 128,000. Three seeds settle 3 of 29 differences
         (docs/beyond.md).
Command: python sweeps/scaling.py run
"""

import dataclasses

from raysynth import (
    Dataset,
    Finetune,
    FullInit,
    Pretrain,
    RandomInit,
    SourceAt,
    Sweep,
    T5Config,
    downstream_tasks,
    token_space,
)
from raysynth.synthetic import simple_tasks

SEEDS = range(3)
STEPS = (250, 500, 1_000, 2_000, 4_000)
TASK = dataclasses.replace(downstream_tasks["python_ast"], num_steps=250, eval_every=50)
MODEL = T5Config(
    vocab_size=512, emb_dim=64, num_heads=4, head_dim=16, num_encoder_layers=2, num_decoder_layers=2, mlp_dim=128
)
SET = dataclasses.replace(simple_tasks["set"], min_length=4, max_length=20, tokens=token_space(num_pieces=412))


def pretrain(examples: int, seed: int) -> Pretrain:
    return Pretrain(
        data=Dataset(task=SET, num_examples=examples, num_validation=512, seed=seed),
        model=MODEL,
        seed=seed,
        num_steps=max(STEPS),
        eval_every=250,
        keep_steps=STEPS,
        batch_size=32,
        input_length=24,
        target_length=24,
        dropout_rate=0.0,
    )


def trial(examples: int, step: int, learning_rate: float, seed: int) -> Finetune:
    init = FullInit(SourceAt(pretrain(examples, seed), step=step)) if step else RandomInit(MODEL)
    return Finetune(task=dataclasses.replace(TASK, learning_rate=learning_rate), init=init, seed=seed)


SIZES = [2_000, 16_000, 128_000]  # 4,000 steps see 128,000 examples
RATES = [0.01, 0.02, 0.04, 0.06]
sweep = Sweep(name="scaling", claim="how much pre-training is enough")
sweep.add(trial, examples=[0], step=[0], learning_rate=RATES[1:], seed=SEEDS)
sweep.add(trial, examples=SIZES, step=STEPS, learning_rate=RATES, seed=SEEDS)
sweep.table(
    title="Pre-training on Set, by number of examples and step: percent, mean (SD) over seeds",
    rows=("examples", "step"),
    best_of="learning_rate",
    baseline=(0, 0),
    ceiling=(max(SIZES), max(STEPS)),
)

if __name__ == "__main__":
    sweep.main()
