"""How long `plan` takes as a sweep grows. Run by hand; asserts nothing.

    python tests/benchmarks/plan_scale.py [--sizes 1000 10000 50000] [--done]

Each size is a process of its own, imports included, on an empty store or, with `--done`, on one where every second
fine-tuning has a record. The slope is that of log seconds over log size from one size to the next: 1 is linear, and a
small size has less, because imports take as long for one artifact as for thousands.
"""

import argparse
import dataclasses
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from raysynth import (
    T5_SMALL,
    Dataset,
    Finetune,
    FullInit,
    Pretrain,
    RandomInit,
    Sweep,
    downstream_tasks,
    synthetic_tasks,
)
from raysynth.specs.identity import in_order
from raysynth.store.store import Store
from tests.records import DATA_RESULT, provenance, weights_result

SOURCES = list(synthetic_tasks)[:9]
TASK = downstream_tasks["mtop"]


def trial(num_train, init, learning_rate, seed):
    data = dataclasses.replace(TASK.data, num_train=num_train)
    task = dataclasses.replace(TASK, data=data, learning_rate=learning_rate)
    if init == "random":
        return Finetune(task=task, init=RandomInit(T5_SMALL), seed=seed)
    source = Pretrain(data=Dataset(task=synthetic_tasks[init]), model=T5_SMALL)
    return Finetune(task=task, init=FullInit(source), seed=seed)


def sweep_of(size: int) -> Sweep:
    """A sweep of so many fine-tunings, rounded up to whole thousands: 10 sizes x 10 schemes x 10 rates x seeds."""
    sweep = Sweep(name="scale", claim="a plan takes as long as its sweep is large")
    sweep.add(
        trial,
        num_train=range(100, 1_100, 100),
        init=["random", *SOURCES],
        learning_rate=[number / 1_000 for number in range(1, 11)],
        seed=range(math.ceil(size / 1_000)),
    )
    sweep.table(title="T", rows=("num_train", "init"), best_of="learning_rate")
    return sweep


def record_half(sweep: Sweep, store: Store) -> None:
    """Record the data sets, the pre-trainings and every second fine-tuning, each with ten evaluations."""
    scores = {"loss": 1.0, "token_accuracy": 0.5}
    result = weights_result(
        test={"exact_match": 0.5},
        num_test=9,
        validation=scores,
        evaluations=dict.fromkeys(range(1_000, 11_000, 1_000), scores),
    )
    for number, artifact in enumerate(in_order([cell.artifact for cell in sweep.cells()])):
        if artifact.kind == "dataset":
            store.record(artifact, result=DATA_RESULT, provenance=provenance())
        elif artifact.kind != "finetune" or number % 2:
            store.record(artifact, result=result, provenance=provenance(seconds_per_step=0.1, train_seconds=1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=(1_000, 10_000, 50_000), help="numbers of fine-tunings")
    parser.add_argument("--verb", choices=("plan", "status", "report"), default="plan")
    parser.add_argument("--done", action="store_true", help="with records of every second fine-tuning")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.size:
        sweep_of(options.size).main([options.verb, "--store", options.store])
    last = None
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as store:
            if options.done:
                record_half(sweep_of(size), Store(store))
            wall, cpu = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, __file__, "--size", str(size), "--store", store, "--verb", options.verb]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            seconds, then = time.monotonic() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_seconds = then.ru_utime + then.ru_stime - cpu.ru_utime - cpu.ru_stime
        slope = "" if last is None else f", slope {math.log(cpu_seconds / last[1]) / math.log(size / last[0]):.2f}"
        print(
            f"{options.verb} of {size:6,} fine-tunings: {seconds:6.2f} s, {cpu_seconds:6.2f} s of CPU{slope}",
            flush=True,
        )
        last = size, cpu_seconds


if __name__ == "__main__":
    main()
