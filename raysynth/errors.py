"""User errors: one line that names the field, the value and what is allowed."""

import difflib
import os
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

Value = TypeVar("Value")


class InputError(ValueError):
    """Raised for anything a user can mend; its message is one line."""


class WorkerError(RuntimeError):
    """Raised here for what a worker raised: its message is one line, `log` the worker's traceback."""

    def __init__(self, line: str, log: str):
        super().__init__(line)
        self.log = log

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return WorkerError, (str(self), self.log)

    @staticmethod
    def of(error: Exception) -> "WorkerError":
        """The error with the place where it was raised."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        first = next(iter(str(error).splitlines()), "no message")
        line = f"{type(error).__name__}: {first} ({os.path.basename(place.filename)}, line {place.lineno})"
        return WorkerError(line, "".join(traceback.format_exception(error)))


class Diverged(ArithmeticError):
    """Raised where a loss is not finite; training again would end the same way."""


_MOST_CHARACTERS = 800
"""A longer list of names is cut to the nearest ones."""


def unknown(what: str, value: object, allowed: Iterable[object]) -> InputError:
    """An `InputError` that lists the allowed values, or the nearest of very many, and the nearest one."""
    names = sorted(str(name) for name in allowed)
    if not names:
        return InputError(f"unknown {what} {str(value)!r}: there is none")
    close = difflib.get_close_matches(str(value), names, n=4)
    near = list(dict.fromkeys([*close, *(name for name in names if str(value) in name)]))[:4]
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    if len(", ".join(names)) > _MOST_CHARACTERS:
        shown = near or names[:4]
        return InputError(
            f"unknown {what} {str(value)!r}{hint}; such as {', '.join(shown)} and {len(names) - len(shown)} others"
        )
    return InputError(f"unknown {what} {str(value)!r}{hint}; allowed: {', '.join(names)}")


class Named(Mapping[str, Value]):
    """A read-only mapping by name whose missing keys raise `InputError` with the allowed names."""

    def __init__(self, what: str, values: Mapping[str, Value]):
        self._what = what
        self._values = dict(values)

    def __getitem__(self, name: str) -> Value:
        if name not in self._values:
            raise unknown(self._what, name, self._values)
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
