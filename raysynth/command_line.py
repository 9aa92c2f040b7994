"""What the `raysynth` command and sweep files share as command lines: verbs, options, exit status, short errors."""

import argparse
import contextlib
import functools
import io
import itertools
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO, TypeAlias

from raysynth.errors import HINT, InputError, RayLost, WorkerError, brief, first_line, printable

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
    if "_ARGCOMPLETE" in os.environ:  # a shell asks how the line may go on
        import argcomplete

        argcomplete.autocomplete(parser)
    _write_any_text()
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version"):
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
    add_locations(parser)
    parser.add_argument(
        "--skip-bad-rows", action="store_true", help="skip and count rows of these files that cannot be read"
    )


def add_locations(parser: argparse.ArgumentParser) -> None:
    """Add `--data`, which says where files are."""
    parser.add_argument(
        "--data",
        metavar="TASK=PATH",
        action="append",
        default=[],
        help="where the files of a downstream task or text corpus are; may be repeated",
    )


def add_in_process(parser: argparse.ArgumentParser) -> None:
    """Add `--in-process`, for verbs that otherwise need Ray; `check_in_process` checks it."""
    parser.add_argument(
        "--in-process", action="store_true", help="do everything in this process, one thing after another, without Ray"
    )


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """Add the options that say on which hosts the costs of a plan arise."""
    parser.add_argument(
        "--on",
        metavar="MACHINE",
        type=text,
        help="a kind of host, such as v5litepod-8 or h100: estimate its hours by FLOPs where nobody has measured them",
    )
    parser.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="number of hosts that train in parallel (default: 1)"
    )
    parser.add_argument("--price", type=positive_real, help="price of one host for an hour, in any currency")


def check_in_process(options: argparse.Namespace) -> None:
    """Raise `InputError` if a command line says both that Ray is not used and where it runs."""
    if options.in_process and options.address:
        raise InputError(f"--in-process uses no Ray cluster, but --address is {options.address}; leave one of them out")


