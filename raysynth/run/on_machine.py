"""How long trainings take on a kind of machine: from what was measured on one, or else from their FLOPs."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from raysynth.data.batch_shape import ForeseenBatch, SeenIn, foreseen_batch, local_data
from raysynth.data.public_files import public_files
from raysynth.downstream.rows import Split
from raysynth.model.resume import evaluated_steps
from raysynth.report.cost import Times, data_of, first_step, last_step, recipe_of, speed_file, speeds
from raysynth.report.machines import DECODING_UTILISATION, STEP_SECONDS, UTILISATION, Machine, machines
from raysynth.specs.datasets import Dataset
from raysynth.specs.finetuning import Finetune
from raysynth.specs.flops import decoder_flops, encoder_flops, training_flops
from raysynth.specs.identity import Artifact
from raysynth.specs.models import T5Config
from raysynth.specs.pretraining import Pretrain
from raysynth.specs.recipes import Best, FirstAbove, Recipe
from raysynth.store.records import DataResult, WeightsResult
from raysynth.store.store import State, Status, Store


def times_on(machine_name: str, statuses: Mapping[Artifact, Status], store: Store) -> Times:
    """The times of the trainings that are not done on a machine of that name.

    Speeds that were measured on such a machine are used. All others follow from the FLOPs of a step, the published rate
    of the machine and an assumed utilisation. The notes say how many are of which kind. Raises `InputError` for an
    unknown machine.
    """
    machine = machines[machine_name]
    measured = speeds(statuses, store, machine.is_device)
    recorded = _recorded_evaluations(statuses, machine)
    batches: dict[str, ForeseenBatch] = {}
    seconds_per_step: dict[Artifact, float | None] = {}
    evaluation_seconds: dict[Artifact, float] = {}
    shapes_measured: dict[str, bool] = {}
    num_unknown = 0
    for artifact, status in statuses.items():
        recipe, shape = recipe_of(artifact), speed_file(artifact)
        seconds_per_step[artifact] = measured[artifact]
        if status.state in (State.DONE, State.DIVERGED):
            continue
        if recipe is None or shape is None or not isinstance(artifact, Pretrain | Finetune):
            continue
        if shape not in batches:
            batches[shape] = foreseen_batch(recipe, data_of(artifact), local_data(data_of(artifact), store))
        batch, known = batches[shape], measured[artifact]
        assumed = _training_flops(artifact.model, batch) / (machine.flops * UTILISATION)
        seconds_per_step[artifact] = max(assumed, STEP_SECONDS) if known is None else known
        shapes_measured[shape] = known is not None
        sizes = _sizes(artifact, statuses)
        if shape in recorded:
            per_evaluation, at_the_end = recorded[shape]
            evaluation_seconds[artifact] = _num_evaluations(recipe, status) * per_evaluation + at_the_end
        elif sizes is None:
            num_unknown += 1
        else:
            evaluation_seconds[artifact] = _evaluation_seconds(
                artifact, recipe, status, sizes, batch, score_seconds=(known or assumed) / 3, machine=machine
            )
    notes = _notes(machine_name, machine, shapes_measured, batches.values(), num_unknown)
    return Times(seconds_per_step=seconds_per_step, evaluation_seconds=evaluation_seconds, notes=tuple(notes))


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Number of examples that a training evaluates."""

    validation: int
    test: int


def _sizes(artifact: Pretrain | Finetune, statuses: Mapping[Artifact, Status]) -> _Sizes | None:
    """The sizes of a training's data set: as it is, as it is described, or as published; None if nobody says them."""
    data = data_of(artifact)
    if isinstance(data, Dataset):
        return _Sizes(validation=data.num_validation, test=0)
    record = statuses[data].record
    if record is not None and isinstance(record.result, DataResult):
        rows = record.result.rows
        return _Sizes(validation=rows[Split.VALIDATION], test=rows.get(Split.TEST, rows[Split.VALIDATION]))
    files = public_files(data)
    validation = data.num_validation or data.num_held_out or (files.num_validation if files else None)
    test = validation if data.scored is Split.VALIDATION else data.num_test or (files.num_test if files else None)
    return None if validation is None or test is None else _Sizes(validation=validation, test=test)


