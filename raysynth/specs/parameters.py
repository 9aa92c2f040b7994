"""The parameters of a T5 by path, and the groups that share a statistic. No arrays.

Paths are those of T5X's network: the 130 of Appendix K and `token_embedder/embedding` for T5 Small. Groups come from
the parsed path, so every size and the gated T5 1.1 have them too.
"""

from dataclasses import dataclass
from enum import StrEnum

from raysynth.errors import unknown
from raysynth.specs.init_schemes import (
    ComposedInit,
    ConstantInit,
    Embeddings,
    Family,
    FullInit,
    GroupBy,
    InitScheme,
    RandomInit,
    StatisticInit,
)
from raysynth.specs.models import T5Config


class Kind(StrEnum):
    """What a parameter is to the init schemes, which never mix kinds in a group."""

    KERNEL = "kernels"
    """Of attention and MLP."""
    LAYER_NORM = "layer_norms"
    RELATIVE_BIAS = "relative_biases"
    VOCABULARY = "vocabulary"
    """Token embedding and output layer: only `FullInit` touches them, and only where told."""


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
"""The family of a module within a layer; those outside the layers have none."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter, told by its path, such as `decoder/layers_0/self_attention/query/kernel`."""

    path: str
    stack: str | None
    """"encoder", "decoder", or None for the token embedding."""
    layer: int | None
    """Within the stack; None outside its layers."""
    module: str
    """`self_attention`, `mlp`, `pre_mlp_layer_norm`, `encoder_norm`, `relpos_bias`, `token_embedder` and so on."""
    matrix: str | None
    """Which of the module's matrices: `query`, `wi_0` and so on; None where it has one array only."""

    @property
    def family(self) -> Family | None:
        """The family that a scheme's `where` names; None for what only `Family.ALL` reaches."""
        return _FAMILIES.get(self.module)

    @property
    def kind(self) -> Kind:
        if self.module in ("token_embedder", "logits_dense"):
            return Kind.VOCABULARY
        if self.module == "relpos_bias":
            return Kind.RELATIVE_BIAS
        return Kind.LAYER_NORM if self.module.endswith("norm") else Kind.KERNEL

    @property
    def type(self) -> str:
        """What the parameter shares with its like in other layers and stacks.

        All attention norms are one type and so are the two final norms; the MLP's matrices are one type together, the
        attentions' matrices one each.
        """
        if self.kind is Kind.VOCABULARY:
            return self.module
        if self.family is Family.ATTENTION:
            return str(self.matrix)
        if self.family is not None:
            return str(self.family)
        return "final_layer_norm" if self.kind is Kind.LAYER_NORM else str(self.kind)

    def group(self, group_by: GroupBy) -> str:
        """The name of the group it belongs to."""
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
    """The parameter at a path; raises `InputError` for what is none of T5's."""
    *modules, _ = path.split("/")
    stack = modules.pop(0) if modules[:1] in (["encoder"], ["decoder"]) else None
    layer = int(modules.pop(0).removeprefix("layers_")) if modules and modules[0].startswith("layers_") else None
    module, matrix = (*modules, None, None)[:2]
    if module not in (_FAMILIES if layer is not None else _OUTSIDE_LAYERS):
        raise unknown("module of parameter path", path, (*_FAMILIES, *_OUTSIDE_LAYERS))
    return Parameter(path=path, stack=stack, layer=layer, module=module, matrix=matrix)


_OUTSIDE_LAYERS = ("token_embedder", "relpos_bias", "encoder_norm", "decoder_norm", "logits_dense")


