"""What every synthetic task must keep to: the same generator gives the same rows of whole numbers, and nothing else."""

from typing import Any

import numpy as np

from raysynth.errors import InputError
from raysynth.synthetic.base import SyntheticTask
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import EOS, PAD


def checked_draw(task: SyntheticTask, rng: np.random.Generator, count: int) -> tuple[Ragged, Ragged]:
    """What a task draws.

    Raises `InputError` unless it is `count` inputs and `count` targets with ids that a model of the task's tokens has,
    and where the task ends its process.
    """
    try:
        drawn: Any = task.draw(rng, count)
    except (SystemExit, GeneratorExit) as error:
        raise InputError(f"{task.name}.draw must return examples, but it raised {type(error).__name__}") from None
    if not isinstance(drawn, tuple) or len(drawn) != 2:
        raise InputError(f"{task.name}.draw must return a pair of inputs and targets, got {type(drawn).__name__}")
    for what, rows in zip(("inputs", "targets"), drawn, strict=True):
        if not isinstance(rows, Ragged) or len(rows) != count:
            got = f"{len(rows)} rows" if isinstance(rows, Ragged) else type(rows).__name__
            raise InputError(f"{task.name}.draw must return {count} {what} as a Ragged, got {got}")
        _check_arrays(task, what, rows)
        if (largest := int(rows.values.max(initial=0))) > task.largest_id:
            raise InputError(f"{task.name}.draw must return ids up to {task.largest_id}, got {largest} in its {what}")
        if (least := int(rows.values.min(initial=EOS + 1))) <= EOS:
            raise InputError(
                f"{task.name}.draw must return ids of at least {EOS + 1}, got {least} in its {what}: "
                f"{PAD} is padding and {EOS} the end of a sequence, which is added"
            )
    return drawn


def _check_arrays(task: SyntheticTask, what: str, rows: Ragged) -> None:
    """Raise `InputError` unless the two arrays, which a task may have built by hand, fit together."""
    for name, kind in (("values", np.uint16), ("offsets", np.int64)):
        array = getattr(rows, name)
        if not isinstance(array, np.ndarray) or array.dtype != kind or array.ndim != 1:
            got = f"{array.ndim}-dimensional {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError(
                f"{task.name}.draw: {name} of the {what} must be a flat array of {kind.__name__}, got {got}; "
                "Ragged.of builds one from rows"
            )
    if rows.offsets[0] != 0 or rows.offsets[-1] != len(rows.values) or (np.diff(rows.offsets) < 0).any():
        raise InputError(
            f"{task.name}.draw: offsets of the {what} must rise from 0 to the number of ids ({len(rows.values)})"
        )


def has_own_code(task: SyntheticTask) -> bool:
    """Whether a class outside this package takes part in a task, or in a task of a mixture."""
    parts = getattr(task, "tasks", ())
    return any(not kind.__module__.startswith("raysynth.") for kind in type(task).__mro__ if kind is not object) or any(
        has_own_code(part) for part in parts if isinstance(part, SyntheticTask)
    )
