"""`@spec`, a frozen keyword-only dataclass that reports a wrong field in one line, and checks of field values."""

import functools
import inspect
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from raysynth.errors import InputError, brief, unknown

Class = TypeVar("Class", bound=type)
Member = TypeVar("Member")
Text = TypeVar("Text")

# -------------------------------------------------------------------------------- fields of fixed choices

if TYPE_CHECKING:

    class Choice(Generic[Member, Text]):
        """The type of a field that holds a member of an enumeration and is given as one or as its text."""

        @overload
        def __get__(self, owner: None, kind: type) -> Any: ...
        @overload
        def __get__(self, owner: object, kind: type) -> Member: ...
        def __get__(self, owner: object, kind: type) -> Any: ...
        def __set__(self, owner: object, value: Member | Text) -> None: ...

else:

    class Choice:
        """`Choice[Kind, Literal[...]]` is `Kind`; the literals must be its texts.

        `Kind` is an enumeration, with None or tuples of members as further choices. The texts of tuples come second.
        """

        def __class_getitem__(cls, parameters):
            kind, literal = parameters
            (enumeration,) = [
                each for each in get_args(kind) or (kind,) if isinstance(each, type) and each is not NoneType
            ]
            texts_of_one = get_args(literal)[0] if get_origin(literal) is Union else literal
            if list(get_args(texts_of_one)) != [member.value for member in enumeration]:
                raise TypeError(f"the literals of {enumeration.__name__} must be {[*enumeration]}, got {literal}")
            return kind


def preset(*, default: Any, **options: Any) -> Any:
    """A field with this default, for annotations that are a `Choice`; the options are those of `dataclasses.field`."""
    return field(default=default, **options)


# -------------------------------------------------------------------------------- descriptions


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field, preset))
def spec(cls: Class) -> Class:
    """Make `cls` a frozen keyword-only dataclass.

    Unknown and missing fields raise `InputError`, and so do values that do not have the annotated type or are not
    finite. The checks of `__post_init__` come first, because their messages say more.
    """
    cls = dataclass(frozen=True, kw_only=True)(cls)  # type: ignore[assignment]  # mypy loses that it is the same class
    initialize: Callable[..., None] = cls.__init__  # type: ignore[misc]  # unsound on instances; `cls` is a class
    signature = inspect.signature(initialize)

    @functools.wraps(initialize)
    def checked(self: object, *args: object, **values: object) -> None:
        try:
            initialize(self, *args, **values)
        except InputError:
            raise
        except Exception:
            _check_call(cls, signature, self, *args, **values)
            _check_types(self)  # a value of a wrong type is the cause of most of these
            raise
        _check_types(self)

    cls.__init__ = checked  # type: ignore[misc]  # unsound on instances; `cls` is a class
    return cls


def _check_call(cls: type, signature: inspect.Signature, /, *args: object, **values: object) -> None:
    """Raise `InputError` for arguments that `cls` does not take, and for missing ones."""
    known = [field.name for field in fields(cls) if field.init]
    for name in values:
        if name not in known:
            raise unknown(f"field of {cls.__name__}", name, known)
    try:
        signature.bind(*args, **values)
    except TypeError as error:
        raise InputError(f"{cls.__name__}: {error}") from None


MAX_SEED = 2**32 - 1
"""The largest seed: JAX keeps 32 bits of one, so that a larger one would give the random numbers of another."""


# -------------------------------------------------------------------------------- types of values


def _check_types(owner: Any) -> None:
    """Raise `InputError` unless each field has a value of its annotated type."""
    for name, fits in _checks(type(owner)):  # type: ignore[arg-type]  # mypy does not see that classes have a hash
        if not fits(getattr(owner, name)):
            raise _wrong(owner, name, _in_words(get_type_hints(type(owner))[name]))


@functools.cache
def _checks(cls: type) -> list[tuple[str, Callable[[Any], bool]]]:
    """The annotated fields of a class, each with a function that says whether a value has the field's type."""
    try:
        hints = get_type_hints(cls)
    except NameError:  # an annotation that is only there for type checkers
        return []
    return [(each.name, _check_of(hints[each.name])) for each in fields(cls) if each.name in hints]


