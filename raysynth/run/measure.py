"""Timing of training steps on the hosts that will train."""

from pathlib import Path
from typing import Any

from raysynth.command_line import screen
from raysynth.errors import WorkerError, first_line
from raysynth.report.cost import recipe_of, speed_file, speeds
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import Artifact
from raysynth.specs.models import T5Config
from raysynth.specs.pretraining import Pretrain
from raysynth.specs.recipes import Recipe
from raysynth.store.files import private_directory
from raysynth.store.store import State, Status, Store


def measure(statuses: dict[Artifact, Status], store: Store, address: str | None, num_cpus: int = 1) -> None:
    """Time a few steps of each recipe and model whose speed is unknown, each on one worker with that many CPUs.

    Known are the speeds in records and of earlier measurements. The results go to the store. Does not start Ray if
    every speed is known.
    """
    shapes: dict[str, tuple[Recipe, T5Config]] = {}
    for (artifact, status), speed in zip(statuses.items(), speeds(statuses, store).values(), strict=True):
        if not isinstance(artifact, Pretrain | Finetune):
            continue
        recipe, file = recipe_of(artifact), speed_file(artifact)
        if recipe is not None and file is not None and speed is None and status.state is not State.DONE:
            shapes[file] = recipe, artifact.model
    if not shapes:
        return
    import ray

    from raysynth.run.execute import trial_resources
    from raysynth.run.session import nodes, training_session

    with training_session(address, store, num_cpus) as cache:
        resources = trial_resources(nodes(), num_cpus)
        request = {"num_cpus": resources.pop("CPU"), "num_gpus": resources.pop("GPU", 0), "resources": resources}
        answers = {
            file: ray.remote(_time_step).options(**request).remote(recipe, model, cache)
            for file, (recipe, model) in shapes.items()
        }
        for number, (file, answer) in enumerate(answers.items(), start=1):
            timing = _answer(answer, _shape_text(*shapes[file]))
            store.write_json(file, timing)
            print(
                f"measured {number} of {len(answers)}: {timing['seconds_per_step']:.3g} s a step of "
                f"{_shape_text(*shapes[file])}, on {timing['device']}, threads: {timing['threads'] or 'all'}",
                file=screen(),
            )


def _shape_text(recipe: Recipe, model: T5Config) -> str:
    return f"{recipe.batch_size} x {recipe.input_length}/{recipe.target_length}, width {model.emb_dim}"


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


def _time_step(recipe: Recipe, model: T5Config, cache: Path) -> dict[str, Any]:
    private_directory(cache)  # where this host's compiled programs lie
    from raysynth.model.step import time_step  # imports JAX, which only workers need

    return time_step(recipe, model)
