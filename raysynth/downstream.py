"""The downstream tasks with their recipes, and their texts as token ids."""

import os
from collections.abc import Mapping
from itertools import chain

import numpy as np

from raysynth.errors import InputError, Named, unknown
from raysynth.ragged import Ragged
from raysynth.sources import SPLITS, CodeXGLUE, PythonAST
from raysynth.specs import Best, DownstreamTask, T5Vocabulary, TextDataset, TrainedVocabulary
from raysynth.vocabulary import T5_SENTINELS, Vocabulary, t5_vocabulary_bytes

downstream_tasks: Named[DownstreamTask] = Named(
    "downstream task",
    {
        task.name: task
        for task in (
            # Not in the paper: data that every machine has, and settings that show the paper's effect within minutes.
            # Without dropout, as T5 1.1 was pre-trained: it slows learning down and a few hundred steps cannot overfit.
            DownstreamTask(
                name="python_ast",
                data=TextDataset(
                    name="python_ast",
                    texts=PythonAST(max_source_chars=24, max_target_chars=60),
                    vocabulary=TrainedVocabulary(num_pieces=412),
                    num_train=4_000,
                    num_validation=512,
                    num_test=800,
                ),
                learning_rate=1e-2,
                num_steps=400,
                eval_every=100,
                batch_size=32,
                input_length=24,
                target_length=32,
                decode_length=32,
                dropout_rate=0.0,
                num_beams=1,
            ),
            DownstreamTask(
                name="code_translation",
                data=TextDataset(name="code_translation", texts=CodeXGLUE(), vocabulary=T5Vocabulary()),
                learning_rate=3e-3,  # D.3
                num_steps=150_000,  # B
                eval_every=10_000,  # B
                batch_size=32,  # B
                input_length=1024,  # D.3
                target_length=1024,  # D.3
                decode_length=1024,  # the target length, as in the authors' configuration; D.3 names none
                selection=Best("token_accuracy"),  # B
            ),
        )
    },
)
"""The downstream tasks by name."""


def location(task_name: str, given: Mapping[str, str]) -> str | None:
    """Where a task's files are: from `given`, else from RAYSYNTH_DATA_<TASK>, else None.

    Raises `InputError` where `given` names an unknown task.
    """
    for name in given:
        if name not in downstream_tasks:
            raise unknown("task of --data", name, downstream_tasks)
    return given.get(task_name) or os.environ.get(f"RAYSYNTH_DATA_{task_name.upper()}") or None


Ids = dict[str, tuple[Ragged, Ragged]]
"""Sources and targets by split."""
Texts = dict[str, list[tuple[str, str]]]
"""(source, target) pairs by split."""


def encode(dataset: TextDataset, location: str | None) -> tuple[Vocabulary, Ids, Texts]:
    """A text data set's vocabulary, the token ids of its splits and the texts that they come from.

    The ids are without end of sequence. A trained vocabulary sees the training subset alone. Raises `InputError` for
    missing or broken files and for subsets larger than their split.
    """
    splits = dataset.texts.read(location)
    sizes = (dataset.num_train, dataset.num_validation, dataset.num_test)
    texts = {
        split: _subset(splits[split], size, [dataset.seed, index], f"{dataset.name} {split}")
        for index, (split, size) in enumerate(zip(SPLITS, sizes, strict=True))
    }
    if isinstance(dataset.vocabulary, TrainedVocabulary):
        vocabulary = Vocabulary.train(
            chain.from_iterable(texts["train"]), dataset.vocabulary.num_pieces, dataset.vocabulary.num_sentinels
        )
    else:
        vocabulary = Vocabulary.load(t5_vocabulary_bytes(), T5_SENTINELS)
    ids = {
        split: (
            vocabulary.encode_many([source for source, _ in pairs]),
            vocabulary.encode_many([target for _, target in pairs]),
        )
        for split, pairs in texts.items()
    }
    return vocabulary, ids, texts


def _subset(pairs: list[tuple[str, str]], size: int | None, entropy: list[int], what: str) -> list[tuple[str, str]]:
    """The first `size` of a shuffle that is the same for every size, so that subsets are nested."""
    if size is None:
        return pairs
    if size > len(pairs):
        raise InputError(f"{what} has {len(pairs)} examples, {size} were asked for")
    order = np.random.default_rng(entropy).permutation(len(pairs))
    return [pairs[row] for row in order[:size]]
