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
    NoisedInit,
    RandomInit,
    Statistic,
    StatisticInit,
)
from raysynth.specs.models import T5Config
from raysynth.specs.parameters import Axis, Kind, parse, paths, statistics_of, touched
from raysynth.specs.pretraining import Source
from raysynth.tokens.streams import Purpose, stream


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
            shapes, values = paths(scheme.source.model), sources[scheme.source]
            return {
                path: jnp.asarray(_selected(_source_value(path, shapes, values), path, scheme), params[path].dtype)
                for path in touched(scheme)
            }
        case NoisedInit():
            return _noised(scheme, params, sources, key)
        case StatisticInit():
            return _drawn(scheme, params, sources, key)
        case ComposedInit():
            new: dict[str, jax.Array] = {}
            for part in scheme.schemes:
                new |= _new(part, params, sources, key)
            return new


def _selected(value: npt.NDArray[Any], path: str, scheme: FullInit) -> npt.NDArray[Any]:
    """The units of a source's parameter that a smaller model takes, along each dimension."""
    if scheme.onto is None:
        return value
    for dimension, axis in enumerate(parse(path).axes):
        value = np.take(value, _units(axis, scheme.onto, scheme.source.model), axis=dimension)
    return value


def _units(axis: Axis, model: T5Config, source: T5Config) -> npt.NDArray[np.int64]:
    """Which units of `source` a smaller model takes."""
    if axis is not Axis.INNER:
        return spaced(getattr(model, axis), getattr(source, axis))
    heads, dims = spaced(model.num_heads, source.num_heads), spaced(model.head_dim, source.head_dim)
    return (source.head_dim * heads[:, None] + dims).ravel()


def spaced(num: int, total: int) -> npt.NDArray[np.int64]:
    """`num` different indices below `total`: every (total / num)th if `num` divides it, else evenly spaced to the last.

    The rule of weight selection (arXiv 2311.18823).
    """
    if total % num == 0:
        return np.arange(num) * (total // num)
    return np.round(np.linspace(0, total - 1, num)).astype(np.int64)


def _noised(
    scheme: NoisedInit, params: dict[str, jax.Array], sources: dict[Source, dict[str, Any]], key: jax.Array
) -> dict[str, jax.Array]:
    shapes, values = paths(scheme.model), sources[scheme.source]
    new = {}
    for path in touched(scheme):
        value = _source_value(path, shapes, values)
        _, sd = mean_and_sd([value])
        noise = scheme.scale * sd * _standard_normal(path, params[path], key)
        new[path] = jnp.asarray(value, params[path].dtype) + noise
    return new


def _drawn(
    scheme: StatisticInit, params: dict[str, jax.Array], sources: dict[Source, dict[str, Any]], key: jax.Array
) -> dict[str, jax.Array]:
    shapes, values = paths(scheme.source.model), sources[scheme.source]
    new = {}
    if scheme.statistic is Statistic.SHUFFLED:
        for path in touched(scheme):
            value = _source_value(path, shapes, values)
            # Drawn with NumPy: JAX sorts to permute, which takes half a minute for T5 Small on a CPU.
            order = stream(Purpose.SHUFFLED_ENTRIES, int(jax.random.bits(_key_of(path, key)))).permutation(value.size)
            new[path] = jnp.asarray(np.ravel(value)[order].reshape(value.shape), params[path].dtype)
        return new
    for target_paths, source_paths in statistics_of(scheme).items():
        mean, sd = mean_and_sd([_source_value(path, shapes, values) for path in source_paths])
        if scheme.statistic is Statistic.SCALE:  # a group holds layer norms only, or none
            mean, sd = (mean, 0.0) if parse(target_paths[0]).kind is Kind.LAYER_NORM else (0.0, sd)
        for path in target_paths:
            new[path] = mean + sd * _standard_normal(path, params[path], key)
    return new


def _standard_normal(path: str, like: jax.Array, key: jax.Array) -> jax.Array:
    return jax.random.normal(_key_of(path, key), like.shape, like.dtype)


def _key_of(path: str, key: jax.Array) -> jax.Array:
    return jax.random.fold_in(key, np.uint32(zlib.crc32(path.encode())))


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
