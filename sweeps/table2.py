"""Table 2: init schemes made of statistics, on two tasks.

Table:   2 of the main paper: Table 5 without the two schemes of Appendix H; its cells are those of table5.py.
Varies:  init scheme x task x source.
Trials:  52 fine-tunings, 3 pre-trainings.
Cost:    3.9 M steps of fine-tuning and at most 0.24 M of pre-training; `plan --on MACHINE` tells device-hours.
Command: python sweeps/table2.py run, or ray submit cluster.yaml sweeps/table2.py run
"""

from raysynth import Sweep
from raysynth.paper import MAIN_TASKS, SCHEMES, statistics_trial

MAIN = [name for name in SCHEMES if name not in ("Across Layers Scale", "Per Layer Scale")]

sweep = Sweep(name="table2", claim="statistics carry much of the benefit")
sweep.add(statistics_trial, init=MAIN, source=["LIME", "Set", "Identity"], task=MAIN_TASKS, seed=[0])
sweep.add(statistics_trial, init=["Random Init", "Pre-trained T5"], source=["-"], task=MAIN_TASKS, seed=[0])
sweep.table(
    title="Init schemes",
    rows=("init",),
    columns=("task", "source"),
    where={"source": ("LIME", "Set", "Identity")},
    published="table5",
)
sweep.table(
    title="Baselines", rows=("init",), columns=("task",), where={"source": ("-",)}, published="table5_baselines"
)

if __name__ == "__main__":
    sweep.main()
