"""Where a model's initial parameters come from: pre-trained sources, and init schemes made of them."""

import dataclasses
from dataclasses import field
from enum import StrEnum
from typing import ClassVar

from raysynth.errors import InputError
from raysynth.fields import choose, instance, spec
from raysynth.specs.datasets import TextCorpus
from raysynth.specs.models import T5Config
from raysynth.specs.pretraining import Pretrain, Pretrained, Source


class GroupBy(StrEnum):
    """Which parameters share one statistic."""

    PARAMETER = "parameter"
    TYPE = "type"
    LAYER = "layer"
    MODEL = "model"


class Statistic(StrEnum):
    """What is taken over from the source's parameters."""

    MEAN_SD = "mean_sd"
    """Every parameter is drawn from a normal distribution with the group's mean and standard deviation."""
    SCALE = "scale"
    """Layer norms are the group's mean; the others are drawn from a normal distribution around zero with its SD."""


class Family(StrEnum):
    """Where in the model a scheme acts; the rest stays random."""

    ALL = "all"
    PRE_ATTENTION_LAYER_NORM = "pre_attention_layer_norm"
    """Encoder pre-attention, decoder pre-self-attention and pre-cross-attention norms."""
    ATTENTION = "attention"
    PRE_MLP_LAYER_NORM = "pre_mlp_layer_norm"
    MLP = "mlp"


class Embeddings(StrEnum):
    """What full initialization does with the token embedding (and, for T5 1.1, the output layer)."""

    RANDOM = "random"
    SOURCE = "source"


@spec
class RandomInit:
    """Every parameter drawn from T5X's initial distribution."""

    model: T5Config = field(kw_only=False)

    name: ClassVar[str] = "random"
    sources: ClassVar[tuple[Source, ...]] = ()

    def __post_init__(self) -> None:
        instance(self, "model", T5Config)


@spec
class FullInit:
    """Every parameter taken from the source's selected checkpoint; step count and optimizer start afresh."""

    source: Source = field(kw_only=False)
    embeddings: Embeddings | None = field(default=None, metadata={"left_out": Embeddings.RANDOM})
    """None becomes RANDOM for synthetic sources, as in the authors' main tables, and SOURCE for pre-training on text,
    whose tokens are those of the task."""

    def __post_init__(self) -> None:
        instance(self, "source", Pretrain, Pretrained)
        if self.embeddings is None:
            natural = isinstance(self.source, Pretrained) or isinstance(self.source.data.task, TextCorpus)
            object.__setattr__(self, "embeddings", Embeddings.SOURCE if natural else Embeddings.RANDOM)
        choose(self, "embeddings", Embeddings)

    @property
    def model(self) -> T5Config:
        return self.source.model

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.source,)

    @property
    def name(self) -> str:
        return "full" if self.embeddings is Embeddings.RANDOM else "full_with_embeddings"


@spec
class StatisticInit:
    """Parameters drawn anew from statistics of the source's (Sections 5.1, 5.2 and Appendix H)."""

    source: Source = field(kw_only=False)
    group_by: GroupBy
    statistic: Statistic
    where: Family = Family.ALL
    onto: T5Config | None = None
    """The model that is initialized where it has another size than the source; None is the source's own.

    Means and SDs cross as they are, whatever the widths. By layer and by parameter, a layer takes those of the source's
    layer at the same relative depth (`parameters.counterpart`)."""

    def __post_init__(self) -> None:
        instance(self, "source", Pretrain, Pretrained)
        choose(self, "group_by", GroupBy)
        choose(self, "statistic", Statistic)
        choose(self, "where", Family)
        if self.onto is None:
            return
        instance(self, "onto", T5Config)
        factors, wanted = (len(model.mlp_activations) for model in (self.onto, self.source.model))
        if self.group_by is GroupBy.PARAMETER and self.where in (Family.ALL, Family.MLP) and factors != wanted:
            raise InputError(
                f"StatisticInit.onto must have as many mlp_activations as the source's model ({wanted}) where group_by "
                f"is parameter, got {factors}"
            )
        if self.onto == self.source.model:
            object.__setattr__(self, "onto", None)

    @property
    def model(self) -> T5Config:
        return self.source.model if self.onto is None else self.onto

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.source,)

    @property
    def name(self) -> str:
        group = {"parameter": "per_param", "type": "across_layers", "layer": "per_layer", "model": "whole_model"}
        where = "" if self.where is Family.ALL else f"{self.where}_"
        onto = "" if self.onto is None else f"_onto_{self.onto.emb_dim}x{self.onto.num_encoder_layers}"
        return f"{where}{group[self.group_by]}_{self.statistic}{onto}"


@spec
class ConstantInit:
    """One family of parameters set to a constant, the rest random (Table 8)."""

    model: T5Config = field(kw_only=False)
    where: Family
    value: float

    def __post_init__(self) -> None:
        instance(self, "model", T5Config)
        choose(self, "where", Family)
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or abs(self.value) == float("inf"):
            raise InputError(f"ConstantInit.value must be a finite number, got {self.value!r}")

    sources: ClassVar[tuple[Source, ...]] = ()

    @property
    def name(self) -> str:
        return f"{self.where}_{self.value:g}"


@spec
class ComposedInit:
    """Several schemes on one model, in order: where two set the same parameter, the later one counts."""

    schemes: tuple[FullInit | StatisticInit | ConstantInit, ...]
    """Each may have a source of its own."""

    def __post_init__(self) -> None:
        if not isinstance(self.schemes, tuple) or len(self.schemes) < 2:
            raise InputError(f"ComposedInit.schemes must be a tuple of at least two schemes, got {self.schemes!r:.80}")
        for scheme in self.schemes:
            if not isinstance(scheme, FullInit | StatisticInit | ConstantInit):
                raise InputError(
                    f"ComposedInit.schemes must be FullInit, StatisticInit or ConstantInit, got {scheme!r:.80}"
                )
            if scheme.model != self.model:
                fields = [field.name for field in dataclasses.fields(T5Config)]
                apart = [name for name in fields if getattr(self.model, name) != getattr(scheme.model, name)]
                told = ", ".join(f"{n} {getattr(self.model, n)} and {getattr(scheme.model, n)}" for n in apart)
                raise InputError(f"ComposedInit.schemes must have one model, got {told}")

    @property
    def model(self) -> T5Config:
        return self.schemes[0].model

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(dict.fromkeys(source for scheme in self.schemes for source in scheme.sources))

    @property
    def name(self) -> str:
        names = [scheme.name for scheme in self.schemes]
        return "_then_".join(names) if len(names) == 2 else f"{len(names)}_schemes"


InitScheme = RandomInit | FullInit | StatisticInit | ConstantInit | ComposedInit
