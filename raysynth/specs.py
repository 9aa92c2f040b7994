"""Every description: what an artifact is, never where or when it is made.

Building a description runs nothing and imports neither JAX nor Ray. Equal descriptions are the same artifact: they
have one fingerprint, one directory and one result, whichever sweep asks.
"""

import dataclasses
import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from raysynth.corruption import SpanCorruption
from raysynth.errors import InputError, Named, unknown
from raysynth.spec import choose, instance, positive, share, spec, whole
from raysynth.tokens import T5_TOKENS, TokenSpace

if TYPE_CHECKING:
    from raysynth.files import BadRow, Pair
    from raysynth.ragged import Ragged

# -------------------------------------------------------------------------------- model


class Dtype(StrEnum):
    """The type of activations; parameters, softmax, norms and the loss are float32 always."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    DEVICE = "device"
    """bfloat16 on TPU and GPU, float32 on CPU."""


@spec
class T5Config:
    """The shape of a T5 encoder-decoder; field names as in T5X's network."""

    vocab_size: int = 32_128
    emb_dim: int = 512
    num_heads: int = 8
    head_dim: int = 64
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    mlp_dim: int = 2048
    mlp_activations: tuple[str, ...] = ("relu",)
    """("relu",) for T5 1.0; ("gelu", "linear") for the gated T5 1.1 (Appendix C)."""
    logits_via_embedding: bool = True
    """T5 1.0 shares the embedding with the output layer; 1.1 does not (Appendix C)."""
    num_buckets: int = 32
    max_distance: int = 128
    dtype: Dtype = Dtype.DEVICE

    def __post_init__(self) -> None:
        whole(self, "vocab_size", "emb_dim", "num_heads", "head_dim", "num_encoder_layers", "num_decoder_layers")
        whole(self, "mlp_dim", "num_buckets", "max_distance")
        for name in self.mlp_activations:
            if name not in ("relu", "gelu", "linear"):
                raise unknown("mlp_activations entry", name, ("relu", "gelu", "linear"))
        choose(self, "dtype", Dtype)


T5_SMALL = T5Config()
T5_BASE = T5Config(
    emb_dim=768, num_heads=12, num_encoder_layers=12, num_decoder_layers=12, mlp_dim=3072
)  # 220 M parameters, Appendix J
T5_V1_1_SMALL = T5Config(
    num_heads=6,
    num_encoder_layers=8,
    num_decoder_layers=8,
    mlp_dim=1024,
    mlp_activations=("gelu", "linear"),
    logits_via_embedding=False,
)


# -------------------------------------------------------------------------------- schedules and selection


@spec
class Constant:
    """The same learning rate at every step (fine-tuning, Appendix B)."""

    learning_rate: float = field(kw_only=False)

    def __post_init__(self) -> None:
        positive(self, "learning_rate")


@spec
class InverseSquareRoot:
    """1 / sqrt(max(step, warmup_steps)) (pre-training, Appendix A)."""

    warmup_steps: int = 10_000

    def __post_init__(self) -> None:
        whole(self, "warmup_steps")


Schedule = Constant | InverseSquareRoot


class Selection(Protocol):
    """Which evaluated step of a run counts."""

    def choose(self, evaluations: dict[int, dict[str, float]]) -> int | None:
        """The selected step among those evaluated so far, or None."""

    def settled(self, evaluations: dict[int, dict[str, float]]) -> bool:
        """Whether later evaluations cannot change the choice, so that training may end."""


@spec
class Best:
    """The step with the highest metric; the earlier one of equals."""

    metric: str = field(kw_only=False)

    def choose(self, evaluations: dict[int, dict[str, float]]) -> int | None:
        steps = sorted(evaluations)
        return max(steps, key=lambda step: evaluations[step][self.metric]) if steps else None

    def settled(self, evaluations: dict[int, dict[str, float]]) -> bool:
        return False


@spec
class FirstAbove:
    """The first step whose metric is at or above a threshold, else the best one (Appendix A)."""

    metric: str = field(kw_only=False)
    threshold: float = field(kw_only=False)

    def __post_init__(self) -> None:
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


# -------------------------------------------------------------------------------- tasks


