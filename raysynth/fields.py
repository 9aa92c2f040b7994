"""`@spec`, a frozen keyword-only dataclass that reports a wrong field in one line, and checks of field values."""

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TypeVar, dataclass_transform

from raysynth.errors import InputError, unknown

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


def positive(owner: object, *names: str) -> None:
    """Raise `InputError` unless each named field of `owner` is a finite number above zero."""
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise InputError(f"{type(owner).__name__}.{name} must be a positive number, got {value!r}")


def whole(owner: object, *names: str, minimum: int = 1) -> None:
    """Raise `InputError` unless each named field of `owner` is an integer of at least `minimum`."""
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise InputError(f"{type(owner).__name__}.{name} must be an integer of at least {minimum}, got {value!r}")


def share(owner: object, *names: str) -> None:
    """Raise `InputError` unless each named field of `owner` is a number from 0 to 1."""
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"{type(owner).__name__}.{name} must lie between 0 and 1, got {value!r}")


def instance(owner: object, name: str, *kinds: type) -> None:
    """Raise `InputError` unless the named field of `owner` is an instance of one of `kinds`."""
    value = getattr(owner, name)
    if not isinstance(value, kinds):
        allowed = " or ".join(kind.__name__ for kind in kinds)
        raise InputError(f"{type(owner).__name__}.{name} must be a {allowed}, got {value!r:.80}")


def check_name(what: str, value: object) -> None:
    """Raise `InputError`, which names `what`, unless a value can be a part of the names of artifacts and files."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_.+-]{0,79}", value) or ".." in value:
        raise InputError(
            f"{what} must be at most 80 lower-case letters, digits and characters of _.+- that begin with a letter or "
            f"digit, without .., got {value!r:.100}"
        )


def choose(owner: object, name: str, kind: type[StrEnum]) -> None:
    """Replace the text in the named field by the member of `kind` with that value, or raise `InputError`."""
    value = getattr(owner, name)
    if value not in set(kind):
        raise unknown(f"{type(owner).__name__}.{name}", value, [member.value for member in kind])
    object.__setattr__(owner, name, kind(value))