def _check_of(hint: Any) -> Callable[[Any], bool]:
    """A function that says whether a value has a type. A number must be finite, and an integer fit into 64 bits."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        kinds = [_check_of(each) for each in arguments]
        return lambda value: any(fits(value) for fits in kinds)
    if get_origin(hint) is tuple:
        if arguments[-1] is Ellipsis:
            fits_one = _check_of(arguments[0])
            return lambda value: isinstance(value, tuple) and all(map(fits_one, value))
        kinds = [_check_of(each) for each in arguments]
        return lambda value: (
            isinstance(value, tuple)
            and len(value) == len(kinds)
            and all(fits(item) for fits, item in zip(kinds, value, strict=True))
        )
    if hint is float:
        return _is_finite
    if hint is int:
        return lambda value: isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if not isinstance(hint, type):
        return lambda value: True
    if getattr(hint, "_is_protocol", False):
        methods = [name for name in vars(hint) if not name.startswith("_")]
        return lambda value: (
            is_dataclass(value) and not isinstance(value, type) and all(hasattr(value, name) for name in methods)
        )
    allowed = (hint, str) if issubclass(hint, StrEnum) else (hint,)
    return lambda value: isinstance(value, allowed)


_NAMES = {int: "an integer", float: "a finite number", str: "text", bool: "True or False", NoneType: "None"}


def _in_words(hint: Any) -> str:
    """What messages call an annotated type."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_in_words, get_args(hint)))
    if get_origin(hint) is tuple:
        kinds = dict.fromkeys(_in_words(kind) for kind in get_args(hint) if kind is not Ellipsis)
        return f"a tuple, each item of it {' or '.join(kinds)}"
    return _NAMES.get(hint, f"a {getattr(hint, '__name__', hint)}")


# -------------------------------------------------------------------------------- fields by dotted path


def has_field(owner: object, path: str) -> bool:
    """Whether there is a field at a dotted path, such as `source.num_steps`; items of tuples have numbers."""
    first, _, rest = path.partition(".")
    if first not in _parts(owner):
        return False
    return not rest or has_field(_parts(owner)[first], rest)


def replaced(owner: Any, changes: Mapping[str, str]) -> Any:
    """A description with other values at some dotted paths, all at once; texts are read as the annotations say.

    Raises `InputError` for unknown fields, for texts that are no values of the field, and as the description does.
    """
    by_field: dict[str, dict[str, str]] = {}
    for path, text in changes.items():
        first, _, rest = path.partition(".")
        by_field.setdefault(first, {})[rest] = text
    parts, values = _parts(owner), {}
    for name, below in by_field.items():
        kind = type(owner).__name__
        if name not in parts:
            raise unknown(f"field of {kind}" if parts else f"field of {brief(owner)}", name, parts)
        if "" in below and len(below) > 1:
            raise InputError(f"{kind}.{name} is given as a whole and in part: {', '.join(filter(None, below))}")
        if "" not in below:
            values[name] = replaced(parts[name], below)
        elif is_dataclass(owner):
            hint = get_type_hints(type(owner))[name]
            values[name] = _parsed(below[""], hint, f"{kind}.{name}")
        else:
            raise InputError(f"item {name} of a tuple has fields of its own; give one of them, got {below['']!r}")
    if isinstance(owner, tuple):
        return tuple(values.get(str(place), item) for place, item in enumerate(owner))
    return replace(owner, **values)


def _parts(owner: Any) -> dict[str, Any]:
    """What dotted paths can name below a value: its fields, or the items of a tuple by their places."""
    if isinstance(owner, tuple):
        return {str(place): item for place, item in enumerate(owner) if is_dataclass(item)}
    if is_dataclass(owner):
        return {each.name: getattr(owner, each.name) for each in fields(owner) if each.init}
    return {}


def _parsed(text: str, hint: Any, what: str) -> Any:
    """The value of an annotated type that a text means; raises `InputError`, which names `what`."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for kind in reversed(kinds) if "," in text else kinds:  # a tuple is the last choice of an annotation
        if kind is NoneType and text == "None":
            return None
        if kind is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind is int and re.fullmatch(r"[-+]?[0-9]{1,18}", text):
            return int(text)
        if kind is float and re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text):
            return float(text)
        if isinstance(kind, type) and issubclass(kind, str):  # a description checks the texts of an enumeration
            return text
        if get_origin(kind) is tuple:
            return tuple(_parsed(item, get_args(kind)[0], f"an item of {what}") for item in text.split(",") if item)
    raise InputError(f"{what} must be {_in_words(hint)}, got {text!r:.100}")


# -------------------------------------------------------------------------------- checks for `__post_init__`


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