@spec
class SyntheticTask:
    """Examples that are made rather than collected (Appendices E and G); one subclass per task."""

    name: ClassVar[str]
    revision: ClassVar[int] = 1
    """Raised when the data that a seed gives change."""

    tokens: TokenSpace = T5_TOKENS
    prefix: tuple[int, ...] = ()
    """Ids before every input. The paper's code wrote the task's name and <extra_id_0>; its appendix shows none."""

    @abstractmethod
    def sample(self, rng: Any, count: int) -> "Ragged":
        """`count` random inputs, without prefix and end of sequence; `rng` is a `numpy.random.Generator`."""

    def solve(self, sources: "Ragged") -> "Ragged":
        """The target of each input, without end of sequence; `InputError` where an input does not determine it."""
        raise InputError(f"{self.name}: an input does not determine its target; draw gives the two together")

    def draw(self, rng: Any, count: int) -> "tuple[Ragged, Ragged]":
        """`count` random (sources, targets), a function of the generator's state and `count` alone."""
        sources = self.sample(rng, count)
        return sources, self.solve(sources)

    def readable(self, source: Any, target: Any) -> tuple[str, str]:
        """One example, [length] ids each, as a person reads it."""
        return " ".join(map(str, source)), " ".join(map(str, target))

    def tiny(self) -> "SyntheticTask":
        """The same task with short inputs, for rehearsals."""
        return self

    @property
    def largest_id(self) -> int:
        """No id that the task writes is above this one."""
        return max(self.tokens.used)


class TextSource(Protocol):
    """Where the text pairs of a downstream task come from."""

    def read(self, location: str | None, bad_row: "BadRow") -> "dict[str, list[Pair]]":
        """The pairs of the splits ("train", "validation", "test") that are there.

        Raises `InputError` for missing or broken files; a row that cannot be read is handed to `bad_row`.
        """


class Split(StrEnum):
    """A part of a text data set."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@spec
class T5Vocabulary:
    """The public T5 SentencePiece model: 32,000 pieces and 100 sentinels above them."""

    size: ClassVar[int] = 32_100


@spec
class TrainedVocabulary:
    """A SentencePiece model trained on the training texts of the data set itself."""

    num_pieces: int
    """Pieces without the sentinels."""
    num_sentinels: int = 100

    def __post_init__(self) -> None:
        whole(self, "num_pieces", minimum=16)
        whole(self, "num_sentinels", minimum=4)

    @property
    def size(self) -> int:
        """Pieces and sentinels."""
        return self.num_pieces + self.num_sentinels


@spec
class TextCorpus:
    """Text documents under T5's span corruption: the natural counterpart of the synthetic tasks (Wiki 10K)."""

    name: str
    num_documents: int | None = None
    """Documents drawn from those at hand; None takes all."""
    validation_share: float = 0.05
    """Documents kept apart from training, at least one."""
    vocabulary: T5Vocabulary | TrainedVocabulary = T5Vocabulary()
    objective: SpanCorruption = SpanCorruption()
    seed: int = 0
    """Draws the documents and those kept apart."""

    prefix: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        if self.num_documents is not None:
            whole(self, "num_documents", minimum=2)
        share(self, "validation_share")
        whole(self, "seed", minimum=0)
        instance(self, "vocabulary", T5Vocabulary, TrainedVocabulary)
        instance(self, "objective", SpanCorruption)
        if self.objective.first_sentinel != self.vocabulary.size - 1:
            raise InputError(
                f"TextCorpus.objective: first_sentinel must be the vocabulary's last id ({self.vocabulary.size - 1}), "
                f"got {self.objective.first_sentinel}"
            )

    @property
    def largest_id(self) -> int:
        """No id of an example is above this one."""
        return self.vocabulary.size - 1

    def tiny(self) -> "TextCorpus":
        """The same documents in short segments."""
        return dataclasses.replace(self, objective=dataclasses.replace(self.objective, input_length=24))


