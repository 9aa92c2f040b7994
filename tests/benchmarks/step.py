"""How much faster a training step is than Hugging Face's on a CPU. Run by hand; asserts nothing.

    pip install torch==2.13.0 -e '.[parity]'
    python tests/benchmarks/step.py --threads 1 2

Each step computes the loss with dropout 0.1, its gradients, and one update by Adafactor, in float32: raysynth's
`train_steps` against `T5ForConditionalGeneration` with `transformers.Adafactor` on batches of the same shape. The two
alternate, each in a process of its own with the given number of threads, of which one waits while the other computes.
Printed are the medians of wall time and of CPU time, and their ratios. It also prints what bounds the step: the
program's FLOPs over the model's own count, the bytes that it accesses, and the rate of the largest matrix product.

With `--program` it needs no peer: it counts the matrix products of a step in bfloat16 by type.
"""

import argparse
import os
import re
import statistics
import sys
import time
from collections import Counter
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from raysynth import T5_SMALL, T5Config
from raysynth.environment import memory_variables
from raysynth.specs.flops import training_flops

TINY = T5Config(
    vocab_size=512, emb_dim=64, num_heads=4, head_dim=16, num_encoder_layers=2, num_decoder_layers=2, mlp_dim=128
)
MODELS = {"small": T5_SMALL, "tiny": TINY, "tiny, T5's vocabulary": replace(TINY, vocab_size=32128)}
CASES = (("small", 8, 128, 64), ("small", 8, 512, 114), ("tiny", 32, 64, 64), ("tiny, T5's vocabulary", 32, 64, 64))
PEER_MEMORY = {**memory_variables(0), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
"""Freed memory is kept, as in raysynth's trials. Their huge pages slow the peer's step down."""


def batch(model: T5Config, rows: int, *lengths: int) -> list[Any]:
    """Full rows of random tokens."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [rng.integers(2, min(model.vocab_size, 32000), (rows, length), dtype=np.int32) for length in lengths]


# -------------------------------------------------------------------------------- the two steps


def lowered_step(model: T5Config, rows: int, inputs: int, targets: int) -> tuple[Any, Any]:
    """A function that makes one step, and the program before it is compiled."""
    import jax
    import numpy as np

    from raysynth.data.layout import Block
    from raysynth.model import step
    from raysynth.model.devices import place_steps
    from raysynth.model.t5 import T5, init_params

    blocks, network = place_steps([(Block(*batch(model, rows, inputs, targets)),)]), T5(model, dropout_rate=0.1)
    state, key = step.TrainState.start(init_params(model, jax.random.key(0))), jax.random.key(1)
    settings = {"z_loss": 1e-4, "label_smoothing": 0.0}
    arguments = (
        *settings.values(),
        state.params,
        state.optimizer,
        blocks,
        np.zeros(1, np.float32),
        key,
        np.uint32(0),
        np.int32(1),
    )
    program = step.update.lower(network, *arguments)

    def run() -> None:
        nonlocal state
        state, counts = step.train_steps(network, state, blocks, np.array([1e-3], np.float32), key, **settings)
        jax.block_until_ready((state.params, counts))

    return run, program


def hugging_face_step(model: T5Config, rows: int, inputs: int, targets: int) -> Any:
    import torch
    from transformers import Adafactor, T5ForConditionalGeneration
    from transformers import T5Config as PeerConfig

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    config = PeerConfig(
        vocab_size=model.vocab_size,
        d_model=model.emb_dim,
        d_kv=model.head_dim,
        d_ff=model.mlp_dim,
        num_heads=model.num_heads,
        num_layers=model.num_encoder_layers,
        num_decoder_layers=model.num_decoder_layers,
        dropout_rate=0.1,
        decoder_start_token_id=0,
        use_cache=False,
    )
    network = T5ForConditionalGeneration(config).train()
    optimizer = Adafactor(network.parameters(), lr=1e-3, scale_parameter=True, relative_step=False)
    tokens, labels = (torch.tensor(array, dtype=torch.long) for array in batch(model, rows, inputs, targets))

    def run() -> None:
        network(input_ids=tokens, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def serve(side: str, case: tuple[str, int, int, int], pipe: Connection) -> None:
    """Make two steps whenever asked, and answer with the wall and CPU seconds of the second.

    The first brings back the memory that the system may have taken from a process that waits.
    """
    name, *shape = case
    run = lowered_step(MODELS[name], *shape)[0] if side == "raysynth" else hugging_face_step(MODELS[name], *shape)
    for _ in range(2):
        run()
    pipe.send("ready")
    while pipe.recv():
        run()
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu))


def compare(case: tuple[str, int, int, int], threads: int, num_steps: int) -> dict[str, tuple[float, float]]:
    """The median wall and CPU seconds of each side."""
    names = ("NPROC", "PJRT_NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    os.environ.update(dict.fromkeys(names, str(threads)))
    name, rows, inputs, targets = case
    flops = training_flops(MODELS[name], num_rows=rows, input_length=inputs, target_length=targets)
    memory = {"raysynth": memory_variables(flops), "Hugging Face": PEER_MEMORY}
    context, pipes, processes = get_context("spawn"), {}, []
    for side in ("raysynth", "Hugging Face"):
        os.environ.pop("MALLOC_ARENA_MAX", None)
        os.environ.update(memory[side])
        pipes[side], other = context.Pipe()
        processes.append(context.Process(target=serve, args=(side, case, other), daemon=True))
        processes[-1].start()
        pipes[side].recv()
    seconds: dict[str, list[tuple[float, float]]] = {side: [] for side in pipes}
    for _ in range(num_steps):
        for side, pipe in pipes.items():
            time.sleep(0.25)  # until the other side's threads have stopped spinning
            pipe.send(True)
            seconds[side].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    for process in processes:
        process.join()
    medians = {side: tuple(map(statistics.median, zip(*each, strict=True))) for side, each in seconds.items()}
    return medians  # type: ignore[return-value]


# -------------------------------------------------------------------------------- what bounds a step


def product_rate(model: T5Config, rows: int, targets: int) -> float:
    """FLOP/s of the logits' product alone, the best of seven."""
    import jax
    import jax.numpy as jnp

    left, right = jnp.ones((rows * targets, model.emb_dim)), jnp.ones((model.emb_dim, model.vocab_size))
    product, seconds = jax.jit(jnp.matmul), []
    for _ in range(8):
        started = time.perf_counter()
        product(left, right).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * rows * targets * model.emb_dim * model.vocab_size / min(seconds[1:])


def print_bounds(case: tuple[str, int, int, int], pipe: Connection) -> None:
    name, rows, inputs, targets = case
    model = MODELS[name]
    cost = lowered_step(model, rows, inputs, targets)[1].compile().cost_analysis()
    flops = training_flops(model, num_rows=rows, input_length=inputs, target_length=targets)
    rate = product_rate(model, rows, targets)
    print(
        f"    program {cost['flops'] / 1e9:.0f} GFLOPs, {cost['flops'] / flops:.3f} times the model's "
        f"{flops / 1e9:.0f}; {cost['bytes accessed'] / 1e9:.1f} GB accessed; largest product "
        f"{rate / 1e9:.0f} GFLOP/s, at which the step would take {flops / rate:.3f} s",
        flush=True,
    )
    pipe.send(None)


def print_products() -> None:
    """Print the matrix products of a bfloat16 step by the types of their operands and results."""
    from raysynth.specs.models import Dtype

    # Before XLA compiles it: a CPU has no bfloat16 products, so there XLA makes them float32.
    program = lowered_step(replace(T5_SMALL, dtype=Dtype.BFLOAT16), 8, 128, 64)[1]
    for types, count in Counter(products(program.as_text())).most_common():
        print(f"{count:4} {types}")


def products(text: str) -> list[str]:
    """The operand and result types of every matrix product in StableHLO, such as `bf16 x bf16 -> f32`."""
    types = r"\(tensor<(?:\d+x)*(\w+)>, tensor<(?:\d+x)*(\w+)>\) -> tensor<(?:\d+x)*(\w+)>"
    found = (re.search(types, line) for line in text.splitlines() if "stablehlo.dot_general" in line)
    return [f"{match[1]} x {match[2]} -> {match[3]}" for match in found if match]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", nargs="+", type=int, default=[2, 1])
    parser.add_argument("--steps", type=int, default=9, help="timed steps of each side (default: 9)")
    parser.add_argument("--cases", nargs="+", type=int, default=range(len(CASES)), help=f"of {CASES}")
    parser.add_argument("--program", action="store_true", help="count the matrix products of a bfloat16 step instead")
    options = parser.parse_args()
    if options.program:
        print_products()
        return
    for threads in options.threads:
        for case in (CASES[index] for index in options.cases):
            name, rows, inputs, targets = case
            print(f"{name} {rows} x {inputs}/{targets}, {threads} threads", flush=True)
            medians = compare(case, threads, options.steps)
            for clock, what in enumerate(("wall", "CPU")):
                ours, peer = (medians[side][clock] for side in ("raysynth", "Hugging Face"))
                line = f"raysynth {ours:.3f} s, Hugging Face {peer:.3f} s, {peer / ours:.2f} times"
                print(f"    {what + ':':5} {line}", flush=True)
            mine, other = get_context("spawn").Pipe()
            process = get_context("spawn").Process(target=print_bounds, args=(case, other))
            process.start()
            mine.recv()
            process.join()


if __name__ == "__main__":
    main()
