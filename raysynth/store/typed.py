"""JSON values to dataclasses: each field is checked against its type, so that nothing of another type gets further."""

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, TypeVar

from raysynth.errors import InputError

Kept = TypeVar("Kept")

_TOO_LARGE = 2**63
"""Whole numbers are steps, counts and process ids, so they are below this and not negative."""
_MAX_DIGITS = 18
"""Of a key that stands for a whole number."""


def read_object(kind: type[Kept], value: Any, place: str, **read: Any) -> Kept:
    """The instance of a dataclass whose fields a JSON object holds; null stands for a missing field.

    Fields in `read` have been read before. Raises `InputError`, which names `place` and the field, for unknown and
    missing fields, for values of another type, for negative whole numbers, for numbers that are not finite and for
    unknown members of enumerations. Types are those of JSON values, dataclasses, enumerations, `Mapping[...]`,
    `tuple[..., ...]` and unions of them with None.
    """
    if not isinstance(value, dict):
        raise InputError(f"{place} is damaged: it must be an object, got {_shown(value)}")
    types = _types(kind)  # type: ignore[arg-type]  # mypy does not see that classes have a hash
    for name in value:
        if name not in types:
            raise InputError(f"{place} is damaged: it has the unknown field {name!r}; known: {', '.join(types)}")
    fields = {
        name: read[name] if name in read else _read(types[name], item, f"{place}, {name}")
        for name, item in value.items()
        if item is not None
    }
    for name in _required(kind):  # type: ignore[arg-type]  # as above
        if name not in fields:
            raise InputError(f"{place} is damaged: it lacks the field {name!r}")
    return kind(**fields)


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    """The type of each field of a dataclass."""
    return typing.get_type_hints(kind)


@functools.cache
def _required(kind: type[Any]) -> list[str]:
    """The fields of a dataclass that have no default."""
    return [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]


def _read(kind: Any, value: Any, place: str) -> Any:
    """The value as that type; raises `InputError`, which names `place`."""
    if kind is float and type(value) in (int, float) and _is_finite(value):
        return float(value)
    if kind is int and type(value) is int and 0 <= value < _TOO_LARGE:
        return value
    if kind in (str, bool) and type(value) is kind:
        return value
    if kind is Any:
        return value
    origin, arguments = _parts(kind)
    if origin in (typing.Union, UnionType):
        return _read_either(arguments, value, place)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_read(arguments[0], item, place) for item in value)
    if origin is Mapping and isinstance(value, dict):
        return {
            _key(arguments[0], key, place): _read(arguments[1], item, f"{place}, {key}") for key, item in value.items()
        }
    if dataclasses.is_dataclass(kind):
        return read_object(typing.cast("type[Any]", kind), value, place)
    if isinstance(kind, type) and issubclass(kind, Enum) and value in [member.value for member in kind]:
        return kind(value)
    raise InputError(f"{place} is damaged: it must be {_NAMES.get(kind, 'an object')}, got {_shown(value)}")


_NAMES = {int: "a whole number of at least 0", float: "a finite number", str: "text", bool: "true or false"}


@functools.cache
def _parts(kind: Any) -> tuple[Any, list[Any]]:
    """What a generic type is made from, and its arguments but for None; None and no arguments for another type."""
    return typing.get_origin(kind), [each for each in typing.get_args(kind) if each is not NoneType]


def _read_either(kinds: list[Any], value: Any, place: str) -> Any:
    """The value as the first of the types that fits; the error is that of the last one."""
    for kind in kinds[:-1]:
        try:
            return _read(kind, value, place)
        except InputError:
            continue
    return _read(kinds[-1], value, place)


def _key(kind: Any, key: str, place: str) -> Any:
    if kind is not int:
        return key
    if not (key.isascii() and key.isdigit() and len(key) <= _MAX_DIGITS and str(int(key)) == key):
        raise InputError(f"{place} is damaged: its keys must be whole numbers, got {_shown(key)}")
    return int(key)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False


def _shown(value: Any) -> str:
    return f"{value!r:.60}"
