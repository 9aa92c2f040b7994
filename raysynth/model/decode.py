"""Greedy and beam search with cached keys and values."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from raysynth.model.t5 import T5, Params
from raysynth.tokens.token_space import EOS, PAD

Step = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
"""Maps tokens [batch, beams], their position (a scalar) and a cache to the logits [batch, beams, vocab] float32 of the
next tokens and the updated cache. The leaves of the cache start with the axes [batch, beams]. The first token is 0."""


def generate(
    model: T5,
    params: Params,
    encoder_input_tokens: jax.Array,
    *,
    decode_length: int,
    num_beams: int = 1,
    length_penalty: float = 0.6,
) -> tuple[jax.Array, jax.Array]:
    """The best hypothesis of each row and its score.

    Hypotheses are [batch, decode_length] int32 with 0 after end of sequence, scores [batch] float32. One beam means
    greedy search, more mean beam search. Compiled once per model and shape.
    """
    penalty = jnp.asarray(length_penalty, jnp.float32)
    best: tuple[jax.Array, jax.Array] = _generate(
        model, decode_length, num_beams, params, encoder_input_tokens, penalty
    )
    return best


@partial(jax.jit, static_argnums=(0, 1, 2))
def _generate(
    model: T5, decode_length: int, num_beams: int, params: Params, tokens: jax.Array, length_penalty: jax.Array
) -> tuple[jax.Array, jax.Array]:
    variables = {"params": params}
    memory, cache = model.apply(
        variables, tokens, decode_length=decode_length, num_beams=num_beams, method="start_decoding"
    )

    def step(tokens: jax.Array, position: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
        return cast(
            tuple[jax.Array, Any], model.apply(variables, tokens, position, memory, cache, method="decode_step")
        )

    if num_beams == 1:
        return greedy_search(
            step, cache, batch_size=len(tokens), decode_length=decode_length, length_penalty=length_penalty
        )
    sequences, scores = beam_search(
        step,
        cache,
        batch_size=len(tokens),
        num_beams=num_beams,
        decode_length=decode_length,
        length_penalty=length_penalty,
    )
    return sequences[:, 0], scores[:, 0]


def brevity(length: jax.Array, length_penalty: jax.Array | float) -> jax.Array:
    """The divisor of a finished hypothesis's log-probability (Wu et al. 2016); `length` includes end of sequence."""
    penalty: jax.Array = ((5.0 + length.astype(jnp.float32)) / 6.0) ** length_penalty
    return penalty


class _Greedy(NamedTuple):
    position: jax.Array
    sequences: jax.Array
    last: jax.Array
    log_probs: jax.Array
    lengths: jax.Array
    ended: jax.Array
    cache: Any


