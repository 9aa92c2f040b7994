"""Table 6: natural and synthetic pre-training on six tasks, five seeds.

Table:   6 (Appendix J); table1.py is its first seed.
Varies:  source x task x seed; new data and a new pre-training for every seed.
Trials:  144 fine-tunings, 14 pre-trainings.
Cost:    24.0 M steps of fine-tuning and at most 1.34 M of pre-training; `plan --on MACHINE` tells device-hours.
Command: python sweeps/table6.py run, or ray submit cluster.yaml sweeps/table6.py run
"""

from raysynth import DownstreamTask, Finetune, Sweep
from raysynth.paper import TASKS, initialization


def trial(source: str, task: DownstreamTask, seed: int) -> Finetune:
    return Finetune(task=task, init=initialization(source, task, seed), seed=seed)


sweep = Sweep(name="table6", claim="synthetic pre-training closes much of the gap")
sweep.add(trial, source=["Pre-trained T5", "Random Init", "LIME", "Set"], task=TASKS, seed=range(5))
sweep.add(trial, source=["Wiki 10K", "Dyck", "Nonsense Summary", "Identity"], task=TASKS, seed=[0])
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
