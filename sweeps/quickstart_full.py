"""The quickstart with the seeds that settle its differences; it shares the store, and what is done, with quickstart.py.

Table:   that of quickstart.py.
Varies:  what quickstart.py varies, over five seeds.
Trials:  85 fine-tunings of 250 steps and 10 pre-trainings of at most 4,000 steps.
Cost:    21,250 steps of fine-tuning and at most 40,000 of pre-training: five thirds of quickstart.py's.
Result:  all seven differences that `report --next` lists are settled after Holm's correction. Exact match: random 29.8,
         pre-attn LN 0.2 44.4, per param mean/SD from Set 46.7, full from Identity 51.7, full from Set 64.0.
Command: python sweeps/quickstart_full.py run
"""

from quickstart import trial

from raysynth import Sweep

SEEDS = range(5)

sweep = Sweep(name="quickstart_full", claim="synthetic pre-training helps fine-tuning, and so do parts of it")
sweep.add(trial, synthetic=["none"], init=["random"], learning_rate=[0.02, 0.04, 0.06], seed=SEEDS)
sweep.add(trial, synthetic=["none"], init=["pre-attn LN 0.2"], learning_rate=[0.04, 0.06, 0.08], seed=SEEDS)
sweep.add(trial, synthetic=["set"], init=["per param mean/SD"], learning_rate=[0.02, 0.04, 0.06], seed=SEEDS)
sweep.add(trial, synthetic=["set", "identity"], init=["full"], learning_rate=[0.01, 0.02, 0.04, 0.06], seed=SEEDS)
sweep.table(
    title="Python statements to S-expressions, test split: percent, mean (SD) over seeds",
    rows=("synthetic", "init"),
    best_of="learning_rate",
    baseline=("none", "random"),
    ceiling=("set", "full"),
)

if __name__ == "__main__":
    sweep.main()
