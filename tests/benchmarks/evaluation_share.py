"""How much of a fine-tuning's time goes into evaluation at the paper's settings. Run by hand; asserts nothing.

    python tests/benchmarks/evaluation_share.py --data ../shared/data

Measures a training step, a teacher-forced evaluation and a beam search of T5-small at a size that fits the device,
converts them to rates (FLOPs per second), and computes each task's share from its recipe, its published number of
examples and the blocks that the layouts make of the available files. Decoding is assumed to run to the longest target
of its batch, where a trained model stops. Without `--data` every length is the recipe's limit.

Rates transfer only roughly between sizes and devices. Decoding is limited by memory and training by arithmetic, so an
accelerator speeds training up more: `slack` is the factor by which decoding may be slower than measured here, relative
to training, before the share reaches 10 %.
"""

import argparse
import dataclasses
import math
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import numpy as np

from raysynth.data.batches import Examples
from raysynth.data.layout import Block, Packed, PadToLongest, evaluation_batches
from raysynth.data.text_pairs import encode
from raysynth.downstream.rows import Split
from raysynth.model.decode import generate
from raysynth.model.devices import place, place_steps
from raysynth.model.evaluate import eval_step
from raysynth.model.step import TrainState, train_steps
from raysynth.model.t5 import T5, init_params
from raysynth.specs.catalog import paper_tasks
from raysynth.specs.finetuning import DownstreamTask
from raysynth.specs.flops import decoder_flops, encoder_flops, scoring_flops
from raysynth.specs.models import T5_SMALL, T5Config
from raysynth.specs.recipes import AtStep

EXAMPLES = {
    "cnndm_10k": (13_368, 11_490),
    "mtop": (2_235, 4_386),
    "webqsp": (309, 1_639),
    "squad": (10_570, 10_570),
    "code_translation": (499, 1_000),
    "retrosynthesis": (5_004, 5_004),
}
"""Validation and test examples of the whole data sets."""

