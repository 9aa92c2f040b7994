"""WebQSP: the appendix's texts, the official files against the derived ones, and broken rows and files."""

import json
import re
import shutil

import pytest

from raysynth.downstream.webqsp import WebQSP
from raysynth.errors import InputError

RECORD = {"question": "q", "entities": [["A", "m.1"]], "kg_tuples": [["m.1", "r", "m.2"]], "s_expression": "(J a)"}


def without_white_space(text):
    return re.sub(r"\s", "", text)


def test_webqsp_is_the_appendix_to_the_letter(write, shared):
    appendix = (shared / "paper" / "appendix.txt").read_text()
    example = re.search(r"where is isthmus of panama.*?m\.07c5l\n", appendix, re.DOTALL)[0]
    knowledge = without_white_space(example).split("m.04zwft|", 1)[1]
    triples = [
        re.fullmatch(r"(m\..*?)((?:location|common)\..*?)(m\..*)", part).groups() for part in knowledge.split("|")
    ]
    record = {
        "question": "where is isthmus of panama located?",
        "entities": [["Isthmus of Panama", "m.04zwft"]],
        "kg_tuples": triples,
        "s_expression": "(JOIN (R location.location.containedby) m.04zwft)",
    }
    pair = WebQSP().read(write({"train.jsonl": json.dumps(record)}))["train"][0]
    assert without_white_space(pair.source) == without_white_space(example)
    assert pair.source.startswith(
        "where is isthmus of panama located? ; structured knowledge: Isthmus of Panama: m.04zwft | m.06n3y "
        "location.location.contains m.06w99sr | m.06n3y location.location.contains m.0cn1d6 | "
    )
    assert pair.target == record["s_expression"]


def test_official_chains_give_the_published_s_expressions(shared):
    bad_rows = []
    official = WebQSP().read(str(shared / "data/webqsp/official"), bad_rows.append)["test"]
    assert len(official) + len(bad_rows) == 50
    derived = {pair.source.split(" ;")[0]: pair for pair in WebQSP().read(str(shared / "data/webqsp/derived"))["test"]}
    in_both = [
        (pair, derived[pair.source.split(" ;")[0]]) for pair in official if pair.source.split(" ;")[0] in derived
    ]
    assert len(in_both) > 15
    for ours, theirs in in_both:
        assert ours.target == theirs.target
        assert theirs.source.startswith(ours.source)
    for error in bad_rows:
        assert re.search(r"question WebQTest-\d+, first parse: has .* no s-expression can be built", str(error))


def test_a_record_of_unifiedskg_is_read(shared, tmp_path):
    shutil.copy(shared / "data/webqsp/unifiedskg_format/record.jsonl", tmp_path / "train.jsonl")
    (pair,) = WebQSP().read(str(tmp_path))["train"]
    assert pair.source.startswith(
        "where did jennifer hudson go to school? ; structured knowledge: Jennifer Hudson: m.02ktrs "
        "| m.07k7bh0 common.topic.notable_types m.0jsg2m | "
    )
    assert pair.source.count(" | ") == 50
    assert pair.target == "(JOIN (R education.education.institution) (JOIN (R people.person.education) m.02ktrs))"


def test_only_the_training_split_drops_questions_without_s_expression(write):
    records = "\n".join(json.dumps(RECORD | {"s_expression": text}) for text in ("(JOIN a b)", "null"))
    splits = WebQSP().read(write({"train.jsonl": records, "test.jsonl": records}))
    assert [pair.target for pair in splits["train"]] == ["(JOIN a b)"]
    assert [pair.target for pair in splits["test"]] == ["(JOIN a b)", "null"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {field: value for field, value in RECORD.items() if field != "kg_tuples"},
            r"train\.jsonl, line 2: field 'kg_tuples' is missing",
        ),
        (
            RECORD | {"kg_tuples": [["m.1", "r"]]},
            r"line 2: field 'kg_tuples' must hold lists of 3 texts, got \['m\.1', 'r'\]",
        ),
        (RECORD | {"s_expression": None}, r"line 2: field 's_expression' must be text, got None"),
    ],
    ids=["no triples", "triple", "null"],
)
def test_a_bad_row_is_one_line_or_skipped_and_counted(record, message, check_bad_row):
    check_bad_row(WebQSP(), {"train.jsonl": f"{json.dumps(RECORD)}\n{json.dumps(record)}"}, message)


def test_a_file_without_questions_is_one_line(write):
    with pytest.raises(InputError, match=r"must hold a list of questions or an object") as error:
        WebQSP().read(write({"WebQSP.train.json": '{"Version": "1"}'}))
    assert "\n" not in str(error.value)
