"""Parts: which parts of a pre-trained model carry its benefit, and whether parts of different sources go together.

Table:   none of the paper's. Exact match on statements of Python's standard library -> S-expressions, quickstart.py's
         task, by the source of the attention, of the MLPs and of the layer norms; "none" leaves a part random.
Varies:  source of each part (none, Set, Dyck, LIME): each part alone, attention and MLP of any two sources, all of one
         source with its relative biases; x learning rate x seed. Each seed has pre-trainings of its own, which
         later_tasks.py and controls.py share.
Trials:  207 fine-tunings, 9 pre-trainings.
Cost:    51,750 steps of fine-tuning and at most 18,000 of pre-training; 42 minutes on 2 cores beside tests.
Result:  attention alone keeps half of Set's benefit, MLPs and layer norms alone almost nothing; mixtures of sources are
         no better than Set's attention alone. Three seeds settle 3 of 39 differences (docs/beyond.md).
Command: python sweeps/parts.py run
"""

import dataclasses
from typing import Any

from raysynth import (
    ComposedInit,
    Dataset,
    Finetune,
    FullInit,
    InitScheme,
    Pretrain,
    RandomInit,
    Sweep,
    SyntheticTask,
    T5Config,
    downstream_tasks,
    synthetic_tasks,
    token_space,
)
from raysynth.specs.init_schemes import Family
from raysynth.tokens.span_corruption import SpanCorruption

SEEDS = range(3)
TASK = dataclasses.replace(downstream_tasks["python_ast"], num_steps=250, eval_every=50)
MODEL = T5Config(
    vocab_size=512, emb_dim=64, num_heads=4, head_dim=16, num_encoder_layers=2, num_decoder_layers=2, mlp_dim=128
)
TOKENS = token_space(num_pieces=412)


def small(task: str, **fields: Any) -> SyntheticTask:
    """A task with other fields, for the vocabulary of 512 ids and inputs of 24 tokens."""
    return dataclasses.replace(synthetic_tasks[task].tiny(), tokens=TOKENS, **fields)


SOURCES = {
    "set": small("set", min_length=4, max_length=20),
    "dyck": small("dyck", objective=SpanCorruption(input_length=24, first_sentinel=511)),
    "lime": small("lime", first_mark=412),
}


def pretrain(source: str, seed: int) -> Pretrain:
    return Pretrain(
        data=Dataset(task=SOURCES[source], num_examples=64_000, num_validation=512, seed=seed),
        model=MODEL,
        seed=seed,
        num_steps=2_000,
        eval_every=250,
        batch_size=32,
        input_length=24,
        target_length=24,
        dropout_rate=0.0,
    )


def scheme(source_of: dict[Family, str], seed: int) -> InitScheme:
    """The families of each source; a source of all three families gives its relative biases too."""
    families: dict[str, tuple[Family, ...]] = {}
    for family, source in source_of.items():
        if source != "none":
            families[source] = (*families.get(source, ()), family)
    parts = [
        FullInit(pretrain(source, seed), where=where if len(where) < len(source_of) else Family.ALL)
        for source, where in families.items()
    ]
    return ComposedInit(schemes=tuple(parts)) if len(parts) > 1 else parts[0] if parts else RandomInit(MODEL)


def trial(attention: str, mlp: str, norms: str, learning_rate: float, seed: int) -> Finetune:
    init = scheme({Family.ATTENTION: attention, Family.MLP: mlp, Family.LAYER_NORM: norms}, seed)
    return Finetune(task=dataclasses.replace(TASK, learning_rate=learning_rate), init=init, seed=seed)


NONE = ["none"]
RATES, LOW_RATES = {"learning_rate": [0.02, 0.04, 0.06], "seed": SEEDS}, {"learning_rate": [0.01], "seed": SEEDS}

sweep = Sweep(name="parts", claim="which parts carry the benefit")
sweep.add(trial, attention=[*NONE, *SOURCES], mlp=[*NONE, *SOURCES], norms=NONE, **RATES)
sweep.add(trial, attention=NONE, mlp=NONE, norms=[*SOURCES], **RATES)
for source in SOURCES:
    sweep.add(trial, attention=[source], mlp=[source], norms=[source], **RATES)
    sweep.add(trial, attention=[source], mlp=[source], norms=[source], **LOW_RATES)

PARTS = ("attention", "mlp", "norms")
for source in SOURCES:
    sweep.table(
        title=f"Parts of {source}: percent, mean (SD) over seeds",
        where=dict.fromkeys(PARTS, ("none", source)),
        rows=PARTS,
        best_of="learning_rate",
        baseline=("none", "none", "none"),
        ceiling=(source, source, source),
    )
sweep.table(
    title="Attention of one source (rows), MLP of another (columns): percent, mean (SD) over seeds",
    where={"norms": ("none",)},
    rows=("attention",),
    columns=("mlp",),
    best_of="learning_rate",
    baseline=("none",),
    metric="exact_match",
)

if __name__ == "__main__":
    sweep.main()
