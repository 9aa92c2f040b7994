"""Models of a store to use from Python: `load(run).generate(["text"])`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from raysynth.data.batches import Examples
from raysynth.data.layout import PadToLongest, evaluation_batches
from raysynth.errors import InputError, brief
from raysynth.fields import finite, whole
from raysynth.model.decode import generate
from raysynth.model.settings import settings
from raysynth.model.t5 import T5, Params
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import name
from raysynth.specs.models import T5Config, described_model
from raysynth.specs.pretraining import Pretrain, Pretrained, Source, SourceAt
from raysynth.store.store import Store, default_store
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import EOS
from raysynth.weights.selected import selected
from raysynth.weights.usage import Usage, usage_of


@dataclass(frozen=True, kw_only=True)
class Search:
    """How outputs are searched for."""

    num_beams: int
    """1 decodes greedily."""
    length_penalty: float
    """Exponent alpha of the normalization of a finished beam's score, as in `DownstreamTask`."""
    decode_length: int
    """Largest number of ids of an output."""

    def __post_init__(self) -> None:
        whole(self, "num_beams", "decode_length", maximum=10**4)
        finite(self, "length_penalty")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """The checkpoint of an artifact, with the vocabulary and the recipe that it was trained with."""

    name: str
    """Of the artifact in its store."""
    step: int
    """The training step of the checkpoint."""
    config: T5Config
    params: Params
    """Nested dicts of NumPy arrays, float32, named as in T5X."""
    usage: Usage

    def generate(
        self,
        texts: Sequence[str],
        *,
        num_beams: int | None = None,
        length_penalty: float | None = None,
        decode_length: int | None = None,
    ) -> list[str]:
        """The model's output for each text; what is None is as in the recipe.

        Texts are encoded as in training: with the data set's vocabulary and prefix, and cut at the recipe's input
        length. A model of a synthetic task has no vocabulary: its inputs and outputs are token ids as text, such as
        "5 17 3". Raises `InputError` for texts that cannot be encoded and for numbers that are out of range.
        """
        is_list = isinstance(texts, Sequence) and not isinstance(texts, str)
        if not is_list or not all(isinstance(text, str) for text in texts):
            raise InputError(f"generate takes a list of texts, got {brief(texts)}")
        self._check_usage()
        vocabulary = self.usage.vocabulary
        rows = [self._parsed(text) if vocabulary is None else vocabulary.encode(text) for text in texts]
        outputs = self.generate_ids(
            rows, num_beams=num_beams, length_penalty=length_penalty, decode_length=decode_length
        )
        return [" ".join(map(str, ids)) if vocabulary is None else vocabulary.decode(ids) for ids in outputs]

    def generate_ids(
        self,
        inputs: Sequence[Sequence[int]],
        *,
        num_beams: int | None = None,
        length_penalty: float | None = None,
        decode_length: int | None = None,
    ) -> list[list[int]]:
        """`generate` from ids to ids, both without prefix and end of sequence."""
        usage = self.usage
        search = Search(
            num_beams=usage.num_beams if num_beams is None else num_beams,
            length_penalty=usage.length_penalty if length_penalty is None else length_penalty,
            decode_length=usage.decode_length if decode_length is None else decode_length,
        )
        prefix = self._check_usage()
        is_list = isinstance(inputs, Sequence | np.ndarray)
        if not is_list or not all(isinstance(ids, Sequence | np.ndarray) for ids in inputs):
            raise InputError(f"generate_ids takes a list of lists of ids, got {brief(inputs)}")
        for ids in inputs:
            for token in ids:
                if isinstance(token, bool) or not isinstance(token, int | np.integer) or not self._is_id(int(token)):
                    raise InputError(f"an id must be from 0 to {self.config.vocab_size - 1}, got {brief(token)}")
        outputs: list[list[int]] = [[] for _ in inputs]
        if not outputs:
            return outputs
        examples = Examples(sources=Ragged.of(inputs), targets=Ragged.of([[] for _ in inputs]), prefix=prefix)
        layout = PadToLongest(input_length=usage.input_length, target_length=search.decode_length)
        batch_size = min(usage.batch_size, 1 << (len(inputs) - 1).bit_length())
        with settings():
            for rows, block in evaluation_batches(examples, examples.head(None), batch_size, layout):
                sequences, _ = generate(
                    self._network, self._on_device, jnp.asarray(block.encoder_input_tokens), **vars(search)
                )
                for row, ids in zip(rows, np.asarray(sequences).tolist(), strict=False):  # the rest is padding
                    outputs[row] = ids[: ids.index(EOS)] if EOS in ids else ids
        return outputs

    def _check_usage(self) -> tuple[int, ...]:
        """The ids before every input; raises `InputError` if nothing says what inputs are."""
        if self.usage.prefix is None:
            raise InputError(f"{self.name}: its inputs are {self.usage.inputs}")
        return self.usage.prefix

    def _parsed(self, text: str) -> list[int]:
        words = text.split()
        if not all(word.isascii() and word.isdigit() and len(word) < 10 and self._is_id(int(word)) for word in words):
            raise InputError(
                f"{self.name}: its inputs are {self.usage.inputs}; write ids from 0 to {self.config.vocab_size - 1} "
                f'as in "5 17 3", got {brief(text)}'
            )
        return [int(word) for word in words]

    def _is_id(self, token: int) -> bool:
        return 0 <= token < self.config.vocab_size

    @cached_property
    def _network(self) -> T5:
        return T5(self.config)

    @cached_property
    def _on_device(self) -> Any:
        return jax.device_put(self.params)


def load(run: str | Finetune | Source, *, store: str | os.PathLike[str] | None = None) -> LoadedModel:
    """The model of an artifact of a store, ready to generate; see `raysynth.load`."""
    where = Store(os.fspath(store) if store is not None else default_store())
    step = run.step if isinstance(run, SourceAt) else None
    if isinstance(run, SourceAt):
        run = run.artifact
    if isinstance(run, Finetune | Pretrain | Pretrained):
        run = name(run)
    elif not isinstance(run, str):
        raise InputError(
            f"load takes an artifact's name, or a Finetune, Pretrain, SourceAt or Pretrained, got {brief(run)}"
        )
    weights = selected(run, where, step=step)
    return LoadedModel(
        name=weights.artifact,
        step=weights.step,
        config=described_model(weights.description),
        params=weights.params,
        usage=usage_of(weights.description, where),
    )
