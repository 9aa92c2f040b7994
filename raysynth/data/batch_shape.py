"""The shape of a training's batches, before it runs."""

from pathlib import Path

from raysynth.data.batches import Examples
from raysynth.data.layout import Packed, Shape
from raysynth.data.stored_dataset import StoredDataset
from raysynth.downstream.rows import Split
from raysynth.specs.datasets import Dataset, TextCorpus, TextDataset
from raysynth.specs.recipes import Recipe
from raysynth.synthetic.contract import checked_draw
from raysynth.tokens.streams import Purpose, stream

SAMPLE = 4_096
"""Examples that are drawn to see the lengths of a task."""


def batch_shape(recipe: Recipe, dataset: Dataset | TextDataset, directory: Path | None) -> Shape | None:
    """The shape of the packed blocks that a training of a recipe will have; None if the data must first be made.

    `directory` holds the data set if it is done. Without one, the lengths of a synthetic task are seen in examples that
    are drawn here.
    """
    if directory is not None:
        examples = StoredDataset.open(directory).split(Split.TRAIN).read_ids([0])
    elif isinstance(dataset, TextDataset) or isinstance(dataset.task, TextCorpus):
        return None
    else:
        sources, targets = checked_draw(dataset.task, stream(Purpose.LENGTHS, 0), SAMPLE)
        examples = Examples(sources=sources, targets=targets, prefix=dataset.task.prefix)
    return Packed.of(recipe, examples).shape
