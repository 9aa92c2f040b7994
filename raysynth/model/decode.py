"""Greedy and beam search with cached keys and values."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from raysynth.model.decode_step import decode_step, start_decoding
from raysynth.model.t5 import T5, Params
from raysynth.tokens.token_space import EOS, PAD

Step = Callable[[jax.Array, jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
"""Maps tokens [batch, beams], the beams [batch, beams] whose hypotheses they continue, their position (a scalar) and a
cache to the logits [batch, beams, vocab] float32 of the next tokens and the updated cache. The first token is 0."""

_CHUNK = 128
"""Neighbouring tokens of the vocabulary of which beam search first looks at the best only."""


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
    memory, cache = start_decoding(model, params, tokens, decode_length=decode_length, num_beams=num_beams)

    step = partial(decode_step, model.config, memory)
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
        logits, cache = step(state.last[:, None], only_beam, state.position, state.cache)
        log_prob, _, token = (found[:, 0] for found in _likeliest(logits, no_log_probs, 1))
        chosen = jnp.where(state.ended, PAD, token)
        return _Greedy(
            position=state.position + 1,
            sequences=jax.lax.dynamic_update_slice_in_dim(state.sequences, chosen[:, None], state.position, axis=1),
            last=chosen,
            log_probs=state.log_probs + jnp.where(state.ended, 0.0, log_prob),
            lengths=state.lengths + (~state.ended).astype(jnp.int32),
            ended=state.ended | (chosen == EOS),
            cache=cache,
        )

    only_beam = jnp.zeros((batch_size, 1), jnp.int32)
    no_log_probs = jnp.zeros((batch_size, 1), jnp.float32)
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
    parents: jax.Array
    """[batch, beams] int32: the beam whose hypothesis each live one continued at the step before."""
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
        logits, cache = step(last, state.parents, state.position, state.cache)
        # Each beam can end in one way only, so among twice as many candidates as beams enough continue.
        log_probs, parents, tokens = _likeliest(logits, state.log_probs, 2 * num_beams)
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
            parents=_take(parents, kept),
            cache=cache,
        )

    no_tokens = jnp.full((batch_size, num_beams, decode_length), PAD, jnp.int32)
    no_scores = jnp.full((batch_size, num_beams), -jnp.inf, jnp.float32)
    start = _Beams(
        position=jnp.int32(0),
        live=no_tokens,
        log_probs=no_scores.at[:, 0].set(0.0),
        finished=no_tokens,
        scores=no_scores,
        parents=jnp.zeros((batch_size, num_beams), jnp.int32),
        cache=cache,
    )
    end = jax.lax.while_loop(running, advance, start)
    any_finished = end.scores[:, :1] > -jnp.inf
    return (
        jnp.where(any_finished[..., None], end.finished, end.live),
        jnp.where(any_finished, end.scores, end.log_probs),
    )


def _likeliest(logits: jax.Array, log_probs: jax.Array, num_candidates: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The likeliest continuations of a row's hypotheses: log-probabilities, beams and tokens [batch, candidates].

    Takes logits [batch, beams, vocab] and the log-probabilities [batch, beams] of the hypotheses. The best candidates
    are among the chunks of the vocabulary with the best maxima, so that little is sorted.
    """
    batch_size, num_beams, vocab_size = logits.shape
    size = math.gcd(vocab_size, _CHUNK)
    num_chunks = vocab_size // size
    chunks = logits.reshape(batch_size, num_beams, num_chunks, size)
    maxima = jnp.max(chunks, axis=-1)
    peak = jnp.max(maxima, axis=-1)
    log_z = peak + jnp.log(jnp.sum(jnp.exp(chunks - peak[..., None, None]), axis=(-2, -1)))
    maxima = log_probs[..., None] + (maxima - log_z[..., None])
    num_best = min(num_candidates, num_beams * num_chunks)
    _, best = jax.lax.top_k(maxima.reshape(batch_size, -1), num_best)
    best = jnp.sort(best, axis=-1)  # of equal candidates the first wins, as in a search of all
    beams = best // num_chunks
    members = _take(chunks.reshape(batch_size, -1, size), best)
    members = _take(log_probs, beams)[..., None] + (members - _take(log_z, beams)[..., None])
    found, chosen = jax.lax.top_k(members.reshape(batch_size, -1), num_candidates)
    place = _take(best, chosen // size)
    return found, place // num_chunks, place % num_chunks * size + chosen % size


def _take(leaf: jax.Array, beams: jax.Array) -> jax.Array:
    """The entries [batch, chosen, ...] of a leaf [batch, beams, ...] at the indices `beams` [batch, chosen]."""
    chosen: jax.Array = jax.vmap(lambda row, indices: row[indices])(leaf, beams)
    return chosen