@spec
class TextDataset:
    """Artifact: the token ids of a downstream task's text pairs, with the vocabulary that made them."""

    name: str
    texts: TextSource
    vocabulary: T5Vocabulary | TrainedVocabulary = T5Vocabulary()
    num_train: int | None = None
    """Size of the training subset; None takes all. Subsets of one seed are nested (Appendix F)."""
    num_validation: int | None = None
    num_test: int | None = None
    seed: int = 0
    """Draws the subsets."""
    num_held_out: int | None = None
    """Training examples that are the validation split where the files have none; None refuses such files."""
    scored: Split = Split.TEST
    """The split that the selected checkpoint is scored on. VALIDATION where the test answers are not to be had."""

    kind: ClassVar[str] = "dataset"

    def __post_init__(self) -> None:
        whole(self, "seed", minimum=0)
        for size in ("num_train", "num_validation", "num_test", "num_held_out"):
            if getattr(self, size) is not None:
                whole(self, size)
        choose(self, "scored", Split)
        if self.scored is Split.TRAIN:
            raise InputError("TextDataset.scored must be validation or test, got train")
        if self.scored is Split.VALIDATION and self.num_test is not None:
            raise InputError(
                f"TextDataset.num_test must be left out where the validation split is scored, got {self.num_test}"
            )

    @property
    def label(self) -> str:
        size = "" if self.num_train is None else f".{self.num_train}"
        return f"{self.name}{size}"

    def inputs(self) -> "tuple[Artifact, ...]":
        return ()


@spec
class Recipe:
    """How a model is trained, evaluated and selected; what pre-training and fine-tuning share."""

    num_steps: int
    eval_every: int
    """Steps between evaluations, each of which saves a checkpoint."""
    input_length: int
    """Longer inputs are cut to this many ids, end of sequence included."""
    target_length: int
    batch_size: int = 128
    num_eval_examples: int | None = None
    """Validation examples per evaluation; None takes all."""
    selection: Selection = Best("token_accuracy")
    """Which evaluated step counts (Appendices A and B)."""
    dropout_rate: float = 0.1
    """In every configuration of the paper, pre-training and fine-tuning alike; it acts where T5X's network has it."""
    z_loss: float = 1e-4
    """Weight of log(Z)^2, which keeps the softmax's normalizer near 1: T5X's base value, kept by the paper's
    fine-tuning. The loss is the sum over target tokens, not their mean, as in the paper's configurations
    (`loss_normalizing_factor = None`); Adafactor's updates do not depend on a constant factor."""
    label_smoothing: float = 0.0
    """Probability moved from the right token to all others, as T5X counts it; 0 throughout the paper and T5X."""

    def __post_init__(self) -> None:
        whole(self, "num_steps", "eval_every", "batch_size")
        whole(self, "input_length", "target_length", minimum=2)
        instance(self, "selection", Best, FirstAbove, AtStep)
        if self.num_eval_examples is not None:
            whole(self, "num_eval_examples")
        share(self, "dropout_rate", "label_smoothing")
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

    @property
    def selectable(self) -> tuple[str, ...]:
        """The metrics that a selection rule may go by."""
        return ("token_accuracy",)

    @property
    def schedule(self) -> Schedule:
        """The learning rate at each step."""
        raise NotImplementedError


METRICS = (
    "token_accuracy",
    "exact_match",
    "token_f1",
    "squad_exact_match",
    "squad_f1",
    "rouge1",
    "canonical_smiles_match",
)
"""Metrics of a downstream task; `token_accuracy` is teacher-forced, the others score decoded text."""


