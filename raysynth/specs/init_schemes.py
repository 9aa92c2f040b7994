"""Descriptions of init schemes: how a model's initial parameters are made from pre-trained sources."""

import dataclasses
from dataclasses import field
from enum import StrEnum
from typing import Any, ClassVar, Literal, get_args

from raysynth.errors import InputError, brief, unknown
from raysynth.fields import Choice, choose, finite, instance, positive, preset, spec
from raysynth.specs.datasets import TextCorpus
from raysynth.specs.models import T5Config
from raysynth.specs.pretraining import Pretrained, Source


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
    SHUFFLED = "shuffled"
    """The entries of each parameter in a random order: the whole distribution stays, all structure goes."""


class Family(StrEnum):
    """The parameters that a scheme sets; all others stay random."""

    ALL = "all"
    PRE_ATTENTION_LAYER_NORM = "pre_attention_layer_norm"
    """The norms before the encoder's attention and before the decoder's self-attention and cross-attention."""
    ATTENTION = "attention"
    PRE_MLP_LAYER_NORM = "pre_mlp_layer_norm"
    MLP = "mlp"
    LAYER_NORM = "layer_norm"
    """All norms: those before attention, those before the MLP and the final norm of each stack."""
    RELATIVE_BIAS = "relative_bias"
    """The relative position bias of each stack, which all its layers share."""


FamilyName = Literal[
    "all", "pre_attention_layer_norm", "attention", "pre_mlp_layer_norm", "mlp", "layer_norm", "relative_bias"
]

Where = Family | tuple[Family, ...]
"""One family, or several different ones, of which none includes another; always in the order of `Family`."""
WhereName = FamilyName | tuple[FamilyName, ...]


class Embeddings(StrEnum):
    """How `FullInit` and `NoisedInit` set the token embedding and, for T5 1.1, the output layer."""

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
    """Parameters taken from the source's selected checkpoint; the step count and the optimizer start anew."""

    source: Source = field(kw_only=False)
    where: Choice[Where, WhereName] = preset(default=Family.ALL)
    """The families that are taken. A union is a tuple, such as ("attention", "mlp")."""
    embeddings: Choice[Embeddings | None, Literal["random", "source"]] = preset(
        default=None, metadata={"left_out": Embeddings.RANDOM}
    )
    """None becomes RANDOM for synthetic sources, as in the authors' main tables, and SOURCE for sources that were
    pre-trained on text, because they share the task's tokens. If `where` names families, None becomes RANDOM."""
    onto: T5Config | None = None
    """A smaller model to initialize by weight selection (arXiv 2311.18823); None means the source's model.

    It takes the first layers of each stack. Of s units among t of each dimension, it takes every (t / s)th where s
    divides t, else s evenly spaced ones from the first to the last. Whole heads are chosen first, then dimensions of
    each head. Values are not rescaled."""

    def __post_init__(self) -> None:
        instance(self, "source", *get_args(Source))
        _choose_families(self)
        _choose_embeddings(self)
        if self.onto is None:
            return
        instance(self, "onto", T5Config)
        vocabulary = ("vocab_size", "logits_via_embedding") if self.embeddings is Embeddings.SOURCE else ()
        for name in ("mlp_activations", "num_buckets", "max_distance", *vocabulary):
            theirs, ours = getattr(self.source.model, name), getattr(self.onto, name)
            if ours != theirs:
                raise InputError(f"FullInit.onto must have the {name} of the source's model ({theirs}), got {ours}")
        for name in ("emb_dim", "num_heads", "head_dim", "num_encoder_layers", "num_decoder_layers", "mlp_dim"):
            theirs, ours = getattr(self.source.model, name), getattr(self.onto, name)
            if ours > theirs:
                raise InputError(
                    f"FullInit.onto must not be larger than the source's model: {name} must be at most {theirs}, "
                    f"got {ours}; StatisticInit takes larger models"
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
        embeddings = "" if self.embeddings is Embeddings.RANDOM else "_with_embeddings"
        return f"{_where_in_name(self.where)}full{embeddings}{_onto_in_name(self.onto)}"


@spec
class NoisedInit:
    """Parameters taken as by `FullInit`, each with noise of `scale` times the SD of its own values.

    The noise is drawn from the normal distribution with mean 0 (arXiv 2505.22308)."""

    source: Source = field(kw_only=False)
    scale: float
    where: Choice[Where, WhereName] = preset(default=Family.ALL)
    """The families that are taken and noised."""
    embeddings: Choice[Embeddings | None, Literal["random", "source"]] = preset(
        default=None, metadata={"left_out": Embeddings.RANDOM}
    )
    """As in `FullInit`; embeddings of the source are noised too."""

    def __post_init__(self) -> None:
        instance(self, "source", *get_args(Source))
        positive(self, "scale")
        _choose_families(self)
        _choose_embeddings(self)

    @property
    def model(self) -> T5Config:
        return self.source.model

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.source,)

    @property
    def name(self) -> str:
        embeddings = "" if self.embeddings is Embeddings.RANDOM else "_with_embeddings"
        return f"{_where_in_name(self.where)}noised_{self.scale:g}{embeddings}"


