"""Table 1: natural and synthetic pre-training on six tasks, one seed.

Table:   1 of the main paper, whose rows Table 6 repeats with more seeds; its cells are those of table6.py at seed 0.
Varies:  source x task.
Trials:  48 fine-tunings, 6 pre-trainings.
Cost:    8.0 M steps of fine-tuning and at most 0.70 M of pre-training; `plan --on MACHINE` tells device-hours.
Command: python sweeps/table1.py run, or ray submit cluster.yaml sweeps/table1.py run
"""

from raysynth import DownstreamTask, Finetune, Sweep
from raysynth.paper import TASKS, initialization

SOURCES = ["Pre-trained T5", "Wiki 10K", "Random Init", "LIME", "Dyck", "Nonsense Summary", "Set", "Identity"]


def trial(source: str, task: DownstreamTask, seed: int) -> Finetune:
    return Finetune(task=task, init=initialization(source, task, seed), seed=seed)


sweep = Sweep(name="table1", claim="synthetic pre-training closes much of the gap")
sweep.add(trial, source=SOURCES, task=TASKS, seed=[0])
sweep.table(
    title="Sources on six tasks",
    rows=("source",),
    columns=("task",),
    baseline=("Random Init",),
    ceiling=("Pre-trained T5",),
    published="table6",
)

if __name__ == "__main__":
    sweep.main()
