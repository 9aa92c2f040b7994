"""SQuAD 1.1: questions on paragraphs of Wikipedia to their answers (Appendix D.2)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysynth.downstream.rows import READY, BadRow, Form, Pair, Row, json_document, read_splits, refuse
from raysynth.errors import InputError
from raysynth.fields import spec


@spec
class SQuAD:
    """Questions on paragraphs of Wikipedia, as `question: QUESTION context: PARAGRAPH`, and the answer (Appendix D.2).

    Read are the official `train-v1.1.json` and `dev-v1.1.json`. The target is the first of several annotators' answers,
    the references are all of them. The official test split is not public.
    """

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Pairs by split; see the module."""
        forms = [Form("{}-v1.1.json", _squad_questions, _squad_pair), *READY]
        return read_splits("squad", location, forms, bad_row)


def _squad_questions(file: Path) -> Iterator[Row | InputError]:
    document = json_document(file)
    text, position, line = file.read_text("utf-8"), 0, 1

    def items(row: Row, field: str) -> Iterator[Any]:
        value = row.record.get(field) if isinstance(row.record, dict) else None
        if isinstance(value, list):
            yield from value
        else:
            yield row.error(f"field {field!r} must be a list")

    for number, article in enumerate(items(Row(str(file), document), "data"), start=1):
        within = f"{file}, article {number}"
        for paragraph in [article] if isinstance(article, InputError) else items(Row(within, article), "paragraphs"):
            for question in [paragraph] if isinstance(paragraph, InputError) else items(Row(within, paragraph), "qas"):
                if isinstance(question, InputError) or not isinstance(question, dict):
                    yield question if isinstance(question, InputError) else InputError(f"{within}: not a question")
                    continue
                found = text.find(json.dumps(question.get("id")), position)
                if found >= 0:
                    line += text.count("\n", position, found)
                    position = found
                place = f"{file}, line {line}, question {question.get('id', 'without id')}"
                yield Row(place, {"context": paragraph.get("context"), **question})


def _squad_pair(row: Row) -> Pair:
    question, context = row.text("question"), row.text("context")
    answers = row.record.get("answers")
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, dict) for answer in answers):
        raise row.error("field 'answers' must hold at least one answer")
    references = tuple(Row(row.place, answer).text("text") for answer in answers)
    return Pair(f"question: {question} context: {context}", references[0], references)
