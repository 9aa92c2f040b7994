"""Greedy and beam search, against T5X's results and an uncached loop."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from raysynth.model.decode import beam_search, brevity, generate, greedy_search
from raysynth.model.decode_step import decode_step, start_decoding
from raysynth.model.t5 import T5, init_params
from raysynth.specs.models import T5Config
from raysynth.tokens.token_space import EOS, PAD

TINY = T5Config(
    vocab_size=30,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=2,
    mlp_dim=24,
    logits_via_embedding=False,
)
MODEL = T5(TINY)
LENGTH = 9


@pytest.fixture(scope="module")
def params():
    """Random parameters that make end of sequence likely, so that rows end at different positions, and padding not."""
    params = init_params(TINY, jax.random.key(5))
    kernel = params["decoder"]["logits_dense"]["kernel"]
    params["decoder"]["logits_dense"]["kernel"] = kernel.at[:, EOS].multiply(2.0).at[:, PAD].set(0.0)
    return params


@pytest.fixture(scope="module")
def sources():
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 30, (8, 7)).astype(np.int32)
    return np.where(np.arange(7)[None, :] < rng.integers(2, 8, (8, 1)), tokens, 0).astype(np.int32)


@jax.jit
def teacher_forced(params, sources, targets):
    return jax.nn.log_softmax(MODEL.apply({"params": params}, sources, targets))


def table_step(table):
    """A search step that reads its logits from `table` [batch, position, previous, vocab]."""

    def step(tokens, parents, position, cache):
        return jax.vmap(lambda rows, tokens: rows[position][tokens])(table, tokens), cache

    return step


@pytest.mark.parametrize("name", ["toy_eos_likely", "toy_eos_rare", "toy_alpha0", "toy_beam1", "toy_alpha2"])
def test_beams_of_logit_tables_are_t5x(golden_folder, name):
    case = json.loads((golden_folder / "decoding/beam_search.json").read_text())["cases"][name]
    with np.load(golden_folder / "decoding/beam_search.npz") as file:
        table, sequences, scores = (file[f"{name}/{part}"] for part in ("logit_table", "sequences", "scores"))
    beams, beam_scores = beam_search(
        table_step(jnp.asarray(table)),
        (),
        batch_size=len(table),
        num_beams=case["beams"],
        decode_length=case["length"],
        length_penalty=case["alpha"],
    )
    filled = scores[:, ::-1] > -1e6  # T5X has the best last
    np.testing.assert_array_equal(np.asarray(beams)[filled], sequences[:, ::-1][filled])
    np.testing.assert_allclose(np.asarray(beam_scores)[filled], scores[:, ::-1][filled], atol=1e-5)
    assert (np.asarray(beam_scores)[~filled] == -np.inf).all()


def test_a_vocabulary_in_chunks_gives_the_beams_of_a_full_search_with_ties():
    """384 tokens are searched in chunks of 128, 383 have no chunks. Logits are whole numbers, so many are equal."""
    rng = np.random.default_rng(2)
    table = rng.integers(0, 4, (5, 6, 384, 384)).astype(np.float32)
    table[..., 383] = -1e9
    search = {"batch_size": 5, "num_beams": 4, "decode_length": 6, "length_penalty": 0.6}
    beams, scores = beam_search(table_step(jnp.asarray(table)), (), **search)
    expected, expected_scores = beam_search(table_step(jnp.asarray(table[..., :383])), (), **search)
    np.testing.assert_array_equal(beams, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


@pytest.fixture(scope="module")
def searched(golden_folder, reference):
    """What T5X decoded with the parameters: sequences and scores by number of beams and length."""
    params = dict(reference.params)
    if reference.name == "t5_1_0":
        params["decoder/decoder_norm/scale"] = params["decoder/decoder_norm/scale"] * np.float32(1.5)
    with np.load(golden_folder / "decoding/beam_search.npz") as file:
        golden = {
            (beams, length): [
                file[f"{reference.name}/beam{beams}_len{length}/{part}"] for part in ("sequences", "scores")
            ]
            for beams, length in ((4, 16), (4, 10), (1, 16))
        }
    return unflatten_dict(params, sep="/"), golden


@pytest.mark.parametrize(("num_beams", "length"), [(4, 16), (4, 10), (1, 16)])
def test_the_best_hypothesis_of_a_model_is_t5x(reference, searched, num_beams, length):
    """With one beam T5X's search is greedy unless end of sequence is among the two likeliest tokens before the end."""
    params, golden = searched
    sequences, scores = generate(
        T5(reference.config),
        params,
        reference.arrays["encoder_input_tokens"],
        decode_length=length,
        num_beams=num_beams,
    )
    expected, expected_scores = golden[num_beams, length]
    np.testing.assert_array_equal(sequences, expected[:, -1])
    np.testing.assert_allclose(scores, expected_scores[:, -1], atol=1e-5)


@pytest.mark.parametrize(("num_beams", "length"), [(4, 16), (4, 10), (1, 16)])
def test_all_beams_of_a_model_are_t5x(reference, searched, num_beams, length):
    params, golden = searched
    model, sources = T5(reference.config), reference.arrays["encoder_input_tokens"]

    @jax.jit
    def search(params):
        memory, cache = start_decoding(model, params, sources, decode_length=length, num_beams=num_beams)
        return beam_search(
            partial(decode_step, model.config, memory),
            cache,
            batch_size=len(sources),
            num_beams=num_beams,
            decode_length=length,
            length_penalty=0.6,
        )

    sequences, scores = map(np.asarray, search(params))
    expected, expected_scores = (array[:, ::-1] for array in golden[num_beams, length])
    filled = expected_scores > -1e6
    assert filled[:, 0].all()
    np.testing.assert_array_equal(sequences[filled], expected[filled])
    np.testing.assert_allclose(scores[filled], expected_scores[filled], atol=1e-5)
    assert (scores[~filled] == -np.inf).all()


