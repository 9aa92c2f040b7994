"""The shape of a training's batches is known before it runs."""

import numpy as np

from raysynth.data.batch_shape import batch_shape
from raysynth.data.layout import Packed
from raysynth.data.stored_dataset import StoredDataset
from raysynth.downstream.rows import Split
from raysynth.model.step import time_step
from tests.model.tiny import DATA, MODEL, PRETRAIN, TASK


def test_done_data_have_the_shape_that_training_uses(synthetic, texts):
    for recipe, dataset, directory in ((PRETRAIN, DATA, synthetic), (TASK, TASK.data, texts)):
        examples = StoredDataset.open(directory).split(Split.TRAIN).read_ids([0])
        blocks = Packed.of(recipe, examples).to_blocks(examples.take(np.arange(recipe.batch_size)))
        shape = batch_shape(recipe, dataset, directory)
        assert blocks[0].encoder_input_tokens.shape == (shape.rows, shape.input_width)
        assert blocks[0].decoder_target_tokens.shape == (shape.rows, shape.target_width)


def test_a_synthetic_task_shows_its_shape_before_its_data_are_drawn(synthetic):
    expected, actual = batch_shape(PRETRAIN, DATA, None), batch_shape(PRETRAIN, DATA, synthetic)
    assert expected == batch_shape(PRETRAIN, DATA, None)
    assert abs(expected.cost / actual.cost - 1) < 0.3  # of 4,096 and of 200 examples
    assert batch_shape(TASK, TASK.data, None) is None


def test_a_step_of_that_shape_can_be_timed(synthetic):
    assert time_step(PRETRAIN, MODEL, batch_shape(PRETRAIN, DATA, synthetic), num_steps=1)["seconds_per_step"] > 0
