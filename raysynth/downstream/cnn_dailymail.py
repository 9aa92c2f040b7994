"""CNN/DailyMail: news articles to their highlights (Appendix D.2)."""

import hashlib
import re
from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Literal

from raysynth.downstream.files import check_copies, files_below, read_text, shown
from raysynth.downstream.formats import csv_rows, json_rows, line_rows, parquet_rows
from raysynth.downstream.rows import BadRow, Pair, Row, refuse
from raysynth.downstream.splits import SOURCE_TARGET_FORMATS, FileFormat, read_splits, source_target_record
from raysynth.errors import InputError
from raysynth.fields import Choice, choose, preset, spec


class LetterCase(StrEnum):
    """The case of the letters in sources and targets."""

    LOWER = "lower"
    AS_WRITTEN = "as_written"


@spec
class CNNDailyMail:
    """Sources `summarize: ARTICLE` and the article's highlights on one line as targets (Appendix D.2).

    Reads two kinds of files:

    - tables with the columns `article` and `highlights`, among others and in any order: `train.csv`, `train.jsonl`,
      `train.parquet`, or shards of them such as Hugging Face's `train-00000-of-00003.parquet`;
    - the `.story` files of the first release, either in one folder per split (`train/*.story`) or anywhere below the
      folder. In the latter case `all_{train,val,test}.txt` lists the address of each story, one per line, and a story's
      file name is the SHA-1 of its address.
    """

    letter_case: Choice[LetterCase, Literal["lower", "as_written"]] = preset(default=LetterCase.LOWER)
    """The example in Appendix D.2 is in lower case, like the data before their version 3.0.0."""

    def __post_init__(self) -> None:
        choose(self, "letter_case", LetterCase)

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Read the pairs of each split; see `raysynth.downstream.rows`."""
        listed = partial(_listed_stories, root=Path(location or "."))
        formats = [
            FileFormat("{}.csv", csv_rows, self._pair),
            FileFormat("{}.jsonl", json_rows, self._record_pair),
            FileFormat("{}.parquet", parquet_rows, self._pair),
            FileFormat("all_{}.txt", listed, self._pair),
            FileFormat("url_lists/all_{}.txt", listed, self._pair),
            FileFormat("{}/*.story", _story_rows, self._pair),
            *SOURCE_TARGET_FORMATS,
        ]
        return read_splits("cnndm", location, formats, bad_row)

    def _record_pair(self, row: Row) -> Pair:
        return source_target_record(row) if "source" in row.record else self._pair(row)

    def _pair(self, row: Row) -> Pair:
        # Line ends separate the highlights, but T5's vocabulary has no piece for them; Appendix D.2 shows spaces.
        source, target = (re.sub(r"[\t\r\n]+", " ", row.text(field)) for field in ("article", "highlights"))
        if self.letter_case is LetterCase.LOWER:
            source, target = source.lower(), target.lower()
        return Pair(f"summarize: {source}", target)


_SENTENCE_ENDS = (".", "!", "?", "'", "`", '"', "\u2019", "\u201d", ")")


def _story_rows(file: Path) -> Iterator[Row | InputError]:
    """The one row of a `.story` file: article and highlights, joined as in the tables.

    Captions and highlights that do not end like a sentence get a full stop after a space, to separate them from the
    text that follows.
    """
    try:
        text = read_text(file)
    except InputError as error:
        yield error
        return
    paragraphs = [line.strip() for line in text.split("\n") if line.strip()]
    article_end = next(
        (index for index, line in enumerate(paragraphs) if line.startswith("@highlight")), len(paragraphs)
    )
    sentences = [line if line.endswith(_SENTENCE_ENDS) else f"{line} ." for line in paragraphs]
    highlights = [line for line in sentences[article_end:] if not line.startswith("@highlight")]
    yield Row(shown(file), {"article": " ".join(sentences[:article_end]), "highlights": "\n".join(highlights)})


def _listed_stories(file: Path, *, root: Path) -> Iterator[Row | InputError]:
    """The stories whose addresses `file` lists; their files may be anywhere under `root`."""
    files = [file for file in files_below(root) if file.suffix == ".story"]
    check_copies(files)
    stories: dict[str, Path] = {}
    for story in files:
        if stories.setdefault(story.stem, story) != story:
            raise InputError(f"{shown(stories[story.stem])} and {shown(story)} have one name: remove one of them")
    for row in line_rows(file):
        if isinstance(row, InputError):
            yield row
            continue
        address = row.record.strip()
        digest = hashlib.sha1(address.encode()).hexdigest()
        if digest in stories:
            yield from _story_rows(stories[digest])
        else:
            yield row.error(f"{digest}.story, the story of {shown(address[:200])}, is not under {shown(root)}")
