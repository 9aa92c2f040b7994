"""Table 8: the initial value of the pre-attention layer norms, on six tasks.

Table:   8 (Appendix J); table3.py is a part of it.
Varies:  value x task; the baselines have five seeds.
Trials:  90 fine-tunings, no pre-training.
Cost:    15.0 M steps of fine-tuning; `plan --on MACHINE` tells device-hours.
Command: python sweeps/table8.py run, or ray submit cluster.yaml sweeps/table8.py run
"""

from raysynth import Sweep
from raysynth.paper import TASKS, layer_norm_trial

sweep = Sweep(name="table8", claim="lower pre-attention layer norms help random init")
sweep.add(layer_norm_trial, value=[0.05, 0.1, 0.2, 0.4, 0.8], task=TASKS, seed=[0])
sweep.add(layer_norm_trial, value=["Random Init", "Pre-trained T5"], task=TASKS, seed=range(5))
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
