"""Several training steps in one call: which steps share a call, and the same bits as with one step each."""

import jax
import numpy as np
import pytest

from raysynth import T5_SMALL
from raysynth.data.layout import Block, Shape
from raysynth.model.calls import calls, steps_per_call
from raysynth.model.devices import named_key, place_steps
from raysynth.model.step import TrainState, train_steps
from raysynth.model.t5 import T5, init_params
from raysynth.tokens.streams import Purpose
from tests.model.tiny import MODEL


def block(step, rows=8):
    rng = np.random.default_rng(step)
    return (Block(*(rng.integers(2, 150, (rows, 12), np.int32) for _ in range(2))),)


def spans(made):
    return [(call.first_step, call.last_step) for call in made]


def test_a_call_ends_at_evaluations_at_multiples_and_at_the_last_step():
    made = list(calls(block, first_step=0, num_steps=23, most=5, ends={7, 14}))
    assert spans(made) == [(0, 5), (5, 7), (7, 10), (10, 14), (14, 15), (15, 20), (20, 23)]
    for call in made:
        for step, (laid_out,) in enumerate(call.batches, start=call.first_step):
            np.testing.assert_array_equal(laid_out.encoder_input_tokens, block(step)[0].encoder_input_tokens)


@pytest.mark.parametrize("first_step", range(24))
def test_the_ends_of_calls_are_the_same_wherever_training_goes_on(first_step):
    ends = [call.last_step for call in calls(block, first_step=0, num_steps=23, most=5, ends={7, 14})]
    resumed = calls(block, first_step=first_step, num_steps=23, most=5, ends={7, 14})
    assert [call.last_step for call in resumed] == [end for end in ends if end > first_step]


def test_batches_of_other_shapes_are_calls_of_their_own():
    made = calls(lambda step: block(step, 16 if step == 3 else 8), first_step=0, num_steps=6, most=6, ends=())
    assert spans(made) == [(0, 3), (3, 4), (4, 6)]


def test_short_steps_share_a_call_and_long_ones_do_not():
    small = Shape(rows=8, input_width=64, target_width=40)
    assert steps_per_call(MODEL, small) == 10
    assert steps_per_call(T5_SMALL, Shape(rows=40, input_width=472, target_width=232)) == 1
    assert steps_per_call(T5_SMALL, small) == 1


@pytest.mark.parametrize(
    ("batch", "together"),
    [
        pytest.param(lambda step: block(step), [([(0, 5), (5, 7)], 5), ([(0, 2), (2, 3), (3, 7)], 4)], id="one block"),
        pytest.param(
            lambda step: (*block(step), *block(step + 100)),
            [([(0, 5), (5, 7)], 5)],
            marks=pytest.mark.long,  # where programs are optimized
            id="two blocks",
        ),
    ],
)
def test_several_steps_a_call_give_the_bits_of_one(batch, together):
    network, key = T5(MODEL, dropout_rate=0.1), named_key(0, Purpose.PRETRAIN_DROPOUT)
    batches, rates = [batch(step) for step in range(7)], np.linspace(0.01, 0.02, 7, dtype=np.float32)

    def trained(spans, most):
        state, losses = TrainState.start(init_params(MODEL, jax.random.key(0))), []
        for first, last in spans:
            placed = place_steps(batches[first:last], most)
            state, counts = train_steps(
                network, state, placed, rates[first:last], key, z_loss=1e-4, label_smoothing=0.1
            )
            assert not np.asarray(counts["weight"])[last - first :].any()
            losses += np.asarray(counts["loss"])[: last - first].tolist()
        assert state.step == 7
        return losses, list(map(np.asarray, jax.tree.leaves((state.params, state.optimizer))))

    losses, leaves = trained([(step, step + 1) for step in range(7)], 1)
    assert len(set(losses)) == 7
    for spans, most in together:
        losses_together, leaves_together = trained(spans, most)
        assert losses_together == losses
        for one, of_calls in zip(leaves, leaves_together, strict=True):
            np.testing.assert_array_equal(of_calls, one)