@spec
class DownstreamTask(Recipe):
    """A downstream task with its recipe: data, lengths, steps, metrics and selection rule (Appendices B and D)."""

    name: str
    data: TextDataset
    learning_rate: float
    """Constant during fine-tuning (Appendix B)."""
    decode_length: int
    metrics: tuple[str, ...] = ("exact_match", "token_accuracy")
    """Of the selected checkpoint on the test split; the first one heads the tables."""
    num_beams: int = 4
    """Beams of the search that decodes for evaluation, as in the paper's fine-tuning configuration; 1 is greedy."""
    length_penalty: float = 0.6
    """The exponent alpha that a finished beam's score is normalized with: T5X's default, which the paper kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        instance(self, "data", TextDataset)
        positive(self, "learning_rate")
        whole(self, "decode_length", minimum=2)
        whole(self, "num_beams")
        for metric in self.metrics:
            if metric not in METRICS:
                raise unknown("metric", metric, METRICS)

    @property
    def selectable(self) -> tuple[str, ...]:
        """The metrics that a selection rule may go by; those of decoded text have the validation split decoded."""
        return ("token_accuracy", *(metric for metric in self.metrics if metric != "token_accuracy"))

    @property
    def schedule(self) -> Schedule:
        return Constant(self.learning_rate)


# -------------------------------------------------------------------------------- artifacts


@spec
class Dataset:
    """Artifact: distinct examples of a synthetic task or a text corpus in Parquet shards of token ids."""

    task: SyntheticTask | TextCorpus
    num_examples: int = 1_000_000
    num_validation: int = 10_000
    """Examples kept apart from training; no input is in both."""
    seed: int = 0
    shard_size: int = 10_000
    """Rows drawn per shard; shard i draws from (seed, i), so it is part of what the data are."""

    kind: ClassVar[str] = "dataset"

    def __post_init__(self) -> None:
        instance(self, "task", SyntheticTask, TextCorpus)
        whole(self, "num_examples", "num_validation", "shard_size")
        whole(self, "seed", minimum=0)

    @property
    def label(self) -> str:
        return f"{self.task.name}.seed{self.seed}"

    def inputs(self) -> "tuple[Artifact, ...]":
        return ()


@spec
class Pretrain(Recipe):
    """Artifact: a model pre-trained on a synthetic data set (Appendix A)."""

    data: Dataset
    model: T5Config
    seed: int = 0
    num_steps: int = 80_000
    """The paper's script trained for 80,000 steps; outside Dyck its latest chosen checkpoint was at 30,000."""
    eval_every: int = 5_000
    num_eval_examples: int | None = 2_560
    """20 batches of 128, as in the paper's configuration."""
    input_length: int = 512
    target_length: int = 512
    learning_rate: Schedule = InverseSquareRoot()
    selection: Selection = FirstAbove("token_accuracy", 0.99)
    z_loss: float = 0.0
    """The paper's pre-training configuration set it to zero; its fine-tuning kept T5X's 1e-4."""

    kind: ClassVar[str] = "pretrain"

    def __post_init__(self) -> None:
        super().__post_init__()
        instance(self, "data", Dataset)
        instance(self, "model", T5Config)
        instance(self, "learning_rate", Constant, InverseSquareRoot)
        whole(self, "seed", minimum=0)
        top = self.data.task.largest_id
        if top >= self.model.vocab_size:
            raise InputError(f"vocab_size must be above the task's largest id ({top}), got {self.model.vocab_size}")

    @property
    def schedule(self) -> Schedule:
        return self.learning_rate

    @property
    def source_name(self) -> str:
        """What the model learnt from, in one word."""
        return self.data.task.name

    @property
    def label(self) -> str:
        return f"{self.data.task.name}.seed{self.seed}"

    def inputs(self) -> "tuple[Artifact, ...]":
        return (self.data,)


@spec
class Pretrained:
    """Artifact: the weights of a T5 that others pre-trained on text; `raysynth import` brings it into a store."""

    name: str = field(kw_only=False)
    model: T5Config

    kind: ClassVar[str] = "pretrained"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", self.name):
            raise InputError(
                f"Pretrained.name must be at most 60 letters, digits, dots, hyphens and underscores, got {self.name!r}"
            )

    @property
    def source_name(self) -> str:
        """What the model learnt from, in one word."""
        return self.name

    @property
    def label(self) -> str:
        return self.name

    def inputs(self) -> "tuple[Artifact, ...]":
        return ()


published_models: Named[T5Config] = Named(
    "pretrained model", {"t5-small": T5_SMALL, "t5-base": T5_BASE, "t5-v1_1-small": T5_V1_1_SMALL}
)
"""The shapes of the public checkpoints that `pretrained` knows, by name."""


def pretrained(name: str, model: T5Config | None = None) -> Pretrained:
    """The public checkpoint of that name, or one of your own with the shape of `model`.

    Raises `InputError` for a name that is not public and comes without a shape.
    """
    return Pretrained(name, model=published_models[name] if model is None else model)


