"""Seconds per training step, timed on the hosts that will train."""

import sys
from typing import Any

from raysynth.report.cost import recipe_of, speed_file, speeds
from raysynth.specs.identity import Artifact
from raysynth.specs.models import T5Config
from raysynth.specs.recipes import Recipe
from raysynth.store.store import State, Status, Store


def measure(statuses: dict[Artifact, Status], store: Store, address: str | None) -> None:
    """Time a few steps of each shape that no record or earlier measurement tells, each on one worker."""
    shapes: dict[str, tuple[Recipe, T5Config]] = {}
    for (artifact, status), speed in zip(statuses.items(), speeds(statuses, store).values(), strict=True):
        recipe, file = recipe_of(artifact), speed_file(artifact)
        if recipe is not None and file is not None and speed is None and status.state is not State.DONE:
            shapes[file] = recipe, artifact.model
    if not shapes:
        return
    import ray

    from raysynth.run.execute import trial_resources
    from raysynth.run.session import training_session

    with training_session(address, store):
        resources = trial_resources(ray.nodes())
        given = {"num_cpus": resources.pop("CPU"), "num_gpus": resources.pop("GPU", 0), "resources": resources}
        timed = {
            file: ray.remote(_time_step).options(**given).remote(recipe, model)
            for file, (recipe, model) in shapes.items()
        }
        for number, (file, answer) in enumerate(timed.items(), start=1):
            told = ray.get(answer)
            store.write_json(file, told)
            recipe, model = shapes[file]
            print(
                f"measured {number} of {len(timed)}: {told['seconds_per_step']:.3g} s a step of {recipe.batch_size} x "
                f"{recipe.input_length}/{recipe.target_length}, width {model.emb_dim}, on {told['device']}",
                file=sys.stderr,
            )


def _time_step(recipe: Recipe, model: T5Config) -> dict[str, Any]:
    from raysynth.model.step import time_step  # JAX is imported where steps are made

    return time_step(recipe, model)
