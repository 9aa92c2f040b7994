"""Descriptions of init schemes: how a model's initial parameters are made from pre-trained sources."""

import dataclasses
from dataclasses import field
from enum import StrEnum
from typing import ClassVar, Literal

from raysynth.errors import InputError, brief
from raysynth.fields import Choice, choose, finite, instance, preset, spec
from raysynth.specs.datasets import TextCorpus
from raysynth.specs.models import T5Config
from raysynth.specs.pretraining import Pretrain, Pretrained, Source


class GroupBy(StrEnum):
    """Which parameters share one statistic (Section 5.1)."""

    PARAMETER = "parameter"
    TYPE = "type"
    LAYER = "layer"
    MODEL = "model"


class Statistic(StrEnum):
    """The statistic of the source's parameters that initializes the model."""

    MEAN_SD = "mean_sd"
    """All parameters are drawn from the normal distribution with the group's mean and standard deviation (SD)."""
    SCALE = "scale"
    """Layer norms equal the group's mean; the others are drawn from the normal distribution with mean 0 and its SD."""


class Family(StrEnum):
    """The parameters that a scheme sets; all others stay random."""

    ALL = "all"
    PRE_ATTENTION_LAYER_NORM = "pre_attention_layer_norm"
    """The norms before the encoder's attention and before the decoder's self-attention and cross-attention."""
    ATTENTION = "attention"
    PRE_MLP_LAYER_NORM = "pre_mlp_layer_norm"
    MLP = "mlp"


FamilyName = Literal["all", "pre_attention_layer_norm", "attention", "pre_mlp_layer_norm", "mlp"]


class Embeddings(StrEnum):
    """How `FullInit` sets the token embedding and, for T5 1.1, the output layer."""

    RANDOM = "random"
    SOURCE = "source"


@spec
class RandomInit:
    """All parameters drawn from T5X's initial distribution."""

    model: T5Config = field(kw_only=False)

    name: ClassVar[str] = "random"
    sources: ClassVar[tuple[Source, ...]] = ()

    def __post_init__(self) -> None:
        instance(self, "model", T5Config)


@spec
class FullInit:
    """All parameters taken from the source's selected checkpoint; the step count and the optimizer start anew."""

    source: Source = field(kw_only=False)
    embeddings: Choice[Embeddings | None, Literal["random", "source"]] = preset(
        default=None, metadata={"left_out": Embeddings.RANDOM}
    )
    """None becomes RANDOM for synthetic sources, as in the authors' main tables, and SOURCE for sources that were
    pre-trained on text, because they share the task's tokens."""

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
    """Parameters drawn from statistics of the source's parameters (Sections 5.1 and 5.2, Appendix H)."""

    source: Source = field(kw_only=False)
    group_by: Choice[GroupBy, Literal["parameter", "type", "layer", "model"]]
    statistic: Choice[Statistic, Literal["mean_sd", "scale"]]
    where: Choice[Family, FamilyName] = preset(default=Family.ALL)
    onto: T5Config | None = None
    """The model to initialize if its shape differs from the source's; None means the source's model.

    Means and SDs are not rescaled for other widths. With groups by layer or by parameter, each layer takes the
    statistics of the source's layer at the same relative depth (`parameters.counterpart`)."""

    def __post_init__(self) -> None:
        instance(self, "source", Pretrain, Pretrained)
        choose(self, "group_by", GroupBy)
        choose(self, "statistic", Statistic)
        choose(self, "where", Family)
        if self.onto is None:
            return
        instance(self, "onto", T5Config)
        num_factors, num_source_factors = (len(model.mlp_activations) for model in (self.onto, self.source.model))
        by_mlp_parameter = self.group_by is GroupBy.PARAMETER and self.where in (Family.ALL, Family.MLP)
        if by_mlp_parameter and num_factors != num_source_factors:
            raise InputError(
                f"StatisticInit.onto must have as many mlp_activations as the source's model ({num_source_factors}) if "
                f"group_by is parameter, got {num_factors}"
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
    """One family of parameters set to a constant; all others are random (Table 8)."""

    model: T5Config = field(kw_only=False)
    where: Choice[Family, FamilyName]
    value: float

    def __post_init__(self) -> None:
        instance(self, "model", T5Config)
        choose(self, "where", Family)
        finite(self, "value")

    sources: ClassVar[tuple[Source, ...]] = ()

    @property
    def name(self) -> str:
        return f"{self.where}_{self.value:g}"


@spec
class ComposedInit:
    """Several schemes on one model, applied in order: if two set the same parameter, the later one wins."""

    schemes: tuple[FullInit | StatisticInit | ConstantInit, ...]
    """At least two schemes; their sources may differ, but they must have the same model."""

    def __post_init__(self) -> None:
        if not isinstance(self.schemes, tuple) or len(self.schemes) < 2:
            raise InputError(f"ComposedInit.schemes must be a tuple of at least two schemes, got {brief(self.schemes)}")
        for scheme in self.schemes:
            if not isinstance(scheme, FullInit | StatisticInit | ConstantInit):
                raise InputError(
                    f"ComposedInit.schemes must be FullInit, StatisticInit or ConstantInit, got {brief(scheme)}"
                )
            if scheme.model != self.model:
                fields = [field.name for field in dataclasses.fields(T5Config)]
                values = [(name, getattr(self.model, name), getattr(scheme.model, name)) for name in fields]
                differences = ", ".join(
                    f"{name} {ours} and {theirs}" for name, ours, theirs in values if ours != theirs
                )
                raise InputError(f"ComposedInit.schemes must have one model, got {differences}")

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
"""How a model is initialized; each scheme has a `model`, its `sources` and a `name`."""