def paths(config: T5Config) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by its path, sorted by path; matrices are [in, out]."""
    emb, inner, mlp = config.emb_dim, config.num_heads * config.head_dim, config.mlp_dim
    num_factors = len(config.mlp_activations)
    attention = {"query": (emb, inner), "key": (emb, inner), "value": (emb, inner), "out": (inner, emb)}
    factors = ["wi"] if num_factors == 1 else [f"wi_{index}" for index in range(num_factors)]

    shapes: dict[str, tuple[int, ...]] = {"token_embedder/embedding": (config.vocab_size, emb)}
    for stack, num_layers, attentions, norms in (
        ("encoder", config.num_encoder_layers, ["attention"], ["pre_attention_layer_norm"]),
        (
            "decoder",
            config.num_decoder_layers,
            ["self_attention", "encoder_decoder_attention"],
            ["pre_self_attention_layer_norm", "pre_cross_attention_layer_norm"],
        ),
    ):
        shapes[f"{stack}/relpos_bias/rel_embedding"] = (config.num_heads, config.num_buckets)
        shapes[f"{stack}/{stack}_norm/scale"] = (emb,)
        for layer in (f"{stack}/layers_{index}" for index in range(num_layers)):
            for module in attentions:
                shapes |= {f"{layer}/{module}/{matrix}/kernel": shape for matrix, shape in attention.items()}
            shapes |= {f"{layer}/mlp/{factor}/kernel": (emb, mlp) for factor in factors}
            shapes[f"{layer}/mlp/wo/kernel"] = (mlp, emb)
            shapes |= {f"{layer}/{norm}/scale": (emb,) for norm in (*norms, "pre_mlp_layer_norm")}
    if not config.logits_via_embedding:
        shapes["decoder/logits_dense/kernel"] = (emb, config.vocab_size)
    return dict(sorted(shapes.items()))


def groups(config: T5Config, group_by: GroupBy, where: Family) -> dict[str, tuple[str, ...]]:
    """The paths of each group by its name, those of `where` only, sorted.

    Token embedding and, for T5 1.1, output layer are in no group: they stay random (the paper's code).
    """
    grouped: dict[str, tuple[str, ...]] = {}
    for path in paths(config):
        parameter = parse(path)
        if parameter.kind is not Kind.VOCABULARY and where in (Family.ALL, parameter.family):
            name = parameter.group(group_by)
            grouped[name] = (*grouped.get(name, ()), path)
    return dict(sorted(grouped.items()))


def counterpart(name: str, *, model: T5Config, source: T5Config) -> str:
    """The name in `source` of a parameter, or of a group by layer, of a model with another number of layers.

    First layers go with first, last with last, and those between with the layer at the nearest relative depth, the
    deeper one of equals: the twelve layers of T5 Base with 0 0 1 1 2 2 3 3 4 4 5 5 of T5 Small's six. An only layer
    goes with the first.
    """
    stack, *rest = name.split("/")
    if not rest or not rest[0].startswith("layers_"):
        return name
    deep, shallow = (
        config.num_encoder_layers if stack == "encoder" else config.num_decoder_layers for config in (model, source)
    )
    steps = max(deep - 1, 1)
    layer = (2 * int(rest[0].removeprefix("layers_")) * (shallow - 1) + steps) // (2 * steps)
    return "/".join((stack, f"layers_{layer}", *rest[1:]))


def statistics_of(scheme: StatisticInit) -> dict[tuple[str, ...], tuple[str, ...]]:
    """For each group of paths that a scheme sets, the source's paths whose statistic it gets."""
    theirs = groups(scheme.source.model, scheme.group_by, scheme.where)
    return {
        paths: theirs[counterpart(name, model=scheme.model, source=scheme.source.model)]
        for name, paths in groups(scheme.model, scheme.group_by, scheme.where).items()
    }


def touched(scheme: InitScheme) -> tuple[str, ...]:
    """The paths that a scheme sets, sorted; the others stay random."""
    match scheme:
        case RandomInit():
            return ()
        case FullInit(embeddings=Embeddings.SOURCE):
            return tuple(paths(scheme.model))
        case FullInit():
            where = Family.ALL
        case StatisticInit() | ConstantInit():
            where = scheme.where
        case ComposedInit():
            return tuple(sorted({path for one in scheme.schemes for path in touched(one)}))
    return tuple(groups(scheme.model, GroupBy.PARAMETER, where))
