"""Table 4: how the benefit depends on the number of training examples.

Table:   4 (Appendix F).
Varies:  source x task and size of its training set.
Trials:  27 fine-tunings, 1 pre-training.
Cost:    6.3 M steps of fine-tuning and at most 0.08 M of pre-training; `plan --on MACHINE` tells device-hours.
Command: python sweeps/table4.py run, or ray submit cluster.yaml sweeps/table4.py run
"""

from raysynth import DownstreamTask, Finetune, Sweep
from raysynth.paper import SIZES, initialization


def trial(source: str, task: DownstreamTask, seed: int) -> Finetune:
    return Finetune(task=task, init=initialization(source, task, seed), seed=seed)


sweep = Sweep(name="table4", claim="the fewer the examples, the greater the benefit")
sweep.add(trial, source=["Pre-trained T5", "LIME", "Random Init"], task=SIZES, seed=[0])
sweep.table(title="Size of the training set", rows=("task",), columns=("source",), published="table4")

if __name__ == "__main__":
    sweep.main()
