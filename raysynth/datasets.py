"""Data as descriptions: synthetic tasks and text sources, vocabularies, and the data sets made of them."""

import dataclasses
from abc import abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from raysynth.corruption import SpanCorruption
from raysynth.errors import InputError
from raysynth.spec import choose, instance, share, spec, whole
from raysynth.tokens import T5_TOKENS, TokenSpace

if TYPE_CHECKING:
    from raysynth.files import BadRow, Pair
    from raysynth.ragged import Ragged


@spec
class SyntheticTask:
    """Examples that are made rather than collected (Appendices E and G); one subclass per task."""

    name: ClassVar[str]
    revision: ClassVar[int] = 1
    """Raised when the data that a seed gives change."""

    _owners: ClassVar[dict[str, type]] = {}
    """The class that first had each name."""

    tokens: TokenSpace = T5_TOKENS
    prefix: tuple[int, ...] = ()
    """Ids before every input. The paper's code wrote the task's name and <extra_id_0>; its appendix shows none."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if isinstance(vars(cls).get("name"), str):
            cls._owners.setdefault(cls.name, cls)

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

    def inputs(self) -> tuple[()]:
        return ()


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
        if isinstance(self.task, SyntheticTask):
            _check_class(type(self.task))
        whole(self, "num_examples", "num_validation", "shard_size")
        whole(self, "seed", minimum=0)

    @property
    def label(self) -> str:
        return f"{self.task.name}.seed{self.seed}"

    def inputs(self) -> tuple[()]:
        return ()


def _check_class(task: type[SyntheticTask]) -> None:
    """Raise `InputError` unless the class has a name of its own and all its fields are part of a description."""
    name = vars(task).get("name")
    if not isinstance(name, str | property):
        inherited = getattr(task, "name", None)
        raise InputError(
            f'{task.__name__}.name must be a text of the class\'s own, as in name: ClassVar[str] = "my_task"; '
            + (f"it inherits {inherited!r}" if isinstance(inherited, str) else "there is none")
        )
    owner = SyntheticTask._owners.get(name, task) if isinstance(name, str) else task
    if (owner.__module__, owner.__qualname__) != (task.__module__, task.__qualname__):
        raise InputError(
            f"{task.__name__}.name must be one that no other task has, got {name!r} of "
            f"{owner.__module__}.{owner.__qualname__}"
        )
    fields = {field.name for field in dataclasses.fields(task)}
    for cls in task.__mro__[: task.__mro__.index(SyntheticTask)]:
        own = {field for field, kind in vars(cls).get("__annotations__", {}).items() if "ClassVar" not in str(kind)}
        described = own if "__dataclass_fields__" in vars(cls) else set()
        if lost := sorted((own | (fields & vars(cls).keys())) - described):
            raise InputError(
                f"{cls.__name__}.{lost[0]} would not be part of the description: annotate every field and put "
                "@dataclass(frozen=True, kw_only=True) above the class"
            )
