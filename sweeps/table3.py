"""Table 3: the initial value of the pre-attention layer norms, on two tasks.

Table:   3 of the main paper: Table 8 on CNNDM-10K and MTOP; its cells are those of table8.py.
Varies:  value x task; the baselines have five seeds.
Trials:  30 fine-tunings, no pre-training.
Cost:    2.3 M steps of fine-tuning; `plan --on MACHINE` tells device-hours.
Command: python sweeps/table3.py run, or ray submit cluster.yaml sweeps/table3.py run
"""

from raysynth import Sweep
from raysynth.paper import MAIN_TASKS, layer_norm_trial

sweep = Sweep(name="table3", claim="lower pre-attention layer norms help random init")
sweep.add(layer_norm_trial, value=[0.05, 0.1, 0.2, 0.4, 0.8], task=MAIN_TASKS, seed=[0])
sweep.add(layer_norm_trial, value=["Random Init", "Pre-trained T5"], task=MAIN_TASKS, seed=range(5))
sweep.table(
    title="Pre-attention layer norm at init",
    rows=("value",),
    columns=("task",),
    baseline=("Random Init",),
    ceiling=("Pre-trained T5",),
    published="table8",
)

if __name__ == "__main__":
    sweep.main()
