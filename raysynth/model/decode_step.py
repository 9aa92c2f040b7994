"""One decoding step of T5 with cached keys and values, as a plain function of weights prepared for it.

A step multiplies few activations by all of the decoder's weights, so it is as fast as the weights can be read. They are
kept as [out, in], and activations as columns [in, rows]: XLA on CPU then reads memory in order, which is up to a third
faster than `x @ kernel`, and on accelerators the two are the same. A row of activations is a beam of an example; the
rows of one example are neighbours. Letters in `einsum` subscripts are those of `model/t5.py`, and b batch, e emb_dim.
"""

import math
from functools import reduce
from operator import mul
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from raysynth.model.t5 import ACTIVATIONS, MASKED, T5, Params, activation_dtype, padding_bias, relative_buckets
from raysynth.specs.models import T5Config

# -------------------------------------------------------------------------------- what steps read and write


class LayerMemory(NamedTuple):
    """Weights of one layer, [out, in] each and norms [emb_dim], and the keys and values of the encodings."""

    self_norm: jax.Array
    self_query_key_value: jax.Array
    """[3 * heads * head_dim, emb_dim]."""
    self_out: jax.Array
    cross_norm: jax.Array
    cross_query: jax.Array
    cross_keys: jax.Array
    """[batch, heads, head_dim, input_length]."""
    cross_values: jax.Array
    """[batch, heads, input_length, head_dim]."""
    cross_out: jax.Array
    mlp_norm: jax.Array
    mlp_in: tuple[jax.Array, ...]
    """One for each activation of the config."""
    mlp_out: jax.Array


class Memory(NamedTuple):
    """What every decoding step reads and none writes."""

    embedding: jax.Array
    """[vocab, emb_dim] float32."""
    layers: tuple[LayerMemory, ...]
    cross_bias: jax.Array
    """[batch, 1, 1, input_length] float32."""
    relative_bias: jax.Array
    """[heads, 2 * decode_length - 1] float32, for relative positions 1 - decode_length to decode_length - 1."""
    norm: jax.Array
    logits: jax.Array
    """[vocab, emb_dim] float32."""


class Cache(NamedTuple):
    """What decoding steps write.

    The keys and values of an example's beams lie side by side and never move: a hypothesis that continues another one
    only takes over to which of them it attends.
    """

    keys: tuple[jax.Array, ...]
    """[batch, heads, head_dim, decode_length * beams] for each layer: the keys of all beams at the first position, then
    those at the second, and so on."""
    values: tuple[jax.Array, ...]
    """[batch, heads, decode_length * beams, head_dim] for each layer, in the same order."""
    origins: jax.Array
    """[batch, beams, decode_length] int32: the beam that decoded each position of a beam's hypothesis."""


def start_decoding(
    network: T5, params: Params, tokens: jax.Array, *, decode_length: int, num_beams: int
) -> tuple[Memory, Cache]:
    """Encode tokens [batch, input_length] and allocate a cache of `decode_length` positions for each beam."""
    config, dtype = network.config, activation_dtype(network.config.dtype)
    encoded: Any = network.apply({"params": params}, tokens, method="encode")
    decoder, embedding = params["decoder"], params["token_embedder"]["embedding"]
    buckets = relative_buckets(
        np.arange(1 - decode_length, decode_length),
        bidirectional=False,
        num_buckets=config.num_buckets,
        max_distance=config.max_distance,
    )
    memory = Memory(
        embedding=embedding,
        layers=tuple(_layer(config, decoder[f"layers_{i}"], encoded) for i in range(config.num_decoder_layers)),
        cross_bias=padding_bias(tokens),
        relative_bias=decoder["relpos_bias"]["rel_embedding"][:, buckets],
        norm=decoder["decoder_norm"]["scale"],
        logits=embedding if config.logits_via_embedding else decoder["logits_dense"]["kernel"].T,
    )
    batch_size, slots = len(tokens), decode_length * num_beams
    keys = jnp.zeros((batch_size, config.num_heads, config.head_dim, slots), dtype)
    values = jnp.zeros((batch_size, config.num_heads, slots, config.head_dim), dtype)
    cache = Cache(
        keys=(keys,) * config.num_decoder_layers,
        values=(values,) * config.num_decoder_layers,
        origins=jnp.zeros((batch_size, num_beams, decode_length), jnp.int32),
    )
    return memory, cache


def _layer(config: T5Config, params: Params, encoded: jax.Array) -> LayerMemory:
    dtype = activation_dtype(config.dtype)
    mine, cross, mlp = params["self_attention"], params["encoder_decoder_attention"], params["mlp"]

    def transposed(*dense: Params) -> jax.Array:
        return jnp.concatenate([layer["kernel"].astype(dtype).T for layer in dense])

    def heads(dense: Params) -> jax.Array:
        projected = jnp.matmul(encoded, dense["kernel"].astype(dtype))
        return projected.reshape(*projected.shape[:-1], config.num_heads, config.head_dim)

    return LayerMemory(
        self_norm=params["pre_self_attention_layer_norm"]["scale"],
        self_query_key_value=transposed(mine["query"], mine["key"], mine["value"]),
        self_out=transposed(mine["out"]),
        cross_norm=params["pre_cross_attention_layer_norm"]["scale"],
        cross_query=transposed(cross["query"]),
        cross_keys=jnp.einsum("bkhd->bhdk", heads(cross["key"])),
        cross_values=jnp.einsum("bkhd->bhkd", heads(cross["value"])),
        cross_out=transposed(cross["out"]),
        mlp_norm=params["pre_mlp_layer_norm"]["scale"],
        mlp_in=tuple(transposed(mlp[name]) for name in sorted(mlp) if name != "wo"),
        mlp_out=transposed(mlp["wo"]),
    )


