"""How much of a sweep's time is spent outside training and evaluation. Run by hand; asserts nothing.

    python tests/benchmarks/sweep_overhead.py [SWEEP.py] [--tiny]

Runs a sweep file (by default the quickstart) in a fresh store with a fresh cache of compiled programs, and compares
cores x wall seconds with the seconds that its records give to training, evaluation and test. Compilation of the
training step counts as training, and that of evaluation as evaluation, as in the records. The rest is:

- before the first trial: imports, downstream data, the start of Ray, and whatever synthetic data are drawn by then;
- idle or starting: between a core's trials after that: other synthetic data, the start of workers with their import of
  JAX, waiting for inputs, and the way from Tune to the trial and back;
- in trials: reading data and sources, initial parameters, the optimizer's state, checkpoints that are read or deleted,
  TensorBoard, the record;
- after the last trial: the end of Ray and the report.

`--tiny` takes a minute; its share means nothing, but its seconds per trial do. All are wall seconds, so run it on a
machine that does nothing else: the load that is printed should not be above the number of cores.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from raysynth.store.records import Provenance
from raysynth.store.store import KINDS, Store

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", nargs="?", type=Path, default=ROOT / "sweeps" / "quickstart.py", help="a sweep file")
    parser.add_argument("--tiny", action="store_true", help="the tiny version of the sweep")
    parser.add_argument("--warm", action="store_true", help="run twice, and tell of the second, with programs compiled")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        for run in range(1 + options.warm):
            store = Store(f"{place}/store{run}")
            began = time.time()
            command = [sys.executable, str(options.sweep), "run", "--store", store.uri]
            environment = {**os.environ, "TMPDIR": place}
            subprocess.run(
                [*command, *(["--tiny"] if options.tiny else [])],
                env=environment,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            ended = time.time()
        print_shares(store, began=began, ended=ended)


def print_shares(store: Store, *, began: float, ended: float) -> None:
    """Print where the time of a run went, which began and ended at these seconds of the epoch."""
    records = [record for where in store.names(KINDS) if (record := store.record_of(where)) is not None]
    trials = [record.provenance for record in records if record.provenance.train_seconds is not None]
    data = [record.provenance.seconds for record in records if record.provenance.train_seconds is None]
    num_cores, wall = os.cpu_count() or 1, ended - began
    computing = sum(map(computing_seconds, trials))
    in_trials = [trial.seconds - computing_seconds(trial) for trial in trials]
    first, last = min(trial.started for trial in trials), max(trial.started + trial.seconds for trial in trials)
    idle = num_cores * (last - first) - sum(trial.seconds for trial in trials)
    whole = num_cores * wall
    print(f"wall {wall:.1f} s on {num_cores} cores, load {os.getloadavg()[0]:.1f}, {len(trials)} trials")
    print(f"data sets: {', '.join(f'{seconds:.1f} s' for seconds in data)}")
    for what, seconds in {
        "training": sum(trial.train_seconds or 0.0 for trial in trials),
        "evaluation": sum(trial.evaluation_seconds or 0.0 for trial in trials),
        "test": sum(trial.test_seconds or 0.0 for trial in trials),
        "outside of these": whole - computing,
        "  before the first trial": num_cores * (first - began),
        "  idle or starting": idle,
        "  in trials": sum(in_trials),
        "  after the last trial": num_cores * (ended - last),
    }.items():
        print(f"{what:26} {seconds:8.1f} core-seconds, {100 * seconds / whole:5.1f} %")
    print(f"in a trial: median {statistics.median(in_trials):.2f} s, largest {max(in_trials):.2f} s")


def computing_seconds(trial: Provenance) -> float:
    """Seconds of a trial in training, evaluation and test."""
    return (trial.train_seconds or 0.0) + (trial.evaluation_seconds or 0.0) + (trial.test_seconds or 0.0)


if __name__ == "__main__":
    main()
