"""Compare an accelerator with the golden numbers, and time a training step of T5 Small on it.

    python tests/benchmarks/golden_on_device.py --peak-tflops 989

It has three parts:

1. Model, gradients, Adafactor and decoding against the golden numbers, in float32 with matrix products of the highest
   precision. The exit status is 1 if a difference exceeds its tolerance.
2. Loss and gradients of T5 Small in bfloat16, and in float32 with the device's default products, against float32 with
   products of the highest precision.
3. The time of a training step in bfloat16 with dropout, through `raysynth.model.train.train_step`, and its model FLOP
   utilization.

989 TFLOP/s is the dense bfloat16 rate of an H100 SXM or H200. Without `--peak-tflops`, no utilization is printed.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from functools import partial
from pathlib import Path

from raysynth.model.devices import named_key, place

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")
sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from raysynth.data.layout import Block
from raysynth.model import optimizer
from raysynth.model.decode import generate
from raysynth.model.step import TrainState, train_step
from raysynth.model.t5 import T5, init_params, loss_and_counts
from raysynth.specs.models import T5_SMALL, Dtype, T5Config
from raysynth.tokens.streams import Purpose

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = T5Config(
    vocab_size=256, emb_dim=64, num_heads=2, head_dim=32, num_encoder_layers=2, num_decoder_layers=2, mlp_dim=128
)
LENGTHS = ((512, 114), (512, 512))
"""Input and target lengths: span corruption's, and those of the paper's pre-training (Appendix A)."""
WARM_UP, TIMED = 3, 20
"""Steps before and during a measurement."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--golden", type=Path, default=GOLDEN, help="the folder of golden numbers (%(default)s)")
    parser.add_argument("--peak-tflops", type=float, help="dense bfloat16 rate of the device, in 10^12 per second")
    parser.add_argument("--batch", type=int, default=128, help="rows per step; halved until they fit")
    parser.add_argument("--tiny", action="store_true", help="use a tiny model and short rows, to test this script")
    options = parser.parse_args()
    config = TINY if options.tiny else T5_SMALL
    lengths = tuple((a // 16, b // 16) for a, b in LENGTHS) if options.tiny else LENGTHS
    batch = min(options.batch, 16) if options.tiny else options.batch

    device = jax.devices()[0]
    print(f"{len(jax.devices())} x {device.device_kind} ({device.platform}), jax {jax.__version__}")
    within = golden(options.golden)
    precision(config, rows=min(batch, 8), lengths=lengths[0])
    for input_length, target_length in lengths:
        timing(config, batch, input_length, target_length, options.peak_tflops)
    return 0 if within else 1


# -------------------------------------------------------------------------------- golden numbers


def golden(folder: Path) -> bool:
    """Print the largest differences from the golden numbers; true if all are within their tolerances."""
    if not folder.is_dir():
        print(f"golden: skipped, {folder} is absent")
        return True
    rows: list[tuple[str, float, float]] = []
    with jax.default_matmul_precision("highest"):
        for model in ("t5_1_0", "t5_1_1"):
            rows += ((f"{model} {what}", difference, limit) for what, difference, limit in golden_model(folder, model))
        rows += golden_adafactor(folder)
    for what, difference, limit in rows:
        verdict = "ok" if difference <= limit else "TOO FAR"
        print(f"golden: {what:<48} {difference:9.1e}  limit {limit:.0e}  {verdict}")
    return all(difference <= limit for _, difference, limit in rows)


def golden_model(folder: Path, model: str) -> list[tuple[str, float, float]]:
    """For each comparison: what was compared, the difference and its limit."""
    described = json.loads((folder / f"model/model_{model}.json").read_text())["config"]
    del described["dropout_rate"]
    described["mlp_activations"] = tuple(described["mlp_activations"])
    network = T5(T5Config(**described))
    arrays = read(folder / f"model/model_{model}.npz")
    flat = {path.removeprefix("params/"): leaf for path, leaf in arrays.items() if path.startswith("params/")}
    params = unflatten_dict(flat, sep="/")
    sources, targets = arrays["encoder_input_tokens"], arrays["decoder_target_tokens"]
    real = targets > 0

    @partial(jax.jit, static_argnums=1)
    def run(params, z_loss):
        def loss(params):
            logits = network.apply({"params": params}, sources, targets)
            return loss_and_counts(logits, targets, z_loss=z_loss, label_smoothing=0.0)["loss"], logits

        return jax.value_and_grad(loss, has_aux=True)(params)

    (loss, logits), gradients = run(params, 0.0)
    gradients = flatten_dict(gradients, sep="/")
    rows = [
        ("logits against T5X", to_scale(logits[real], arrays["logits"][real]), 1e-5),
        ("logits against Hugging Face", to_scale(logits[real], arrays["hf_logits"][real]), 1e-5),
        ("loss", to_scale(loss, arrays["loss_sum_z0"]), 1e-6),
        (
            "gradients, each to its own scale",
            max(
                to_scale(leaf, arrays[f"grads_z0/{path}"])
                for path, leaf in gradients.items()
                if f"grads_z0/{path}" in arrays
            ),
            1e-4,
        ),
    ]

    described = json.loads((folder / "train/train_5_steps.json").read_text())[model]
    expected, losses = described["loss_sum_before_each_step_and_at_the_end"], []
    moved, state = params, optimizer.init(params)
    for rate in described["learning_rates"]:
        (loss, _), gradients = run(moved, described["z_loss"])
        losses.append(float(loss))
        moved, state = jax.jit(optimizer.update)(gradients, state, moved, np.float32(rate))
    losses.append(float(run(moved, described["z_loss"])[0][0]))
    rows.append(("losses of 5 training steps", to_scale(np.array(losses), np.array(expected)), 1e-5))

    if model == "t5_1_0":  # as in the reference, so that its hypotheses end
        flat["decoder/decoder_norm/scale"] = flat["decoder/decoder_norm/scale"] * np.float32(1.5)
    searches = read(folder / "decoding/beam_search.npz")
    for num_beams, length in ((4, 16), (4, 10), (1, 16)):
        sequences, scores = generate(
            network, unflatten_dict(flat, sep="/"), sources, decode_length=length, num_beams=num_beams
        )
        name = f"{model}/beam{num_beams}_len{length}"
        what = f"{num_beams} beams, {length} tokens"
        differing = np.mean(np.asarray(sequences) != searches[f"{name}/sequences"][:, -1])
        rows.append((f"{what}: share of differing tokens", float(differing), 0.0))
        rows.append((f"{what}: scores", to_scale(scores, searches[f"{name}/scores"][:, -1]), 1e-5))
    return rows


def golden_adafactor(folder: Path) -> list[tuple[str, float, float]]:
    """Like `golden_model`, for ten steps of the optimizer."""
    described = json.loads((folder / "optimizer/adafactor.json").read_text())
    arrays, names, rows = read(folder / "optimizer/adafactor.npz"), list(described["params"]), []
    for schedule, rates in described["learning_rates"].items():
        params, furthest = {name: arrays[f"params0/{name}"] for name in names}, 0.0
        state = optimizer.init(params)
        for index, rate in enumerate(rates):
            gradients = {name: arrays[f"grads/{name}"][index].astype(np.float32) for name in names}
            params, state = jax.jit(optimizer.update)(gradients, state, params, np.float32(rate))
            for name in names:
                probed = np.ravel(params[name])[arrays[f"{schedule}/probe_index/{name}"]]
                furthest = max(furthest, to_scale(probed, arrays[f"{schedule}/probe/{name}"][index]))
        rows.append((f"Adafactor, {schedule}", furthest, 1e-6))
    return rows


def read(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return {name: arrays[name] for name in arrays.files}


def to_scale(values, expected) -> float:
    """The largest difference, relative to the largest expected value, or to 1e-3 if that is smaller."""
    return float(np.abs(np.asarray(values) - expected).max() / max(np.abs(expected).max(), 1e-3))


# -------------------------------------------------------------------------------- precision


def precision(config: T5Config, rows: int, lengths: tuple[int, int]) -> None:
    """Print how much arithmetic of lower precision changes the loss and the direction of the gradients."""
    block, params = random_block(config, rows, *lengths), init_params(config, jax.random.key(0))

    def run(dtype: Dtype, products: str):
        network = T5(dataclasses.replace(config, dtype=dtype))

        def loss(params):
            logits = network.apply({"params": params}, *block)
            counts = loss_and_counts(logits, block.decoder_target_tokens, z_loss=1e-4, label_smoothing=0.0)
            return counts["loss"] / counts["weight"]

        with jax.default_matmul_precision(products):
            value, gradients = jax.jit(jax.value_and_grad(loss))(params)
        return float(value), {path: np.ravel(leaf) for path, leaf in flatten_dict(gradients, sep="/").items()}

    reference, expected = run(Dtype.FLOAT32, "highest")
    print(f"precision: loss per token {reference:.6f} in float32 with the highest products, {rows} rows of {lengths}")
    for dtype in (Dtype.FLOAT32, Dtype.BFLOAT16):
        value, gradients = run(dtype, "default")
        lowest, path = min((cosine(gradients[path], expected[path]), path) for path in expected)
        print(
            f"precision: {dtype}, default products: loss {value / reference - 1:+.1e}, "
            f"lowest cosine of a gradient {lowest:.5f} ({path})"
        )


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    left, right = left.astype(np.float64), right.astype(np.float64)
    return float(left @ right / np.sqrt((left @ left) * (right @ right)))


# -------------------------------------------------------------------------------- time


def timing(config: T5Config, batch: int, input_length: int, target_length: int, peak_tflops: float | None) -> None:
    """Print the time of a bfloat16 training step of the largest batch that fits."""
    config = dataclasses.replace(config, dtype=Dtype.BFLOAT16)
    while True:
        try:
            seconds, compiling, losses = measure(config, batch, input_length, target_length)
            break
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or batch == 1:
                raise
            print(f"step: {batch} rows of {input_length}/{target_length} do not fit")
            batch //= 2
    flops = step_flops(config, batch, input_length, target_length)
    devices = jax.local_device_count()
    line = (
        f"step: {batch} x {input_length}/{target_length}: {1e3 * seconds:.2f} ms, "
        f"{batch * (input_length + target_length) / seconds:,.0f} tokens/s, {flops / seconds / 1e12:.2f} TFLOP/s"
    )
    if peak_tflops:
        line += f", model FLOP utilization {100 * flops / (seconds * peak_tflops * 1e12 * devices):.1f} %"
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        line += f", peak so far {stats['peak_bytes_in_use'] / 2**30:.1f} GiB"
    print(f"{line}; {compiling:.0f} s to compile; loss per target {losses[0]:.3f} -> {losses[1]:.3f}")


def measure(
    config: T5Config, batch: int, input_length: int, target_length: int
) -> tuple[float, float, tuple[float, float]]:
    """Seconds per step, seconds to compile, and the loss per target before and after."""
    network, key = T5(config, dropout_rate=0.1), named_key(0, Purpose.PRETRAIN_DROPOUT)
    blocks = place((random_block(config, batch, input_length, target_length),))
    state = TrainState.start(init_params(config, jax.random.key(0)))
    losses, started = [], time.perf_counter()
    compiling = 0.0
    for step in range(WARM_UP + TIMED):
        if step == WARM_UP:
            jax.block_until_ready(state.params)
            started = time.perf_counter()
        state, counts = train_step(network, state, blocks, np.float32(0.01), key, z_loss=1e-4, label_smoothing=0.0)
        if step == 0:
            losses.append(float(counts["loss"] / counts["weight"]))
            compiling = time.perf_counter() - started
    jax.block_until_ready(state.params)
    seconds = (time.perf_counter() - started) / TIMED
    return seconds, compiling, (losses[0], float(counts["loss"] / counts["weight"]))


def step_flops(config: T5Config, batch: int, input_length: int, target_length: int) -> float:
    """Floating-point operations in the matrix products of a training step, without recomputation.

    A product of [m, k] and [k, n] takes 2 m k n. The gradient takes two products for each one of the forward pass, so a
    step costs three forward passes. Included are the four attention kernels, the two products of attention (every query
    with every key, also where the mask is causal), the MLP kernels and the output layer. Excluded are embeddings
    (look-ups), norms, softmax, dropout, loss and optimizer.
    """
    width = config.num_heads * config.head_dim
    kernel = 2 * config.emb_dim * width
    mlp = 2 * config.emb_dim * config.mlp_dim * (len(config.mlp_activations) + 1)

    def attention(queries: int, keys: int) -> int:
        """Query and output kernels on the queries, key and value kernels on the keys, two products."""
        return 2 * kernel * queries + 2 * kernel * keys + 2 * (2 * queries * keys * width)

    encoder = config.num_encoder_layers * (attention(input_length, input_length) + mlp * input_length)
    decoder = config.num_decoder_layers * (
        attention(target_length, target_length) + attention(target_length, input_length) + mlp * target_length
    )
    logits = 2 * config.emb_dim * config.vocab_size * target_length
    return 3.0 * batch * (encoder + decoder + logits)


def random_block(config: T5Config, rows: int, input_length: int, target_length: int) -> Block:
    """Random rows without padding."""
    rng = np.random.default_rng(0)
    return Block(
        *(
            rng.integers(2, config.vocab_size, (rows, length)).astype(np.int32)
            for length in (input_length, target_length)
        )
    )


if __name__ == "__main__":
    sys.exit(main())
