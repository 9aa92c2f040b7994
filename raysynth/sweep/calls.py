"""The verbs of a sweep file as functions, for notebooks: the same code and options as on the command line."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from raysynth.command_line import parse
from raysynth.errors import InputError, brief, unknown
from raysynth.sweep import command
from raysynth.sweep.command import SweepInStore
from raysynth.sweep.sweep import Sweep


def call(sweep: Sweep, verb: str, options: Mapping[str, Any]) -> SweepInStore:
    """Run a verb with its options by keyword; returns the sweep with what the store knows of it afterwards.

    Raises `InputError` for what a command line would refuse, and `WorkerError` if Ray is lost.
    """
    parsed = _parsed(sweep, verb, options)
    current = command.read(sweep, parsed)
    parsed.run(current, parsed)
    return current.reread()


def look_up(sweep: Sweep, options: Mapping[str, Any]) -> SweepInStore:
    """The sweep with what the store that the options name knows of it."""
    return command.read(sweep, _parsed(sweep, "report", options))


class _Parser(argparse.ArgumentParser):
    """A parser that raises `InputError` where others end the process."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _parsed(sweep: Sweep, verb: str, options: Mapping[str, Any]) -> argparse.Namespace:
    parser = command.parser(sweep, _Parser)
    actions = {action.dest: action for action in parser.parse_args([verb]).parser._actions if action.dest != "help"}
    arguments = [verb]
    for option, value in options.items():
        if option not in actions:
            raise unknown(f"option of {verb}", option, actions)
        arguments += _arguments(actions[option], value)
    try:
        return parse(parser, arguments)
    except InputError as error:
        raise InputError(f"sweep.{verb}: {error}") from None


def _arguments(action: argparse.Action, value: Any) -> list[str]:
    """An option and its value as on the command line; several values if the option takes them, or a mapping."""
    flag = action.option_strings[-1]
    if value is None or (action.nargs == 0 and value is False):
        return []
    if action.nargs == 0:
        if value is not True:
            raise InputError(f"{action.dest} must be True or False, got {brief(value)}")
        return [flag]
    if not isinstance(action, argparse._AppendAction) and action.nargs not in ("+", "*"):
        return [f"{flag}={value}"]
    if isinstance(value, Mapping):
        items = [f"{key}={_joined(each)}" for key, each in value.items()]
    elif isinstance(value, str) or not isinstance(value, Iterable):
        items = [str(value)]
    else:
        items = list(map(str, value))
    if action.nargs in ("+", "*"):
        return [flag, *items]
    return [f"{flag}={item}" for item in items]


def _joined(value: Any) -> str:
    """Several values with commas between them, as on the command line."""
    return str(value) if isinstance(value, str) or not isinstance(value, Iterable) else ",".join(map(str, value))
