"""Descriptions of downstream tasks with their recipes, and of fine-tunings on them."""

from collections.abc import Iterable
from dataclasses import field
from typing import ClassVar, get_args

from raysynth.downstream.metrics import METRICS
from raysynth.errors import InputError, unknown
from raysynth.fields import check_name, finite, instance, positive, spec, texts, whole
from raysynth.specs.datasets import TextDataset
from raysynth.specs.init_schemes import InitScheme
from raysynth.specs.models import T5Config
from raysynth.specs.pretraining import Pretrain, Pretrained
from raysynth.specs.recipes import Constant, Recipe, Schedule


class MetricNames(tuple[str, ...]):
    """Names of metrics in the order in which tables show them; two with the same names are equal in any order."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple) and sorted(self, key=str) == sorted(other, key=str)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(frozenset(self))


def in_one_order(metrics: Iterable[str]) -> tuple[str, ...]:
    """Metrics in the order of descriptions and records: those of decoded text first, then token accuracy."""
    teacher_forced, *of_text = METRICS
    return tuple(sorted(metrics, key=[*of_text, teacher_forced].index))


@spec
class DownstreamTask(Recipe):
    """A downstream task with its recipe: data, lengths, steps, metrics and selection rule (Appendices B and D).

    The order of `metrics` is only shown, so it is no part of the identity: in another order the task is equal, and its
    fine-tunings are the same artifacts.
    """

    name: str
    data: TextDataset
    learning_rate: float
    """The learning rate of every step (Appendix B)."""
    decode_length: int
    """Largest number of ids that decoding produces."""
    metrics: tuple[str, ...] = field(default=("exact_match", "token_accuracy"), metadata={"described": in_one_order})
    """Metrics of the selected checkpoint on the scored split; tables show them in this order, the main one first."""
    num_beams: int = 4
    """Number of beams when decoding for evaluation, as in the paper's fine-tuning configuration; 1 decodes greedily."""
    length_penalty: float = 0.6
    """Exponent alpha of the normalization of a finished beam's score: T5X's default, which the paper kept."""

    def __post_init__(self) -> None:
        check_name("DownstreamTask.name", self.name)
        instance(self, "data", TextDataset)
        positive(self, "learning_rate")
        whole(self, "decode_length", minimum=2)
        whole(self, "num_beams")
        finite(self, "length_penalty")
        texts(self, "metrics")
        for metric in self.metrics:
            if metric not in METRICS:
                raise unknown("metric", metric, METRICS)
        object.__setattr__(self, "metrics", MetricNames(self.metrics))
        super().__post_init__()

    @property
    def selectable(self) -> tuple[str, ...]:
        """The metrics that a selection rule may use; those of decoded text require decoding of the validation split."""
        return ("token_accuracy", *(metric for metric in self.metrics if metric != "token_accuracy"))

    @property
    def schedule(self) -> Schedule:
        """A constant learning rate (Appendix B)."""
        return Constant(self.learning_rate)


@spec
class Finetune:
    """Artifact: the test metrics of a model that an init scheme initialized and a downstream task fine-tuned."""

    task: DownstreamTask
    init: InitScheme
    seed: int = 0
    """Draws the random initial parameters, the init scheme's values, the order of examples and dropout."""

    kind: ClassVar[str] = "finetune"
    revision: ClassVar[int] = 3
    """Raised when the results that a seed gives change."""

    def __post_init__(self) -> None:
        instance(self, "task", DownstreamTask)
        instance(self, "init", *get_args(InitScheme))
        whole(self, "seed", minimum=0)
        size = self.task.data.vocabulary.size
        if size > self.model.vocab_size:
            raise InputError(
                f"vocab_size must be at least that of the task's vocabulary ({size}), got {self.model.vocab_size}"
            )

    @property
    def model(self) -> T5Config:
        """The shape of the model."""
        return self.init.model

    @property
    def label(self) -> str:
        """The readable part of the artifact's name."""
        sources = "".join(f"{source.source_name}." for source in self.init.sources)
        return f"{self.task.name}.{sources}{self.init.name}.lr{self.task.learning_rate:g}.seed{self.seed}"

    def inputs(self) -> tuple[TextDataset | Pretrain | Pretrained, ...]:
        """The artifacts that this one needs: its data set and the sources of its init scheme."""
        return (self.task.data, *dict.fromkeys(source.artifact for source in self.init.sources))