@spec
class StatisticInit:
    """Parameters drawn from statistics of the source's parameters (Sections 5.1 and 5.2, Appendix H)."""

    source: Source = field(kw_only=False)
    group_by: Choice[GroupBy, Literal["parameter", "type", "layer", "model"]]
    statistic: Choice[Statistic, Literal["mean_sd", "scale", "shuffled"]]
    where: Choice[Where, WhereName] = preset(default=Family.ALL)
    onto: T5Config | None = None
    """The model to initialize if its shape differs from the source's; None means the source's model.

    Means and SDs are not rescaled for other widths. With groups by layer or by parameter, each layer takes the
    statistics of the source's layer at the same relative depth (`parameters.counterpart`)."""

    def __post_init__(self) -> None:
        instance(self, "source", *get_args(Source))
        choose(self, "group_by", GroupBy)
        choose(self, "statistic", Statistic)
        _choose_families(self)
        shuffled = self.statistic is Statistic.SHUFFLED
        if shuffled and self.group_by is not GroupBy.PARAMETER:
            raise InputError(
                "StatisticInit.group_by must be parameter if statistic is shuffled, because entries are permuted "
                f"within one parameter and a larger group has no common shape, got {self.group_by}"
            )
        if self.onto is None:
            return
        instance(self, "onto", T5Config)
        if shuffled and self.onto != self.source.model:
            raise InputError(
                "StatisticInit.onto must be None if statistic is shuffled, because a permutation keeps the number of "
                f"entries, got {brief(self.onto)}"
            )
        num_factors, num_source_factors = (len(model.mlp_activations) for model in (self.onto, self.source.model))
        with_mlp = self.where is Family.ALL or Family.MLP in families(self.where)
        by_mlp_parameter = self.group_by is GroupBy.PARAMETER and with_mlp
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
        where, onto = _where_in_name(self.where), _onto_in_name(self.onto)
        return f"{where}{group[self.group_by]}_{self.statistic}{onto}"


@spec
class ConstantInit:
    """Families of parameters set to a constant; all others are random (Table 8)."""

    model: T5Config = field(kw_only=False)
    where: Choice[Where, WhereName]
    value: float

    def __post_init__(self) -> None:
        instance(self, "model", T5Config)
        _choose_families(self)
        finite(self, "value")

    sources: ClassVar[tuple[Source, ...]] = ()

    @property
    def name(self) -> str:
        return f"{_where_in_name(self.where) or 'all_'}{self.value:g}"


@spec
class ComposedInit:
    """Several schemes on one model, applied in order: if two set the same parameter, the later one wins."""

    schemes: tuple[FullInit | NoisedInit | StatisticInit | ConstantInit, ...]
    """At least two schemes; their sources may differ, but they must have the same model."""

    def __post_init__(self) -> None:
        if not isinstance(self.schemes, tuple) or len(self.schemes) < 2:
            raise InputError(f"ComposedInit.schemes must be a tuple of at least two schemes, got {brief(self.schemes)}")
        for scheme in self.schemes:
            if not isinstance(scheme, FullInit | NoisedInit | StatisticInit | ConstantInit):
                raise InputError(
                    "ComposedInit.schemes must be FullInit, NoisedInit, StatisticInit or ConstantInit, "
                    f"got {brief(scheme)}"
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


InitScheme = RandomInit | FullInit | NoisedInit | StatisticInit | ConstantInit | ComposedInit
"""How a model is initialized; each scheme has a `model`, its `sources` and a `name`."""

# -------------------------------------------------------------------------------- fields that schemes share


def families(where: Where) -> tuple[Family, ...]:
    """The families that a scheme sets, as a tuple."""
    return where if isinstance(where, tuple) else (where,)


def _choose_families(owner: FullInit | NoisedInit | StatisticInit | ConstantInit) -> None:
    """Replace texts in the field `where` by families; a union gets its one form. Raises `InputError` for others."""
    value: Any = owner.where
    if not isinstance(value, tuple):
        choose(owner, "where", Family)
        return
    field_name = f"{type(owner).__name__}.where"
    for each in value:
        if not isinstance(each, str) or each not in set(Family):
            raise unknown(field_name, each if isinstance(each, str) else brief(each), [*map(str, Family)])
    chosen = tuple(family for family in Family if family in value)
    included = [Family.PRE_ATTENTION_LAYER_NORM, Family.PRE_MLP_LAYER_NORM] if Family.LAYER_NORM in chosen else []
    if len(chosen) < max(len(value), 1) or Family.ALL in chosen or set(included) & set(chosen):
        raise InputError(
            f"{field_name} must be a family or a tuple of different families, of which none includes another, "
            f"got {brief(tuple(map(str, value)))}"
        )
    object.__setattr__(owner, "where", chosen if len(chosen) > 1 else chosen[0])


def _choose_embeddings(owner: FullInit | NoisedInit) -> None:
    """Replace None in the field `embeddings` by what suits the source, and a text by the member."""
    if owner.embeddings is None:
        source = owner.source.artifact
        natural = isinstance(source, Pretrained) or isinstance(source.data.task, TextCorpus)
        taken = natural and owner.where is Family.ALL
        object.__setattr__(owner, "embeddings", Embeddings.SOURCE if taken else Embeddings.RANDOM)
    choose(owner, "embeddings", Embeddings)


def _where_in_name(where: Where) -> str:
    return "" if where is Family.ALL else f"{'_and_'.join(families(where))}_"


def _onto_in_name(onto: T5Config | None) -> str:
    return "" if onto is None else f"_onto_{onto.emb_dim}x{onto.num_encoder_layers}"
