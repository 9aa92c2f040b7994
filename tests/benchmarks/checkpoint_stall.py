"""How long a checkpoint of T5-small holds up training, against a plain blocking save of Orbax. Asserts nothing.

    python tests/benchmarks/checkpoint_stall.py --num-saves 5

Both save the same state in turn between training steps on small batches. For Orbax the stall is the time of a blocking
save. For raysynth it is the time until `Checkpoints.save` returns; a second line adds by how much the next step takes
longer than an undisturbed one: that step waits for the copy on the device, and on a CPU it shares the cores with the
thread that writes. The process keeps its memory as the trials of a run do, so that copies do not pay for fresh pages.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("NPROC", "1")

import jax
import numpy as np
import orbax.checkpoint as ocp

from raysynth import T5_SMALL
from raysynth.data.layout import Block
from raysynth.environment import memory_variables
from raysynth.model.checkpoints import Checkpoints
from raysynth.model.devices import device, named_key, place_steps
from raysynth.model.step import TrainState, train_steps
from raysynth.model.t5 import T5, init_params
from raysynth.specs.recipes import Best
from raysynth.tokens.streams import Purpose

_KEEPS_MEMORY = memory_variables(0)


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-saves", type=int, default=5)
    parser.add_argument("--into", type=Path, help="the directory to write under (default: the system's temporary one)")
    options = parser.parse_args()
    network, key = T5(T5_SMALL, dropout_rate=0.0), named_key(0, Purpose.TIMED_DROPOUT)
    ids = np.random.default_rng(0).integers(2, T5_SMALL.vocab_size, (8, 32), dtype=np.int32)
    blocks = place_steps([(Block(ids, ids),)])
    state = TrainState.start(init_params(T5_SMALL, named_key(0, Purpose.TIMED_INIT)))

    def step() -> None:
        nonlocal state
        state, counts = train_steps(
            network, state, blocks, np.zeros(1, np.float32), key, z_loss=0.0, label_smoothing=0.0
        )
        jax.block_until_ready((state.params, state.optimizer, counts))

    def save_plainly(manager: ocp.CheckpointManager) -> None:
        items = {"params": state.params, "optimizer": state.optimizer}
        arguments = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        manager.save(state.step, args=ocp.args.Composite(**arguments))
        manager.wait_until_finished()

    for _ in range(2):
        step()
    plain, returned, delayed, written = [], [], [], []
    with tempfile.TemporaryDirectory(dir=options.into) as room:
        checkpoints = Checkpoints(
            Path(room) / "raysynth",
            artifact="pretrain/benchmark",
            selection=Best("token_accuracy"),
            evaluations={},
            saved=lambda: None,
            seconds=600,
        )
        manager = ocp.CheckpointManager(
            Path(room) / "orbax", options=ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        )
        with checkpoints, manager:
            for _ in range(options.num_saves + 1):
                step()
                plain.append(seconds_of(lambda: save_plainly(manager)))
                undisturbed = min(seconds_of(step) for _ in range(3))
                returned.append(seconds_of(lambda: checkpoints.save(state)))
                started = time.perf_counter()
                delayed.append(returned[-1] + max(0.0, seconds_of(step) - undisturbed))
                checkpoints.wait()
                written.append(time.perf_counter() - started)
    print(f"T5-small on {device()}, {os.environ['NPROC']} threads, {options.num_saves} saves each; seconds")
    for name, seconds in {
        "Orbax, blocking": plain,
        "raysynth, until save returns": returned,
        "raysynth, with the delay of the next step": delayed,
        "raysynth, until it is on disk (meanwhile training goes on)": written,
    }.items():
        later = seconds[1:]  # the first save of each also imports and allocates
        print(f"  {name:58}  median {statistics.median(later):6.3f}  max {max(later):6.3f}  first {seconds[0]:6.3f}")


if __name__ == "__main__":
    if not _KEEPS_MEMORY.items() <= os.environ.items():  # glibc reads them when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | _KEEPS_MEMORY)
    main()
