"""raysynth: sweeps of synthetic pre-training for T5 on Ray.

A sweep file imports its names from here. Building descriptions imports neither JAX nor Ray.
"""

from raysynth.datasets import Dataset, Split, SyntheticTask, T5Vocabulary, TextCorpus, TextDataset, TrainedVocabulary
from raysynth.downstream import downstream_tasks, natural_source, paper_tasks
from raysynth.errors import InputError
from raysynth.mixture import Mixture
from raysynth.ragged import Ragged
from raysynth.recipes import (
    T5_BASE,
    T5_SMALL,
    T5_V1_1_SMALL,
    AtStep,
    Best,
    Constant,
    FirstAbove,
    InverseSquareRoot,
    T5Config,
)
from raysynth.schemes import (
    ComposedInit,
    ConstantInit,
    FullInit,
    Pretrain,
    Pretrained,
    RandomInit,
    StatisticInit,
    pretrained,
)
from raysynth.specs import DownstreamTask, Finetune
from raysynth.sweep import Sweep
from raysynth.tasks import synthetic_tasks, text_corpora
from raysynth.tokens import TokenSpace, token_space

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
    "InputError",
    "InverseSquareRoot",
    "Mixture",
    "Pretrain",
    "Pretrained",
    "Ragged",
    "RandomInit",
    "Split",
    "StatisticInit",
    "Sweep",
    "SyntheticTask",
    "T5Config",
    "T5Vocabulary",
    "TextCorpus",
    "TextDataset",
    "TokenSpace",
    "TrainedVocabulary",
    "downstream_tasks",
    "natural_source",
    "paper_tasks",
    "pretrained",
    "synthetic_tasks",
    "text_corpora",
    "token_space",
]
