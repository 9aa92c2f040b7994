"""T5 1.0 and 1.1 in flax linen: the model, its initial parameters and its loss.

Parameter paths, shapes and initial distributions are those of T5X's `examples/t5` (Appendix K), so checkpoints and
init schemes address the same leaves. Letters in `einsum` subscripts: h heads, q query positions, k key positions,
d head_dim.
"""

import functools
import math
from collections.abc import Callable, Mapping
from functools import partial, reduce
from operator import mul
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.nn.initializers import normal, ones, variance_scaling
from jax.tree_util import PyTreeDef

from raysynth.model.devices import DeviceBlock
from raysynth.model.process import uses_cpu
from raysynth.specs.models import Dtype, T5Config
from raysynth.tokens.token_space import PAD

Params = dict[str, Any]
"""Parameters as nested dicts of arrays."""

MASKED = -1e10
"""Added to the attention logits of masked keys."""

TRANSPOSED_WIDTHS = range(256, 8193)
"""Widths of the layers of T5-small and of wider models; T5's vocabulary is wider still."""

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "linear": lambda x: x,
}
"""`jax.nn.gelu` is the tanh approximation, as in T5 1.1."""


def activation_dtype(dtype: Dtype) -> Any:
    """The dtype of activations on this process's default device."""
    if dtype is Dtype.DEVICE:
        return jnp.float32 if uses_cpu() else jnp.bfloat16
    return jnp.dtype(dtype.value)


def flat_params(params: Params) -> dict[str, Any]:
    """The arrays by path, such as `encoder/encoder_norm/scale`."""
    return dict(flatten_dict(params, sep="/"))  # type: ignore[no-untyped-call]  # Flax does not annotate it


def nested_params(flat: Mapping[str, Any]) -> Params:
    """The inverse of `flat_params`."""
    return dict(unflatten_dict(flat, sep="/"))  # type: ignore[no-untyped-call]  # Flax does not annotate it


# -------------------------------------------------------------------------------- masks and shifts


def shift_right(targets: jax.Array, segment_ids: jax.Array | None) -> jax.Array:
    """The decoder's input: [batch, length] targets shifted one position right, 0 at the start of every segment."""
    shifted = jnp.pad(targets[:, :-1], ((0, 0), (1, 0)))
    if segment_ids is None:
        return shifted
    return jnp.where(segment_ids == jnp.pad(segment_ids[:, :-1], ((0, 0), (1, 0))), shifted, PAD)


def padding_bias(tokens: jax.Array) -> jax.Array:
    """[batch, 1, 1, length] float32 bias that masks padding keys.

    Unlike T5X's mask it does not depend on the query, because nothing reads the outputs of padding queries.
    """
    return jnp.where(tokens > PAD, 0.0, MASKED).astype(jnp.float32)[:, None, None, :]


def attention_bias(tokens: jax.Array, key_ids: jax.Array | None, query_ids: jax.Array | None) -> jax.Array:
    """The padding bias of the keys' tokens [batch, length]; with segment ids, keys of other segments are masked too."""
    bias = padding_bias(tokens)
    if key_ids is None or query_ids is None:
        return bias
    different = query_ids[:, None, :, None] != key_ids[:, None, None, :]
    return bias + jnp.where(different, MASKED, 0.0).astype(jnp.float32)


def causal_bias(length: int) -> npt.NDArray[np.float32]:
    """[1, 1, length, length] float32 bias that masks later keys."""
    return np.triu(np.full((length, length), MASKED, np.float32), k=1)[None, None]


