"""Timing of training steps on the hosts that will train."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from raysynth.command_line import screen
from raysynth.data.batch_shape import SeenIn, foreseen_batch, local_data
from raysynth.data.layout import Shape
from raysynth.errors import WorkerError, first_line
from raysynth.report.cost import Speed, any_device, data_of, recipe_of, speed_file, speeds, step_flops
from raysynth.run.surroundings import compiled_programs
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import Artifact
from raysynth.specs.models import T5Config
from raysynth.specs.pretraining import Pretrain
from raysynth.specs.recipes import Recipe
from raysynth.store.store import State, Status, Store

if TYPE_CHECKING:
    from raysynth.run.deaths import Reader

ASSUMED = (
    "every row is full; compilation, evaluation, decoding and checkpoints come on top; trainings that run at once on a "
    "host may slow each other"
)
"""What all estimates from measured speeds take for granted."""


@dataclass(frozen=True, kw_only=True)
class _Timed:
    """What is timed for one file of speeds."""

    recipe: Recipe
    model: T5Config
    shape: Shape
    """Of the block that training will have."""
    seen_in: SeenIn
    """Where the lengths come from that give the shape."""

    def text(self, timed: Shape) -> str:
        """A block of such trainings in words."""
        block = f"{timed.rows} rows of {timed.input_width}/{timed.target_width}"
        return f"{self.recipe.batch_size} examples in {block}, width {self.model.emb_dim}"

    def speed(self, timing: dict[str, Any], timed: Shape) -> Speed:
        """The speed of a whole block, from the answer of `time_step` for a block of the same or fewer rows."""
        assumed = [f"lengths {self.seen_in}"] if self.seen_in in (SeenIn.PUBLIC, SeenIn.LIMITS) else []
        if timed.rows < self.shape.rows:
            assumed.append(f"{timed.rows} of {self.shape.rows} rows timed for lack of memory, and time grows with rows")
        scale = self.shape.rows / timed.rows
        return Speed(**{**timing, "seconds_per_step": timing["seconds_per_step"] * scale}, assumed="; ".join(assumed))


def measure(
    statuses: dict[Artifact, Status],
    store: Store,
    address: str | None,
    num_cpus: int = 1,
    memory_bytes: int | None = None,
    is_device: Callable[[str | None], bool] = any_device,
) -> None:
    """Time a few steps of each recipe, model and data whose speed is unknown, each in a process of its own.

    A process has `num_cpus` CPUs. Where memory ends, half the rows are timed, or a quarter and so on, and the time is
    scaled. `memory_bytes` bounds the memory of a step on a CPU; by default the host's free memory does.

    The timed block has the shape that training will have, or by `foreseen_batch` a likely one if its data are not made
    yet.

    Known are the speeds in records and of earlier measurements, if `is_device` is true for their device. The results
    go to the store. Does not start Ray if every speed is known. Raises `WorkerError` if a single row does not fit in
    memory.
    """
    shapes: dict[str, _Timed] = {}
    for (artifact, status), known in zip(statuses.items(), speeds(statuses, store, is_device).values(), strict=True):
        if not isinstance(artifact, Pretrain | Finetune):
            continue
        recipe, file = recipe_of(artifact), speed_file(artifact)
        if recipe is None or file is None or known is not None or status.state is State.DONE:
            continue
        if file not in shapes:
            batch = foreseen_batch(recipe, data_of(artifact), local_data(data_of(artifact), store))
            shapes[file] = _Timed(recipe=recipe, model=artifact.model, shape=batch.shape, seen_in=batch.seen_in)
    if not shapes:
        return
    import ray

    from raysynth.run.cluster import promised
    from raysynth.run.deaths import Reader
    from raysynth.run.execute import trial_resources
    from raysynth.run.session import logs, nodes, training_session

    largest = max(map(step_flops, statuses))
    with training_session(address, store, num_cpus, step_flops=largest):
        resources = trial_resources([*nodes(), *promised()], num_cpus)
        request: dict[str, Any] = {
            "num_cpus": resources.pop("CPU"),
            "num_gpus": resources.pop("GPU", 0),
            "resources": resources,
        }
        # A process ends after its call, so that no memory of one shape is left when the next one is timed.
        remote = ray.remote(max_calls=1, max_retries=0, **request)(_time_step)
        going = {remote.remote(shape, shape.shape, memory_bytes): (file, shape.shape) for file, shape in shapes.items()}
        reader, num_measured = Reader(logs()), 0
        while going:
            (ready,), _ = ray.wait(list(going), num_returns=1)
            file, timed = going.pop(ready)
            timing = _answer(ready, shapes[file].text(timed), reader)
            if timing is None:
                half = _half(shapes[file], timed)
                going[remote.remote(shapes[file], half, memory_bytes)] = file, half
                continue
            num_measured += 1
            speed = shapes[file].speed(timing, timed)
            store.write_json(file, {key: value for key, value in vars(speed).items() if value != ""})
            print(
                f"measured {num_measured} of {len(shapes)}: {speed.seconds_per_step:.3g} s a step of "
                f"{shapes[file].text(shapes[file].shape)}, on {speed.device}, threads: {speed.threads or 'all'}"
                + (f" ({speed.assumed})" if speed.assumed else ""),
                file=screen(),
            )
    print(f"assumed: {ASSUMED}", file=screen())


def _half(shape: _Timed, timed: Shape) -> Shape:
    """A block of half the rows; raises `WorkerError` if there is only one."""
    if timed.rows == 1:
        raise WorkerError(f"no time for {shape.text(timed)}: it does not fit in memory", "")
    half = replace(timed, rows=timed.rows // 2)
    print(f"no memory for {shape.text(timed)}; trying {half.rows} rows", file=screen())
    return half


def _answer(reference: Any, shape: str, reader: "Reader") -> dict[str, Any] | None:
    """The answer of a worker, or None if it had too little memory; raises `WorkerError` for what else ended it."""
    import ray

    try:
        answer: dict[str, Any] | None = ray.get(reference)
        return answer
    except ray.exceptions.RayTaskError as error:
        raise WorkerError.of(error.cause) from None
    except ray.exceptions.OutOfMemoryError:
        return None
    except ray.exceptions.RayError as error:
        death = reader(None)
        if "ran out of memory" in death.cause:
            return None
        raise WorkerError(f"no time for {shape}: {death.cause or first_line(error)}", death.log or str(error)) from None


def _time_step(timed: _Timed, shape: Shape, memory_bytes: int | None) -> dict[str, Any] | None:
    """Time a block of that shape; None if memory ends."""
    from raysynth.model.step import time_step  # imports JAX, which only workers need

    try:
        with compiled_programs():
            return time_step(timed.recipe, timed.model, shape, memory_bytes=memory_bytes)
    except MemoryError:
        return None
