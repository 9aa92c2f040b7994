"""The paths and shapes of a T5's parameters, and the groups of parameters that share a statistic. No arrays.

Paths are those of T5X's network: for T5 Small, the 130 paths of Appendix K and `token_embedder/embedding`. Groups are
derived from the parsed paths, so they exist for every size and for the gated T5 1.1 too.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from raysynth.errors import unknown
from raysynth.specs.init_schemes import (
    ComposedInit,
    ConstantInit,
    Embeddings,
    Family,
    FullInit,
    GroupBy,
    InitScheme,
    NoisedInit,
    RandomInit,
    StatisticInit,
    Where,
    families,
)
from raysynth.specs.models import T5Config, described_model


class Kind(StrEnum):
    """The kind of a parameter; a group of an init scheme never mixes kinds."""

    KERNEL = "kernels"
    """Matrices of attention and MLP."""
    LAYER_NORM = "layer_norms"
    RELATIVE_BIAS = "relative_biases"
    VOCABULARY = "vocabulary"
    """Token embedding and output layer: only `FullInit` and `NoisedInit` set them, with `Embeddings.SOURCE`."""


class Axis(StrEnum):
    """What a dimension of a parameter counts."""

    EMB = "emb_dim"
    INNER = "inner"
    """The dimensions of all heads, head by head."""
    HEADS = "num_heads"
    MLP = "mlp_dim"
    VOCABULARY = "vocab_size"
    BUCKETS = "num_buckets"


_FAMILIES = {
    "pre_attention_layer_norm": Family.PRE_ATTENTION_LAYER_NORM,
    "pre_self_attention_layer_norm": Family.PRE_ATTENTION_LAYER_NORM,
    "pre_cross_attention_layer_norm": Family.PRE_ATTENTION_LAYER_NORM,
    "attention": Family.ATTENTION,
    "self_attention": Family.ATTENTION,
    "encoder_decoder_attention": Family.ATTENTION,
    "pre_mlp_layer_norm": Family.PRE_MLP_LAYER_NORM,
    "mlp": Family.MLP,
}
"""The family of each module in a layer; modules outside the layers have none."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """The parts of a parameter's path, such as `decoder/layers_0/self_attention/query/kernel`."""

    path: str
    stack: str | None
    """"encoder", "decoder", or None for the token embedding."""
    layer: int | None
    """Index of the layer in its stack; None outside the layers."""
    module: str
    """Name of the module: `self_attention`, `pre_mlp_layer_norm`, `encoder_norm`, `token_embedder` and so on."""
    matrix: str | None
    """Name of the matrix in its module: `query`, `wi_0` and so on; None if the module has only one array."""

    @property
    def family(self) -> Family | None:
        """The family of the parameter's module; None outside the layers."""
        return _FAMILIES.get(self.module)

    @property
    def kind(self) -> Kind:
        """The parameter's kind."""
        if self.module in ("token_embedder", "logits_dense"):
            return Kind.VOCABULARY
        if self.module == "relpos_bias":
            return Kind.RELATIVE_BIAS
        return Kind.LAYER_NORM if self.module.endswith("norm") else Kind.KERNEL

    @property
    def axes(self) -> tuple[Axis, ...]:
        """What each dimension of the parameter counts; kernels are [in, out]."""
        match self.module:
            case "token_embedder":
                return Axis.VOCABULARY, Axis.EMB
            case "logits_dense":
                return Axis.EMB, Axis.VOCABULARY
            case "relpos_bias":
                return Axis.HEADS, Axis.BUCKETS
        if self.kind is Kind.LAYER_NORM:
            return (Axis.EMB,)
        inner = Axis.INNER if self.family is Family.ATTENTION else Axis.MLP
        return (inner, Axis.EMB) if self.matrix in ("out", "wo") else (Axis.EMB, inner)

    def is_in(self, where: Where) -> bool:
        """Whether a family of `where` includes the parameter; none includes the vocabulary."""
        if self.kind is Kind.VOCABULARY:
            return False
        own = {Family.ALL, self.family}
        own |= {Family.LAYER_NORM} if self.kind is Kind.LAYER_NORM else set()
        own |= {Family.RELATIVE_BIAS} if self.kind is Kind.RELATIVE_BIAS else set()
        return not own.isdisjoint(families(where))

    @property
    def type(self) -> str:
        """The name that the parameter shares with its counterparts in other layers and stacks.

        All norms before attention are one type, and so are the two final norms. The matrices of the MLP are one type
        together; the four matrices of attention are four types.
        """
        if self.kind is Kind.VOCABULARY:
            return self.module
        if self.family is Family.ATTENTION:
            return str(self.matrix)
        if self.family is not None:
            return str(self.family)
        return "final_layer_norm" if self.kind is Kind.LAYER_NORM else str(self.kind)

    def group(self, group_by: GroupBy) -> str:
        """The name of the group that the parameter belongs to."""
        match group_by:
            case GroupBy.PARAMETER:
                return self.path
            case GroupBy.TYPE:
                return self.type
            case GroupBy.LAYER:
                layer = self.module if self.layer is None else f"layers_{self.layer}"
                return "/".join(filter(None, (self.stack, layer, self.kind)))
            case GroupBy.MODEL:
                return str(self.kind)


def parse(path: str) -> Parameter:
    """Parse a parameter's path; raises `InputError` if T5 has no such module."""
    *modules, _ = path.split("/")
    stack = modules.pop(0) if modules[:1] in (["encoder"], ["decoder"]) else None
    layer = int(modules.pop(0).removeprefix("layers_")) if modules and modules[0].startswith("layers_") else None
    module, matrix = (*modules, None, None)[:2]
    if module is None or module not in (_FAMILIES if layer is not None else _OUTSIDE_LAYERS):
        raise unknown("module of parameter path", path, (*_FAMILIES, *_OUTSIDE_LAYERS))
    return Parameter(path=path, stack=stack, layer=layer, module=module, matrix=matrix)