class GroupBy(StrEnum):
    """Which parameters share one statistic."""

    PARAMETER = "parameter"
    TYPE = "type"
    LAYER = "layer"
    MODEL = "model"


class Statistic(StrEnum):
    """What is taken over from the source's parameters."""

    MEAN_SD = "mean_sd"
    """Every parameter is drawn from a normal distribution with the group's mean and standard deviation."""
    SCALE = "scale"
    """Layer norms are the group's mean; the others are drawn from a normal distribution around zero with its SD."""


class Family(StrEnum):
    """Where in the model a scheme acts; the rest stays random."""

    ALL = "all"
    PRE_ATTENTION_LAYER_NORM = "pre_attention_layer_norm"
    """Encoder pre-attention, decoder pre-self-attention and pre-cross-attention norms."""
    ATTENTION = "attention"
    PRE_MLP_LAYER_NORM = "pre_mlp_layer_norm"
    MLP = "mlp"


class Embeddings(StrEnum):
    """What full initialization does with the token embedding (and, for T5 1.1, the output layer)."""

    RANDOM = "random"
    SOURCE = "source"


Source = Pretrain | Pretrained
"""Where an init scheme takes parameters from; either has a `model` and a `source_name`."""


@spec
class RandomInit:
    """Every parameter drawn from T5X's initial distribution."""

    model: T5Config = field(kw_only=False)

    name: ClassVar[str] = "random"
    sources: ClassVar[tuple[Source, ...]] = ()

    def __post_init__(self) -> None:
        instance(self, "model", T5Config)


@spec
class FullInit:
    """Every parameter taken from the source's selected checkpoint; step count and optimizer start afresh."""

    source: Source = field(kw_only=False)
    embeddings: Embeddings | None = field(default=None, metadata={"left_out": Embeddings.RANDOM})
    """None becomes RANDOM for synthetic sources, as in the authors' main tables, and SOURCE for pre-training on text,
    whose tokens are those of the task."""

    def __post_init__(self) -> None:
        instance(self, "source", Pretrain, Pretrained)
        if self.embeddings is None:
            natural = isinstance(self.source, Pretrained) or isinstance(self.source.data.task, TextCorpus)
            object.__setattr__(self, "embeddings", Embeddings.SOURCE if natural else Embeddings.RANDOM)
        choose(self, "embeddings", Embeddings)

    @property
    def model(self) -> T5Config:
        return self.source.model

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.source,)

    @property
    def name(self) -> str:
        return "full" if self.embeddings is Embeddings.RANDOM else "full_with_embeddings"


@spec
class StatisticInit:
    """Parameters drawn anew from statistics of the source's (Sections 5.1, 5.2 and Appendix H)."""

    source: Source = field(kw_only=False)
    group_by: GroupBy
    statistic: Statistic
    where: Family = Family.ALL
    onto: T5Config | None = None
    """The model that is initialized where it has another size than the source; None is the source's own.

    Means and SDs cross as they are, whatever the widths. By layer and by parameter, a layer takes those of the source's
    layer at the same relative depth (`parameters.counterpart`)."""

    def __post_init__(self) -> None:
        instance(self, "source", Pretrain, Pretrained)
        choose(self, "group_by", GroupBy)
        choose(self, "statistic", Statistic)
        choose(self, "where", Family)
        if self.onto is None:
            return
        instance(self, "onto", T5Config)
        factors, wanted = (len(model.mlp_activations) for model in (self.onto, self.source.model))
        if self.group_by is GroupBy.PARAMETER and self.where in (Family.ALL, Family.MLP) and factors != wanted:
            raise InputError(
                f"StatisticInit.onto must have as many mlp_activations as the source's model ({wanted}) where group_by "
                f"is parameter, got {factors}"
            )
        if self.onto == self.source.model:
            object.__setattr__(self, "onto", None)

    @property
    def model(self) -> T5Config:
        return self.source.model if self.onto is None else self.onto

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.source,)

    @property
    def name(self) -> str:
        group = {"parameter": "per_param", "type": "across_layers", "layer": "per_layer", "model": "whole_model"}
        where = "" if self.where is Family.ALL else f"{self.where}_"
        onto = "" if self.onto is None else f"_onto_{self.onto.emb_dim}x{self.onto.num_encoder_layers}"
        return f"{where}{group[self.group_by]}_{self.statistic}{onto}"


