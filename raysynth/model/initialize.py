"""Applies an init scheme to random parameters: values change, but structure, shapes and dtypes do not."""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from raysynth.errors import InputError
from raysynth.model.t5 import Params, flat_params, nested_params
from raysynth.specs.init_schemes import (
    ComposedInit,
    ConstantInit,
    FullInit,
    InitScheme,
    RandomInit,
    Statistic,
    StatisticInit,
)
from raysynth.specs.parameters import Kind, parse, paths, statistics_of, touched
from raysynth.specs.pretraining import Source


def initialize(
    scheme: InitScheme, random_params: Params, source_params: Mapping[Source, Params], key: jax.Array
) -> Params:
    """The parameters that training starts from: `random_params`, with new values where the scheme sets them.

    `source_params` holds the parameters of each of the scheme's sources; they may be NumPy arrays, and only those that
    the scheme reads are needed. Draws depend on the key and the parameter's path only. Raises `InputError` if a
    source's parameter is missing or has the wrong shape. Sections 5.1 to 5.3, Appendix H.
    """
    params = flat_params(random_params)
    sources = {source: flat_params(tree) for source, tree in source_params.items()}
    return nested_params(params | _new(scheme, params, sources, key))


def _new(
    scheme: InitScheme, params: dict[str, jax.Array], sources: dict[Source, dict[str, Any]], key: jax.Array
) -> dict[str, jax.Array]:
    """The values that the scheme sets, by path."""
    match scheme:
        case RandomInit():
            return {}
        case ConstantInit():
            return {path: jnp.full_like(params[path], scheme.value) for path in touched(scheme)}
        case FullInit():
            shapes, values = paths(scheme.model), sources[scheme.source]
            return {
                path: jnp.asarray(_source_value(path, shapes, values), params[path].dtype) for path in touched(scheme)
            }
        case StatisticInit():
            return _drawn(scheme, params, sources, key)
        case ComposedInit():
            new: dict[str, jax.Array] = {}
            for part in scheme.schemes:
                new |= _new(part, params, sources, key)
            return new


def _drawn(
    scheme: StatisticInit, params: dict[str, jax.Array], sources: dict[Source, dict[str, Any]], key: jax.Array
) -> dict[str, jax.Array]:
    shapes, values = paths(scheme.source.model), sources[scheme.source]
    new = {}
    for target_paths, source_paths in statistics_of(scheme).items():
        mean, sd = mean_and_sd([_source_value(path, shapes, values) for path in source_paths])
        if scheme.statistic is Statistic.SCALE:  # a group holds layer norms only, or none
            mean, sd = (mean, 0.0) if parse(target_paths[0]).kind is Kind.LAYER_NORM else (0.0, sd)
        for path in target_paths:
            new[path] = mean + sd * _standard_normal(path, params[path], key)
    return new


def _standard_normal(path: str, like: jax.Array, key: jax.Array) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(key, np.uint32(zlib.crc32(path.encode()))), like.shape, like.dtype)


def _source_value(path: str, shapes: Mapping[str, tuple[int, ...]], source: dict[str, Any]) -> npt.NDArray[Any]:
    if path not in source:
        raise InputError(f"the source's parameters have no {path!r}")
    if source[path].shape != shapes[path]:
        raise InputError(f"the source's {path!r} must have shape {shapes[path]}, got {source[path].shape}")
    return np.asarray(source[path])


def mean_and_sd(arrays: Iterable[npt.NDArray[Any]]) -> tuple[float, float]:
    """Mean and population standard deviation over the values of all arrays together, in float64."""
    values = np.concatenate([np.ravel(array) for array in arrays]).astype(np.float64)
    return float(values.mean()), float(values.std())