# -------------------------------------------------------------------------------- the step


def decode_step(
    config: T5Config, memory: Memory, tokens: jax.Array, parents: jax.Array, position: jax.Array, cache: Cache
) -> tuple[jax.Array, Cache]:
    """Logits [batch, beams, vocab] float32 of the tokens that follow `tokens` [batch, beams] at `position`.

    Each token continues the hypothesis that beam `parents` [batch, beams] had after the step before. The first step has
    position 0 and token 0; positions must be visited in order. Equals `T5` without dropout to rounding.
    """
    num_beams, rows = tokens.shape[1], tokens.shape
    dtype = activation_dtype(config.dtype)
    origins = jnp.take_along_axis(cache.origins, parents[:, :, None], axis=1)
    beams = jax.lax.broadcasted_iota(jnp.int32, origins.shape, 1)
    origins = jax.lax.dynamic_update_slice_in_dim(origins, beams[:, :, :1], position, axis=2)
    bias = _bias(memory, origins, position)

    x = jnp.take(memory.embedding, tokens.reshape(-1), axis=0, mode="fill").astype(dtype).T
    all_keys, all_values = [], []
    for layer, keys, values in zip(memory.layers, cache.keys, cache.values, strict=True):
        projected = _project(layer.self_query_key_value, _norm(x, layer.self_norm))
        query, key, value = projected.reshape(3, config.num_heads, config.head_dim, *rows)
        # XLA writes into the cache in place only if the result has the very shape that attention multiplies.
        keys = jax.lax.dynamic_update_slice_in_dim(keys, jnp.einsum("hdbk->bhdk", key), position * num_beams, axis=3)
        values = jax.lax.dynamic_update_slice_in_dim(
            values, jnp.einsum("hdbk->bhkd", value), position * num_beams, axis=2
        )
        x = x + _project(layer.self_out, _attend(query, keys, values, bias))
        query = _project(layer.cross_query, _norm(x, layer.cross_norm))
        query = query.reshape(config.num_heads, config.head_dim, *rows)
        attended = _attend(query, layer.cross_keys, layer.cross_values, memory.cross_bias)
        x = x + _project(layer.cross_out, attended)
        normed = _norm(x, layer.mlp_norm)
        factors = [
            ACTIVATIONS[activation](_project(weights, normed))
            for activation, weights in zip(config.mlp_activations, layer.mlp_in, strict=True)
        ]
        x = x + _project(layer.mlp_out, reduce(mul, factors))
        all_keys.append(keys)
        all_values.append(values)

    x = _norm(x, memory.norm).astype(jnp.float32)
    if config.logits_via_embedding:
        x = x / math.sqrt(config.emb_dim)
    logits = _project(memory.logits, x).reshape(-1, *rows)
    return jnp.moveaxis(logits, 0, -1), Cache(tuple(all_keys), tuple(all_values), origins)


def _bias(memory: Memory, origins: jax.Array, position: jax.Array) -> jax.Array:
    """[batch, heads, beams, decode_length * beams] float32: the bias of self-attention to each slot of the cache."""
    batch_size, num_beams, length = origins.shape
    shape = (batch_size, num_beams, length, num_beams)
    beam_of_slot, position_of_slot = (jax.lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (3, 2))
    visible = (origins[..., None] == beam_of_slot) & (position_of_slot <= position)
    mask = jnp.where(visible, 0.0, MASKED).astype(jnp.float32)
    relative = jax.lax.dynamic_slice_in_dim(memory.relative_bias, length - 1 - position, length, axis=1)
    bias = mask[:, None] + relative[None, :, None, :, None]
    return bias.reshape(*bias.shape[:3], length * num_beams)


def _project(weights: jax.Array, x: jax.Array) -> jax.Array:
    """The product [out, rows] of weights [out, in] and x [in, rows]."""
    return jnp.matmul(weights, x)


def _norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """T5's norm of the columns of x [emb_dim, rows], computed in float32; returns x's dtype."""
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=0, keepdims=True) + 1e-6)
    return (wide * scale[:, None]).astype(x.dtype)


def _attend(query: jax.Array, keys: jax.Array, values: jax.Array, bias: jax.Array) -> jax.Array:
    """Attend from the beams' queries [heads, head_dim, batch, beams]; returns [heads * head_dim, batch * beams].

    Keys are [batch, heads, head_dim, keys], values [batch, heads, keys, head_dim], and the bias is
    [batch, heads, beams, keys]. All beams of an example attend to the same keys and values, so nothing is repeated.
    """
    query = jnp.einsum("hdbq->bhqd", query)
    logits = jnp.einsum("bhqd,bhdk->bhqk", query, keys, preferred_element_type=jnp.float32) + bias
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    mixed = jnp.einsum("bhqk,bhkd->bhqd", weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
    columns = jnp.einsum("bhqd->hdbq", (mixed / total).astype(values.dtype))
    return columns.reshape(-1, columns.shape[-2] * columns.shape[-1])
