"""SQuAD 1.1: questions about paragraphs of Wikipedia to their answers (Appendix D.2)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysynth.downstream.files import shown
from raysynth.downstream.formats import read_json
from raysynth.downstream.rows import BadRow, Pair, Row, refuse
from raysynth.downstream.splits import SOURCE_TARGET_FORMATS, FileFormat, read_splits
from raysynth.errors import InputError
from raysynth.fields import spec


@spec
class SQuAD:
    """Sources `question: QUESTION context: PARAGRAPH` and answers as targets (Appendix D.2).

    Reads the official files `train-v1.1.json` and `dev-v1.1.json`; the official test split is not public. The target
    is the first annotator's answer, and the references are the answers of all annotators.
    """

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Read the pairs of each split; see `raysynth.downstream.rows`."""
        formats = [FileFormat("{}-v1.1.json", _question_rows, _pair), *SOURCE_TARGET_FORMATS]
        return read_splits("squad", location, formats, bad_row)


def _question_rows(file: Path) -> Iterator[Row | InputError]:
    """The questions of a file, each as a record with the `context` of its paragraph."""
    document, text = read_json(file)
    position, line, name = 0, 1, shown(file)
    for number, article in enumerate(_items(Row(name, document), "data"), start=1):
        within = f"{name}, article {number}"
        paragraphs = [article] if isinstance(article, InputError) else _items(Row(within, article), "paragraphs")
        for paragraph in paragraphs:
            if isinstance(paragraph, InputError):
                yield paragraph
                continue
            for question in _items(Row(within, paragraph), "qas"):
                if isinstance(question, InputError):
                    yield question
                    continue
                if not isinstance(question, dict):
                    yield InputError(f"{within}: not a question")
                    continue
                identity = question.get("id")
                if isinstance(identity, str) and position >= 0:
                    # The JSON parser keeps no line numbers, so search the text for the question's id.
                    start = text.find(json.dumps(identity), position)
                    line += text.count("\n", position, max(start, position))
                    position = start  # from the first id that is written in another way on, places have no lines
                place = f"{name}, line {line}" if position >= 0 else within
                place = f"{place}, question {shown(identity[:200]) if isinstance(identity, str) else 'without id'}"
                yield Row(place, {"context": paragraph.get("context"), **question})


def _items(row: Row, field: str) -> Iterator[Any]:
    """The items of a list in a record, or one error if the field holds no list."""
    value = row.record.get(field) if isinstance(row.record, dict) else None
    if isinstance(value, list):
        yield from value
    else:
        yield row.error(f"field {field!r} must be a list")


def _pair(row: Row) -> Pair:
    question, context = row.text("question"), row.text("context")
    answers = row.record.get("answers")
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, dict) for answer in answers):
        raise row.error("field 'answers' must hold at least one answer")
    references = tuple(Row(row.place, answer).text("text") for answer in answers)
    return Pair(f"question: {question} context: {context}", references[0], references)
