"""Descriptions of vocabularies, text corpora and data sets."""

import dataclasses
from typing import ClassVar, Literal

from raysynth.downstream.rows import Split, TextSource
from raysynth.errors import InputError, brief
from raysynth.fields import Choice, check_name, choose, instance, preset, share, spec, whole
from raysynth.synthetic.base import SyntheticTask, check_task
from raysynth.tokens.span_corruption import SpanCorruption


@spec
class T5Vocabulary:
    """The public SentencePiece model of T5: 32,000 pieces, followed by 100 sentinels."""

    size: ClassVar[int] = 32_100
    """Number of ids: pieces and sentinels."""


@spec
class TrainedVocabulary:
    """A SentencePiece model that is trained on the training texts of its own data set."""

    num_pieces: int
    """Number of pieces, without the sentinels."""
    num_sentinels: int = 100

    def __post_init__(self) -> None:
        whole(self, "num_pieces", minimum=16)
        whole(self, "num_sentinels", minimum=4)

    @property
    def size(self) -> int:
        """Number of ids: pieces and sentinels."""
        return self.num_pieces + self.num_sentinels


@spec
class TextCorpus:
    """Text documents under T5's span corruption: the natural-language counterpart of a synthetic task (Wiki 10K)."""

    name: str
    num_documents: int | None = None
    """Number of documents to draw from the files; None takes all."""
    validation_share: float = 0.05
    """Share of the documents held out for validation, in [0, 1]; at least one document is."""
    vocabulary: T5Vocabulary | TrainedVocabulary = T5Vocabulary()
    objective: SpanCorruption = SpanCorruption()
    seed: int = 0
    """Draws the documents, and those that are held out."""

    prefix: ClassVar[tuple[int, ...]] = ()
    """Ids before every input: none."""

    def __post_init__(self) -> None:
        check_name("TextCorpus.name", self.name)
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
        """An upper bound of the ids in the examples."""
        return self.vocabulary.size - 1

    def tiny(self) -> "TextCorpus":
        """The same corpus cut into short segments, for `raysynth.specs.tiny`."""
        return dataclasses.replace(self, objective=dataclasses.replace(self.objective, input_length=24))


@spec
class TextDataset:
    """Artifact: the token ids of a downstream task's text pairs, and the vocabulary that encoded them."""

    name: str
    texts: TextSource
    """The reader of the task's files."""
    vocabulary: T5Vocabulary | TrainedVocabulary = T5Vocabulary()
    num_train: int | None = None
    """Number of training examples to draw; None takes all. Subsets of one seed are nested (Appendix F)."""
    num_validation: int | None = None
    num_test: int | None = None
    seed: int = 0
    """Draws the subsets."""
    num_held_out: int | None = None
    """Number of training examples to hold out if the files have no validation split; None refuses such files."""
    scored: Choice[Split, Literal["train", "validation", "test"]] = preset(default=Split.TEST)
    """The split that the selected checkpoint is scored on: VALIDATION if the test answers are not public."""

    kind: ClassVar[str] = "dataset"
    revision: ClassVar[int] = 2
    """Raised when the data that a seed gives change."""

    def __post_init__(self) -> None:
        check_name("TextDataset.name", self.name)
        try:
            hash(self.texts)
        except TypeError:
            raise InputError(
                f"TextDataset.texts must be a frozen dataclass of numbers, texts and tuples, got {brief(self.texts)}"
            ) from None
        instance(self, "vocabulary", T5Vocabulary, TrainedVocabulary)
        whole(self, "seed", minimum=0)
        for size in ("num_train", "num_validation", "num_test", "num_held_out"):
            if getattr(self, size) is not None:
                whole(self, size)
        choose(self, "scored", Split)
        if self.scored is Split.TRAIN:
            raise InputError("TextDataset.scored must be validation or test, got train")
        if self.scored is Split.VALIDATION and self.num_test is not None:
            raise InputError(
                f"TextDataset.num_test must be left out if the validation split is scored, got {self.num_test}"
            )

    @property
    def label(self) -> str:
        """The readable part of the artifact's name."""
        size = "" if self.num_train is None else f".{self.num_train}"
        return f"{self.name}{size}"

    def inputs(self) -> tuple[()]:
        """The artifacts that this one needs: none."""
        return ()


MAX_SHARD_SIZE = 10_000_000
"""A shard is drawn in memory."""
MAX_SHARDS = 100_000
"""The driver keeps 16 bytes of each example in memory."""


@spec
class Dataset:
    """Artifact: distinct examples of a synthetic task or a text corpus, as Parquet shards of token ids."""

    task: SyntheticTask | TextCorpus
    num_examples: int = 1_000_000
    num_validation: int = 10_000
    """Number of examples for validation; no input is in both splits."""
    seed: int = 0
    shard_size: int = 10_000
    """Rows drawn per shard. Shard i draws with the seed (seed, i), so a different size gives different data."""

    kind: ClassVar[str] = "dataset"
    revision: ClassVar[int] = 2
    """Raised when the data that a seed gives change."""

    def __post_init__(self) -> None:
        instance(self, "task", SyntheticTask, TextCorpus)
        if isinstance(self.task, SyntheticTask):
            check_task(self.task)
        whole(self, "num_examples", "num_validation", "shard_size")
        whole(self, "seed", minimum=0)
        if self.shard_size > MAX_SHARD_SIZE:
            raise InputError(f"Dataset.shard_size must be at most {MAX_SHARD_SIZE}, got {self.shard_size}")
        for field in ("num_examples", "num_validation"):
            if getattr(self, field) > MAX_SHARDS * self.shard_size:
                raise InputError(
                    f"Dataset.{field} must be at most {MAX_SHARDS * self.shard_size}, {MAX_SHARDS} shards of "
                    f"{self.shard_size} rows, got {getattr(self, field)}"
                )

    @property
    def label(self) -> str:
        """The readable part of the artifact's name."""
        return f"{self.task.name}.seed{self.seed}"

    def inputs(self) -> tuple[()]:
        """The artifacts that this one needs: none."""
        return ()
