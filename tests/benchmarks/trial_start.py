"""What the start of a trial costs, with and without programs that an earlier trial compiled. Run by hand.

    python tests/benchmarks/trial_start.py [--repeats 3]

Each trial is a process of its own, as in a run: it imports JAX and raysynth, fine-tunes for one step, evaluates, tests
and writes its record. `cold` has an empty cache of compiled programs, and `warm` that of the trial before, which had
another seed. Prints wall and CPU seconds, with one thread, and how often JAX found a program.
"""

import argparse
import dataclasses
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from raysynth import Finetune, RandomInit, T5Config
from raysynth.data.text_pairs import generate_text
from raysynth.downstream.rows import BadRows
from raysynth.run.make import make
from raysynth.store.records import DataResult
from raysynth.store.store import Store
from tests.records import provenance
from tests.tiny import TASK

ONE_STEP = dataclasses.replace(TASK, num_steps=1, eval_every=1)
MODELS = {
    "2+2 layers of width 64": T5Config(
        vocab_size=512, emb_dim=64, num_heads=4, head_dim=16, num_encoder_layers=2, num_decoder_layers=2, mlp_dim=128
    ),
    "T5-small": T5Config(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trial", nargs=4, metavar=("MODEL", "SEED", "STORE", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trial:
        _trial(*options.trial)
        return
    with tempfile.TemporaryDirectory() as room:
        store = Store(f"{room}/store")
        manifest = generate_text(TASK.data, store, {}, BadRows.REFUSE)
        rows = {split.value: count for split, count in manifest.num_rows.items()}
        store.record(TASK.data, result=DataResult(rows=rows, sha256=manifest.digest), provenance=provenance())
        for model in MODELS:
            told: dict[str, list[tuple[float, float, str]]] = {"cold": [], "warm": []}
            for number in range(options.repeats):
                for state, seconds in told.items():
                    seed = 2 * number + (state == "warm")
                    seconds.append(_timed(model, seed, store, f"{room}/{model}-{number}"))
            for state, seconds in told.items():
                wall, cpu = (statistics.median(one[part] for one in seconds) for part in (0, 1))
                print(f"{model:24} {state}  {wall:5.1f} s wall  {cpu:5.1f} s CPU  {seconds[-1][2]}", flush=True)


def _timed(model: str, seed: int, store: Store, cache: str) -> tuple[float, float, str]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, __file__, "--trial", model, str(seed), store.uri, cache]
    Path(cache).mkdir(exist_ok=True)
    # Compiled programs are in the temporary directory.
    environment = {**os.environ, "NPROC": "1", "PJRT_NPROC": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "TMPDIR": cache}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, told.strip()


def _trial(model: str, seed: str, store: str, cache: str) -> None:
    from jax import monitoring

    events: list[str] = []
    monitoring.register_event_listener(lambda event, **_: events.append(event.rpartition("/")[2]))
    artifact = Finetune(task=ONE_STEP, init=RandomInit(MODELS[model]), seed=int(seed))
    make(artifact, store=Store(store), cache=Path(cache), report=lambda result: None, node=None)
    print(f"programs: {events.count('cache_hits')} found, {events.count('cache_misses')} compiled")


if __name__ == "__main__":
    main()
