"""Descriptions of the sources of init schemes: pre-trainings of our own, and weights that others published."""

import re
from dataclasses import field
from typing import ClassVar

from raysynth.errors import InputError, Named, brief
from raysynth.fields import instance, spec, whole
from raysynth.specs.datasets import Dataset
from raysynth.specs.models import T5_BASE, T5_SMALL, T5_V1_1_SMALL, T5Config
from raysynth.specs.recipes import Constant, FirstAbove, InverseSquareRoot, Recipe, Schedule, Selection


@spec
class Pretrain(Recipe):
    """Artifact: a model that was pre-trained on a synthetic data set or a text corpus (Appendix A)."""

    data: Dataset
    model: T5Config
    seed: int = 0
    """Draws the initial parameters, the order of examples and dropout."""
    num_steps: int = 80_000
    """The paper's script trained for 80,000 steps. Except for Dyck, it selected no checkpoint after step 30,000."""
    eval_every: int = 5_000
    num_eval_examples: int | None = 2_560
    """20 batches of 128 examples, as in the paper's configuration."""
    input_length: int = 512
    target_length: int = 512
    learning_rate: Schedule = InverseSquareRoot()
    selection: Selection = FirstAbove("token_accuracy", 0.99)
    z_loss: float = 0.0
    """0 in the paper's pre-training configuration; its fine-tuning kept T5X's 1e-4."""
    keep_steps: tuple[int, ...] = ()
    """Evaluated steps, in ascending order, whose checkpoints are kept beside the selected one, for `SourceAt`. Training
    goes on at least to the last of them."""

    kind: ClassVar[str] = "pretrain"
    revision: ClassVar[int] = 3
    """Raised when the results that a seed gives change."""

    def __post_init__(self) -> None:
        super().__post_init__()
        instance(self, "data", Dataset)
        instance(self, "model", T5Config)
        instance(self, "learning_rate", Constant, InverseSquareRoot)
        whole(self, "seed", minimum=0)
        self._check_keep_steps()
        largest = max(self.data.task.largest_id, *self.data.task.prefix, 0)
        if largest >= self.model.vocab_size:
            raise InputError(f"vocab_size must be above the task's largest id ({largest}), got {self.model.vocab_size}")

    def _check_keep_steps(self) -> None:
        """Raise `InputError` unless `keep_steps` are evaluated steps; they get their one order."""
        steps = self.keep_steps
        is_valid = isinstance(steps, tuple) and all(type(step) is int for step in steps)
        if not is_valid or len({*steps}) < len(steps) or not all(map(self.evaluates, steps)):
            raise InputError(
                f"Pretrain.keep_steps must be a tuple of different multiples of eval_every ({self.eval_every}) up to "
                f"num_steps ({self.num_steps}), or num_steps itself, got {brief(steps)}"
            )
        object.__setattr__(self, "keep_steps", tuple(sorted(steps)))

    @property
    def artifact(self) -> "Pretrain":
        """What a store holds of this source."""
        return self

    @property
    def schedule(self) -> Schedule:
        """The learning rate at each step."""
        return self.learning_rate

    @property
    def source_name(self) -> str:
        """The name of the task or corpus that the model was trained on."""
        return self.data.task.name

    @property
    def label(self) -> str:
        """The readable part of the artifact's name."""
        return f"{self.data.task.name}.seed{self.seed}"

    def inputs(self) -> tuple[Dataset]:
        """The artifacts that this one needs: its data set."""
        return (self.data,)


@spec
class Pretrained:
    """Artifact: the weights of a T5 that others pre-trained on text; `raysynth import` writes them to a store."""

    name: str = field(kw_only=False)
    model: T5Config

    kind: ClassVar[str] = "pretrained"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", self.name):
            raise InputError(
                "Pretrained.name must be at most 60 letters, digits, dots, hyphens and underscores, "
                f"got {brief(self.name)}"
            )
        instance(self, "model", T5Config)

    @property
    def source_name(self) -> str:
        """The name of the weights."""
        return self.name

    @property
    def label(self) -> str:
        """The readable part of the artifact's name."""
        return self.name

    @property
    def artifact(self) -> "Pretrained":
        """What a store holds of this source."""
        return self

    def inputs(self) -> tuple[()]:
        """The artifacts that this one needs: none."""
        return ()


@spec
class SourceAt:
    """A pre-training at one of its `keep_steps`, in place of the step that it selects.

    All steps of one `Pretrain` are one artifact: it is trained once, however many of them are used."""

    pretrain: Pretrain = field(kw_only=False)
    step: int

    def __post_init__(self) -> None:
        instance(self, "pretrain", Pretrain)
        if type(self.step) is not int or self.step not in self.pretrain.keep_steps:
            kept = ", ".join(map(str, self.pretrain.keep_steps)) or "none"
            raise InputError(
                f"SourceAt.step must be one of the pre-training's keep_steps ({kept}), got {brief(self.step)}"
            )

    @property
    def model(self) -> T5Config:
        """The shape of the model."""
        return self.pretrain.model

    @property
    def artifact(self) -> Pretrain:
        """What a store holds of this source."""
        return self.pretrain

    @property
    def source_name(self) -> str:
        """The name of the task or corpus, and the step."""
        return f"{self.pretrain.source_name}_step_{self.step}"


published_models: Named[T5Config] = Named(
    "pretrained model", {"t5-small": T5_SMALL, "t5-base": T5_BASE, "t5-v1_1-small": T5_V1_1_SMALL}
)
"""The shapes of the public checkpoints that `pretrained` knows, by the checkpoint's name."""


def pretrained(name: str, model: T5Config | None = None) -> Pretrained:
    """The public checkpoint of that name, or one of your own with the shape `model`.

    Raises `InputError` if there is no `model` and the name is not in `published_models`.
    """
    return Pretrained(name, model=published_models[name] if model is None else model)


Source = Pretrain | Pretrained | SourceAt
"""What an init scheme takes parameters from; each has a `model`, an `artifact` and a `source_name`."""
