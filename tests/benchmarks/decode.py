"""How fast T5-small decodes, beside Hugging Face transformers. Run by hand; asserts nothing.

    python tests/benchmarks/decode.py --threads 2 1

For each number of threads a process of its own decodes a batch of random inputs with both libraries in turn: greedily
and with 4 beams, in float32, with the same random parameters. End of sequence has probability zero, so that both make
exactly `--decode-length` tokens for each row. Printed are the medians of new tokens per second, the ratio of
raysynth to transformers, and the seconds that raysynth's first call takes, most of which is compilation. With
`--clock cpu` times are the process's CPU seconds, which other jobs disturb less; they mean something for one thread.
Needs `transformers` and `torch` (the extra `parity`).
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
BEAMS = (1, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1], help="numbers of threads (default: 2 1)")
    parser.add_argument("--batch-size", type=int, default=16, help="default: 16")
    parser.add_argument("--input-length", type=int, default=128, help="default: 128")
    parser.add_argument("--decode-length", type=int, default=64, help="default: 64")
    parser.add_argument("--repetitions", type=int, default=5, help="timed calls of each library (default: 5)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="default: wall")
    parser.add_argument("--this-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not all(map(importlib.util.find_spec, ("transformers", "torch"))):
        print("decode: skipped, transformers and torch are not installed")
    elif options.this_process:
        measure(options)
    else:
        print(f"T5-small, float32, {options.batch_size} x {options.input_length} -> {options.decode_length} new tokens")
        print(f"{'threads':>7} {'beams':>5} {'transformers/s':>14} {'raysynth/s':>10} {'ratio':>6} {'first call s':>12}")
        for threads in options.threads:  # libraries take the number of threads when they start
            variables = {"NPROC": threads, "PJRT_NPROC": threads, "OMP_NUM_THREADS": threads, "JAX_PLATFORMS": "cpu"}
            arguments = [sys.executable, *sys.argv, "--this-process"]
            subprocess.run(arguments, env=os.environ | {k: str(v) for k, v in variables.items()}, check=True)


def measure(options: argparse.Namespace) -> None:
    """Print the rates with this process's number of threads."""
    import jax
    import numpy as np
    import torch

    from raysynth import T5_SMALL
    from raysynth.model.decode import generate
    from raysynth.model.t5 import T5, init_params
    from raysynth.tokens.token_space import EOS

    threads, clock = int(os.environ["NPROC"]), CLOCKS[options.clock]
    torch.set_num_threads(threads)
    params = init_params(T5_SMALL, jax.random.key(0))
    params["decoder"]["decoder_norm"]["scale"] = params["decoder"]["decoder_norm"]["scale"].at[0].set(1.0)
    network = T5(T5_SMALL)
    inputs = np.random.default_rng(0).integers(3, 32_000, (options.batch_size, options.input_length), np.int32)
    peer = transformers_model(params)
    torch_inputs = torch.from_numpy(inputs.astype(np.int64))
    num_tokens = options.batch_size * options.decode_length

    def ours(num_beams):
        sequences, _ = generate(network, params, inputs, decode_length=options.decode_length, num_beams=num_beams)
        return np.asarray(sequences)

    def theirs(num_beams):
        with torch.inference_mode():
            sequences = peer.generate(
                torch_inputs,
                num_beams=num_beams,
                do_sample=False,
                min_new_tokens=options.decode_length,
                max_new_tokens=options.decode_length,
            )
        return sequences[:, 1:].numpy()

    def timed(decode, num_beams):
        started = clock()
        sequences = decode(num_beams)
        assert sequences.shape == (options.batch_size, options.decode_length)
        assert not (sequences == EOS).any()
        return clock() - started

    for num_beams in BEAMS:
        started = time.perf_counter()
        ours(num_beams)
        first = time.perf_counter() - started
        theirs(num_beams)
        seconds = [(timed(theirs, num_beams), timed(ours, num_beams)) for _ in range(options.repetitions)]
        slow, quick = (num_tokens / statistics.median(column) for column in zip(*seconds, strict=True))
        print(f"{threads:7} {num_beams:5} {slow:14.0f} {quick:10.0f} {quick / slow:6.2f} {first:12.1f}", flush=True)


if __name__ == "__main__":
    main()