def test_one_compilation_serves_all_parameters_inputs_and_penalties(params, sources, compilations):
    generate(MODEL, params, sources, decode_length=5, num_beams=2)
    different_params = init_params(TINY, jax.random.key(6))
    with compilations() as compiled:
        for penalty in (0.0, 1.0):
            generate(MODEL, different_params, sources[::-1], decode_length=5, num_beams=2, length_penalty=penalty)
    assert not compiled
    with compilations() as compiled:
        generate(MODEL, params, sources, decode_length=6, num_beams=2)
    assert len(compiled) == 1


def test_greedy_is_the_uncached_argmax(params, sources):
    expected = np.zeros((len(sources), LENGTH), np.int32)
    log_probs, ended = np.zeros(len(sources)), np.zeros(len(sources), bool)
    for place in range(LENGTH):
        # The logits of padding have no meaning, so later targets are 2; a target does not affect its own logits.
        following = teacher_forced(params, sources, np.where(np.arange(LENGTH)[None] < place, expected, 2))[:, place]
        chosen = np.argmax(following, axis=-1)
        log_probs += np.where(ended, 0, np.max(following, axis=-1))
        expected[:, place] = np.where(ended, 0, chosen)
        ended |= chosen == EOS
    lengths = np.count_nonzero(expected, axis=1)
    assert len(set(lengths)) > 2
    sequences, scores = generate(MODEL, params, sources, decode_length=LENGTH)
    assert (sequences.dtype, scores.dtype) == (jnp.int32, jnp.float32)
    np.testing.assert_array_equal(sequences, expected)
    np.testing.assert_allclose(scores, np.where(ended, log_probs / brevity(lengths, 0.6), log_probs), atol=1e-5)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_scores_are_those_of_the_returned_sequences(params, sources, num_beams):
    sequences, scores = generate(MODEL, params, sources, decode_length=LENGTH, num_beams=num_beams, length_penalty=1.0)
    sequences = np.asarray(sequences)
    lengths = np.count_nonzero(sequences, axis=1)
    log_softmax = np.asarray(teacher_forced(params, sources, sequences))
    log_probs = np.take_along_axis(log_softmax, sequences[..., None], axis=-1)[..., 0]
    expected = np.sum(log_probs * (np.arange(LENGTH)[None] < lengths[:, None]), axis=1)
    ended = (sequences == EOS).any(axis=1)
    np.testing.assert_allclose(scores, np.where(ended, expected / ((5 + lengths) / 6), expected), atol=1e-4)
    for row, length in zip(sequences, lengths, strict=True):
        assert (row[length:] == 0).all()
        assert EOS not in row[: length - 1]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_padding_and_neighbours_change_nothing(params, sources, num_beams):
    wide = np.pad(sources, ((0, 0), (0, 5)))
    expected, scores = generate(MODEL, params, sources, decode_length=LENGTH, num_beams=num_beams)
    again, again_scores = generate(MODEL, params, wide[::-1], decode_length=LENGTH, num_beams=num_beams)
    np.testing.assert_array_equal(again[::-1], expected)
    np.testing.assert_allclose(again_scores[::-1], scores, atol=1e-5)


def test_a_wide_beam_is_an_exhaustive_search():
    """With as many beams as there are prefixes, beam search returns the best of all hypotheses."""
    rng = np.random.default_rng(1)
    vocab, length = 4, 4
    table = rng.normal(size=(2, length, vocab, vocab)).astype(np.float32)
    table -= np.log(np.sum(np.exp(table), axis=-1, keepdims=True))
    sequences, scores = beam_search(
        table_step(jnp.asarray(table)), (), batch_size=2, num_beams=32, decode_length=length, length_penalty=0.6
    )
    for row in range(2):
        hypotheses = {}

        def visit(prefix, log_prob, row=row, hypotheses=hypotheses):
            for token in range(vocab):
                hypothesis = (*prefix, token)
                total = log_prob + table[row, len(prefix), prefix[-1] if prefix else 0, token]
                if token == EOS:
                    hypotheses[hypothesis] = total / ((5 + len(hypothesis)) / 6) ** 0.6
                elif len(hypothesis) < length:
                    visit(hypothesis, total)

        visit((), 0.0)
        best = max(hypotheses, key=hypotheses.get)
        np.testing.assert_allclose(scores[row, 0], hypotheses[best], atol=1e-5)
        np.testing.assert_array_equal(sequences[row, 0], np.pad(best, (0, length - len(best))))


def test_both_searches_stop_once_no_better_hypothesis_is_possible():
    """Every row ends at its second position, so most of the fifty positions are never computed."""
    logits = np.full((2, 5), -20.0, np.float32)
    logits[0, 3] = logits[1, EOS] = 20.0
    visited = []

    def step(tokens, parents, position, cache):
        jax.debug.callback(lambda position: visited.append(int(position)), position)
        return jnp.broadcast_to(jnp.asarray(logits)[jnp.minimum(position, 1)], (*tokens.shape, 5)), cache

    search = {"batch_size": 3, "decode_length": 50, "length_penalty": 0.6}
    sequences, _ = greedy_search(step, (), **search)
    jax.effects_barrier()
    assert sorted(visited) == [0, 1]
    np.testing.assert_array_equal(sequences[:, :3], [[3, EOS, 0]] * 3)

    visited.clear()
    beams, _ = beam_search(step, (), num_beams=2, **search)
    jax.effects_barrier()
    assert len(visited) < 10
    np.testing.assert_array_equal(beams[:, 0, :3], [[3, EOS, 0]] * 3)
