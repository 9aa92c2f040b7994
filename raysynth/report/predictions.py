"""The test predictions of a fine-tuning, printed for reading."""

import hashlib
import json
import shlex
from typing import Any

from raysynth.errors import InputError, printable
from raysynth.specs.finetuning import Finetune
from raysynth.store.names import full_name
from raysynth.store.records import Record
from raysynth.store.store import Store


def print_predictions(run: str, store: Store, *, num_examples: int | None, right: bool | None) -> None:
    """Print source, target and prediction of test examples, each with whether it is right, and how many are.

    `run` is the name of a fine-tuning in the store, which may be cut as `full_name` says; `right` selects right or
    wrong predictions, None all. Raises `InputError` for an unknown or unfinished run and for an artifact without
    predictions.
    """
    if num_examples is not None and num_examples < 1:
        raise InputError(f"num_examples must be at least 1, got {num_examples}")
    run = full_name(run, store, (Finetune.kind,))
    if not run.startswith(f"{Finetune.kind}/"):
        raise InputError(f"{store.uri}: {run} has no predictions; only a fine-tuning does")
    record = store.record_of(run)
    if record is None:
        raise InputError(f"{store.uri}: {run} is not finished and has no predictions yet")
    content = read_predictions(run, record, store)
    if content is None:
        raise InputError(f"{store.uri}: {run}/predictions.jsonl is missing; {_again(store)}")
    rows = _rows(content, f"{store.uri}: {run}/predictions.jsonl")
    selected = [(number, row) for number, row in enumerate(rows, start=1) if right in (None, row["right"])]
    for number, row in selected[:num_examples]:
        print(f"[{number}] {'right' if row['right'] else 'wrong'}")
        for field in ("source", "target", "prediction"):
            print(f"  {field + ':':11} {printable(row[field])}")
        for reference in dict.fromkeys(row.get("references", [])):
            if reference != row["target"]:
                print(f"  {'or:':11} {printable(reference)}")
    print(f"{sum(row['right'] for row in rows):,} of {len(rows):,} right")


def read_predictions(run: str, record: Record, store: Store) -> bytes | None:
    """The file of a run's predictions, or None if it has none; raises `InputError` if it is not as it was written."""
    content = store.read_bytes(f"{run}/predictions.jsonl")
    expected = record.weights.predictions_sha256
    if content is not None and expected is not None and hashlib.sha256(content).hexdigest() != expected:
        raise InputError(f"{store.uri}: {run}/predictions.jsonl is damaged; {_again(store)}")
    return content


def _again(store: Store) -> str:
    """What heals damaged predictions, for the end of a message."""
    return f"`raysynth verify --store {shlex.quote(store.uri)} --deep --repair` has the run made again"


def samples(content: bytes, place: str, *, num_each: int) -> list[dict[str, Any]]:
    """The first right and the first wrong predictions of a file, `num_each` at most of both.

    Raises `InputError`, which names `place`, for a damaged file.
    """
    rows = _rows(content, place)
    return [row for right in (True, False) for row in [row for row in rows if row["right"] is right][:num_each]]


def _rows(content: bytes, place: str) -> list[dict[str, Any]]:
    """The predictions in JSON lines; raises `InputError`, which names `place` and the line, for any other content."""
    rows = []
    for number, line in enumerate(content.split(b"\n"), start=1):  # text itself may hold other line ends
        if not line:
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not _is_prediction(row):
            raise InputError(f"{place}, line {number} is damaged: it is no prediction")
        rows.append(row)
    return rows


def _is_prediction(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("right"), bool)
        and all(isinstance(row.get(field), str) for field in ("source", "target", "prediction"))
        and isinstance(row.get("references", []), list)
        and all(isinstance(reference, str) for reference in row.get("references", []))
    )
