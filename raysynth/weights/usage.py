"""How a stored model is used: the vocabulary and prefix of its data set, and the lengths and search of its recipe."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raysynth.data.manifest import VOCABULARY, Manifest, TextManifest
from raysynth.data.shard_files import read_required, recorded_manifest, sha256
from raysynth.errors import InputError
from raysynth.specs.datasets import TextCorpus
from raysynth.specs.finetuning import DownstreamTask, Finetune
from raysynth.specs.identity import fingerprint_of
from raysynth.specs.pretraining import Pretrain, Pretrained, published_models
from raysynth.store.store import Store
from raysynth.tokens.vocabulary import T5_SENTINELS, Vocabulary, t5_vocabulary_bytes


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What turns inputs into the ids that the model was trained on, and its ids into outputs."""

    vocabulary: Vocabulary | None
    """None if inputs and outputs are token ids, or if nothing says which vocabulary there was."""
    prefix: tuple[int, ...] | None
    """Ids before every input; None if the data set is not known."""
    inputs: str
    """What inputs are, in a few words."""
    input_length: int
    """Largest number of ids of an input, including the end of sequence; longer ones are cut."""
    decode_length: int
    """Largest number of ids that decoding produces."""
    num_beams: int
    length_penalty: float
    batch_size: int


def usage_of(description: Mapping[str, Any], store: Store) -> Usage:
    """The usage of an artifact with that description; its data set's manifest and vocabulary are read from the store.

    Raises `InputError` if these are damaged.
    """
    if description["is"] == Finetune.__name__:
        task = description["task"]
        return Usage(
            **_from_data(task["data"], store),
            input_length=_value(task, DownstreamTask, "input_length"),
            decode_length=_value(task, DownstreamTask, "decode_length"),
            num_beams=_value(task, DownstreamTask, "num_beams"),
            length_penalty=_value(task, DownstreamTask, "length_penalty"),
            batch_size=_value(task, DownstreamTask, "batch_size"),
        )
    fields = {"num_beams": 1, "length_penalty": _value({}, DownstreamTask, "length_penalty")}
    if description["is"] == Pretrained.__name__:
        return Usage(
            **_of_imported(description["name"]),
            prefix=(),
            input_length=_value({}, Pretrain, "input_length"),
            decode_length=_value({}, Pretrain, "target_length"),
            batch_size=_value({}, Pretrain, "batch_size"),
            **fields,
        )
    return Usage(
        **_from_data(description["data"], store),
        input_length=_value(description, Pretrain, "input_length"),
        decode_length=_value(description, Pretrain, "target_length"),
        batch_size=_value(description, Pretrain, "batch_size"),
        **fields,
    )


def _of_imported(name: str) -> dict[str, Any]:
    """The vocabulary of imported weights, which a store does not hold: T5's if their name says so and it is there."""
    if name not in published_models:
        return {"vocabulary": None, "inputs": "token ids, because the vocabulary of imported weights is not known"}
    if not os.environ.get("RAYSYNTH_T5_VOCABULARY"):
        return {"vocabulary": None, "inputs": "token ids, unless RAYSYNTH_T5_VOCABULARY names T5's spiece.model"}
    return {"vocabulary": Vocabulary.load(t5_vocabulary_bytes(), T5_SENTINELS), "inputs": "texts"}


def _value(description: Mapping[str, Any], kind: type, field: str) -> Any:
    """A field of a description, which lacks those that have their default value."""
    if field in description:
        return description[field]
    (default,) = (each.default for each in dataclasses.fields(kind) if each.name == field)
    return default


def _from_data(data: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """The vocabulary and the prefix of the described data set."""
    ending = f"-{fingerprint_of(data)}"
    place = next((name for name in store.names(("dataset",)) if name.endswith(ending)), None)
    record = None if place is None else store.record_of(place)
    if record is None:
        return {"vocabulary": None, "prefix": None, "inputs": f"not known: {store.uri} lacks the data set *{ending}"}
    manifest = recorded_manifest(record, store)
    if manifest.vocabulary_sha256 is None:
        task = data["task"]["is"]
        inputs = f"token ids, because the synthetic task {task} has no text vocabulary"
        return {"vocabulary": None, "prefix": manifest.prefix, "inputs": inputs}
    content = read_required(store, f"{record.artifact}/{VOCABULARY}")
    if sha256(content) != manifest.vocabulary_sha256:
        raise InputError(f"{store.uri}/{record.artifact}/{VOCABULARY} is damaged; to heal it: {store.healing} --deep")
    vocabulary = Vocabulary.load(content, _num_sentinels(manifest, data))
    return {"vocabulary": vocabulary, "prefix": manifest.prefix, "inputs": "texts"}


def _num_sentinels(manifest: Manifest, data: Mapping[str, Any]) -> int:
    if isinstance(manifest, TextManifest):
        return manifest.num_sentinels
    vocabulary = _value(data["task"], TextCorpus, "vocabulary")
    count: int = vocabulary.get("num_sentinels", T5_SENTINELS) if isinstance(vocabulary, dict) else T5_SENTINELS
    return count
