"""Table 5: ten init schemes from three sources, on two tasks.

Table:   5 (Sections 5.1 and 5.2, Appendix H).
Varies:  init scheme x task x source.
Trials:  64 fine-tunings, 3 pre-trainings.
Cost:    4.8 M steps of fine-tuning and at most 0.24 M of pre-training; `plan --on MACHINE` tells device-hours.
Command: python sweeps/table5.py run, or ray submit cluster.yaml sweeps/table5.py run
"""

from raysynth import Sweep
from raysynth.paper import MAIN_TASKS, SCHEMES, statistics_trial

sweep = Sweep(name="table5", claim="which statistics matter")
sweep.add(statistics_trial, init=list(SCHEMES), source=["LIME", "Set", "Identity"], task=MAIN_TASKS, seed=[0])
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
