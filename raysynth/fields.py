"""`@spec`, a frozen keyword-only dataclass that reports a wrong field in one line, and checks of field values."""

import functools
import inspect
import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TypeVar, dataclass_transform

from raysynth.errors import InputError, brief, unknown

Class = TypeVar("Class", bound=type)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def spec(cls: Class) -> Class:
    """Make `cls` a frozen keyword-only dataclass; unknown and missing fields raise `InputError`."""
    cls = dataclass(frozen=True, kw_only=True)(cls)  # type: ignore[assignment]  # mypy loses that it is the same class
    initialize: Callable[..., None] = cls.__init__  # type: ignore[misc]  # unsound on instances; `cls` is a class
    signature = inspect.signature(initialize)

    @functools.wraps(initialize)
    def checked(self: object, *args: object, **values: object) -> None:
        known = [field.name for field in fields(cls) if field.init]
        for name in values:
            if name not in known:
                raise unknown(f"field of {cls.__name__}", name, known)
        try:
            signature.bind(self, *args, **values)
        except TypeError as error:
            raise InputError(f"{cls.__name__}: {error}") from None
        initialize(self, *args, **values)

    cls.__init__ = checked  # type: ignore[misc]  # unsound on instances; `cls` is a class
    return cls


MAX_SEED = 2**32 - 1
"""The largest seed: JAX keeps 32 bits of one, so that a larger one would give the random numbers of another."""


def positive(owner: object, *names: str) -> None:
    """Raise `InputError` unless each named field of `owner` is a finite number above zero."""
    for name in names:
        if not (_is_finite(getattr(owner, name)) and getattr(owner, name) > 0):
            raise _wrong(owner, name, "a positive number")


def finite(owner: object, *names: str, minimum: float = -math.inf) -> None:
    """Raise `InputError` unless each named field of `owner` is a finite number of at least `minimum`."""
    for name in names:
        if not (_is_finite(getattr(owner, name)) and getattr(owner, name) >= minimum):
            least = "" if minimum == -math.inf else f" of at least {minimum:g}"
            raise _wrong(owner, name, f"a finite number{least}")


def whole(owner: object, *names: str, minimum: int = 1, maximum: int = MAX_SEED) -> None:
    """Raise `InputError` unless each named field of `owner` is an integer from `minimum` to `maximum`."""
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise _wrong(owner, name, f"an integer of at least {minimum}")
        if value > maximum:
            raise _wrong(owner, name, f"an integer of at most {maximum}")


def share(owner: object, *names: str) -> None:
    """Raise `InputError` unless each named field of `owner` is a number from 0 to 1."""
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"{type(owner).__name__}.{name} must lie between 0 and 1, got {brief(value)}")


def instance(owner: object, name: str, *kinds: type) -> None:
    """Raise `InputError` unless the named field of `owner` is an instance of one of `kinds`."""
    if not isinstance(getattr(owner, name), kinds):
        raise _wrong(owner, name, f"a {' or '.join(kind.__name__ for kind in kinds)}")


def choose(owner: object, name: str, kind: type[StrEnum]) -> None:
    """Replace the text in the named field by the member of `kind` with that value, or raise `InputError`."""
    value = getattr(owner, name)
    if not isinstance(value, str) or value not in set(kind):
        allowed = [member.value for member in kind]
        raise unknown(f"{type(owner).__name__}.{name}", value if isinstance(value, str) else brief(value), allowed)
    object.__setattr__(owner, name, kind(value))


def texts(owner: object, name: str) -> None:
    """Raise `InputError` unless the named field of `owner` is a tuple of at least one text, each only once."""
    value = getattr(owner, name)
    if (
        not isinstance(value, tuple)
        or not value
        or not all(isinstance(item, str) for item in value)
        or len(set(value)) < len(value)
    ):
        raise _wrong(owner, name, "a tuple of one or more different texts")


def check_name(what: str, value: object) -> None:
    """Raise `InputError`, which names `what`, unless a value can be a part of the names of artifacts and files."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_.+-]{0,79}", value) or ".." in value:
        raise InputError(
            f"{what} must be at most 80 lower-case letters, digits and characters of _.+- that begin with a letter or "
            f"digit, without .., got {value!r:.100}"
        )


def file_name(owner: object, *names: str) -> None:
    """Raise `InputError` unless each named field of `owner` is text that can name one file on every file system."""
    for name in names:
        value = getattr(owner, name)
        if (
            not isinstance(value, str)
            or not 1 <= len(value.encode(errors="replace")) <= _MAX_NAME_BYTES
            or value != value.strip(" .")
            or not value.isprintable()
            or any(character in '/\\:*?"<>|' for character in value)
            or value != unicodedata.normalize("NFC", value)
        ):
            raise _wrong(
                owner,
                name,
                f"a name for a folder: 1 to {_MAX_NAME_BYTES} bytes without a dot or space at either end, control "
                'characters and / \\ : * ? " < > |',
            )


_MAX_NAME_BYTES = 100


def _is_finite(value: object) -> bool:
    """Whether a value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _wrong(owner: object, name: str, allowed: str) -> InputError:
    return InputError(f"{type(owner).__name__}.{name} must be {allowed}, got {brief(getattr(owner, name))}")
