"""User errors: one line that names the field, the value and what is allowed."""

import contextlib
import dataclasses
import difflib
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TypeVar

Value = TypeVar("Value")


_UNPRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, marks that reorder what follows, and halves of surrogate pairs; no tabs."""


def printable(text: str) -> str:
    r"""Text of a user's as one line that is safe to print: what would control a terminal is written as `\x1b`."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def brief(value: object) -> str:
    """A value as a message shows it: its `repr` in at most 80 characters, or its class where that fails."""
    try:
        text = repr(value)
    except Exception:  # of the user's own class, or for a number of more than 4,300 digits
        text = f"a value of the class {type(value).__name__}"
    return text if len(text) <= _MAX_REPR_CHARACTERS else f"{text[:_MAX_REPR_CHARACTERS]}..."


_MAX_REPR_CHARACTERS = 80


class InputError(ValueError):
    """Raised for any mistake that the user can fix; its message is one line."""

    def __init__(self, line: str):
        super().__init__(printable(line))
        shorten_uncaught_errors()


class StoreError(InputError):
    """Raised if the storage of a store fails, such as a full disk or a lost network; the same may work later."""


class WorkerError(RuntimeError):
    """Raised in the driver for an error in a worker; its message is one line, and `log` holds the worker's traceback.

    It survives pickling, unlike some of the errors that it replaces.
    """

    def __init__(self, line: str, log: str):
        super().__init__(printable(line))
        self.log = log

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return WorkerError, (str(self), self.log)

    @staticmethod
    def of(error: BaseException) -> "WorkerError":
        """The error's class and first line with the file and line that raised it."""
        kind, message = type(error).__name__, first_line(error)
        summary = kind if message == kind else f"{kind}: {message}"
        frame = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{summary} ({os.path.basename(frame.filename)}, line {frame.lineno})"
        return WorkerError(line, "".join(traceback.format_exception(error)))


class RayLost(WorkerError):
    """Raised in the driver if the Ray that it works with is gone, so that the run cannot go on."""

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return RayLost, (str(self), self.log)


class Diverged(ArithmeticError):
    """Raised if a loss is not finite; another run would diverge in the same way."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class if the message is empty."""
    message = str(error).strip()
    return re.split(r"[\r\n]", message, maxsplit=1)[0] if message else type(error).__name__


_MAX_VALUE_CHARACTERS = 200
"""`unknown` cuts a longer value."""
_MAX_LIST_CHARACTERS = 800
"""`unknown` cuts a longer list of allowed values to the nearest ones."""


def unknown(what: str, value: object, allowed: Iterable[object]) -> InputError:
    """Build an `InputError` that lists the allowed values (only the nearest of very many) and suggests the nearest."""
    names = sorted(str(name) for name in allowed)
    text = str(value)
    if len(text) > _MAX_VALUE_CHARACTERS:
        text = f"{text[:_MAX_VALUE_CHARACTERS]}..."
    if not names:
        return InputError(f"unknown {what} {text!r}: there is none")
    close = difflib.get_close_matches(text, names, n=4)
    near = list(dict.fromkeys([*close, *(name for name in names if text in name)]))[:4]
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    if len(", ".join(names)) > _MAX_LIST_CHARACTERS:
        shown = near or names[:4]
        return InputError(
            f"unknown {what} {text!r}{hint}; such as {', '.join(shown)} and {len(names) - len(shown)} others"
        )
    return InputError(f"unknown {what} {text!r}{hint}; allowed: {', '.join(names)}")


class Named(Mapping[str, Value]):
    """A read-only mapping by name whose missing keys raise `InputError` with the allowed names."""

    def __init__(self, what: str, values: Mapping[str, Value]):
        self._what = what
        self._values = dict(values)

    def __getitem__(self, name: str) -> Value:
        if name not in self:
            raise unknown(self._what, name, self._values)
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


# -------------------------------------------------------------------------------- uncaught errors


HINT = "interrupted; run the same command again to continue"


def shorten_uncaught_errors() -> None:
    """Have Python print an uncaught `InputError` of a script as one line with the script's file and line number.

    A script builds descriptions at its top level, outside any command, and a typo there must read as one line too.
    Does nothing unless a script is running, in an interactive session, and where something else has already replaced
    `sys.excepthook`.
    """
    outermost = sys._getframe()
    while outermost.f_back is not None:
        outermost = outermost.f_back
    is_script = outermost.f_globals.get("__name__") == "__main__" and "__file__" in outermost.f_globals
    if is_script and not hasattr(sys, "ps1") and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print_uncaught


_LIBRARY_FOLDERS = tuple(os.path.join(os.path.dirname(os.path.abspath(file)), "") for file in (__file__, os.__file__))
"""Where raysynth and Python's standard library (and most often installed packages) are."""


def _print_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an `InputError`, a class that is no proper dataclass, and Ctrl-C as one line; leave the rest to Python."""
    if isinstance(error, KeyboardInterrupt):
        with contextlib.suppress(OSError, ValueError):
            print(HINT, file=sys.stderr, flush=True)
        return
    frames = traceback.extract_tb(trace)
    of_dataclass = isinstance(error, TypeError | ValueError) and frames and frames[-1].filename == dataclasses.__file__
    if not isinstance(error, InputError) and not of_dataclass:
        sys.__excepthook__(kind, error, trace)
        return
    line = f"{error} (use @dataclass(frozen=True, kw_only=True))" if of_dataclass else error
    # The user's own line is the last one outside the libraries; generated code such as a dataclass's `__init__` has
    # file names like <string>.
    places = [
        f"{frame.filename}:{frame.lineno}: "
        for frame in frames
        if not os.path.abspath(frame.filename).startswith(_LIBRARY_FOLDERS) and not frame.filename.startswith("<")
    ]
    print(f"{places[-1] if places else ''}error: {line}", file=sys.stderr)
