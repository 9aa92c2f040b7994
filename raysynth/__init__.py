"""raysynth: sweeps of synthetic pre-training for T5 on Ray.

Sweep files import their names from here. The import loads neither JAX nor Ray.
"""

from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.specs.catalog import downstream_tasks, natural_source, paper_tasks, text_corpora
from raysynth.specs.datasets import Dataset, T5Vocabulary, TextCorpus, TextDataset, TrainedVocabulary
from raysynth.specs.finetuning import DownstreamTask, Finetune
from raysynth.specs.init_schemes import ComposedInit, ConstantInit, FullInit, InitScheme, RandomInit, StatisticInit
from raysynth.specs.models import T5_BASE, T5_SMALL, T5_V1_1_SMALL, T5Config
from raysynth.specs.pretraining import Pretrain, Pretrained, pretrained
from raysynth.specs.recipes import AtStep, Best, Constant, FirstAbove, InverseSquareRoot
from raysynth.sweep import Sweep
from raysynth.synthetic.base import SyntheticTask
from raysynth.synthetic.catalog import synthetic_tasks
from raysynth.synthetic.mixture import Mixture
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import TokenSpace, token_space

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
