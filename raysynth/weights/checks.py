"""Checks that both formats share."""

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from raysynth.errors import InputError
from raysynth.model.t5 import Params
from raysynth.specs.models import T5Config
from raysynth.specs.parameters import paths

Shapes = Mapping[str, tuple[int, ...]]


# -------------------------------------------------------------------------------- both


def checked_arrays(config: T5Config, params: Params) -> dict[str, np.ndarray]:
    """Parameters by path, checked against the shape that they are said to have."""
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(params, sep="/").items()}
    check_shapes({path: leaf.shape for path, leaf in flat.items()}, paths(config), "the model to write")
    return {path: np.ascontiguousarray(as_float32(leaf, path, "the model to write")) for path, leaf in flat.items()}


def nested(flat: dict[str, np.ndarray]) -> Params:
    return unflatten_dict(flat, sep="/")


def config_of(where: Path, **fields: Any) -> T5Config:
    try:
        return T5Config(**fields)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def check_shapes(found: Shapes, expected: Shapes, where: Path | str) -> None:
    """Raise `InputError` unless both have the same parameters with the same shapes."""
    for verb, names in (("lacks", expected.keys() - found.keys()), ("has unknown", found.keys() - expected.keys())):
        if names:
            first, *others = sorted(names)
            more = f" and {len(others)} more" if others else ""
            raise InputError(f"{where} {verb} parameter {first}{more}")
    for name, shape in expected.items():
        if tuple(found[name]) != shape:
            raise InputError(f"{where}: {name} must have shape {shape}, found {tuple(found[name])}")


def as_float32(array: np.ndarray, name: str, where: Path | str) -> np.ndarray:
    if array.dtype.name not in ("float32", "bfloat16", "float16"):
        raise InputError(f"{where}: {name} must be float32, bfloat16 or float16, found {array.dtype.name}")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{where}: {name} holds values that are not finite")
    return array


def read_json(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(read_bytes(file))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {first_line(error)}") from None
    if not isinstance(told, dict):
        raise InputError(f"{file} must be a JSON object, found {type(told).__name__}")
    return told


def read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """A directory to fill that takes its place when whole; raises `InputError` where something is there already."""
    if directory.exists():
        raise InputError(f"{directory} exists already")
    aside = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}.aside")
    try:
        aside.mkdir(parents=True)
        yield aside
        aside.rename(directory)
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def first_line(error: BaseException) -> str:
    """The first line of a message, without the specification that TensorStore appends."""
    text = str(error).split(" [", maxsplit=1)[0].strip()
    return text.splitlines()[0] if text else type(error).__name__
