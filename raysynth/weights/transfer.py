"""Weights from a T5X or Hugging Face directory into a store, and out of a store into such a directory."""

import dataclasses
import time
from pathlib import Path

from raysynth.errors import InputError, StoreError
from raysynth.model.checkpoints import params_digest, write_params
from raysynth.specs.identity import describe, name
from raysynth.specs.models import Dtype, T5Config, described_fields, described_model
from raysynth.specs.pretraining import Pretrained, published_models
from raysynth.store.checkpoint_files import add_digest, withdraw
from raysynth.store.marks import provenance
from raysynth.store.records import WeightsResult
from raysynth.store.store import Store
from raysynth.weights.formats import Format, detect, read
from raysynth.weights.hugging_face import write_hugging_face
from raysynth.weights.selected import selected
from raysynth.weights.t5x import write_t5x
from raysynth.weights.tokenizer import usage_files
from raysynth.weights.usage import usage_of

# -------------------------------------------------------------------------------- import


def import_weights(directory: Path, model_name: str, store: Store, *, expected: T5Config | None, dtype: Dtype) -> None:
    """Import the checkpoint in `directory` as the `Pretrained` named `model_name`; prints how a sweep describes it.

    `expected` is the shape that it must have, None any; `dtype` is that of activations in fine-tuning. Raises
    `InputError` if the checkpoint is damaged or has another shape, and if the store holds other weights under the same
    description.
    """
    started = time.time()
    config, params = read(directory)
    if expected is not None:
        _check_shape(config, expected, f"{directory}: {model_name}")
    artifact = Pretrained(name=model_name, model=dataclasses.replace(config, dtype=dtype))
    digest = params_digest(params)
    record = store.status(artifact).record
    if record is not None and record.weights.params_sha256 != digest:
        raise InputError(
            f"{store.uri}/{name(artifact)} holds other weights than {directory}; take another --name or delete it"
        )
    if record is not None and _is_whole(artifact, store):
        print(f"nothing to do: {name(artifact)} is in {store.uri}")
    else:
        store.check_writable()
        withdraw(name(artifact), store)
        with store.workspace(artifact) as workspace:
            write_params(workspace.path / "checkpoints", 0, params, artifact=name(artifact))
            add_digest(workspace.path / "checkpoints" / "0", digest)
            workspace.push()
        where = dataclasses.replace(
            provenance(started), imported_from=str(directory.absolute()), format=detect(directory).value
        )
        store.record(artifact, result=WeightsResult(selected_step=0, params_sha256=digest), provenance=where)
        print(f"{store.uri}/{name(artifact)}")
    print(f"in a sweep: {_python(artifact)}")


def _is_whole(artifact: Pretrained, store: Store) -> bool:
    """Whether the stored weights of an imported artifact are those that its record names."""
    try:
        selected(name(artifact), store)
    except StoreError:
        raise
    except InputError:
        return False
    return True


def _check_shape(config: T5Config, expected: T5Config, where: str) -> None:
    for field, value in vars(expected).items():
        if field != "dtype" and getattr(config, field) != value:
            raise InputError(f"{where} has {field} {value}, found {getattr(config, field)}")


def _python(artifact: Pretrained) -> str:
    """The Python expression that describes the artifact."""
    if artifact.name in published_models and artifact.model == published_models[artifact.name]:
        return f"pretrained({artifact.name!r})"
    fields = ", ".join(f"{field}={value!r}" for field, value in described_fields(describe(artifact.model)).items())
    return f"pretrained({artifact.name!r}, model=T5Config({fields}))"


# -------------------------------------------------------------------------------- export


def export_weights(artifact: str, store: Store, form: Format, out: Path, *, step: int | None = None) -> None:
    """Write a checkpoint of the artifact with that name, which may be cut, to the new directory `out`.

    It is the selected checkpoint, or that of a kept `step`. A Hugging Face directory also gets the tokenizer and the
    settings of `generate`, and a README that describes them. Raises `InputError` for an artifact without weights or
    without that step, and if `out` exists.
    """
    weights = selected(artifact, store, step=step)
    config = described_model(weights.description)
    match form:
        case Format.T5X:
            write_t5x(out, config, weights.params, step=weights.step)
        case Format.HUGGING_FACE:
            usage = usage_of(weights.description, store)
            more = usage_files(usage, config, artifact=weights.artifact, step=weights.step)
            write_hugging_face(out, config, weights.params, more)
