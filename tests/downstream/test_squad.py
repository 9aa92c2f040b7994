"""SQuAD: the appendix's texts from the real files, several answers, and broken rows and files."""

import json

import pytest

from raysynth.downstream.rows import Pair
from raysynth.downstream.squad import SQuAD
from raysynth.errors import InputError

QUESTION = {"id": "q1", "question": "Who won?", "answers": [{"text": "Ann", "answer_start": 0}]}


def squad_file(*questions):
    document = {"data": [{"title": "t", "paragraphs": [{"context": "They won.", "qas": list(questions)}]}]}
    return {"dev-v1.1.json": json.dumps(document, indent=1)}


def test_squad_is_as_in_the_appendix(shared):
    pair = SQuAD().read(str(shared / "data/squad"))["validation"][0]
    paragraph = json.loads((shared / "data/squad/dev-v1.1.json").read_text())["data"][0]["paragraphs"][0]
    assert pair.source == f"question: {paragraph['qas'][0]['question']} context: {paragraph['context']}"
    assert pair.target == paragraph["qas"][0]["answers"][0]["text"]


def test_squad_keeps_all_answers_and_the_first_is_the_target(write):
    answers = [{"text": "Denver Broncos"}, {"text": " the Broncos "}, {"text": "Denver Broncos"}]
    splits = SQuAD().read(write(squad_file(dict(QUESTION, answers=answers, question=" Who won? "))))
    assert splits["validation"] == [
        Pair(
            "question: Who won? context: They won.",
            "Denver Broncos",
            ("Denver Broncos", "the Broncos", "Denver Broncos"),
        )
    ]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (
            QUESTION | {"answers": []},
            r"dev-v1\.1\.json, line 20, question q2: field 'answers' must hold at least one answer",
        ),
        (QUESTION | {"answers": [{"text": " "}]}, r"line 20, question q2: empty text"),
        (
            {field: value for field, value in QUESTION.items() if field != "question"},
            r"line 20, question q2: field 'question' is missing",
        ),
    ],
    ids=["no answers", "empty answer", "no question"],
)
def test_a_bad_row_is_one_line_or_skipped_and_counted(question, message, check_bad_row):
    check_bad_row(SQuAD(), squad_file(QUESTION, question | {"id": "q2"}), message)


@pytest.mark.parametrize(
    ("qas", "message"),
    [
        ([QUESTION, "x"], r"dev-v1\.1\.json, article 1: not a question$"),
        (None, r"dev-v1\.1\.json, article 1: field 'qas' must be a list$"),
    ],
)
def test_questions_that_are_none_are_one_line(qas, message, check_bad_row):
    paragraphs = [{"context": "c", "qas": [QUESTION] if qas is None else qas}]
    if qas is None:
        paragraphs.append({"context": "d"})
    check_bad_row(SQuAD(), {"dev-v1.1.json": json.dumps({"data": [{"paragraphs": paragraphs}]})}, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"data": [\n{"title": }', r"json, line 2: broken JSON: Expecting value"),
        (b'{"data": [\n"\xff"', r"json, line 2: not UTF-8 at byte 13 of the file"),
        ('{"version": "1.1"}', r"json: field 'data' must be a list"),
    ],
    ids=["json", "utf-8", "no data"],
)
def test_a_broken_file_is_one_line(content, message, write):
    with pytest.raises(InputError, match=message) as error:
        SQuAD().read(write({"train-v1.1.json": content}))
    assert "\n" not in str(error.value)
