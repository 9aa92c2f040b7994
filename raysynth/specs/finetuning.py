"""Downstream tasks with their recipes, and fine-tunings on them."""

from typing import ClassVar

from raysynth.downstream.metrics import METRICS
from raysynth.errors import InputError, unknown
from raysynth.fields import instance, positive, spec, whole
from raysynth.specs.datasets import TextDataset
from raysynth.specs.init_schemes import ComposedInit, ConstantInit, FullInit, InitScheme, RandomInit, StatisticInit
from raysynth.specs.models import T5Config
from raysynth.specs.pretraining import Source
from raysynth.specs.recipes import Constant, Recipe, Schedule


@spec
class DownstreamTask(Recipe):
    """A downstream task with its recipe: data, lengths, steps, metrics and selection rule (Appendices B and D)."""

    name: str
    data: TextDataset
    learning_rate: float
    """Constant during fine-tuning (Appendix B)."""
    decode_length: int
    metrics: tuple[str, ...] = ("exact_match", "token_accuracy")
    """Of the selected checkpoint on the test split; the first one heads the tables."""
    num_beams: int = 4
    """Beams of the search that decodes for evaluation, as in the paper's fine-tuning configuration; 1 is greedy."""
    length_penalty: float = 0.6
    """The exponent alpha that a finished beam's score is normalized with: T5X's default, which the paper kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        instance(self, "data", TextDataset)
        positive(self, "learning_rate")
        whole(self, "decode_length", minimum=2)
        whole(self, "num_beams")
        for metric in self.metrics:
            if metric not in METRICS:
                raise unknown("metric", metric, METRICS)

    @property
    def selectable(self) -> tuple[str, ...]:
        """The metrics that a selection rule may go by; those of decoded text have the validation split decoded."""
        return ("token_accuracy", *(metric for metric in self.metrics if metric != "token_accuracy"))

    @property
    def schedule(self) -> Schedule:
        return Constant(self.learning_rate)


@spec
class Finetune:
    """Artifact: a model initialized by a scheme and trained on a downstream task, with its test metrics."""

    task: DownstreamTask
    init: InitScheme
    seed: int = 0
    """Draws the random initial parameters, the scheme's draws, the order of examples and dropout."""

    kind: ClassVar[str] = "finetune"
    revision: ClassVar[int] = 2
    """Raised when the results that a seed gives change."""

    def __post_init__(self) -> None:
        instance(self, "task", DownstreamTask)
        instance(self, "init", RandomInit, FullInit, StatisticInit, ConstantInit, ComposedInit)
        whole(self, "seed", minimum=0)
        vocabulary = self.task.data.vocabulary
        size = vocabulary.size
        if size > self.model.vocab_size:
            raise InputError(
                f"vocab_size must be at least that of the task's vocabulary ({size}), got {self.model.vocab_size}"
            )

    @property
    def model(self) -> T5Config:
        return self.init.model

    @property
    def label(self) -> str:
        sources = "".join(f"{source.source_name}." for source in self.init.sources)
        return f"{self.task.name}.{sources}{self.init.name}.lr{self.task.learning_rate:g}.seed{self.seed}"

    def inputs(self) -> tuple[TextDataset | Source, ...]:
        return (self.task.data, *self.init.sources)