FOLDERS = {"cnndm_10k": "cnndm", "webqsp": "webqsp/derived", "retrosynthesis": "uspto50k"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder with the tasks' files and t5_vocab/spiece.model")
    parser.add_argument("--batch", type=int, default=8, help="rows of the measured steps")
    parser.add_argument("--lengths", type=int, nargs=2, default=(256, 64), help="input and target length measured")
    options = parser.parse_args()
    device = jax.devices()[0]
    print(f"{len(jax.devices())} x {device.device_kind} ({device.platform}), jax {jax.__version__}")
    rates = measured(T5_SMALL, options.batch, *options.lengths)
    header = ("steps", "train h", "evaluations", "scores h", "decode h", "share", "slack")
    print(f"{'task':18}" + "".join(f"{column:>12}" for column in header))
    for task in paper_tasks:
        print(row(task, T5_SMALL, rates, blocks(task, T5_SMALL, options.data)))


# -------------------------------------------------------------------------------- rates


@dataclasses.dataclass(frozen=True)
class Rates:
    """FLOPs per second."""

    train: float
    score: float
    decode: float


def measured(config: T5Config, batch: int, input_length: int, target_length: int) -> Rates:
    """Time a step of each kind, without compilation."""
    network, params = T5(config), init_params(config, jax.random.key(0))
    rng = np.random.default_rng(0)
    blocks = (Block(*(rng.integers(3, 32_000, (batch, length), np.int32) for length in (input_length, target_length))),)
    (block,), stacked = place(blocks), place_steps([blocks])
    task = paper_tasks[0]

    def step(state):
        trained = T5(config, dropout_rate=task.dropout_rate)
        key, rate = jax.random.key(0), np.array([1e-3], np.float32)
        state, counts = train_steps(trained, state, stacked, rate, key, z_loss=task.z_loss, label_smoothing=0.0)
        jax.block_until_ready((state.params, counts))
        return state

    def beam_search(_):
        return generate(
            network, params, block.encoder_input_tokens, decode_length=target_length, num_beams=task.num_beams
        )

    forward = scoring_flops(config, num_rows=batch, input_length=input_length, target_length=target_length)
    searched = (
        encoder_flops(config, input_length) + task.num_beams * decoder_flops(config, input_length, target_length)
    ) * batch
    state = TrainState.start(jax.tree.map(np.array, params))  # a copy, because a step reuses the memory of its state
    seconds = {
        "train": timed(step, state),
        "score": timed(lambda _: eval_step(network, task.z_loss, 0.0, params, block), None),
        "decode": timed(beam_search, None),
    }
    work = {"train": 3 * forward, "score": forward, "decode": searched}
    for kind in seconds:
        print(
            f"measured: {kind:7}{1e3 * seconds[kind]:9.1f} ms for {batch} rows of {input_length} + {target_length}, "
            f"{work[kind] / seconds[kind] / 1e9:,.1f} GFLOP/s"
        )
    return Rates(**{kind: work[kind] / seconds[kind] for kind in seconds})


def timed(work, argument, repeats: int = 3) -> float:
    """Seconds of one call; the result of each call is the argument of the next."""
    argument = jax.block_until_ready(work(argument))
    started = time.perf_counter()
    for _ in range(repeats):
        argument = jax.block_until_ready(work(argument))
    return (time.perf_counter() - started) / repeats


# -------------------------------------------------------------------------------- the tasks


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Mean FLOPs of an example's forward pass in training and in scoring, and the mean lengths in decoding."""

    training: float
    scoring: float
    decoding: tuple[float, float]


def blocks(task: DownstreamTask, config: T5Config, data: Path | None) -> Blocks:
    """What the layouts make of the files in `data`, or of the recipe's limits without them."""
    limits = (task.input_length, task.target_length)
    if data is None:
        full = scoring_flops(config, num_rows=1, input_length=limits[0], target_length=limits[1])
        return Blocks(full, full, limits)
    os.environ["RAYSYNTH_T5_VOCABULARY"] = str(data / "t5_vocab" / "spiece.model")
    dataset = dataclasses.replace(task.data, num_train=None)
    if task.name == "cnndm_10k":  # the available files have no test split
        dataset = dataclasses.replace(dataset, scored=Split.VALIDATION)
    _, ids, _ = encode(dataset, str(data / FOLDERS.get(task.name, task.name)))
    train, test = (Examples(sources=ids[split][0], targets=ids[split][1]) for split in ("train", "test"))
    packed, rng = Packed.of(task, train), np.random.default_rng(0)
    drawn = [train.take(rng.integers(len(train), size=task.batch_size)) for _ in range(30)]
    scored = [
        test.take(np.arange(start, min(start + task.batch_size, len(test))))
        for start in range(0, len(test), task.batch_size)
    ]
    longest = PadToLongest(input_length=task.input_length, target_length=task.target_length)
    decoded = [block for _, block in evaluation_batches(test, test.head(None), task.batch_size, longest)]
    return Blocks(flops_of(config, packed, drawn), flops_of(config, packed, scored), mean_shape(decoded))


def flops_of(config: T5Config, layout: Packed, batches: list[Examples]) -> float:
    """Mean FLOPs of an example's forward pass, padding included."""
    shapes = [
        (*block.encoder_input_tokens.shape, block.decoder_target_tokens.shape[1])
        for batch in batches
        for block in layout.to_blocks(batch)
    ]
    total = sum(
        scoring_flops(config, num_rows=rows, input_length=inputs, target_length=targets)
        for rows, inputs, targets in shapes
    )
    return total / sum(map(len, batches))


def mean_shape(blocks: list[Block]) -> tuple[float, float]:
    sides = zip(*((block.encoder_input_tokens, block.decoder_target_tokens) for block in blocks), strict=True)
    inputs, targets = (float(np.mean([array.shape[1] for array in side])) for side in sides)
    return inputs, targets


def row(task: DownstreamTask, config: T5Config, rates: Rates, blocks: Blocks) -> str:
    """One line of the table."""
    steps = task.selection.step if isinstance(task.selection, AtStep) else task.num_steps
    num_evaluations = steps // task.eval_every
    decodes = num_evaluations if getattr(task.selection, "metric", "token_accuracy") != "token_accuracy" else 0
    rows = {
        kind: task.batch_size * math.ceil(count / task.batch_size)
        for kind, count in zip(("validation", "test"), EXAMPLES[task.name], strict=True)
    }
    training = steps * task.batch_size * 3 * blocks.training / rates.train
    score = blocks.scoring / rates.score
    source, target = blocks.decoding[0], min(blocks.decoding[1], task.decode_length)
    search = encoder_flops(config, source) + task.num_beams * decoder_flops(config, source, target)
    scores = score * (num_evaluations * rows["validation"] + rows["test"])
    decoding = search / rates.decode * (decodes * rows["validation"] + rows["test"])
    share = (scores + decoding) / (training + scores + decoding)
    slack = (training / 9 - scores) / decoding
    trained, scored, decoded = (f"{seconds / 3600:,.2f}" for seconds in (training, scores, decoding))
    columns = (f"{steps:,}", trained, num_evaluations, scored, decoded, f"{100 * share:.2f}%", f"{slack:,.0f}x")
    return f"{task.name:18}" + "".join(f"{column:>12}" for column in columns)


if __name__ == "__main__":
    main()