def _num_evaluations(recipe: Recipe, status: Status) -> int:
    return sum(first_step(status) < step <= last_step(recipe) for step in evaluated_steps(recipe))


def _training_flops(model: T5Config, batch: ForeseenBatch) -> float:
    shape = batch.shape
    return training_flops(model, num_rows=shape.rows, input_length=shape.input_width, target_length=shape.target_width)


def _evaluation_seconds(
    artifact: Pretrain | Finetune,
    recipe: Recipe,
    status: Status,
    sizes: _Sizes,
    batch: ForeseenBatch,
    *,
    score_seconds: float,
    machine: Machine,
) -> float:
    """Seconds of all evaluations left; scoring a batch takes `score_seconds`."""
    num_evaluations = _num_evaluations(recipe, status)
    num_validation = min(sizes.validation, recipe.num_eval_examples or sizes.validation)
    num_batches = num_evaluations * math.ceil(num_validation / recipe.batch_size)
    num_decoded = 0
    if isinstance(artifact, Finetune):
        num_batches += math.ceil(sizes.test / recipe.batch_size)
        selection = recipe.selection
        decodes_all = isinstance(selection, Best | FirstAbove) and selection.metric != "token_accuracy"
        num_decoded = sizes.test + num_evaluations * num_validation * decodes_all
    seconds_each = _decoding_flops(artifact, batch) / (machine.flops * DECODING_UTILISATION)
    return num_batches * score_seconds + num_decoded * seconds_each


def _decoding_flops(artifact: Pretrain | Finetune, batch: ForeseenBatch) -> float:
    """FLOPs of decoding an example; 0 for a pre-training, which decodes nothing."""
    if isinstance(artifact, Pretrain):
        return 0.0
    input_length, target_length = batch.decoding_lengths
    target_length = min(target_length, artifact.task.decode_length)
    beams = artifact.task.num_beams * decoder_flops(artifact.model, input_length, target_length)
    return encoder_flops(artifact.model, input_length) + beams


def _recorded_evaluations(statuses: Mapping[Artifact, Status], machine: Machine) -> dict[str, tuple[float, float]]:
    """Of each shape with a record from such a machine: the longest seconds an evaluation, and those of the test."""
    longest: dict[str, tuple[float, float]] = {}
    for artifact, status in statuses.items():
        shape, record = speed_file(artifact), status.record
        if shape is None or record is None or not isinstance(record.result, WeightsResult):
            continue
        provenance, num_evaluations = record.provenance, len(record.result.evaluations or ())
        if provenance.evaluation_seconds is None or not num_evaluations or not machine.is_device(provenance.device):
            continue
        before = longest.get(shape, (0.0, 0.0))
        each = provenance.evaluation_seconds / num_evaluations
        longest[shape] = max(before[0], each), max(before[1], provenance.test_seconds or 0.0)
    return longest


def _notes(
    machine_name: str,
    machine: Machine,
    shapes_measured: Mapping[str, bool],
    batches: Iterable[ForeseenBatch],
    num_unknown: int,
) -> Iterable[str]:
    """What the times rest on, in lines of at most 80 columns."""
    num_measured = sum(shapes_measured.values())
    num_assumed, seen_in = len(shapes_measured) - num_measured, Counter(batch.seen_in for batch in batches)
    chips = "1 chip" if machine.num_chips == 1 else f"{machine.num_chips} chips"
    yield f"on {machine_name}: {chips} of {machine.flops_per_chip / 1e12:g} TFLOP/s (published peak for bfloat16)"
    yield f"  assumed: {100 * UTILISATION:g} % of it, in decoding {100 * DECODING_UTILISATION:g} %; " + (
        f"{1000 * STEP_SECONDS:g} ms a step at least"
    )
    yield f"  shapes of batches: {num_measured} measured on such a machine, {num_assumed} assumed"
    for where in SeenIn:
        if seen_in[where]:
            yield f"    {seen_in[where]} with lengths {where}"
    yield "  counted: steps, evaluations, decoding"
    yield "  not counted: drawing data, compilation, saving"
    if num_unknown:
        yield f"  not counted: evaluations of {num_unknown} trainings on data of unknown size"
