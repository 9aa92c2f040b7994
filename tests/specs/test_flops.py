"""FLOPs counted from a model's shape against those that XLA counts in the compiled program."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from raysynth.model.t5 import T5, init_params
from raysynth.specs.flops import decoder_flops, encoder_flops, scoring_flops, training_flops
from raysynth.specs.models import T5Config

MODEL = T5Config(
    vocab_size=4096, emb_dim=128, num_heads=4, head_dim=24, num_encoder_layers=3, num_decoder_layers=2, mlp_dim=320
)


@pytest.mark.parametrize("activations", [("relu",), ("gelu", "linear")], ids=len)
def test_the_count_is_that_of_the_compiled_program(activations):
    config = T5Config(**{**vars(MODEL), "mlp_activations": activations})
    tokens, targets = jnp.ones((4, 96), jnp.int32), jnp.ones((4, 64), jnp.int32)
    params = jax.eval_shape(partial(init_params, config), jax.random.key(0))
    program = jax.jit(lambda params: T5(config).apply({"params": params}, tokens, targets)).lower(params).compile()
    count = scoring_flops(config, num_rows=4, input_length=96, target_length=64)
    assert 1 <= program.cost_analysis()["flops"] / count < 1.1  # XLA counts elementwise operations too


def test_a_step_is_three_forward_passes_and_rows_add_up():
    shape = {"input_length": 96, "target_length": 64}
    assert training_flops(MODEL, num_rows=1, **shape) == 3 * scoring_flops(MODEL, num_rows=1, **shape)
    assert scoring_flops(MODEL, num_rows=5, **shape) == pytest.approx(
        5 * (encoder_flops(MODEL, 96) + decoder_flops(MODEL, 96, 64))
    )
