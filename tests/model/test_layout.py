"""Layouts: a packed step has the loss and the gradients of a padded one, on one device and on eight."""

from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import raysynth.model.devices as devices_module
from raysynth.data.batches import Examples
from raysynth.data.layout import Block, Packed
from raysynth.model.devices import place
from raysynth.model.evaluate import eval_step
from raysynth.model.t5 import T5, init_params, loss_and_counts, teacher_forced_logits
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import EOS
from tests.model.tiny import MODEL

NETWORK = T5(MODEL)


def examples(count, longest=30, prefix=(7, 8), seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, (2, count))
    return Examples(
        sources=Ragged.of([rng.integers(2, 150, length) for length in lengths[0]]),
        targets=Ragged.of([rng.integers(2, 150, length) for length in lengths[1]]),
        prefix=prefix,
    )


def padded(data, input_length, target_length):
    """One example a row, padded to the full lengths."""
    arrays = np.zeros((len(data), input_length), np.int32), np.zeros((len(data), target_length), np.int32)
    for row, (source, target) in enumerate(zip(data.sources, data.targets, strict=True)):
        for array, ids in zip(arrays, ([*data.prefix, *source, EOS], [*target, EOS]), strict=True):
            ids = ids[: array.shape[1]]
            array[row, : len(ids)] = ids
    return (Block(*arrays),)


def gradients(params, blocks):
    def loss(params, block):
        logits = teacher_forced_logits(NETWORK, params, block)
        counts = loss_and_counts(logits, block.decoder_target_tokens, z_loss=1e-4, label_smoothing=0.1)
        return counts["loss"], counts

    (block,) = place(blocks)
    return jax.device_get(jax.jit(jax.grad(loss, has_aux=True))(params, block))


@pytest.mark.parametrize("num_devices", [1, 8])
@pytest.mark.parametrize(("input_length", "target_length"), [(33, 31), (20, 12)], ids=["whole", "cut"])
def test_a_packed_batch_has_the_loss_and_gradients_of_a_padded_one(
    num_devices, input_length, target_length, monkeypatch
):
    monkeypatch.setattr(devices_module, "mesh", lambda: Mesh(np.array(jax.local_devices()[:num_devices]), ("data",)))
    data = examples(64)
    layout = Packed.fitting(data, batch_size=64, input_length=input_length, target_length=target_length)
    packed = layout.to_blocks(data)
    params = init_params(MODEL, jax.random.key(0))
    expected, expected_counts = gradients(params, padded(data, input_length, target_length))
    actual, counts = gradients(params, packed)
    for name, value in expected_counts.items():
        np.testing.assert_allclose(counts[name], value, rtol=1e-5)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-6 * largest), actual, expected)


def test_a_batch_that_does_not_fit_the_shape_is_evaluated_alike():
    short, data = examples(64, longest=5), examples(64)
    layout = Packed.fitting(short, batch_size=64, input_length=33, target_length=31)
    params = init_params(MODEL, jax.random.key(0))
    (usual,), (wide,) = layout.to_blocks(short), layout.to_blocks(data)
    assert usual.encoder_input_tokens.shape != wide.encoder_input_tokens.shape
    for part in (short, data):
        sums = [
            eval_step(NETWORK, 1e-4, 0.0, params, place(blocks)[0])
            for blocks in (layout.to_blocks(part), padded(part, 33, 31))
        ]
        for name in ("loss", "correct", "weight"):
            np.testing.assert_allclose(*(counts[name] for counts in sums), rtol=1e-5)
