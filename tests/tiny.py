"""One tiny model and one tiny downstream task, which train in seconds on a CPU."""

import dataclasses

from raysynth import T5Config, downstream_tasks
from raysynth.downstream.python_ast import PythonAST

MODEL = T5Config(
    vocab_size=256, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1, mlp_dim=32
)
"""Its vocabulary holds 156 pieces and the 100 sentinels."""

TASK = dataclasses.replace(
    downstream_tasks["python_ast"],
    data=dataclasses.replace(
        downstream_tasks["python_ast"].data,
        texts=PythonAST(max_source_chars=16),
        vocabulary=dataclasses.replace(downstream_tasks["python_ast"].data.vocabulary, num_pieces=156),
        num_train=300,
        num_validation=24,
        num_test=20,
    ),
    num_steps=6,
    eval_every=3,
    batch_size=8,
    input_length=16,
    target_length=24,
    decode_length=24,
)
"""Its texts are made from the standard library, so it needs no files and no network."""
