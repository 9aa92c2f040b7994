"""What the `raysynth` command and sweep files share as command lines: verbs, options, exit status, short errors."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeAlias

from raysynth.errors import InputError

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `argparse.ArgumentParser.add_subparsers` returns."""


# -------------------------------------------------------------------------------- verbs


def add_verb(verbs: Verbs, name: str, run: Callable[..., int], summary: str) -> argparse.ArgumentParser:
    """Add a verb and return its parser, which takes the verb's own options; `parse` leaves `run` in the options."""
    description = f"{summary[0].upper()}{summary[1:]}."
    parser = verbs.add_parser(name, help=summary, description=description, allow_abbrev=False)
    parser.set_defaults(run=run, parser=parser)
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line of one verb and its options; exits with status 2 and the verb's usage if that fails.

    `arguments` defaults to those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"):
        parser.error(f"the verb comes first, then its options; got {arguments[0]}")
    options, unknown_arguments = parser.parse_known_args(arguments)
    if unknown_arguments:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown_arguments)}")
    return options


# -------------------------------------------------------------------------------- options


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add `--data` and `--skip-bad-rows`, for verbs that read the files of text tasks."""
    parser.add_argument(
        "--data",
        metavar="TASK=PATH",
        action="append",
        default=[],
        help="where the files of a downstream task or text corpus are; may be repeated",
    )
    parser.add_argument(
        "--skip-bad-rows", action="store_true", help="skip and count rows of these files that cannot be read"
    )


def natural(text: str) -> int:
    """A whole number of at least 0, as the type of an option."""
    return _whole(text, minimum=0)


def positive(text: str) -> int:
    """A whole number of at least 1, as the type of an option."""
    return _whole(text, minimum=1)


def _whole(text: str, minimum: int) -> int:
    message = f"must be a whole number of at least {minimum}, got {text!r}"
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(message) from None
    if number < minimum:
        raise argparse.ArgumentTypeError(message)
    return number


def positive_real(text: str) -> float:
    """A finite number above 0, as the type of an option."""
    message = f"must be a number above 0, got {text!r}"
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(message) from None
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(message)
    return number


# -------------------------------------------------------------------------------- errors


def exit_status(command: Callable[[], int]) -> int:
    """Run a command and return its exit status.

    An `InputError` prints one line and gives status 2; Ctrl-C prints a hint and gives status 130. If the reader of the
    output has gone (`| head`), the command ends quietly with status 1.
    """
    try:
        status = command()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Otherwise Python complains once more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130


def shorten_uncaught_errors() -> None:
    """Have Python print an uncaught `InputError` of this script as one line with the script's file and line number.

    Does nothing in an interactive session, or if something else has already replaced `sys.excepthook`.
    """
    is_script = hasattr(sys.modules.get("__main__"), "__file__") and not hasattr(sys, "ps1")
    if is_script and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print_uncaught


_LIBRARY_FOLDERS = tuple(os.path.join(os.path.dirname(os.path.abspath(file)), "") for file in (__file__, os.__file__))
"""Where raysynth and Python's standard library (and most often installed packages) are."""


def _print_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an `InputError` as one line; leave every other exception to Python."""
    if not isinstance(error, InputError):
        sys.__excepthook__(kind, error, trace)
        return
    # The user's own line is the last one outside the libraries; generated code such as a dataclass's `__init__` has
    # file names like <string>.
    places = [
        f"{frame.filename}:{frame.lineno}: "
        for frame in traceback.extract_tb(trace)
        if not os.path.abspath(frame.filename).startswith(_LIBRARY_FOLDERS) and not frame.filename.startswith("<")
    ]
    print(f"{places[-1] if places else ''}error: {error}", file=sys.stderr)
