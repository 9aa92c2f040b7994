"""Floating-point operations of a T5, counted from its shape: those of its matrix products, two for each multiplication.

Attention counts in full, over all pairs of positions in a row, as the program computes it. Everything else, such as
norms, softmax and the optimizer, is left out.
"""

from raysynth.specs.models import T5Config


def training_flops(config: T5Config, *, num_rows: int, input_length: float, target_length: float) -> float:
    """FLOPs of a training step on a block of that shape: a forward pass and twice as much for the gradients."""
    return 3 * num_rows * (encoder_flops(config, input_length) + decoder_flops(config, input_length, target_length))


def scoring_flops(config: T5Config, *, num_rows: int, input_length: float, target_length: float) -> float:
    """FLOPs of a forward pass over a block of that shape."""
    return training_flops(config, num_rows=num_rows, input_length=input_length, target_length=target_length) / 3


def encoder_flops(config: T5Config, input_length: float) -> float:
    """FLOPs to encode one row of inputs."""
    width = config.num_heads * config.head_dim
    layer = 4 * _projection(config) + _mlp(config) + 4 * input_length * width
    return config.num_encoder_layers * input_length * layer


def decoder_flops(config: T5Config, input_length: float, target_length: float) -> float:
    """FLOPs of the decoder and the logits over one row of targets, with the keys and values of its inputs."""
    width = config.num_heads * config.head_dim
    layer = 6 * _projection(config) + _mlp(config) + 4 * (target_length + input_length) * width
    memory = config.num_decoder_layers * input_length * 2 * _projection(config)
    return memory + target_length * (config.num_decoder_layers * layer + 2 * config.emb_dim * config.vocab_size)


def _projection(config: T5Config) -> float:
    """FLOPs of a token's query, key, value or output."""
    return 2.0 * config.emb_dim * config.num_heads * config.head_dim


def _mlp(config: T5Config) -> float:
    return 2.0 * config.emb_dim * config.mlp_dim * (len(config.mlp_activations) + 1)
