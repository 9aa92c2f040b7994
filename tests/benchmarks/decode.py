"""How much faster T5-small decodes than Hugging Face transformers on a CPU. Run by hand; asserts little.

    pip install torch==2.13.0 -e '.[parity]'
    python tests/benchmarks/decode.py --threads 1 2

Both decode the same inputs with the same random parameters in float32, greedily and with 4 beams. The embedding of end
of sequence is zero, so that no hypothesis ends and both make `--decode-length` tokens for each row. The two alternate,
each in a process of its own with the given number of threads, of which one waits while the other computes. Each makes
two calls in a row, of which the second counts: the system may have taken memory from a process that waits. Printed are
the medians of new tokens per second of wall time and of CPU time, their ratios, and the seconds of raysynth's first
call, most of which is compilation.
"""

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from raysynth import T5_SMALL
from raysynth.environment import memory_variables
from raysynth.tokens.token_space import EOS

HUGE_PAGES = {"raysynth": "glibc.malloc.hugetlb=1", "transformers": "glibc.malloc.hugetlb=0"}
"""Beside them both sides keep freed memory, as trials do."""
THREADS = ("NPROC", "PJRT_NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
BEAMS = (1, 4)

Decode = Callable[[], Any]
"""Returns token ids [batch, decode_length]."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--beams", type=int, nargs="+", default=BEAMS, help="numbers of beams (default: 1 4)")
    parser.add_argument("--batch-size", type=int, default=16, help="rows (default: 16)")
    parser.add_argument("--input-length", type=int, default=128, help="default: 128")
    parser.add_argument("--decode-length", type=int, default=64, help="default: 64")
    parser.add_argument("--repetitions", type=int, default=5, help="timed calls of each library (default: 5)")
    options = parser.parse_args()
    if not all(map(importlib.util.find_spec, ("transformers", "torch"))):
        print("decode: skipped, transformers and torch are not installed")
        return
    batch_size, input_length, decode_length = options.batch_size, options.input_length, options.decode_length
    print(f"T5-small, float32, {batch_size} x {input_length} -> {decode_length} new tokens; tokens per second")
    print(f"{'':15} {'wall time':^24} {'CPU time':^24}")
    columns = f"{'transf.':>9} {'raysynth':>8} {'ratio':>5}"
    print(f"{'threads':>7} {'beams':>7} {columns} {columns} {'first call':>11}")
    with tempfile.TemporaryDirectory() as directory:
        for threads in options.threads:
            for num_beams in options.beams:
                case = (directory, batch_size, input_length, decode_length, num_beams)
                seconds, first = compare(case, threads, options.repetitions)
                line = f"{threads:7} {num_beams:7}"
                for clock in (0, 1):
                    peer, ours = (batch_size * decode_length / seconds[side][clock] for side in SIDES)
                    line += f" {peer:9.0f} {ours:8.0f} {ours / peer:5.2f}"
                print(f"{line} {first:9.1f} s", flush=True)


# -------------------------------------------------------------------------------- the two libraries


def raysynth_decode(directory: str, batch_size: int, input_length: int, decode_length: int, num_beams: int) -> Decode:
    import numpy as np

    from raysynth.model.decode import generate
    from raysynth.model.t5 import T5
    from raysynth.weights.hugging_face import read_hugging_face

    config, params = read_hugging_face(model(Path(directory)))
    inputs = tokens(batch_size, input_length)
    search = partial(generate, T5(config), params, inputs, decode_length=decode_length, num_beams=num_beams)
    return lambda: np.asarray(search()[0])


def transformers_decode(
    directory: str, batch_size: int, input_length: int, decode_length: int, num_beams: int
) -> Decode:
    import torch
    from transformers import GenerationConfig, T5ForConditionalGeneration

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    peer = T5ForConditionalGeneration.from_pretrained(model(Path(directory))).eval()
    peer.generation_config = GenerationConfig(decoder_start_token_id=0, pad_token_id=0, eos_token_id=None)
    inputs = torch.from_numpy(tokens(batch_size, input_length)).long()
    settings = {"num_beams": num_beams, "do_sample": False, "max_new_tokens": decode_length}

    def decode() -> Any:
        with torch.inference_mode():
            return peer.generate(inputs, **settings)[:, 1:].numpy()

    return decode


SIDES: dict[str, Callable[..., Decode]] = {"transformers": transformers_decode, "raysynth": raysynth_decode}


def tokens(*shape: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).integers(3, 32_000, shape, np.int32)


def model(directory: Path) -> Path:
    """Random parameters, written once."""
    target = directory / "model"
    if not target.exists():
        import jax

        from raysynth.model.t5 import init_params
        from raysynth.weights.hugging_face import write_hugging_face

        params = init_params(T5_SMALL, jax.random.key(0))
        embedding = params["token_embedder"]["embedding"]
        params["token_embedder"]["embedding"] = embedding.at[EOS].set(0.0)
        write_hugging_face(target, T5_SMALL, params)
    return target


# -------------------------------------------------------------------------------- alternation


def serve(side: str, case: tuple[Any, ...], pipe: Connection) -> None:
    """Decode whenever asked, and answer with the wall and CPU seconds and the sequences."""
    decode = SIDES[side](*case)
    while pipe.recv():
        wall, cpu = time.perf_counter(), time.process_time()
        sequences = decode()
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu, sequences))


def compare(case: tuple[Any, ...], threads: int, repetitions: int) -> tuple[dict[str, tuple[float, float]], float]:
    """The median wall and CPU seconds of each side, and the wall seconds of raysynth's first call."""
    os.environ.update(dict.fromkeys(THREADS, str(threads)) | memory_variables(0) | {"JAX_PLATFORMS": "cpu"})
    model(Path(case[0]))
    context, pipes, processes, outputs = get_context("spawn"), {}, [], {}
    seconds: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for side in SIDES:
        os.environ["GLIBC_TUNABLES"] = HUGE_PAGES[side]
        pipes[side], other = context.Pipe()
        processes.append(context.Process(target=serve, args=(side, case, other), daemon=True))
        processes[-1].start()
    for repetition in range(1 + repetitions):
        for side, pipe in pipes.items():
            time.sleep(0.25)  # until the other side's threads have stopped spinning
            for _ in range(2 if repetition else 1):
                pipe.send(True)
                wall, cpu, outputs[side] = pipe.recv()
            seconds[side].append((wall, cpu))
    for pipe in pipes.values():
        pipe.send(False)
    for process in processes:
        process.join()
    _, batch_size, _, decode_length, num_beams = case
    for side, sequences in outputs.items():
        assert sequences.shape == (batch_size, decode_length), f"{side} stopped at {sequences.shape}"
        assert not (sequences == EOS).any(), f"{side} ended a hypothesis"
    same = (outputs["transformers"] == outputs["raysynth"]).all(axis=1).mean()
    if same < 1:  # near ties are decided by rounding
        print(f"  ({num_beams} beams: {same:.0%} of the rows are the same in both libraries)")
    medians = {side: tuple(map(statistics.median, zip(*each[1:], strict=True))) for side, each in seconds.items()}
    return medians, seconds["raysynth"][0][0]  # type: ignore[return-value]


if __name__ == "__main__":
    main()
