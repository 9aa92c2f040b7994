"""MTOP: the appendix's texts from the real files, its words, both formats, and broken rows."""

import json
import re
import shutil

import pytest

from raysynth.downstream.mtop import MTOP, MTOP_INTENTS, mtop_words

RECORD = {"question": "Call Ann", "logical_form": "[IN:CREATE_CALL [SL:CONTACT Ann ] ]"}
COLUMNS = "\t".join(
    ["1", "IN:X", "", "Call Ann", "calling", "en_XX", "[IN:CREATE_CALL ]", '{"tokens": ["Call", "Ann"]}']
)


def without_white_space(text):
    return re.sub(r"\s", "", text)


def test_mtop_is_the_appendix_to_the_letter(shared):
    appendix = (shared / "paper" / "appendix.txt").read_text()
    source = re.search(r"Has Angelika Kratzer.*?IN:FOLLOW: MUSIC", appendix, re.DOTALL)[0]
    target = re.search(r"\[IN:GET_MESSAGE .*? \] \]", appendix)[0]
    pair = MTOP().read(str(shared / "data" / "mtop"))["train"][0]
    assert without_white_space(pair.source) == without_white_space(source)
    assert pair.source.startswith("Has Angelika Kratzer video messaged me ? ; structured knowledge: IN:GET: MESSAGE, ")
    assert "  " not in pair.source
    assert pair.target == target


def test_structured_knowledge_is_that_of_the_training_forms(shared):
    groups = {}
    for pair in MTOP().read(str(shared / "data" / "mtop"))["train"]:
        group, _, member = re.match(r"\[IN:([A-Z_]+)", pair.target)[1].partition("_")
        groups.setdefault(group, {})[member] = None
    expected = " | ".join(f"IN:{group}: {', '.join(members)}" for group, members in groups.items())
    assert re.sub(" +", " ", expected) == MTOP_INTENTS


def test_words_are_the_published_ones(shared):
    rows = [line.split("\t") for line in (shared / "data/mtop/en/test.txt").read_text().splitlines()]
    assert len(rows) == 500
    for row in rows:
        assert mtop_words(row[3]) == " ".join(json.loads(row[7])["tokens"])


@pytest.mark.parametrize("folder", ["en", "json"])
def test_both_formats_give_the_same_pairs(shared, folder, tmp_path):
    shutil.copytree(shared / "data/mtop" / folder, tmp_path / folder)
    whole = MTOP().read(str(shared / "data/mtop"))["test"]
    assert MTOP().read(str(tmp_path))["test"] == MTOP().read(str(tmp_path / folder))["test"] == whole


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            COLUMNS.replace("\ten_XX", ""),
            r"en/train\.txt, line 2: has 7 tab-separated columns, must have 8 \(as MTOP's own files\) or 2",
        ),
        (COLUMNS.replace('"tokens"', '"words"'), r"line 2: the tokens must be JSON such as"),
        (COLUMNS.replace("[IN:CREATE_CALL ]", " "), r"line 2: empty logical_form"),
    ],
    ids=["columns", "tokens", "form"],
)
def test_a_bad_row_of_columns_is_one_line_or_skipped_and_counted(line, message, check_bad_row):
    check_bad_row(MTOP(), {"en/train.txt": f"{COLUMNS}\n{line}\n"}, message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            json.dumps({"question": "Call Ann"}),
            r"train\.json, line 2: field 'logical_form' is missing; the row has 'question'$",
        ),
        ('{"question": "Call', r"train\.json, line 2: broken JSON: Unterminated"),
        ("[1]", r"train\.json, line 2: not a JSON object"),
        (json.dumps(RECORD | {"logical_form": 7}), r"'logical_form' must be text, got 7"),
        (b'{"question": "\xff"}', r"line 2: not UTF-8 at byte 15"),
    ],
    ids=["missing", "broken", "list", "type", "utf-8"],
)
def test_a_bad_record_is_one_line_or_skipped_and_counted(line, message, check_bad_row):
    good = f"{json.dumps(RECORD)}\n".encode()
    check_bad_row(MTOP(), {"train.json": good + (line if isinstance(line, bytes) else line.encode())}, message)
