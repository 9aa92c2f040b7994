"""CNN/DailyMail: news articles to their highlights (Appendix D.2)."""

import hashlib
import re
from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path

from raysynth.downstream.rows import (
    READY,
    BadRow,
    Form,
    Pair,
    Row,
    comma_separated,
    json_lines,
    lines,
    parquet,
    read_splits,
    ready_record,
    refuse,
)
from raysynth.errors import InputError
from raysynth.fields import choose, spec


class LetterCase(StrEnum):
    """What becomes of capital letters."""

    LOWER = "lower"
    AS_WRITTEN = "as_written"


@spec
class CNNDailyMail:
    """News articles and their highlights, as `summarize: ARTICLE` and the highlights in one line (Appendix D.2).

    Read are tables with the columns `article` and `highlights` among others in any order (`train.csv`, or Hugging
    Face's `train-*.parquet`), and the first release's `.story` files, in folders named after the splits or listed by
    the SHA-1 of their addresses in `all_{train,val,test}.txt`.
    """

    letter_case: LetterCase = LetterCase.LOWER
    """D.2's example is in lower case, as the data were before their version 3.0.0."""

    def __post_init__(self) -> None:
        choose(self, "letter_case", LetterCase)

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Pairs by split; see the module."""
        listed = partial(_listed_stories, root=Path(location or "."))
        forms = [
            Form("{}.csv", comma_separated, self._pair),
            Form("{}.jsonl", json_lines, lambda row: ready_record(row) if "source" in row.record else self._pair(row)),
            Form("{}*.parquet", parquet, self._pair),
            Form("all_{}.txt", listed, self._pair),
            Form("url_lists/all_{}.txt", listed, self._pair),
            Form("{}/*.story", _story, self._pair),
            *READY,
        ]
        return read_splits("cnndm", location, forms, bad_row)

    def _pair(self, row: Row) -> Pair:
        # The highlights are apart by line ends, which T5's vocabulary has no piece for; D.2 shows spaces.
        source, target = (re.sub(r"[\t\r\n]+", " ", row.text(field)) for field in ("article", "highlights"))
        if self.letter_case is LetterCase.LOWER:
            source, target = source.lower(), target.lower()
        return Pair(f"summarize: {source}", target)


_SENTENCE_ENDS = (".", "!", "?", "'", "`", '"', "\u2019", "\u201d", ")")


def _story(file: Path) -> Iterator[Row | InputError]:
    """The article and highlights of a `.story` file, joined as the tables have them.

    Captions and highlights without a full stop get one after a space, so that they do not run into what follows.
    """
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        yield InputError(f"{file} cannot be read: {error.strerror}")
        return
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        yield InputError(f"{file}, line {line}: not UTF-8 at byte {error.start + 1} of the file")
        return
    paragraphs = [line.strip() for line in text.split("\n") if line.strip()]
    first = next((place for place, line in enumerate(paragraphs) if line.startswith("@highlight")), len(paragraphs))
    ended = [line if line.endswith(_SENTENCE_ENDS) else f"{line} ." for line in paragraphs]
    highlights = [line for line in ended[first:] if not line.startswith("@highlight")]
    yield Row(str(file), {"article": " ".join(ended[:first]), "highlights": "\n".join(highlights)})


def _listed_stories(file: Path, *, root: Path) -> Iterator[Row | InputError]:
    """The stories whose addresses a list names, wherever under `root` they are."""
    stories = {story.stem: story for story in root.rglob("*.story")}
    for row in lines(file):
        if isinstance(row, InputError):
            yield row
            continue
        digest = hashlib.sha1(row.record.strip().encode()).hexdigest()
        if digest in stories:
            yield from _story(stories[digest])
        else:
            yield row.error(f"{digest}.story, the story of {row.record.strip()}, is not under {root}")
