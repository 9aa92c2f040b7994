"""Batches: the examples of a step come from (seed, step), and a layout only pads and cuts."""

import numpy as np
import pytest

from raysynth.batches import Examples, Order, PadToLongest, evaluation_batches
from raysynth.ragged import Ragged
from raysynth.tokens import EOS


def examples(count, *, longest=20, prefix=()):
    rng = np.random.default_rng(0)
    rows = [rng.integers(2, 900, size=rng.integers(1, longest)) for _ in range(count)]
    return Examples(sources=Ragged.of(rows), targets=Ragged.of([row[::-1] for row in rows]), prefix=prefix)


def test_every_epoch_holds_every_example_once_in_a_new_order():
    order = Order(num_examples=60, batch_size=12, seed=3)
    epochs = [np.concatenate([order.rows(step) for step in range(5 * e, 5 * e + 5)]) for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(60))
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_batch_may_span_two_epochs_and_loses_no_example():
    order = Order(num_examples=10, batch_size=4, seed=0)
    rows = np.concatenate([order.rows(step) for step in range(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))


def test_a_batch_larger_than_the_data_set_repeats_it():
    rows = Order(num_examples=3, batch_size=7, seed=0).rows(0)
    assert np.bincount(rows).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])


def test_any_step_can_be_read_first():
    forward = Order(num_examples=50, batch_size=8, seed=1)
    wanted = [forward.rows(step) for step in range(40)]
    for step in (39, 0, 17, 3):
        assert np.array_equal(Order(num_examples=50, batch_size=8, seed=1).rows(step), wanted[step])


def test_seeds_give_different_orders():
    assert not np.array_equal(
        Order(num_examples=50, batch_size=50, seed=0).rows(0), Order(num_examples=50, batch_size=50, seed=1).rows(0)
    )


@pytest.mark.parametrize("prefix", [(), (7, 8)])
def test_rows_end_in_eos_and_are_cut_to_the_length(prefix):
    data = examples(64, longest=30, prefix=prefix)
    (block,) = PadToLongest(input_length=16, target_length=40).lay(data, np.arange(64))
    assert block.encoder_input_tokens.shape[1] <= 16
    for row, source, target in zip(range(64), data.sources, data.targets, strict=True):
        whole = [*prefix, *source, EOS]
        kept = block.encoder_input_tokens[row]
        assert kept[: len(whole)].tolist() == whole[:16]
        assert not kept[len(whole) :].any()
        kept = block.decoder_target_tokens[row]
        assert kept[: len(target) + 1].tolist() == [*target, EOS]
        assert not kept[len(target) + 1 :].any()


def test_few_shapes_are_compiled():
    data = examples(500, longest=160)
    layout = PadToLongest(input_length=150, target_length=64)
    blocks = [layout.lay(data, np.array([row]))[0] for row in range(500)]
    assert {block.encoder_input_tokens.shape for block in blocks} == {(1, 40), (1, 80), (1, 120), (1, 150)}
    assert {block.decoder_target_tokens.shape for block in blocks} == {(1, 32), (1, 64)}


def test_evaluation_visits_every_row_once_in_full_batches():
    data = examples(50)
    batches = list(evaluation_batches(data, data.head(45), 16, PadToLongest(input_length=32, target_length=32)))
    assert sorted(np.concatenate([rows for rows, _ in batches])) == list(range(45))
    for rows, block in batches:
        assert block.encoder_input_tokens.shape[0] == block.decoder_target_tokens.shape[0] == 16
        assert not block.decoder_target_tokens[len(rows) :].any()
        for row, line in zip(rows, block.encoder_input_tokens, strict=False):
            assert line[: len(data.sources[row])].tolist() == data.sources[row].tolist()
