"""Table 7: Per Param Mean/SD against Full Init on all six tasks.

Table:   7 (Appendix J).
Varies:  init x source x task; five seeds but for Identity's full init and three tasks of Per Param Mean/SD.
Trials:  180 fine-tunings, 15 pre-trainings.
Cost:    28.8 M steps of fine-tuning and at most 1.20 M of pre-training; `plan --on MACHINE` tells device-hours.
Command: python sweeps/table7.py run, or ray submit cluster.yaml sweeps/table7.py run
"""

from raysynth import Sweep
from raysynth.paper import TASKS, statistics_trial

SOURCES = ["LIME", "Set", "Identity"]
FIVE = {name: TASKS[name] for name in ("CNNDM-10K", "MTOP", "SQuAD")}
ONE = {name: TASKS[name] for name in ("WebQSP", "Code Trans.", "Retrosyn.")}

sweep = Sweep(name="table7", claim="two statistics a parameter carry much of the benefit")
sweep.add(statistics_trial, init=["Full Init"], source=["LIME", "Set"], task=TASKS, seed=range(5))
sweep.add(statistics_trial, init=["Full Init"], source=["Identity"], task=TASKS, seed=[0])
sweep.add(statistics_trial, init=["Per Param Mean/SD"], source=SOURCES, task=FIVE, seed=range(5))
sweep.add(statistics_trial, init=["Per Param Mean/SD"], source=SOURCES, task=ONE, seed=[0])
sweep.add(statistics_trial, init=["Random Init", "Pre-trained T5"], source=["-"], task=TASKS, seed=range(5))
sweep.table(
    title="Statistics against all parameters",
    rows=("task", "source"),
    columns=("init",),
    where={"source": tuple(SOURCES)},
    published="table7",
)
sweep.table(title="Baselines", rows=("init",), columns=("task",), where={"source": ("-",)}, published="table6")

if __name__ == "__main__":
    sweep.main()
