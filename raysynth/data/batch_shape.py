"""The shape of a training's batches, before it runs."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from raysynth.data.batches import Examples
from raysynth.data.layout import Packed, Shape
from raysynth.data.public_files import public_files
from raysynth.data.stored_dataset import StoredDataset
from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.specs.datasets import Dataset, TextCorpus, TextDataset
from raysynth.specs.identity import name
from raysynth.specs.recipes import Recipe
from raysynth.store.store import State, Store
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


class SeenIn(StrEnum):
    """Where the lengths of examples were seen."""

    DATA = "of their data sets"
    DRAWN = "of examples drawn here"
    PUBLIC = "of the public files"
    OBJECTIVE = "of span corruption"
    LIMITS = "of full rows, for lack of data"


@dataclass(frozen=True, kw_only=True)
class ForeseenBatch:
    """What the batches of a training will be like."""

    shape: Shape
    """Of its packed blocks."""
    decoding_lengths: tuple[float, float]
    """Mean width of inputs and mean number of decoding steps where a model decodes a batch as long as its targets."""
    seen_in: SeenIn


def foreseen_batch(recipe: Recipe, dataset: Dataset | TextDataset, directory: Path | None) -> ForeseenBatch:
    """The batches of a training of a recipe, by the best that is known of its examples' lengths.

    `directory` is as in `batch_shape`. Without data, downstream tasks have the lengths of their public files, text
    corpora those of their objective, and all others the recipe's full lengths, which cost too much.
    """
    seen_in = SeenIn.DRAWN if directory is None else SeenIn.DATA
    try:
        shape = batch_shape(recipe, dataset, directory)
    except InputError:  # the task needs a file that is not here, such as T5's vocabulary
        shape = None
    if shape is None and isinstance(dataset, TextDataset) and (files := public_files(dataset, recipe)) is not None:
        scale = recipe.batch_size / files.batch_size
        return ForeseenBatch(
            shape=Shape(
                rows=max(1, round(files.rows * scale)), input_width=files.input_width, target_width=files.target_width
            ),
            decoding_lengths=files.decoding_lengths,
            seen_in=SeenIn.PUBLIC,
        )
    if shape is None:
        shape, seen_in = _full_shape(recipe), SeenIn.LIMITS
        if isinstance(dataset, Dataset) and isinstance(dataset.task, TextCorpus):
            objective, seen_in = dataset.task.objective, SeenIn.OBJECTIVE
            shape = Shape(
                rows=recipe.batch_size,
                input_width=min(recipe.input_length, objective.input_length),
                target_width=min(recipe.target_length, objective.target_length),
            )
    share = shape.rows / recipe.batch_size
    lengths = min(recipe.input_length, share * shape.input_width), min(recipe.target_length, share * shape.target_width)
    return ForeseenBatch(shape=shape, decoding_lengths=lengths, seen_in=seen_in)


def _full_shape(recipe: Recipe) -> Shape:
    """The shape of a batch in which every example has a row of full lengths."""
    return Shape(rows=recipe.batch_size, input_width=recipe.input_length, target_width=recipe.target_length)


def local_data(dataset: Dataset | TextDataset, store: Store) -> Path | None:
    """The directory of a data set that is done and on this machine; None for any other."""
    root = store.local_root
    is_done = root is not None and store.status(dataset).state is State.DONE
    return root / name(dataset) if root is not None and is_done else None
