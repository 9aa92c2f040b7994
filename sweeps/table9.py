"""Table 9: T5 Base, with the percentage of the gap that each row closes.

Table:   9 (Appendix J). Appendix C tells of T5 v1.1 for CNNDM-10K at the small size alone, so here it is T5 throughout.
Varies:  init x task.
Trials:  24 fine-tunings, 2 pre-trainings.
Cost:    4.8 M steps of fine-tuning and at most 0.16 M of pre-training; `plan --on MACHINE` tells device-hours.
Command: python sweeps/table9.py run, or ray submit cluster.yaml sweeps/table9.py run
"""

from raysynth import T5_BASE, DownstreamTask, Finetune, Sweep
from raysynth.paper import SCHEMES, TASKS, initialization, pretraining

FOUR = {name: TASKS[name] for name in ("CNNDM-10K", "MTOP", "SQuAD", "Retrosyn.")}
STATISTICS = "Per Param Mean/SD"


def trial(init: str, task: DownstreamTask, seed: int) -> Finetune:
    source = init.removesuffix(f" {STATISTICS}")
    if source == init:
        return Finetune(task=task, init=initialization(init, task, seed, model=T5_BASE), seed=seed)
    return Finetune(task=task, init=SCHEMES[STATISTICS](pretraining(source, seed=seed, model=T5_BASE)), seed=seed)


sweep = Sweep(name="table9", claim="a larger model shows the same")
sweep.add(
    trial,
    init=["Pre-trained T5", "Random Init", "LIME", "Set", f"LIME {STATISTICS}", f"Set {STATISTICS}"],
    task=FOUR,
    seed=[0],
)
sweep.table(
    title="T5 Base",
    rows=("init",),
    columns=("task",),
    baseline=("Random Init",),
    ceiling=("Pre-trained T5",),
    published="table9",
)

if __name__ == "__main__":
    sweep.main()