def relative_buckets(
    relative_positions: npt.NDArray[np.integer[Any]], *, bidirectional: bool, num_buckets: int, max_distance: int
) -> npt.NDArray[np.int32]:
    """The bucket (int32) of each key position minus query position: one per small distance, then logarithmic.

    Bidirectional buckets (encoder) reserve the second half for later keys; the others (decoder) put all later keys in
    bucket 0. The quotient of logarithms is float32, as in T5X and Hugging Face, because this decides the bucket at some
    distances. The logarithm itself is rounded from float64, because NumPy's float32 logarithm differs between
    processors.
    """
    distance = -np.asarray(relative_positions)
    offset = np.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        offset = np.where(distance < 0, num_buckets, 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(distance, 0)
    exact = num_buckets // 2
    ratio = np.maximum(distance, 1).astype(np.float32) / exact
    logarithm = np.log(ratio.astype(np.float64)).astype(np.float32)
    steps = (logarithm / np.float32(np.log(max_distance / exact)) * (num_buckets - exact)).astype(np.int32)
    far = np.minimum(exact + steps, num_buckets - 1)
    buckets: npt.NDArray[np.int32] = (offset + np.where(distance < exact, distance, far)).astype(np.int32)
    return buckets


# -------------------------------------------------------------------------------- layers


def barrier(x: jax.Array) -> jax.Array:
    """Return `x`, and keep XLA from merging its computation into what uses it."""
    return cast(jax.Array, jax.lax.optimization_barrier(x))  # type: ignore[no-untyped-call]  # JAX's is untyped


def transposed_product(left: jax.Array, right: jax.Array) -> jax.Array:
    """The product [left_width, right_width] of `left` transposed and `right`, which are [rows, width].

    On a CPU, XLA multiplies a transposed left side slowly. If both widths are among `TRANSPOSED_WIDTHS`, the narrower
    side is therefore transposed first. Steps of narrow models gain nothing by this, and logits take longer.
    """
    widths = (left.shape[1], right.shape[1])
    if not uses_cpu() or any(width not in TRANSPOSED_WIDTHS for width in widths):
        return jnp.einsum("na,nb->ab", left, right)
    if widths[0] <= widths[1]:
        return jnp.matmul(barrier(left.T), right)
    return barrier(jnp.matmul(barrier(right.T), left)).T


@jax.custom_vjp
def project(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The product [..., out] of x [..., in] and kernel [in, out].

    The kernel's gradient is written out because JAX's own rule computes its transpose, for which XLA on CPU first
    copies the output's gradient: that is three times slower, and the logits are the largest array of a step.
    """
    return jnp.matmul(x, kernel)


def _project_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return project(x, kernel), (x, kernel)


def _project_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    rows, columns = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    # The barrier keeps XLA from undoing this if `kernel` is itself a transpose, as in tied logits.
    return jnp.matmul(gradient, kernel.T), barrier(transposed_product(rows, columns))


project.defvjp(_project_forward, _project_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def wide_einsum(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """The float32 `einsum` of two arrays of one dtype, whose gradients are products in that dtype too.

    JAX's own rule multiplies the result's float32 gradient by bfloat16 operands, which matrix units do not support.
    """
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)


def _wide_einsum_forward(
    subscripts: str, left: jax.Array, right: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return wide_einsum(subscripts, left, right), (left, right)


def _wide_einsum_backward(
    subscripts: str, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    _, pull_back = jax.vjp(partial(jnp.einsum, subscripts), *saved)
    left, right = pull_back(gradient.astype(saved[0].dtype))
    return left, right


wide_einsum.defvjp(_wide_einsum_forward, _wide_einsum_backward)


class Dense(nn.Module):
    """Multiplies [..., in] by a kernel [in, features]; no bias."""

    features: int
    kernel_init: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        return project(x.astype(self.dtype), kernel.astype(self.dtype))


class LayerNorm(nn.Module):
    """T5's norm: divides by the root mean square; no mean and no bias.

    Computed in float32 throughout. T5X multiplies by the scale in bfloat16, which makes the scale's gradient a bfloat16
    sum over all tokens of a batch.
    """

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", ones, (x.shape[-1],), jnp.float32)
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)
        normed: jax.Array = (x * jnp.broadcast_to(scale, x.shape)).astype(self.dtype)
        return normed


class Dropout(nn.Module):
    """Dropout if `apply` gets a "dropout" key, else the identity.

    The mask is the same at all positions of the `shared` axes, by default the length.
    """

    rate: float
    shared: tuple[int, ...] = (-2,)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dropout = nn.Dropout(self.rate, broadcast_dims=self.shared)
        return cast(jax.Array, dropout(x, deterministic=not self.has_rng("dropout")))


class RelativeBias(nn.Module):
    """Attention bias by bucketed distance; all layers of a stack share one table."""

    config: T5Config
    bidirectional: bool

    def setup(self) -> None:
        shape = (self.config.num_heads, self.config.num_buckets)
        self.rel_embedding = self.param(
            "rel_embedding", variance_scaling(1.0, "fan_avg", "uniform"), shape, jnp.float32
        )

    def by_distance(self, relative_positions: npt.NDArray[np.integer[Any]]) -> jax.Array:
        """Biases [heads, count] float32 of keys at the given positions [count] relative to their query."""
        buckets = relative_buckets(
            relative_positions,
            bidirectional=self.bidirectional,
            num_buckets=self.config.num_buckets,
            max_distance=self.config.max_distance,
        )
        return self.rel_embedding[:, buckets]

    def __call__(self, length: int) -> jax.Array:
        """Biases [1, heads, length, length] float32 of every query and key."""
        # Row q of the result is the table of distances 0, 1, ..., -2, -1 rotated right by q. Copies of the table laid
        # end to end and read in rows one element shorter are rotated by themselves. Unlike that of a gather, the
        # gradient is fast.
        period = 2 * length
        distances = np.concatenate([np.arange(length), np.arange(-length, 0)])
        rows = jnp.broadcast_to(self.by_distance(distances)[:, None, :], (self.config.num_heads, length, period))
        flat = rows.reshape(self.config.num_heads, length * period)[:, : length * (period - 1)]
        return flat.reshape(self.config.num_heads, length, period - 1)[None, :, :, :length]


class Attention(nn.Module):
    """Multi-head attention; the factor 1 / sqrt(head_dim) is in the query kernel's initial scale, not in the logits."""

    config: T5Config
    dropout_rate: float

    def setup(self) -> None:
        config, dtype = self.config, activation_dtype(self.config.dtype)
        width = config.num_heads * config.head_dim
        fan_in = variance_scaling(1.0, "fan_in", "normal")
        self.query = Dense(width, variance_scaling(1.0 / config.head_dim, "fan_in", "normal"), dtype)
        self.key = Dense(width, fan_in, dtype)
        self.value = Dense(width, fan_in, dtype)
        self.out = Dense(config.emb_dim, fan_in, dtype)
        self.value_dropout = Dropout(self.dropout_rate, shared=(-1,))

    def __call__(self, x: jax.Array, memory: jax.Array, bias: jax.Array) -> jax.Array:
        """Attend from x [batch, queries, emb_dim] to memory [batch, keys, emb_dim]; returns x's shape.

        The bias is [batch, heads, queries, keys].
        """
        return self.attend(x, *self.keys_values(memory), bias)

    def keys_values(self, memory: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys and values, [..., heads, length, head_dim] each, of memory [..., length, emb_dim]."""
        return self._heads(self.key(memory)), self._heads(self.value(memory))

    def attend(self, x: jax.Array, keys: jax.Array, values: jax.Array, bias: jax.Array) -> jax.Array:
        """Attend from x [..., queries, emb_dim] to keys and values [..., heads, keys, head_dim]; returns x's shape.

        The bias has as many axes as the logits [..., heads, queries, keys].
        """
        query = self._heads(self.query(x))
        logits = wide_einsum("...hqd,...hkd->...hqk", query, keys) + bias
        # The softmax divides after the sum over keys, where there is less to divide and to differentiate.
        weights = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)))
        total = jnp.sum(weights, axis=-1, keepdims=True)
        # T5X drops attention weights with one mask for all queries. That amounts to dropping whole values, of which
        # there are fewer.
        values = self.value_dropout(values)
        mixed = wide_einsum("...hqk,...hkd->...hqd", weights.astype(values.dtype), values)
        mixed = (mixed / total).astype(values.dtype)
        mixed = jnp.swapaxes(mixed, -2, -3)
        return self.out(mixed.reshape(*mixed.shape[:-2], -1))

    def _heads(self, x: jax.Array) -> jax.Array:
        """[..., length, heads * head_dim] to [..., heads, length, head_dim]."""
        return jnp.swapaxes(x.reshape(*x.shape[:-1], self.config.num_heads, self.config.head_dim), -2, -3)


class Mlp(nn.Module):
    """Two dense layers with an activation, or a product of activations, between them."""

    config: T5Config
    dropout_rate: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config, dtype = self.config, activation_dtype(self.config.dtype)
        fan_in = variance_scaling(1.0, "fan_in", "truncated_normal")
        names = ["wi"] if len(config.mlp_activations) == 1 else [f"wi_{i}" for i in range(len(config.mlp_activations))]
        factors = [
            ACTIVATIONS[activation](Dense(config.mlp_dim, fan_in, dtype, name=name)(x))
            for name, activation in zip(names, config.mlp_activations, strict=True)
        ]
        hidden = Dropout(self.dropout_rate)(reduce(mul, factors))
        return Dense(config.emb_dim, fan_in, dtype, name="wo")(hidden)


# -------------------------------------------------------------------------------- stacks


class EncoderLayer(nn.Module):
    """Self-attention and MLP, each after a norm and added to its input."""

    config: T5Config
    dropout_rate: float

    def setup(self) -> None:
        dtype = activation_dtype(self.config.dtype)
        self.pre_attention_layer_norm = LayerNorm(dtype)
        self.attention = Attention(self.config, self.dropout_rate)
        self.pre_mlp_layer_norm = LayerNorm(dtype)
        self.mlp = Mlp(self.config, self.dropout_rate)
        self.dropout = Dropout(self.dropout_rate)

    def __call__(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        normed = self.pre_attention_layer_norm(x)
        x = x + self.dropout(self.attention(normed, normed, bias))
        return x + self.dropout(self.mlp(self.pre_mlp_layer_norm(x)))


class Encoder(nn.Module):
    """Maps embedded tokens [batch, length, emb_dim] to encodings of the same shape."""

    config: T5Config
    dropout_rate: float

    def setup(self) -> None:
        config = self.config
        self.relpos_bias = RelativeBias(config, bidirectional=True)
        self.layers = [EncoderLayer(config, self.dropout_rate) for _ in range(config.num_encoder_layers)]
        self.encoder_norm = LayerNorm(activation_dtype(config.dtype))
        self.input_dropout = Dropout(self.dropout_rate)
        self.output_dropout = Dropout(self.dropout_rate, shared=())  # T5X shares no mask here

    def __call__(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        x = self.input_dropout(x)
        bias = bias + self.relpos_bias(x.shape[1])
        for layer in self.layers:
            x = layer(x, bias)
        return self.output_dropout(self.encoder_norm(x))


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the encodings and MLP, each after a norm and added to its input."""

    config: T5Config
    dropout_rate: float

    def setup(self) -> None:
        dtype = activation_dtype(self.config.dtype)
        self.pre_self_attention_layer_norm = LayerNorm(dtype)
        self.self_attention = Attention(self.config, self.dropout_rate)
        self.pre_cross_attention_layer_norm = LayerNorm(dtype)
        self.encoder_decoder_attention = Attention(self.config, self.dropout_rate)
        self.pre_mlp_layer_norm = LayerNorm(dtype)
        self.mlp = Mlp(self.config, self.dropout_rate)
        self.dropout = Dropout(self.dropout_rate)

    def __call__(self, x: jax.Array, encoded: jax.Array, bias: jax.Array, cross_bias: jax.Array) -> jax.Array:
        normed = self.pre_self_attention_layer_norm(x)
        x = x + self.dropout(self.self_attention(normed, normed, bias))
        normed = self.pre_cross_attention_layer_norm(x)
        x = x + self.dropout(self.encoder_decoder_attention(normed, encoded, cross_bias))
        return x + self.dropout(self.mlp(self.pre_mlp_layer_norm(x)))


class Decoder(nn.Module):
    """Maps embedded tokens [batch, length, emb_dim] and the encodings to logits [batch, length, vocab]."""

    config: T5Config
    dropout_rate: float

    def setup(self) -> None:
        config = self.config
        self.relpos_bias = RelativeBias(config, bidirectional=False)
        self.layers = [DecoderLayer(config, self.dropout_rate) for _ in range(config.num_decoder_layers)]
        self.decoder_norm = LayerNorm(activation_dtype(config.dtype))
        self.input_dropout = Dropout(self.dropout_rate)
        self.output_dropout = Dropout(self.dropout_rate)
        if not config.logits_via_embedding:
            fan_in = variance_scaling(1.0, "fan_in", "truncated_normal")
            self.logits_dense = Dense(config.vocab_size, fan_in, jnp.float32)

    def __call__(
        self, x: jax.Array, encoded: jax.Array, bias: jax.Array, cross_bias: jax.Array, embedding: jax.Array
    ) -> jax.Array:
        x = self.input_dropout(x)
        bias = bias + (self.relpos_bias(x.shape[1]) + causal_bias(x.shape[1]))
        for layer in self.layers:
            x = layer(x, encoded, bias, cross_bias)
        return self._logits(x, embedding)

    def _logits(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
        x = self.output_dropout(self.decoder_norm(x)).astype(jnp.float32)
        if not self.config.logits_via_embedding:
            return self.logits_dense(x)
        return project(x / math.sqrt(self.config.emb_dim), embedding.T)


class Embedding(nn.Module):
    """The table of token embeddings, [vocab, emb_dim] float32."""

    config: T5Config

    def setup(self) -> None:
        shape = (self.config.vocab_size, self.config.emb_dim)
        self.embedding = self.param("embedding", normal(1.0), shape, jnp.float32)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Embeddings [..., emb_dim] of tokens [...]; ids outside the vocabulary give NaN."""
        rows = jnp.take(self.embedding, tokens, axis=0, mode="fill")
        return rows.astype(activation_dtype(self.config.dtype))


class T5(nn.Module):
    """The encoder-decoder of T5 1.0 or 1.1; dropout is active only if `apply` gets a "dropout" key.

    As in T5X, dropout masks are shared along the length; those of attention weights, along the queries.
    """

    config: T5Config
    dropout_rate: float = 0.0

    def setup(self) -> None:
        self.token_embedder = Embedding(self.config)
        self.encoder = Encoder(self.config, self.dropout_rate)
        self.decoder = Decoder(self.config, self.dropout_rate)

    def __call__(
        self,
        encoder_input_tokens: jax.Array,
        decoder_target_tokens: jax.Array,
        encoder_segment_ids: jax.Array | None = None,
        decoder_segment_ids: jax.Array | None = None,
    ) -> jax.Array:
        """Teacher-forced logits [batch, target_length, vocab] float32 of each target given those before it.

        Tokens are [batch, input_length] and [batch, target_length] int32, 0 where padded; logits at padding have no
        meaning. If rows hold several packed examples, segment ids of the same shapes number them 1, 2, ..., with 0
        where padded. T5 uses only distances, which packing keeps, so it needs no positions.
        """
        encoded = self.encode(encoder_input_tokens, encoder_segment_ids)
        inputs = self.token_embedder(shift_right(decoder_target_tokens, decoder_segment_ids))
        bias = attention_bias(decoder_target_tokens, decoder_segment_ids, decoder_segment_ids)
        cross_bias = attention_bias(encoder_input_tokens, encoder_segment_ids, decoder_segment_ids)
        return self.decoder(inputs, encoded, bias, cross_bias, self.token_embedder.embedding)

    def encode(self, encoder_input_tokens: jax.Array, encoder_segment_ids: jax.Array | None = None) -> jax.Array:
        """Encodings [batch, input_length, emb_dim] of tokens [batch, input_length]."""
        bias = attention_bias(encoder_input_tokens, encoder_segment_ids, encoder_segment_ids)
        return self.encoder(self.token_embedder(encoder_input_tokens), bias)


def init_params(config: T5Config, key: jax.Array) -> Params:
    """Random parameters as a nested dict of float32 arrays, drawn from T5X's initial distributions.

    Each leaf depends only on the key and its own path. Not compiled as a whole, because 131 draws of few shapes take
    longer to compile than to compute. But the network is traced once only, which takes longer than the draws too.
    """
    draws, structure = _draws(config, key.shape, key.dtype)
    return cast(Params, jax.tree.unflatten(structure, jaxpr_as_fun(draws)(key)))


@functools.cache
def _draws(config: T5Config, key_shape: tuple[int, ...], key_dtype: Any) -> tuple[ClosedJaxpr, PyTreeDef]:
    """The operations that draw the parameters from a key, and the structure of the parameters."""

    def params(key: jax.Array) -> Any:
        tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)  # type: ignore[no-untyped-call]  # JAX does not annotate it
        return T5(config).lazy_init(key, tokens, tokens)["params"]

    like = jax.ShapeDtypeStruct(key_shape, key_dtype)  # type: ignore[no-untyped-call]  # JAX does not annotate it
    draws, shapes = jax.make_jaxpr(params, return_shape=True)(like)
    return draws, jax.tree.structure(shapes)


def teacher_forced_logits(
    network: T5, params: Params, block: DeviceBlock, *, dropout_key: jax.Array | None = None
) -> jax.Array:
    """Logits [rows, target_length, vocab] float32 of a block's targets; dropout is active if a key is given."""
    rngs = None if dropout_key is None else {"dropout": dropout_key}
    return cast(jax.Array, network.apply({"params": params}, *block, rngs=rngs))


# -------------------------------------------------------------------------------- loss


def loss_and_counts(
    logits: jax.Array, targets: jax.Array, *, z_loss: float, label_smoothing: float
) -> dict[str, jax.Array]:
    """Sums over all targets except padding: "loss", "correct" (right argmax predictions) and "weight" (their number).

    Logits are [batch, length, vocab] float32, targets [batch, length] int32; end of sequence counts as a target.
    Follows T5X's `losses.py`: label smoothing spreads its share over the other ids and subtracts the entropy of the
    smoothed distribution, z_loss adds z_loss * log(Z)^2, and the loss is not divided by the number of tokens.
    """
    vocab_size = logits.shape[-1]
    weights = (targets > PAD).astype(jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    target_logits = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    losses = log_z - target_logits
    if label_smoothing:
        confidence, share = 1.0 - label_smoothing, label_smoothing / (vocab_size - 1)
        entropy = -(confidence * math.log(confidence) + label_smoothing * math.log(share))
        other_losses = (vocab_size - 1) * log_z - (jnp.sum(logits, axis=-1) - target_logits)
        losses = confidence * losses + share * other_losses - entropy
    losses = losses + z_loss * jnp.square(log_z)
    return {
        "loss": jnp.sum(losses * weights),
        "correct": jnp.sum(_is_argmax(logits, targets).astype(jnp.float32) * weights),
        "weight": jnp.sum(weights),
    }


def _is_argmax(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """[batch, length] bool: `argmax(logits) == targets`, by reductions, which XLA on CPU vectorizes, unlike argmax."""
    peaks = jnp.max(logits, axis=-1, keepdims=True)
    ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    earlier = jnp.any((logits == peaks) & (ids < targets[..., None]), axis=-1)
    return (jnp.take_along_axis(logits, targets[..., None], axis=-1) == peaks)[..., 0] & ~earlier
