"""The sweep that the campaign disturbs: both kinds of data set, two pre-trainings, three fine-tunings, in seconds."""

import dataclasses
import random
from pathlib import Path

from raysynth import (
    Dataset,
    DownstreamTask,
    Finetune,
    FullInit,
    Pretrain,
    RandomInit,
    StatisticInit,
    Sweep,
    TextDataset,
    TrainedVocabulary,
    synthetic_tasks,
    token_space,
)
from raysynth.downstream.code_translation import CodeXGLUE
from tests.tiny import MODEL

SET = Dataset(
    task=dataclasses.replace(synthetic_tasks["set"], min_length=4, max_length=20, tokens=token_space(num_pieces=156)),
    num_examples=200,
    num_validation=16,
    shard_size=64,
)
TASK = DownstreamTask(
    name="code_translation",
    data=TextDataset(name="code_translation", texts=CodeXGLUE(), vocabulary=TrainedVocabulary(num_pieces=120)),
    learning_rate=1e-2,
    num_steps=6,
    eval_every=2,
    batch_size=8,
    input_length=24,
    target_length=24,
    decode_length=8,
    num_beams=1,
)


def pretraining(seed):
    return Pretrain(
        data=SET,
        model=MODEL,
        num_steps=6,
        eval_every=2,
        batch_size=8,
        input_length=24,
        target_length=24,
        num_eval_examples=16,
        seed=seed,
    )


INITS = {
    "random": RandomInit(MODEL),
    "full": FullInit(pretraining(0)),
    "mean": StatisticInit(pretraining(1), group_by="parameter", statistic="mean_sd"),
}


def trial(init, seed):
    return Finetune(task=TASK, init=init, seed=seed)


sweep = Sweep(name="campaign", claim="disturbances change nothing")
sweep.add(trial, init=INITS, seed=[0])
sweep.table(title="Campaign", rows=("init",))


def write_texts(folder: Path) -> None:
    """Write the files of the downstream task: forty pairs of a line of Java and one of C# for each split."""
    folder.mkdir(parents=True)
    draw = random.Random(0)
    for split in ("train", "valid", "test"):
        lines = [
            (draw.choice(["get", "put", "add"]), draw.choice(["int", "bool"]), draw.randrange(100)) for _ in range(40)
        ]
        java = (f"public {kind} {verb}Item{number} ( ) {{ return {number} ; }}\n" for verb, kind, number in lines)
        cs = (
            f"public virtual {kind} {verb.title()}Item{number}(){{return {number};}}\n" for verb, kind, number in lines
        )
        (folder / f"{split}.java-cs.txt.java").write_text("".join(java))
        (folder / f"{split}.java-cs.txt.cs").write_text("".join(cs))


if __name__ == "__main__":
    sweep.main()
