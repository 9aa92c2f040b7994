"""The selected weights of an artifact that is known by its name, from a store near or far."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from raysynth.errors import InputError, unknown
from raysynth.model.checkpoints import params_digest, read_params
from raysynth.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What training or import left of a model."""

    params: dict[str, Any]
    """Nested dicts of NumPy arrays."""
    step: int
    description: Mapping[str, Any]
    """Of the whole artifact, as its record tells it."""

    @property
    def flat(self) -> dict[str, np.ndarray]:
        """The parameters by path."""
        return flatten_dict(self.params, sep="/")


def selected(artifact: str, store: Store) -> Weights:
    """The selected checkpoint of an artifact such as `pretrain/set.seed0-3fb5a7f9`, held against its record's digest.

    Raises `InputError` for an unknown or unfinished artifact, a data set, and a checkpoint that is missing or damaged.
    """
    artifact = artifact.strip("/")
    record = store.record_of(artifact)
    if record is None:
        names = store.names()
        if not names:
            raise InputError(f"{store.uri} holds no trained or imported artifacts")
        if artifact in names:
            raise InputError(f"{store.uri}: {artifact} is not finished and has no selected checkpoint yet")
        raise unknown(f"artifact of {store.uri}", artifact, names)
    step = record.weights.selected_step
    with tempfile.TemporaryDirectory(prefix="raysynth-") as cache:
        try:
            params = read_params(store.fetch_by_name(artifact, Path(cache)) / "checkpoints", step)
        except InputError as error:  # of a far store it names the copy, which is gone by the time somebody reads this
            raise InputError(str(error).replace(cache, store.place)) from None
    if params_digest(params) != record.weights.params_sha256:
        raise InputError(f"{store.uri}: the weights of {artifact} are not those that its record tells of")
    return Weights(params=params, step=step, description=record.description)
