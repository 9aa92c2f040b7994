"""Descriptions of the shapes of T5 models."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from raysynth.errors import InputError, unknown
from raysynth.fields import Choice, choose, instance, preset, spec, whole


class Dtype(StrEnum):
    """The type of activations. Parameters, softmax, norms and the loss are always float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    DEVICE = "device"
    """bfloat16 on TPU and GPU, float32 on CPU."""


@spec
class T5Config:
    """The shape of a T5 encoder-decoder; the fields are named as in T5X's network."""

    vocab_size: int = 32_128
    emb_dim: int = 512
    num_heads: int = 8
    head_dim: int = 64
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    mlp_dim: int = 2048
    mlp_activations: tuple[str, ...] = ("relu",)
    """("relu",) for T5 1.0; ("gelu", "linear") for the gated T5 1.1 (Appendix C)."""
    logits_via_embedding: bool = True
    """Whether the output layer shares the token embedding: yes in T5 1.0, no in T5 1.1 (Appendix C)."""
    num_buckets: int = 32
    """Number of buckets of relative positions."""
    max_distance: int = 128
    """Distance in positions from which all relative positions share the last bucket."""
    dtype: Choice[Dtype, Literal["float32", "bfloat16", "device"]] = preset(default=Dtype.DEVICE)

    def __post_init__(self) -> None:
        whole(self, "vocab_size", "emb_dim", "num_heads", "head_dim", "num_encoder_layers", "num_decoder_layers")
        whole(self, "mlp_dim", "max_distance")
        whole(self, "num_buckets", minimum=4)
        if self.max_distance <= self.num_buckets // 2:
            raise InputError(
                f"T5Config.max_distance must be above half of num_buckets ({self.num_buckets}), got {self.max_distance}"
            )
        instance(self, "mlp_activations", tuple)
        for name in self.mlp_activations or ("",):
            if name not in ("relu", "gelu", "linear"):
                raise unknown("mlp_activations entry", name, ("relu", "gelu", "linear"))
        instance(self, "logits_via_embedding", bool)
        choose(self, "dtype", Dtype)

    @property
    def size(self) -> str:
        """The shape in a few words, such as "d64 2+2": width and layers, and what does not follow from the width."""
        heads = "" if self.num_heads * self.head_dim == self.emb_dim else f" {self.num_heads}x{self.head_dim} heads"
        mlp = "" if self.mlp_dim == 4 * self.emb_dim else f" mlp{self.mlp_dim}"
        gated = " gated" if len(self.mlp_activations) > 1 else ""
        return f"d{self.emb_dim} {self.num_encoder_layers}+{self.num_decoder_layers}{heads}{mlp}{gated}"


T5_SMALL = T5Config()
"""The model of the paper's main tables."""

T5_BASE = T5Config(emb_dim=768, num_heads=12, num_encoder_layers=12, num_decoder_layers=12, mlp_dim=3072)
"""220 million parameters (Appendix J)."""

T5_V1_1_SMALL = T5Config(
    num_heads=6,
    num_encoder_layers=8,
    num_decoder_layers=8,
    mlp_dim=1024,
    mlp_activations=("gelu", "linear"),
    logits_via_embedding=False,
)
"""The small size of the gated T5 1.1 (Appendix C)."""


def described_model(description: Mapping[str, Any]) -> T5Config:
    """The model of a described artifact: its own, that of its init scheme, or that of the scheme's source."""
    for field in ("model", "onto"):
        if field in description:
            return described_config(description[field])
    schemes = description.get("schemes", [None])
    nested = (description.get(field) for field in ("init", "source", "pretrain"))
    return described_model(next(filter(None, nested), schemes[0]))


def described_config(description: Mapping[str, Any]) -> T5Config:
    """The configuration with that description, as `describe` returns it or a record holds it."""
    return T5Config(**described_fields(description))


def described_fields(model: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a described `T5Config` that are not as by default."""
    fields = {field: value for field, value in model.items() if field != "is"}
    return {field: tuple(value) if isinstance(value, list) else value for field, value in fields.items()}