@spec
class ConstantInit:
    """One family of parameters set to a constant, the rest random (Table 8)."""

    model: T5Config = field(kw_only=False)
    where: Family
    value: float

    def __post_init__(self) -> None:
        instance(self, "model", T5Config)
        choose(self, "where", Family)
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or abs(self.value) == float("inf"):
            raise InputError(f"ConstantInit.value must be a finite number, got {self.value!r}")

    sources: ClassVar[tuple[Source, ...]] = ()

    @property
    def name(self) -> str:
        return f"{self.where}_{self.value:g}"


@spec
class ComposedInit:
    """Several schemes on one model, in order: where two set the same parameter, the later one counts."""

    schemes: tuple[FullInit | StatisticInit | ConstantInit, ...]
    """Each may have a source of its own."""

    def __post_init__(self) -> None:
        if not isinstance(self.schemes, tuple) or len(self.schemes) < 2:
            raise InputError(f"ComposedInit.schemes must be a tuple of at least two schemes, got {self.schemes!r:.80}")
        for scheme in self.schemes:
            if not isinstance(scheme, FullInit | StatisticInit | ConstantInit):
                raise InputError(
                    f"ComposedInit.schemes must be FullInit, StatisticInit or ConstantInit, got {scheme!r:.80}"
                )
            if scheme.model != self.model:
                raise InputError(f"ComposedInit.schemes must have one model, got {self.model} and {scheme.model}")

    @property
    def model(self) -> T5Config:
        return self.schemes[0].model

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(dict.fromkeys(source for scheme in self.schemes for source in scheme.sources))

    @property
    def name(self) -> str:
        names = [scheme.name for scheme in self.schemes]
        return "_then_".join(names) if len(names) == 2 else f"{len(names)}_schemes"


InitScheme = RandomInit | FullInit | StatisticInit | ConstantInit | ComposedInit


@spec
class Finetune:
    """Artifact: a model initialized by a scheme and trained on a downstream task, with its test metrics."""

    task: DownstreamTask
    init: InitScheme
    seed: int = 0
    """Draws the random initial parameters, the scheme's draws, the order of examples and dropout."""

    kind: ClassVar[str] = "finetune"

    def __post_init__(self) -> None:
        instance(self, "task", DownstreamTask)
        instance(self, "init", RandomInit, FullInit, StatisticInit, ConstantInit, ComposedInit)
        whole(self, "seed", minimum=0)
        vocabulary = self.task.data.vocabulary
        size = vocabulary.size
        if size > self.model.vocab_size:
            raise InputError(
                f"vocab_size must be at least that of the task's vocabulary ({size}), got {self.model.vocab_size}"
            )

    @property
    def model(self) -> T5Config:
        return self.init.model

    @property
    def label(self) -> str:
        sources = "".join(f"{source.source_name}." for source in self.init.sources)
        return f"{self.task.name}.{sources}{self.init.name}.lr{self.task.learning_rate:g}.seed{self.seed}"

    def inputs(self) -> "tuple[Artifact, ...]":
        return (self.task.data, *self.init.sources)


Artifact = Dataset | TextDataset | Pretrain | Pretrained | Finetune


# -------------------------------------------------------------------------------- identity


def describe(value: Any) -> Any:
    """The description as JSON values, with fields that hold their default left out.

    A default that `__post_init__` makes from other fields says in its metadata which value is "left_out".
    A new field with a default therefore leaves old fingerprints as they are; a change of meaning raises the class's
    `revision`.
    """
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        told: dict[str, Any] = {"is": value.name if isinstance(value, SyntheticTask) else type(value).__name__}
        if getattr(value, "revision", 1) != 1:
            told["revision"] = value.revision
        for entry in dataclasses.fields(value):
            current = getattr(value, entry.name)
            default = entry.metadata.get("left_out", entry.default)
            if default is dataclasses.MISSING or current != default:
                told[entry.name] = describe(current)
        return told
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 1 and 1.0 compare equal, so they must read the same
    if value is None or isinstance(value, str | int | float):
        return value
    raise InputError(f"a description may hold numbers, text, tuples and descriptions, got {value!r}")


