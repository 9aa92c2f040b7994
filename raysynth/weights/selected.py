"""The weights of an artifact in a local or remote store."""

import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysynth.errors import InputError, StoreError, brief
from raysynth.model.checkpoints import checked_params
from raysynth.model.t5 import Params
from raysynth.specs.pretraining import Pretrained
from raysynth.store.names import full_name
from raysynth.store.records import Record
from raysynth.store.store import Store
from raysynth.weights.checks import Array, flat


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights that training selected or kept, or that an import stored."""

    artifact: str
    """The artifact's name in its store."""
    params: Params
    """Nested dicts of NumPy arrays."""
    step: int
    """The training step of the checkpoint."""
    description: Mapping[str, Any]
    """The artifact's description in its record."""

    @property
    def flat(self) -> dict[str, Array]:
        """The parameters by path."""
        return flat(self.params)


def selected(artifact: str, store: Store, *, step: int | None = None) -> Weights:
    """The selected checkpoint of an artifact, or that of a kept step, verified against the digest in its record.

    The artifact is given by name, such as `pretrain/set.seed0-1c575405`, which may be cut as `full_name` says. Raises
    `InputError` for an unknown or unfinished artifact, a data set, a step that is not kept, and a checkpoint that is
    missing or damaged.
    """
    artifact = full_name(artifact, store)
    record = store.record_of(artifact)
    if record is None:
        raise InputError(f"{store.uri}: {artifact} is not finished and has no selected checkpoint yet")
    step = record.weights.selected_step if step is None else step
    if step not in record.weights.digests:
        kept = ", ".join(f"{one:,}" for one in sorted(record.weights.digests))
        raise InputError(f"{artifact} keeps the weights of step {kept} only, got {brief(step)}")
    with tempfile.TemporaryDirectory(prefix="raysynth-") as cache:
        try:
            params = checked_params(store.fetch_by_name(artifact, Path(cache)), record, step=step)
        except StoreError:
            raise
        except InputError as error:
            # The message may name the local copy of a remote checkpoint, which no longer exists when a user reads it.
            line = str(error).replace(cache, store.place)
            raise InputError(f"{artifact} is damaged: {line}; {_remedy(record, store)}") from None
    return Weights(artifact=artifact, params=params, step=step, description=record.description)


def _remedy(record: Record, store: Store) -> str:
    """The command that heals an artifact whose weights are damaged."""
    uri = shlex.quote(store.uri)
    if not record.artifact.startswith(f"{Pretrained.kind}/"):
        return f"`raysynth verify --store {uri} --deep --repair` has it made again"
    directory = shlex.quote(record.provenance.imported_from or "DIR")
    return f"import it again: raysynth import {directory} --name {record.description['name']} --store {uri}"
