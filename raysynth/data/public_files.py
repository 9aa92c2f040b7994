"""What is known of the paper's downstream tasks before their files are there: sizes and lengths of the public files."""

from dataclasses import dataclass

from raysynth.downstream.rows import TextSource
from raysynth.specs.catalog import downstream_tasks
from raysynth.specs.datasets import TextDataset
from raysynth.specs.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class PublicFiles:
    """Facts about a task's public files, under T5's vocabulary and the lengths and batch size of the paper's recipe."""

    num_validation: int
    num_test: int
    rows: int
    """Of the packed block, whose shape is `rows` of `input_width` and `target_width`."""
    input_width: int
    target_width: int
    batch_size: int
    decoding_lengths: tuple[float, float]
    """Mean over batches of similar test examples: the padded width of the inputs, and the longest target."""


_FILES = {
    "cnndm_10k": PublicFiles(
        num_validation=13_368,
        num_test=11_490,
        rows=64,
        input_width=1024,
        target_width=128,
        batch_size=128,
        decoding_lengths=(512, 70),
    ),
    "mtop": PublicFiles(
        num_validation=2_235,
        num_test=4_386,
        rows=128,
        input_width=888,
        target_width=128,
        batch_size=128,
        decoding_lengths=(1024, 58),
    ),
    "webqsp": PublicFiles(
        num_validation=309,
        num_test=1_639,
        rows=8,
        input_width=144,
        target_width=136,
        batch_size=32,
        decoding_lengths=(1459, 31),
    ),
    "squad": PublicFiles(
        num_validation=10_570,
        num_test=10_570,
        rows=56,
        input_width=512,
        target_width=56,
        batch_size=128,
        decoding_lengths=(491, 9),
    ),
    "code_translation": PublicFiles(
        num_validation=499,
        num_test=1_000,
        rows=8,
        input_width=664,
        target_width=664,
        batch_size=32,
        decoding_lengths=(288, 117),
    ),
    "retrosynthesis": PublicFiles(
        num_validation=5_004,
        num_test=5_004,
        rows=24,
        input_width=272,
        target_width=296,
        batch_size=128,
        decoding_lengths=(80, 51),
    ),
}
"""By task of the catalog. Sizes are those that the publishers give; shapes and lengths were seen in slices of the files
by `tests/benchmarks/layout.py`, of 500 articles for CNN/DailyMail and partly rebuilt ones for WebQSP."""

_OF_TEXTS: dict[TextSource, str] = {downstream_tasks[task].data.texts: task for task in _FILES}


def public_files(dataset: TextDataset, recipe: Recipe | None = None) -> PublicFiles | None:
    """The facts about a data set's public files; None if they are not known.

    With a recipe, they are known only if it has the lengths of the paper's.
    """
    task = _OF_TEXTS.get(dataset.texts)
    if task is None or dataset.vocabulary != downstream_tasks[task].data.vocabulary:
        return None
    lengths = downstream_tasks[task].input_length, downstream_tasks[task].target_length
    if recipe is not None and (recipe.input_length, recipe.target_length) != lengths:
        return None
    return _FILES[task]
