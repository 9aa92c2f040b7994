"""Checks of configurations and parameters that the readers and writers of both formats share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flax.traverse_util import flatten_dict, unflatten_dict

from raysynth.errors import InputError
from raysynth.model.t5 import Params
from raysynth.specs.models import T5Config
from raysynth.specs.parameters import paths

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of parameters by path or name."""


def checked_arrays(config: T5Config, params: Params) -> dict[str, npt.NDArray[np.float32]]:
    """Parameters by path, ready to be written: contiguous float32 in the shapes that `config` gives.

    Raises `InputError` for a missing or unknown parameter, a wrong shape or dtype, and values that are not finite.
    """
    source = "the model to write"
    arrays = {path: np.asarray(leaf) for path, leaf in flat(params).items()}
    check_shapes({path: array.shape for path, array in arrays.items()}, paths(config), source)
    return {path: np.ascontiguousarray(as_float32(array, path, source)) for path, array in arrays.items()}


def flat(params: Params) -> dict[str, Array]:
    """The parameters by path, from nested dicts."""
    arrays: dict[str, Array] = flatten_dict(params, sep="/")  # type: ignore[no-untyped-call]  # Flax has no types here
    return arrays


def nested(arrays: Mapping[str, Any]) -> Params:
    """The parameters as nested dicts, from a mapping by path."""
    params: Params = unflatten_dict(arrays, sep="/")  # type: ignore[no-untyped-call]  # Flax has no types here
    return params


def config_of(file: Path, **fields: Any) -> T5Config:
    """The configuration with these fields; an `InputError` about one of them names `file`."""
    try:
        return T5Config(**fields)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def check_shapes(shapes: Shapes, expected: Shapes, source: Path | str) -> None:
    """Raise `InputError`, which begins with `source`, unless names and shapes are the expected ones."""
    for verb, names in (("lacks", expected.keys() - shapes.keys()), ("has unknown", shapes.keys() - expected.keys())):
        if names:
            first, *others = sorted(names)
            more = f" and {len(others)} more" if others else ""
            raise InputError(f"{source} {verb} parameter {first}{more}")
    for name, shape in expected.items():
        if tuple(shapes[name]) != shape:
            raise InputError(f"{source}: {name} must have shape {shape}, found {tuple(shapes[name])}")


def as_float32(array: Array, name: str, source: Path | str) -> npt.NDArray[np.float32]:
    """The values of a float32, bfloat16 or float16 array; raises `InputError` for other dtypes, NaN and infinity."""
    if array.dtype.name not in ("float32", "bfloat16", "float16"):
        raise InputError(f"{source}: {name} must be float32, bfloat16 or float16, found {array.dtype.name}")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{source}: {name} holds values that are not finite")
    return array
