"""Descriptions of recipes: how a model is trained, evaluated and selected."""

from dataclasses import field
from typing import Protocol

from raysynth.errors import InputError, unknown
from raysynth.fields import finite, instance, positive, share, spec, whole


@spec
class Constant:
    """The same learning rate at every step (fine-tuning, Appendix B)."""

    learning_rate: float = field(kw_only=False)

    def __post_init__(self) -> None:
        positive(self, "learning_rate")


@spec
class InverseSquareRoot:
    """The learning rate 1 / sqrt(max(step, warmup_steps)) (pre-training, Appendix A)."""

    warmup_steps: int = 10_000

    def __post_init__(self) -> None:
        whole(self, "warmup_steps")


Schedule = Constant | InverseSquareRoot
"""The learning rate at each step."""


class Selection(Protocol):
    """A rule that selects one of the evaluated steps of a run."""

    def choose(self, evaluations: dict[int, dict[str, float]]) -> int | None:
        """The selected step among those evaluated so far, or None."""

    def settled(self, evaluations: dict[int, dict[str, float]]) -> bool:
        """Whether later evaluations cannot change the selected step, so that training may end early."""


@spec
class Best:
    """The step with the highest metric, or the earliest of several."""

    metric: str = field(kw_only=False)

    def __post_init__(self) -> None:
        instance(self, "metric", str)

    def choose(self, evaluations: dict[int, dict[str, float]]) -> int | None:
        steps = sorted(evaluations)
        return max(steps, key=lambda step: evaluations[step][self.metric]) if steps else None

    def settled(self, evaluations: dict[int, dict[str, float]]) -> bool:
        return False


@spec
class FirstAbove:
    """The first step whose metric reaches a threshold, or else the step with the highest metric (Appendix A)."""

    metric: str = field(kw_only=False)
    threshold: float = field(kw_only=False)

    def __post_init__(self) -> None:
        instance(self, "metric", str)
        share(self, "threshold")

    def choose(self, evaluations: dict[int, dict[str, float]]) -> int | None:
        for step in sorted(evaluations):
            if evaluations[step][self.metric] >= self.threshold:
                return step
        return Best(self.metric).choose(evaluations)

    def settled(self, evaluations: dict[int, dict[str, float]]) -> bool:
        return any(evaluation[self.metric] >= self.threshold for evaluation in evaluations.values())


@spec
class AtStep:
    """A fixed step (CNNDM-10K at 50,000, Appendix B)."""

    step: int = field(kw_only=False)

    def __post_init__(self) -> None:
        whole(self, "step")

    def choose(self, evaluations: dict[int, dict[str, float]]) -> int | None:
        return self.step if self.step in evaluations else None

    def settled(self, evaluations: dict[int, dict[str, float]]) -> bool:
        return self.step in evaluations


MAX_STEPS = 2**31 - 1
"""A device counts steps in 32 bits."""


@spec
class Recipe:
    """The part of a recipe that pre-training and fine-tuning share."""

    num_steps: int
    eval_every: int
    """Number of steps between evaluations; each evaluation saves a checkpoint."""
    input_length: int
    """Largest number of ids of an input, including the end of sequence; longer ones are cut."""
    target_length: int
    """Largest number of ids of a target, including the end of sequence; longer ones are cut."""
    batch_size: int = 128
    num_eval_examples: int | None = None
    """Number of validation examples per evaluation; None takes all."""
    selection: Selection = Best("token_accuracy")
    """The rule that selects a checkpoint (Appendices A and B)."""
    dropout_rate: float = 0.1
    """0.1 in all configurations of the paper; dropout acts in the same places as in T5X's network."""
    z_loss: float = 1e-4
    """Weight of the term log(Z)^2 of the loss, which keeps the softmax's normalizer Z near 1. T5X's default, which the
    paper's fine-tuning kept. The loss is the sum over target tokens, not their mean, as in the paper's configurations
    (`loss_normalizing_factor = None`); a constant factor would not change Adafactor's updates."""
    label_smoothing: float = 0.0
    """Probability that moves from the right token to all others, defined as in T5X; 0 in the paper and in T5X."""

    def __post_init__(self) -> None:
        whole(self, "num_steps", "eval_every", "batch_size", maximum=MAX_STEPS)
        whole(self, "input_length", "target_length", minimum=2)
        instance(self, "selection", Best, FirstAbove, AtStep)
        if self.num_eval_examples is not None:
            whole(self, "num_eval_examples")
        share(self, "dropout_rate", "label_smoothing")
        finite(self, "z_loss", minimum=0)
        if 1 in (self.dropout_rate, self.label_smoothing):
            raise InputError(f"{type(self).__name__}: dropout_rate and label_smoothing must be below 1")
        owner, selection = type(self).__name__, self.selection
        if self.eval_every > self.num_steps:
            raise InputError(f"{owner}.eval_every must be at most num_steps ({self.num_steps}), got {self.eval_every}")
        if isinstance(selection, AtStep) and (selection.step > self.num_steps or selection.step % self.eval_every):
            raise InputError(
                f"{owner}.selection: AtStep must name a multiple of eval_every ({self.eval_every}) "
                f"up to num_steps ({self.num_steps}), got {selection.step}"
            )
        if isinstance(selection, Best | FirstAbove) and selection.metric not in self.selectable:
            raise unknown("selection metric", selection.metric, self.selectable)

    def evaluates(self, step: int) -> bool:
        """Whether a step is evaluated, unless the selection settles earlier."""
        return 0 < step <= self.num_steps and (step % self.eval_every == 0 or step == self.num_steps)

    @property
    def keep_steps(self) -> tuple[int, ...]:
        """Evaluated steps, in ascending order, whose checkpoints are kept beside the selected one."""
        return ()

    def finished(self, step: int, evaluations: dict[int, dict[str, float]]) -> bool:
        """Whether training may end at that step, because nothing that comes later is used."""
        return step >= max(self.keep_steps, default=0) and self.selection.settled(evaluations)

    @property
    def selectable(self) -> tuple[str, ...]:
        """The metrics that a selection rule may use."""
        return ("token_accuracy",)

    @property
    def schedule(self) -> Schedule:
        """The learning rate at each step."""
        raise NotImplementedError
