"""The artifacts of a store with their states, for a terminal."""

import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from raysynth.errors import InputError, StoreError, printable, unknown
from raysynth.specs.models import described_model
from raysynth.store.records import DataResult, Record
from raysynth.store.store import KINDS, State, Status, Store

DAMAGED = "damaged"
"""The state of an artifact whose record cannot be used."""
STATES = (*(state.value for state in State if state is not State.NEW), DAMAGED)
_NUM_THREADS = 16
"""As many artifacts are read side by side."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One artifact of a list."""

    name: str
    task: str
    init: str
    """Of a fine-tuning: the names of its sources and of its init scheme, such as `set.full`."""
    state: str
    steps: str
    """The selected step, or how far the training is; of a data set its rows."""
    accuracy: str
    """Token accuracy on the validation split at the selected step, in percent."""
    model: str
    note: str
    """Why it failed or is damaged, in one line."""

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]


def listed(store: Store) -> list[Listed]:
    """All artifacts of a store, by kind and name."""
    names = [name for kind in KINDS for name in store.names((kind,))]
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return list(pool.map(lambda name: _listed(name, store), names))


def print_list(
    store: Store,
    *,
    kinds: Collection[str] = (),
    tasks: Collection[str] = (),
    inits: Collection[str] = (),
    states: Collection[str] = (),
    text: str = "",
) -> None:
    """Print the artifacts of a store that fit all filters, with their states; an empty filter fits all.

    `inits` holds init schemes, with or without the sources before them; `text` is a part of the name or of the reason
    of a failure. Raises `InputError` for filters that nothing in the store could fit.
    """
    if not store.has_root:
        raise InputError(f"there is no store at {store.uri}")
    everything = listed(store)
    _check(kinds, "kind", KINDS)
    _check(states, "state", STATES)
    _check(tasks, f"task in {store.uri}", {each.task for each in everything})
    known = {form for each in everything for form in _forms(each.init)}
    _check(inits, f"init scheme in {store.uri}", known)
    kept = [
        each
        for each in everything
        if (not kinds or each.kind in kinds)
        and (not tasks or each.task in tasks)
        and (not inits or not _forms(each.init).isdisjoint(inits))
        and (not states or each.state in states)
        and (text in each.name or text in each.note)
    ]
    _print(kept)
    counts = Counter(each.state for each in kept)
    summary = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    print(printable(f"{store.uri}: {len(kept):,} of {len(everything):,} artifacts{': ' * bool(summary)}{summary}"))


def _check(values: Iterable[str], what: str, allowed: Collection[str]) -> None:
    for value in values:
        if value not in allowed:
            raise unknown(what, value, filter(None, allowed))


def _forms(init: str) -> set[str]:
    """The ways to name an init scheme: with its sources, and alone."""
    return {init, *(init[dot.end() :] for dot in re.finditer(r"\.(?=[a-z])", init))}


def _listed(name: str, store: Store) -> Listed:
    try:
        status, note = store.status_of(name), ""
        state = str(status.state)
    except StoreError:
        raise
    except InputError as error:
        status, note, state = Status(state=State.NEW), str(error), DAMAGED
    if status.failure is not None:
        note = status.failure.error
    if status.state is State.NEW and not note:  # a lease or a checkpoint, but no mark of a run
        state = str(State.INTERRUPTED)
    description = {} if status.record is None else status.record.description
    task, init = _task_and_init(name, description)
    return Listed(
        name=name,
        task=task,
        init=init,
        state=state,
        steps=_steps(status),
        accuracy=_accuracy(status.record),
        model="" if not description or name.startswith("dataset/") else described_model(description).size,
        note=note,
    )


def _task_and_init(name: str, description: Mapping[str, Any]) -> tuple[str, str]:
    """The task of an artifact and, of a fine-tuning, its sources and init scheme; without a description by its name."""
    kind, _, rest = name.partition("/")
    label = re.sub(r"(\.lr[-+.e0-9]+)?(\.seed[0-9]+)?-[0-9a-f]{8}$", "", rest)
    of_task = description.get("task") or description.get("data", {}).get("task") or description
    task = str(of_task.get("name") or of_task.get("is") or label.partition(".")[0])
    return task, label.removeprefix(f"{task}.") if kind == "finetune" else ""


def _steps(status: Status) -> str:
    if status.progress is not None:
        return f"{status.progress.step:,} of {status.progress.num_steps:,}"
    if status.record is None:
        return ""
    result = status.record.result
    return f"{sum(result.rows.values()):,} rows" if isinstance(result, DataResult) else f"{result.selected_step:,}"


def _accuracy(record: Record | None) -> str:
    if record is None or isinstance(record.result, DataResult):
        return ""
    accuracy = (record.result.validation or {}).get("token_accuracy")
    return "" if accuracy is None else f"{100 * accuracy:.1f}"


_HEADER = ("state", "step", "accuracy", "model")


def _print(artifacts: list[Listed]) -> None:
    """Print one line an artifact, with its name last and never cut; two where a terminal is too narrow for that."""
    if not artifacts:
        return
    rows = [_HEADER, *((each.state, each.steps, each.accuracy, each.model) for each in artifacts)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    longest = max(len(each.name) for each in artifacts)
    on_one_line = not is_terminal or len(lines[0]) + 2 + longest <= Console().width
    print(f"{lines[0]}  name".rstrip() if on_one_line else f"{lines[0]}  (the name below)".rstrip())
    for line, each in zip(lines[1:], artifacts, strict=True):
        print(printable(f"{line}  {each.name}" if on_one_line else line.rstrip()))
        if not on_one_line:
            print(printable(each.name))
        if each.note:
            print(printable(f"    {each.note}"))