def integer(text: str) -> int:
    """A whole number, as the type of an option whose range the verb checks."""
    if not re.fullmatch(r"[-+]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"must be a whole number, got {brief(text)}")
    return int(text)


def seed(text: str) -> int:
    """A seed, as the type of an option."""
    return _whole(text, minimum=0, maximum=2**32 - 1)


def port(text: str) -> int:
    """The number of a port, as the type of an option."""
    return _whole(text, minimum=1, maximum=2**16 - 1)


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


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command as Ctrl-C does."""
LAST_SECONDS = 15.0
"""A command that a signal ended has this long to clean up."""
ROUSE_SECONDS = 0.2
"""A main thread that has not noticed a signal after this long gets it again."""
STUCK_SECONDS = 5.0
"""`leave_though_stuck` gives a block this long to end after a signal."""


class Interrupted(KeyboardInterrupt):
    """Raised by the first signal that ends a command; later ones change nothing."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_status(command: Callable[[], int]) -> int:
    """Run a command and return its exit status.

    An `InputError` prints one line and gives status 2, a `WorkerError` or `OSError` one line and status 1. Ctrl-C,
    SIGTERM and SIGHUP print a hint and give 128 plus the signal's number. If the reader of the output has gone
    (`| head`), the command ends quietly with status 1. After a signal, or without the Ray that it needs, the process
    ends here, because threads of libraries could keep it.
    """
    _open_standard_streams()
    came: list[int] = []
    try:
        with _signals_interrupt(came):
            status = command()
            if sys.stdout is not None:
                sys.stdout.flush()
    except BaseException as error:
        if not came or isinstance(error, RayLost):  # which interrupts the main thread by a signal
            return _explained(error)
    if came:  # whatever became of `Interrupted` on its way through libraries and broken streams
        _print_last(HINT)
        _leave(128 + came[0])
    return status


def _explained(error: BaseException) -> int:
    """Print what ended a command in one line; returns the exit status. Raises again what should not have happened."""
    match error:
        case BrokenPipeError():
            # Otherwise Python complains once more when it flushes the streams at exit.
            for number in (1, 2):
                if _reader_has_gone(number):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            return 1
        case InputError():
            _print_last(f"error: {error}")
            return 2
        case RayLost():
            _print_last(f"error: {error}")
            _leave(1)
        case WorkerError() | OSError():
            _print_last(f"error: {first_line(error)}")
            return 1
        case KeyboardInterrupt():
            _print_last(HINT)
            return 128 + signal.SIGINT
    raise error


@contextlib.contextmanager
def _signals_interrupt(came: list[int]) -> Iterator[None]:
    """Raise `Interrupted` at the first of `SIGNALS` that comes, and put it in the list.

    Signals that somebody else handles or ignores are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not came:
            signal.alarm(0)  # the handler that Ray puts before this one aborts the process after three seconds
            came.append(number)
            threading.Thread(target=_leave_late, args=(number,), daemon=True).start()
            raise Interrupted(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number in SIGNALS if before[number] in (signal.SIG_DFL, signal.default_int_handler)]
    main_thread, is_over = threading.get_ident(), threading.Event()

    def rouse(number: int) -> None:
        while number in ours and not came and not is_over.wait(ROUSE_SECONDS):
            signal.pthread_kill(main_thread, number)

    for number in ours:
        signal.signal(number, interrupt)
    try:
        with _each_signal(rouse):
            yield
    finally:
        is_over.set()
        if not came:
            for number in ours:
                signal.signal(number, before[number])


def _leave_late(number: int) -> None:
    """End a process whose cleaning up after a signal takes too long."""
    time.sleep(LAST_SECONDS)
    _print_last(HINT)
    _leave(128 + number)


@contextlib.contextmanager
def leave_though_stuck() -> Iterator[None]:
    """End the process soon after one of `SIGNALS`, even if the block's main thread cannot notice it.

    Python handles a signal once its main thread is back from a library, and a compilation may take minutes; in a
    callback of a library Python prints the exception of the signal's handler and goes on. For blocks
    inside `exit_status` after which nothing needs to be cleaned up but what a killed process leaves.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_over = threading.Event()

    def leave(number: int) -> None:
        if number in SIGNALS and not is_over.wait(STUCK_SECONDS):
            end_at_once(HINT, 128 + number)

    def lost(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, Interrupted):  # Python was in a callback of a library, and goes on
            end_at_once(HINT, 128 + unraisable.exc_value.number)
        hook_before(unraisable)

    hook_before, sys.unraisablehook = sys.unraisablehook, lost
    try:
        with _each_signal(leave):
            yield
    finally:
        is_over.set()
        sys.unraisablehook = hook_before


@contextlib.contextmanager
def _each_signal(act: Callable[[int], None]) -> Iterator[None]:
    """Call a function with the number of each signal that comes, in a thread of its own.

    The main thread may not notice a signal: when two come at once, threads of libraries can take both, and then
    nothing wakes it from a system call. A block around this one learns of the signals too.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def watch() -> None:
        for number in iter(lambda: os.read(read_end, 1), b""):
            if around != -1:
                with contextlib.suppress(OSError):
                    os.write(around, number)
            act(number[0])
        os.close(read_end)
        if around != -1:
            os.close(around)

    before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    around = -1 if before == -1 else os.dup(before)  # the thread's own: the block around may close its one first
    threading.Thread(target=watch, name="signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write_end)


def end_at_once(line: str, status: int) -> NoReturn:
    """Print a line and end the process, whatever its threads do."""
    _print_last(line)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """End the process at once. Ray's processes on this machine end with it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def _print_last(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(line, file=screen(), flush=True)


# -------------------------------------------------------------------------------- streams


def screen() -> TextIO:
    """Standard error, wherever the process began; it stays so while a Ray session turns descriptor 2 to a file."""
    if sys.stderr is None or sys.stderr is not sys.__stderr__:
        return sys.stderr if sys.stderr is not None else _nowhere()
    return _first_stderr()


@functools.cache
def _first_stderr() -> TextIO:
    encoding = getattr(sys.__stderr__, "encoding", None)
    return open(os.dup(2), "w", buffering=1, encoding=encoding, errors="backslashreplace")


@functools.cache
def _nowhere() -> TextIO:
    return open(os.devnull, "w")


def _open_standard_streams() -> None:
    """Open closed standard streams on the null device, or the next file that is opened would take their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_RDWR)
                if null != number:
                    os.dup2(null, number)
                    os.close(null)


def _reader_has_gone(number: int) -> bool:
    """Whether a descriptor is a pipe without a reader."""
    poll = select.poll()
    poll.register(number, 0)
    return any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))