_OUTSIDE_LAYERS = ("token_embedder", "relpos_bias", "encoder_norm", "decoder_norm", "logits_dense")


@functools.cache
def paths(config: T5Config) -> Mapping[str, tuple[int, ...]]:
    """The shape of every parameter by its path, sorted by path; kernels are [in, out]."""
    factors = [f"wi_{index}" for index in range(len(config.mlp_activations))]
    matrices = ["wo", *(factors if len(factors) > 1 else ["wi"])]
    names = ["token_embedder/embedding", *([] if config.logits_via_embedding else ["decoder/logits_dense/kernel"])]
    for stack, num_layers, attentions, norms in (
        ("encoder", config.num_encoder_layers, ["attention"], ["pre_attention_layer_norm"]),
        (
            "decoder",
            config.num_decoder_layers,
            ["self_attention", "encoder_decoder_attention"],
            ["pre_self_attention_layer_norm", "pre_cross_attention_layer_norm"],
        ),
    ):
        names += [f"{stack}/relpos_bias/rel_embedding", f"{stack}/{stack}_norm/scale"]
        for layer in (f"{stack}/layers_{index}" for index in range(num_layers)):
            for module in attentions:
                names += [f"{layer}/{module}/{matrix}/kernel" for matrix in ("query", "key", "value", "out")]
            names += [f"{layer}/mlp/{matrix}/kernel" for matrix in matrices]
            names += [f"{layer}/{norm}/scale" for norm in (*norms, "pre_mlp_layer_norm")]
    return MappingProxyType({name: tuple(_size(axis, config) for axis in parse(name).axes) for name in sorted(names)})


def _size(axis: Axis, config: T5Config) -> int:
    size: int = config.num_heads * config.head_dim if axis is Axis.INNER else getattr(config, axis)
    return size


@functools.cache
def groups(config: T5Config, group_by: GroupBy, where: Where) -> Mapping[str, tuple[str, ...]]:
    """The paths of the parameters of `where` in groups, by the group's name; names and paths are sorted.

    The token embedding and, for T5 1.1, the output layer are in no group: they stay random, as in the paper's code.
    """
    grouped: dict[str, tuple[str, ...]] = {}
    for path in paths(config):
        parameter = parse(path)
        if parameter.is_in(where):
            name = parameter.group(group_by)
            grouped[name] = (*grouped.get(name, ()), path)
    return MappingProxyType(dict(sorted(grouped.items())))


def counterpart(name: str, *, model: T5Config, source: T5Config) -> str:
    """The name in `source` that corresponds to a parameter, or to a group by layer, of `model`.

    The numbers of layers may differ. The first layer corresponds to the first, the last to the last, and any other to
    the layer at the nearest relative depth, or to the deeper of two that are equally near: the twelve layers of T5 Base
    correspond to layers 0 0 1 1 2 2 3 3 4 4 5 5 of T5 Small. A single layer corresponds to the first.
    """
    stack, *rest = name.split("/")
    if not rest or not rest[0].startswith("layers_"):
        return name
    num_layers, num_source_layers = (
        config.num_encoder_layers if stack == "encoder" else config.num_decoder_layers for config in (model, source)
    )
    last = max(num_layers - 1, 1)
    layer = (2 * int(rest[0].removeprefix("layers_")) * (num_source_layers - 1) + last) // (2 * last)
    return "/".join((stack, f"layers_{layer}", *rest[1:]))


def statistics_of(scheme: StatisticInit) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The source's paths whose statistic each group of a scheme gets, by the group's paths."""
    source_groups = groups(scheme.source.model, scheme.group_by, scheme.where)
    return {
        paths: source_groups[counterpart(name, model=scheme.model, source=scheme.source.model)]
        for name, paths in groups(scheme.model, scheme.group_by, scheme.where).items()
    }


def touched(scheme: InitScheme) -> tuple[str, ...]:
    """The sorted paths of the parameters that a scheme sets; all others stay random."""
    match scheme:
        case RandomInit():
            return ()
        case FullInit() | NoisedInit():
            return _set_by(scheme.model, scheme.where, scheme.embeddings)
        case StatisticInit() | ConstantInit():
            return _set_by(scheme.model, scheme.where, Embeddings.RANDOM)
        case ComposedInit():
            return tuple(sorted({path for part in scheme.schemes for path in touched(part)}))


def touched_by(description: Mapping[str, Any]) -> tuple[T5Config, tuple[str, ...]]:
    """The model of a described init scheme, and the sorted paths of the parameters that the scheme sets."""
    if description["is"] == ComposedInit.__name__:
        parts = [touched_by(part) for part in description["schemes"]]
        return parts[0][0], tuple(sorted({path for _, part in parts for path in part}))
    model = described_model(description)
    if description["is"] == RandomInit.__name__:
        return model, ()
    where = description.get("where", Family.ALL)
    chosen = tuple(map(Family, where)) if isinstance(where, list) else Family(where)
    return model, _set_by(model, chosen, Embeddings(description.get("embeddings", Embeddings.RANDOM)))


@functools.cache
def _set_by(model: T5Config, where: Where, embeddings: Embeddings | None) -> tuple[str, ...]:
    """The sorted paths of the families in `where`, with those of the vocabulary for `Embeddings.SOURCE`."""
    parameters = map(parse, paths(model))
    also = Kind.VOCABULARY if embeddings is Embeddings.SOURCE else None
    return tuple(each.path for each in parameters if each.is_in(where) or each.kind is also)
