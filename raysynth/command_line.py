"""What the `raysynth` command and sweep files share as command lines: verbs, options, exit status, short errors."""

import argparse
import io
import itertools
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from raysynth.errors import InputError, brief, printable

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
    _write_any_text()
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"):
        parser.error(printable(f"the verb comes first, then its options; got {arguments[0]}"))
    options, unknown_arguments = parser.parse_known_args(arguments)
    if unknown_arguments:
        options.parser.error(printable(f"unrecognized arguments: {' '.join(unknown_arguments)}"))
    _refuse_repeated(options.parser, arguments)
    return options


def _write_any_text() -> None:
    """Have the standard streams write signs that the terminal's encoding lacks as escapes such as `\\xe9`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _refuse_repeated(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Exit with status 2 if an option that takes one value is on the command line twice: only one would count."""
    options = list(itertools.takewhile(lambda argument: argument != "--", arguments))
    for action in parser._actions:
        if action.nargs != 0 and not isinstance(action, argparse._AppendAction):
            uses = [option for option in options if option.partition("=")[0] in action.option_strings]
            if len(uses) > 1:
                parser.error(f"argument {'/'.join(action.option_strings)}: may be on the command line only once")


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


def integer(text: str) -> int:
    """A whole number, as the type of an option whose range the verb checks."""
    if not re.fullmatch(r"[-+]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"must be a whole number, got {brief(text)}")
    return int(text)


def seed(text: str) -> int:
    """A seed, as the type of an option."""
    return _whole(text, minimum=0, maximum=2**32 - 1)


def positive(text: str) -> int:
    """A whole number of at least 1, as the type of an option."""
    return _whole(text, minimum=1, maximum=10**6)


def _whole(text: str, minimum: int, maximum: int) -> int:
    if not re.fullmatch(r"[-+]?[0-9]{1,18}", text) or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {minimum}, got {brief(text)}")
    if int(text) > maximum:
        raise argparse.ArgumentTypeError(f"must be a whole number of at most {maximum}, got {brief(text)}")
    return int(text)


def positive_real(text: str) -> float:
    """A number above 0 and of at most a million, as the type of an option."""
    is_number = re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text)
    if not is_number or not float(text) > 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {brief(text)}")
    if float(text) > 1e6:
        raise argparse.ArgumentTypeError(f"must be a number of at most 1000000, got {brief(text)}")
    return float(text)


def text(argument: str) -> str:
    """Text that is not blank, as the type of an option that names a file, a store or an artifact."""
    if not argument.strip() or "\0" in argument:
        raise argparse.ArgumentTypeError(f"must not be blank, got {brief(argument)}")
    return argument


def path(argument: str) -> Path:
    """A path that is not blank, as the type of an option."""
    return Path(text(argument))


# -------------------------------------------------------------------------------- errors


def exit_status(command: Callable[[], int]) -> int:
    """Run a command and return its exit status.

    An `InputError` prints one line and gives status 2; Ctrl-C prints a hint and gives status 130. If the reader of the
    output has gone (`| head`), the command ends quietly with status 1.
    """
    try:
        status = command()
        if sys.stdout is not None:  # it was closed before the start
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
