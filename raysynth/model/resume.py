"""What an earlier run of an artifact left in its directory, and how much of it a later run goes on from."""

import math
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysynth.errors import InputError
from raysynth.observer import Observer
from raysynth.specs.recipes import Best, FirstAbove, Recipe, Selection
from raysynth.store.checkpoint_files import problem
from raysynth.store.files import write_whole
from raysynth.store.sealed import seal, unseal

Evaluations = dict[int, dict[str, float]]
"""The scores of each evaluated step."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How far earlier runs came."""

    step: int
    """The step whose checkpoint is to be restored; 0 if training starts from its beginning."""
    evaluations: Evaluations
    """Those of all evaluated steps up to `step`."""
    is_evaluated: bool
    """Whether `step` is among them or needs no evaluation. If not, evaluate its checkpoint and ask again: only then it
    is known what to do."""


def resume(directory: Path, artifact: str, recipe: Recipe, observer: Observer) -> Trained:
    """How far the artifact of that name was trained in `directory`, as far as its files are whole.

    A step, evaluated or not, counts if its checkpoint, all evaluations up to it, the checkpoint selected by then and
    those to keep up to it are as they were written: then the rest of the training gives the same bits as an undisturbed
    one. Deletes the checkpoints that are not whole, those after that step and files that were never finished.
    `observer` gets one note if something was not whole.
    """
    _delete_leftovers(directory)
    steps = evaluated_steps(recipe)
    evaluations, problems = _read_evaluations(directory, artifact, steps, recipe.selection)
    entries = _entries(directory / "checkpoints")
    whole = set()
    for step in sorted((int(entry) for entry in entries if _is_step(entry, recipe)), reverse=True):
        line = problem(entries[str(step)], step=step, artifact=artifact)
        if line is None:
            whole.add(step)
        else:
            problems.append(line)
    start = 0
    for step in sorted(whole, reverse=True):
        lost = [one for one in steps if one <= step and one not in evaluations]
        selected = recipe.selection.choose({one: scores for one, scores in evaluations.items() if one <= step})
        if lost == [step]:  # what is selected is known once it is evaluated again
            start = step
            break
        if lost:
            problems.append(f"{evaluation_file(directory, lost[0])} is missing")
        elif selected is not None and selected not in whole:
            problems.append(f"{directory / 'checkpoints' / str(selected)}, the selected checkpoint, is missing")
        elif unkept := [one for one in recipe.keep_steps if one <= step and one not in whole]:
            problems.append(f"{directory / 'checkpoints' / str(unkept[0])}, a checkpoint to keep, is missing")
        else:
            start = step
            break
    for name, entry in entries.items():
        if name not in map(str, whole) or int(name) > start:
            _delete(entry)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        then = f"goes on from step {start:,}" if start else "starts from the beginning"
        observer.noted(artifact, f"{problems[0]}{more}; training {then}")
    evaluations = {step: scores for step, scores in evaluations.items() if step <= start}
    return Trained(step=start, evaluations=evaluations, is_evaluated=start in evaluations or start not in steps)


def evaluated_steps(recipe: Recipe) -> list[int]:
    """The steps after which a recipe evaluates, unless its selection settles earlier."""
    return sorted({*range(recipe.eval_every, recipe.num_steps + 1, recipe.eval_every), recipe.num_steps})


def _entries(checkpoints: Path) -> dict[str, Path]:
    """What Orbax would take for the checkpoints of steps, by name."""
    entries = checkpoints.iterdir() if checkpoints.is_dir() else ()
    return {entry.name: entry for entry in entries if re.fullmatch("[0-9]+", entry.name)}


def _is_step(name: str, recipe: Recipe) -> bool:
    """Whether a name is that of a step at which a run may have saved."""
    return len(name) <= len(str(recipe.num_steps)) and name == str(int(name)) and 0 < int(name) <= recipe.num_steps


def _delete_leftovers(directory: Path) -> None:
    """Delete the files that a killed run was about to write."""
    for leftover in directory.rglob(".*.aside"):
        if leftover.is_file():
            leftover.unlink()


def _delete(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


# -------------------------------------------------------------------------------- evaluations


def evaluation_file(directory: Path, step: int) -> Path:
    """The file with the scores of a step."""
    return directory / "evaluations" / f"{step}.json"


def initial_scores(directory: Path, artifact: str, selection: Selection, observer: Observer) -> dict[str, float] | None:
    """The scores before the first step, which are only shown and never selected; None if they are not there whole.

    `observer` gets a note if they were damaged.
    """
    evaluations, problems = _read_evaluations(directory, artifact, [0], selection)
    for problem_line in problems:
        observer.noted(artifact, f"{problem_line}; it is evaluated again")
    return evaluations.get(0)


def write_evaluation(directory: Path, *, artifact: str, step: int, scores: dict[str, float]) -> None:
    """Write the scores of a step of an artifact."""
    write_whole(evaluation_file(directory, step), seal({"artifact": artifact, "step": step, "scores": scores}))


def _read_evaluations(
    directory: Path, artifact: str, steps: Iterable[int], selection: Selection
) -> tuple[Evaluations, list[str]]:
    """The whole evaluations by step, and what is wrong with the others."""
    evaluations, problems = {}, []
    for step in steps:
        file = evaluation_file(directory, step)
        if not file.is_file():
            continue
        try:
            value = unseal(file.read_bytes(), str(file))
            if (value.get("artifact"), value.get("step")) != (artifact, step):
                raise InputError(f"{file} belongs to step {value.get('step')} of {value.get('artifact')}")
            evaluations[step] = _scores(value.get("scores"), selection, str(file))
        except InputError as error:
            problems.append(str(error))
    return evaluations, problems


def _scores(value: Any, selection: Selection, place: str) -> dict[str, float]:
    """The scores in a JSON value; raises `InputError`, which names `place`, for anything else."""
    needed = {"loss", "token_accuracy"}
    if isinstance(selection, Best | FirstAbove):
        needed.add(selection.metric)
    is_whole = isinstance(value, dict) and needed <= value.keys()
    if not is_whole or not all(isinstance(score, float) and math.isfinite(score) for score in value.values()):
        raise InputError(f"{place} is damaged: it must hold a number for each metric")
    return dict(value)
