"""SQuAD 1.1: questions about paragraphs of Wikipedia to their answers (Appendix D.2)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysynth.downstream.rows import (
    SOURCE_TARGET_FORMATS,
    BadRow,
    FileFormat,
    Pair,
    Row,
    read_json,
    read_splits,
    refuse,
)
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
    document = read_json(file)
    text, position, line = file.read_text("utf-8"), 0, 1
    for number, article in enumerate(_items(Row(str(file), document), "data"), start=1):
        within = f"{file}, article {number}"
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
                # The JSON parser keeps no line numbers, so search the text for the question's id.
                start = text.find(json.dumps(question.get("id")), position)
                if start >= 0:
                    line += text.count("\n", position, start)
                    position = start
                place = f"{file}, line {line}, question {question.get('id', 'without id')}"
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