def greedy_search(
    step: Step, cache: Any, *, batch_size: int, decode_length: int, length_penalty: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """The most likely token at every position until end of sequence, and scores as in beam search.

    Sequences are [batch, decode_length] int32 with 0 after end of sequence, scores [batch] float32.
    """

    def running(state: _Greedy) -> jax.Array:
        return (state.position < decode_length) & ~jnp.all(state.ended)

    def advance(state: _Greedy) -> _Greedy:
        logits, cache = step(state.last[:, None], state.position, state.cache)
        logits = logits[:, 0]
        chosen = jnp.where(state.ended, PAD, jnp.argmax(logits, axis=-1).astype(jnp.int32))
        log_prob = jnp.max(logits, axis=-1) - jax.nn.logsumexp(logits, axis=-1)
        return _Greedy(
            position=state.position + 1,
            sequences=jax.lax.dynamic_update_slice_in_dim(state.sequences, chosen[:, None], state.position, axis=1),
            last=chosen,
            log_probs=state.log_probs + jnp.where(state.ended, 0.0, log_prob),
            lengths=state.lengths + (~state.ended).astype(jnp.int32),
            ended=state.ended | (chosen == EOS),
            cache=cache,
        )

    start = _Greedy(
        position=jnp.int32(0),
        sequences=jnp.full((batch_size, decode_length), PAD, jnp.int32),
        last=jnp.full(batch_size, PAD, jnp.int32),
        log_probs=jnp.zeros(batch_size, jnp.float32),
        lengths=jnp.zeros(batch_size, jnp.int32),
        ended=jnp.zeros(batch_size, bool),
        cache=cache,
    )
    end = jax.lax.while_loop(running, advance, start)
    scores = jnp.where(end.ended, end.log_probs / brevity(end.lengths, length_penalty), end.log_probs)
    return end.sequences, scores


class _Beams(NamedTuple):
    position: jax.Array
    live: jax.Array
    """[batch, beams, decode_length] int32: hypotheses without end of sequence, best first."""
    log_probs: jax.Array
    """[batch, beams] float32: log-probabilities of the live hypotheses, -inf for empty beams."""
    finished: jax.Array
    """[batch, beams, decode_length] int32: hypotheses that ended, best first."""
    scores: jax.Array
    """[batch, beams] float32: scores of the finished hypotheses, -inf for empty beams."""
    cache: Any


def beam_search(
    step: Step,
    cache: Any,
    *,
    batch_size: int,
    num_beams: int,
    decode_length: int,
    length_penalty: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """Hypotheses [batch, beams, decode_length] int32, best first, and their scores [batch, beams] float32.

    A finished hypothesis scores its log-probability divided by `brevity`; empty beams score -inf. A row without any
    finished hypothesis returns its live ones with their plain log-probabilities. The search stops early once no live
    hypothesis can overtake the worst finished one of its row. Follows T5X's `decoding.py`, which orders best last.
    """
    longest = brevity(jnp.int32(decode_length + 1), length_penalty)

    def running(state: _Beams) -> jax.Array:
        settled = jnp.min(state.scores, axis=1) > state.log_probs[:, 0] / longest
        return (state.position < decode_length) & ~jnp.all(settled)

    def advance(state: _Beams) -> _Beams:
        previous = jnp.maximum(state.position - 1, 0)
        last = jax.lax.dynamic_index_in_dim(state.live, previous, axis=2, keepdims=False)  # 0 at the first step
        logits, cache = step(last, state.position, state.cache)
        log_probs = state.log_probs[..., None] + jax.nn.log_softmax(logits)

        # Each beam can end in one way only, so among twice as many candidates as beams enough continue.
        vocab_size = logits.shape[-1]
        log_probs, chosen = jax.lax.top_k(log_probs.reshape(batch_size, -1), 2 * num_beams)
        parents, tokens = chosen // vocab_size, chosen % vocab_size
        candidates = jax.lax.dynamic_update_slice_in_dim(
            _take(state.live, parents), tokens[..., None], state.position, axis=2
        )
        ended = tokens == EOS

        live_log_probs, kept = jax.lax.top_k(jnp.where(ended, -jnp.inf, log_probs), num_beams)
        ended_scores = jnp.where(ended, log_probs / brevity(state.position + 1, length_penalty), -jnp.inf)
        scores, best = jax.lax.top_k(jnp.concatenate([state.scores, ended_scores], axis=1), num_beams)
        return _Beams(
            position=state.position + 1,
            live=_take(candidates, kept),
            log_probs=live_log_probs,
            finished=_take(jnp.concatenate([state.finished, candidates], axis=1), best),
            scores=scores,
            cache=jax.tree.map(lambda leaf: _take(leaf, _take(parents, kept)), cache),
        )

    no_tokens = jnp.full((batch_size, num_beams, decode_length), PAD, jnp.int32)
    no_scores = jnp.full((batch_size, num_beams), -jnp.inf, jnp.float32)
    start = _Beams(
        position=jnp.int32(0),
        live=no_tokens,
        log_probs=no_scores.at[:, 0].set(0.0),
        finished=no_tokens,
        scores=no_scores,
        cache=cache,
    )
    end = jax.lax.while_loop(running, advance, start)
    any_finished = end.scores[:, :1] > -jnp.inf
    return (
        jnp.where(any_finished[..., None], end.finished, end.live),
        jnp.where(any_finished, end.scores, end.log_probs),
    )


def _take(leaf: jax.Array, beams: jax.Array) -> jax.Array:
    """The entries [batch, chosen, ...] of a leaf [batch, beams, ...] at the indices `beams` [batch, chosen]."""
    chosen: jax.Array = jax.vmap(lambda row, indices: row[indices])(leaf, beams)
    return chosen
