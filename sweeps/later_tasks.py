"""Later tasks: what the generators that came after the paper give, beside four of its own and the IID control.

Table:   none of the paper's. Exact match on statements of Python's standard library -> S-expressions, quickstart.py's
         task, by the task of the pre-training; inputs of all tasks have at most 24 tokens.
Varies:  synthetic task (none, Set, Identity, a mixture of both, LIME, Dyck; Shuffle Dyck, Stack, Random RNN, cellular
         automaton, the IID control of Set) x learning rate x seed; each seed has synthetic data and pre-trainings of
         its own.
Trials:  129 fine-tunings, 30 pre-trainings.
Cost:    32,250 steps of fine-tuning and at most 60,000 of pre-training; 50 minutes on 2 cores beside tests.
Result:  no later task is better than Set or Identity. Stack, the cellular automaton and LIME seem to give half of Set's
         benefit, Dyck and Random RNN none. Three seeds settle 2 of 19 differences (docs/beyond.md).
Command: python sweeps/later_tasks.py run
"""

import dataclasses
from typing import Any

from raysynth import (
    Dataset,
    Finetune,
    FullInit,
    Mixture,
    Pretrain,
    RandomInit,
    Sweep,
    SyntheticTask,
    T5Config,
    downstream_tasks,
    synthetic_tasks,
    token_space,
)
from raysynth.synthetic.iid_control import IIDControl
from raysynth.tokens.span_corruption import SpanCorruption

SEEDS = range(3)
TASK = dataclasses.replace(downstream_tasks["python_ast"], num_steps=250, eval_every=50)
MODEL = T5Config(
    vocab_size=512, emb_dim=64, num_heads=4, head_dim=16, num_encoder_layers=2, num_decoder_layers=2, mlp_dim=128
)
TOKENS = token_space(num_pieces=412)
FEW_TOKENS = dataclasses.replace(TOKENS, last=129)
"""Room for 64 kinds of brackets, as in the source of Shuffle Dyck."""
SPANS = SpanCorruption(input_length=24, first_sentinel=511)


def small(task: str, **fields: Any) -> SyntheticTask:
    """A task with other fields, for the vocabulary of 512 ids and inputs of 24 tokens."""
    return dataclasses.replace(synthetic_tasks[task].tiny(), **{"tokens": TOKENS, **fields})


LENGTHS = {"min_length": 4, "max_length": 20}
SET, IDENTITY = small("set", **LENGTHS), small("identity", **LENGTHS)
TASKS = (
    SET,
    IDENTITY,
    Mixture(tasks=(SET, IDENTITY)),
    small("lime", first_mark=412),
    small("dyck", objective=SPANS),
    small("shuffle_dyck", tokens=FEW_TOKENS, objective=SPANS),
    small("stack", min_length=8, max_length=20),
    small("random_rnn", objective=SPANS, hidden_size=64, sequences_per_network=100),
    small("cellular_automaton", num_states=4, min_ratio=0.9),
    IIDControl(task=SET),
)


def pretrain(synthetic: SyntheticTask, seed: int) -> Pretrain:
    return Pretrain(
        data=Dataset(task=synthetic, num_examples=64_000, num_validation=512, seed=seed),
        model=MODEL,
        seed=seed,
        num_steps=2_000,
        eval_every=250,
        batch_size=32,
        input_length=24,
        target_length=24,
        dropout_rate=0.0,
    )


def trial(synthetic: SyntheticTask | str, learning_rate: float, seed: int) -> Finetune:
    init = RandomInit(MODEL) if isinstance(synthetic, str) else FullInit(pretrain(synthetic, seed))
    return Finetune(task=dataclasses.replace(TASK, learning_rate=learning_rate), init=init, seed=seed)


sweep = Sweep(name="later_tasks", claim="which synthetic task helps most")
sweep.add(trial, synthetic=["none"], learning_rate=[0.02, 0.04, 0.06], seed=SEEDS)
sweep.add(trial, synthetic=TASKS, learning_rate=[0.01, 0.02, 0.04, 0.06], seed=SEEDS)
sweep.table(
    title="Python statements to S-expressions by synthetic task, full init: percent, mean (SD) over seeds",
    rows=("synthetic",),
    best_of="learning_rate",
    baseline=("none",),
    ceiling=("set",),
)

if __name__ == "__main__":
    sweep.main()
