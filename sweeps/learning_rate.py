"""Learning rates: which of three suits Random Init on each of the six tasks (Appendices B and D.3).

Table:   the choice behind the learning rates of Appendix D.3; the paper prints no numbers for it.
Varies:  learning rate x task.
Trials:  18 fine-tunings.
Cost:    3.0 M steps of fine-tuning; `plan --on MACHINE` tells device-hours.
Command: python sweeps/learning_rate.py run, or ray submit cluster.yaml sweeps/learning_rate.py run
"""

import dataclasses

from raysynth import T5_SMALL, DownstreamTask, Finetune, RandomInit, Sweep
from raysynth.paper import TASKS


def trial(learning_rate: float, task: DownstreamTask, seed: int) -> Finetune:
    return Finetune(task=dataclasses.replace(task, learning_rate=learning_rate), init=RandomInit(T5_SMALL), seed=seed)


sweep = Sweep(name="learning_rate", claim="the learning rate of each task")
sweep.add(trial, learning_rate=[1e-2, 3e-3, 1e-3], task=TASKS, seed=[0])
sweep.table(title="Random Init by learning rate", rows=("learning_rate",), columns=("task",))

if __name__ == "__main__":
    sweep.main()
