"""raysynth: sweeps of synthetic pre-training for T5 on Ray.

Sweep files import their names from here. The import loads neither JAX nor Ray.
"""

import os
from typing import TYPE_CHECKING

from raysynth.downstream.rows import Split
from raysynth.downstream.text_pairs import TableFormat, TextPairs
from raysynth.errors import InputError
from raysynth.specs.catalog import downstream_tasks, natural_source, paper_tasks, text_corpora
from raysynth.specs.datasets import Dataset, T5Vocabulary, TextCorpus, TextDataset, TrainedVocabulary
from raysynth.specs.finetuning import DownstreamTask, Finetune
from raysynth.specs.init_schemes import (
    ComposedInit,
    ConstantInit,
    FullInit,
    InitScheme,
    NoisedInit,
    RandomInit,
    StatisticInit,
)
from raysynth.specs.models import T5_BASE, T5_SMALL, T5_V1_1_SMALL, T5Config
from raysynth.specs.pretraining import Pretrain, Pretrained, SourceAt, pretrained
from raysynth.specs.recipes import AtStep, Best, Constant, FirstAbove, InverseSquareRoot
from raysynth.sweep import Sweep
from raysynth.synthetic.base import SyntheticTask
from raysynth.synthetic.catalog import synthetic_tasks
from raysynth.synthetic.mixture import Mixture
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import TokenSpace, token_space

if TYPE_CHECKING:
    from raysynth.weights.loading import LoadedModel

__all__ = [
    "T5_BASE",
    "T5_SMALL",
    "T5_V1_1_SMALL",
    "AtStep",
    "Best",
    "ComposedInit",
    "Constant",
    "ConstantInit",
    "Dataset",
    "DownstreamTask",
    "Finetune",
    "FirstAbove",
    "FullInit",
    "InitScheme",
    "InputError",
    "InverseSquareRoot",
    "Mixture",
    "NoisedInit",
    "Pretrain",
    "Pretrained",
    "Ragged",
    "RandomInit",
    "SourceAt",
    "Split",
    "StatisticInit",
    "Sweep",
    "SyntheticTask",
    "T5Config",
    "T5Vocabulary",
    "TableFormat",
    "TextCorpus",
    "TextDataset",
    "TextPairs",
    "TokenSpace",
    "TrainedVocabulary",
    "downstream_tasks",
    "load",
    "natural_source",
    "paper_tasks",
    "pretrained",
    "synthetic_tasks",
    "text_corpora",
    "token_space",
]


def load(
    run: str | Finetune | Pretrain | SourceAt | Pretrained, *, store: str | os.PathLike[str] | None = None
) -> "LoadedModel":
    """A trained model to use: `load(run).generate(["text"])`; also `.params` and `.config`.

    `run` is the artifact's description, or its name in the store, which may be cut to a unique beginning or to its
    fingerprint. `store` is a directory or URI; by default RAYSYNTH_STORE, or else results/full. Raises `InputError` if
    no artifact or several fit, or if the checkpoint is not the one that the record names.
    """
    from raysynth.weights import loading  # imports JAX, which describing a sweep does not need

    return loading.load(run, store=store)
