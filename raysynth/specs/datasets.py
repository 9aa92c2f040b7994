"""Data as descriptions: synthetic tasks and text sources, vocabularies, and the data sets made of them."""

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from raysynth.downstream.rows import Split, TextSource
from raysynth.errors import InputError
from raysynth.fields import choose, instance, share, spec, whole
from raysynth.synthetic.base import SyntheticTask, check_class
from raysynth.tokens.span_corruption import SpanCorruption

if TYPE_CHECKING:
    pass


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
    revision: ClassVar[int] = 2
    """Raised when the data that a seed gives change."""

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
    revision: ClassVar[int] = 2
    """Raised when the data that a seed gives change."""

    def __post_init__(self) -> None:
        instance(self, "task", SyntheticTask, TextCorpus)
        if isinstance(self.task, SyntheticTask):
            check_class(type(self.task))
        whole(self, "num_examples", "num_validation", "shard_size")
        whole(self, "seed", minimum=0)

    @property
    def label(self) -> str:
        return f"{self.task.name}.seed{self.seed}"

    def inputs(self) -> tuple[()]:
        return ()