def fingerprint(artifact: Artifact) -> str:
    """Eight hex digits of the description's SHA-256."""
    text = json.dumps(describe(artifact), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def name(artifact: Artifact) -> str:
    """The artifact's readable, unique path within a store, such as `finetune/mtop.lime.full.lr0.001.seed0-3fa9c1d2`."""
    return f"{artifact.kind}/{artifact.label}-{fingerprint(artifact)}"


def in_order(artifacts: "Iterator[Artifact] | list[Artifact]") -> list[Artifact]:
    """All artifacts and their inputs, each once, inputs before what needs them."""
    ordered: dict[Artifact, None] = {}

    def visit(artifact: Artifact) -> None:
        for needed in artifact.inputs():
            visit(needed)
        ordered.setdefault(artifact)

    for artifact in artifacts:
        visit(artifact)
    return list(ordered)


# -------------------------------------------------------------------------------- tiny


def tiny(artifact: Finetune) -> Finetune:
    """The same fine-tuning with a tiny model, few steps and little data, for rehearsals and tests.

    What starts from a `Pretrained` keeps its model whole: a smaller one would have no weights to start from.
    """
    task = artifact.task
    vocabulary = task.data.vocabulary
    data = dataclasses.replace(
        task.data,
        num_train=256 if isinstance(vocabulary, TrainedVocabulary) else 64,
        num_validation=32,
        num_test=32 if task.data.scored is Split.TEST else None,
        vocabulary=dataclasses.replace(vocabulary, num_pieces=min(vocabulary.num_pieces, 192))
        if isinstance(vocabulary, TrainedVocabulary)
        else vocabulary,
    )
    task = dataclasses.replace(
        task,
        data=data,
        batch_size=8,
        input_length=24,
        target_length=24,
        decode_length=24,
        num_beams=1,
        num_steps=_TINY_STEPS,
        eval_every=_TINY_STEPS // 2,
        selection=AtStep(_TINY_STEPS) if isinstance(task.selection, AtStep) else task.selection,
    )
    return Finetune(task=task, init=_tiny_init(artifact.init), seed=artifact.seed)


_TINY_STEPS = 8


def _tiny_init(init: InitScheme) -> InitScheme:
    schemes = init.schemes if isinstance(init, ComposedInit) else (init,)
    if any(isinstance(source, Pretrained) for source in init.sources):
        model = init.model
    elif any(isinstance(scheme, StatisticInit) and scheme.onto is not None for scheme in schemes):
        model = dataclasses.replace(_tiny_model(init.model), num_encoder_layers=2, num_decoder_layers=2)
    else:
        model = _tiny_model(init.model)
    told = tuple(_tiny_scheme(scheme, model) for scheme in schemes)
    return ComposedInit(schemes=told) if isinstance(init, ComposedInit) else told[0]


def _tiny_scheme(scheme: InitScheme, model: T5Config) -> InitScheme:
    """The scheme with a tiny source, on a model that is tiny unless a `Pretrained` keeps it whole."""
    if isinstance(scheme, RandomInit | ConstantInit):
        return dataclasses.replace(scheme, model=model)
    if isinstance(scheme, StatisticInit) and scheme.onto is not None:
        source = _tiny_source(scheme.source, _tiny_model(scheme.source.model))
        return dataclasses.replace(scheme, source=source, onto=model)
    return dataclasses.replace(scheme, source=_tiny_source(scheme.source, model))


def _tiny_source(source: Source, model: T5Config) -> Source:
    if isinstance(source, Pretrained):
        return source
    data = dataclasses.replace(
        source.data, task=source.data.task.tiny(), num_examples=512, num_validation=64, shard_size=256
    )
    return dataclasses.replace(
        source,
        data=data,
        model=model,
        batch_size=8,
        input_length=24,
        target_length=24,
        num_eval_examples=64,
        num_steps=_TINY_STEPS,
        eval_every=_TINY_STEPS // 2,
        selection=Best("token_accuracy"),
    )


def _tiny_model(model: T5Config) -> T5Config:
    return dataclasses.replace(
        model, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1, mlp_dim=32
    )
