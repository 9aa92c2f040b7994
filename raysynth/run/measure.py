"""Timing of training steps on the hosts that will train."""

from pathlib import Path
from typing import Any

from raysynth.command_line import screen
from raysynth.data.batch_shape import batch_shape
from raysynth.data.layout import Shape
from raysynth.errors import WorkerError, first_line
from raysynth.report.cost import recipe_of, speed_file, speeds
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import Artifact, name
from raysynth.specs.models import T5Config
from raysynth.specs.pretraining import Pretrain
from raysynth.specs.recipes import Recipe
from raysynth.store.files import private_directory
from raysynth.store.store import State, Status, Store


def measure(statuses: dict[Artifact, Status], store: Store, address: str | None, num_cpus: int = 1) -> None:
    """Time a few steps of each recipe, model and data whose speed is unknown, each on one worker with that many CPUs.

    The timed block has the shape that training will have. It is unknown for downstream data that are not made yet; then
    rows of the recipe's full lengths are timed, which is too slow.

    Known are the speeds in records and of earlier measurements. The results go to the store. Does not start Ray if
    every speed is known.
    """
    shapes: dict[str, tuple[Recipe, T5Config, Shape]] = {}
    upper_bounds: set[str] = set()
    for (artifact, status), speed in zip(statuses.items(), speeds(statuses, store).values(), strict=True):
        if not isinstance(artifact, Pretrain | Finetune):
            continue
        recipe, file = recipe_of(artifact), speed_file(artifact)
        if recipe is None or file is None or speed is not None or status.state is State.DONE:
            continue
        if file not in shapes:
            shape = _block_shape(artifact, recipe, store)
            if shape is None:
                upper_bounds.add(file)
            shapes[file] = recipe, artifact.model, shape or _full_shape(recipe)
    if not shapes:
        return
    import ray

    from raysynth.run.execute import trial_resources
    from raysynth.run.session import nodes, training_session

    with training_session(address, store, num_cpus) as cache:
        resources = trial_resources(nodes(), num_cpus)
        request = {"num_cpus": resources.pop("CPU"), "num_gpus": resources.pop("GPU", 0), "resources": resources}
        answers = {
            file: ray.remote(_time_step).options(**request).remote(recipe, model, shape, cache)
            for file, (recipe, model, shape) in shapes.items()
        }
        for number, (file, answer) in enumerate(answers.items(), start=1):
            timing = _answer(answer, _shape_text(*shapes[file]))
            store.write_json(file, timing)
            print(
                f"measured {number} of {len(answers)}: {timing['seconds_per_step']:.3g} s a step of "
                f"{_shape_text(*shapes[file])}, on {timing['device']}, threads: {timing['threads'] or 'all'}"
                + (" (full lengths, because the data are not made yet)" if file in upper_bounds else ""),
                file=screen(),
            )


def _block_shape(artifact: Pretrain | Finetune, recipe: Recipe, store: Store) -> Shape | None:
    """The shape of an artifact's blocks; None if its data must first be made."""
    data = artifact.data if isinstance(artifact, Pretrain) else artifact.task.data
    root = store.local_root
    is_done = root is not None and store.status(data).state is State.DONE
    return batch_shape(recipe, data, root / name(data) if root is not None and is_done else None)


def _full_shape(recipe: Recipe) -> Shape:
    return Shape(rows=recipe.batch_size, input_width=recipe.input_length, target_width=recipe.target_length)


def _shape_text(recipe: Recipe, model: T5Config, shape: Shape) -> str:
    block = f"{shape.rows} rows of {shape.input_width}/{shape.target_width}"
    return f"{recipe.batch_size} examples in {block}, width {model.emb_dim}"


def _answer(reference: Any, shape: str) -> dict[str, Any]:
    """The answer of a worker; raises `WorkerError` for its exception, or if its process ended."""
    import ray

    from raysynth.run.deaths import Reader
    from raysynth.run.session import logs

    reader = Reader(logs())
    try:
        answer: dict[str, Any] = ray.get(reference)
        return answer
    except ray.exceptions.RayTaskError as error:
        raise WorkerError.of(error.cause) from None
    except ray.exceptions.RayError as error:
        death = reader(None)
        raise WorkerError(f"no time for {shape}: {death.cause or first_line(error)}", death.log or str(error)) from None


def _time_step(recipe: Recipe, model: T5Config, shape: Shape, cache: Path) -> dict[str, Any]:
    private_directory(cache)  # where this host's compiled programs lie
    from raysynth.model.step import time_step  # imports JAX, which only workers need

    return time_step(recipe, model, shape)
