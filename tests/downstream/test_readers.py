"""Readers: the appendix's texts from the real files, every form that is taken, and every kind of broken row."""

import dataclasses
import hashlib
import json
import re
import shutil
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.data.text_pairs import generate_text
from raysynth.downstream.chemistry import rdkit
from raysynth.downstream.cnn_dailymail import CNNDailyMail, LetterCase
from raysynth.downstream.code_translation import CodeXGLUE
from raysynth.downstream.mtop import MTOP, MTOP_INTENTS, mtop_words
from raysynth.downstream.retrosynthesis import USPTO50K
from raysynth.downstream.rows import BadRows, Pair
from raysynth.downstream.squad import SQuAD
from raysynth.downstream.webqsp import WebQSP
from raysynth.errors import InputError
from raysynth.specs.datasets import TextDataset, TrainedVocabulary
from raysynth.store.store import Store

READERS = {
    "cnndm": CNNDailyMail(),
    "mtop": MTOP(),
    "webqsp": WebQSP(),
    "squad": SQuAD(),
    "code_translation": CodeXGLUE(),
    "retrosynthesis": USPTO50K(),
}


def write(folder, **files):
    """Files by name with `__` for a slash and `_dot_` for a dot; text as UTF-8."""
    for file, text in files.items():
        path = folder / file.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder)


def squeezed(text):
    return re.sub(r"\s", "", text)


# ------------------------------------------------------------------------------------------------------- the real files


@pytest.mark.parametrize(
    ("task", "folder", "counts"),
    [
        ("cnndm", "cnndm", {"train": 100, "validation": 500}),
        ("mtop", "mtop", {"train": 15_667, "validation": 2_235, "test": 500}),
        ("webqsp", "webqsp/derived", {"train": 1_805, "test": 622}),
        ("squad", "squad", {"train": 3_807, "validation": 700}),
        ("code_translation", "code_translation", {"train": 10_295, "validation": 499, "test": 500}),
        ("retrosynthesis", "uspto50k", {"train": 40_029, "validation": 5_004, "test": 4_504}),
    ],
)
def test_every_row_of_the_real_files_is_read(shared, task, folder, counts):
    splits = READERS[task].read(str(shared / "data" / folder))
    assert {split: len(pairs) for split, pairs in splits.items()} == counts
    for pair in (pair for pairs in splits.values() for pair in pairs):
        assert pair.source.strip() == pair.source
        assert pair.target.strip() == pair.target != ""
        assert pair.target == (pair.references or (pair.target,))[0]


def test_mtop_is_the_appendix_to_the_letter(shared):
    appendix = (shared / "paper" / "appendix.txt").read_text()
    source = re.search(r"Has Angelika Kratzer.*?IN:FOLLOW: MUSIC", appendix, re.DOTALL)[0]
    target = re.search(r"\[IN:GET_MESSAGE .*? \] \]", appendix)[0]
    pair = MTOP().read(str(shared / "data" / "mtop"))["train"][0]
    assert squeezed(pair.source) == squeezed(source)
    assert pair.source.startswith("Has Angelika Kratzer video messaged me ? ; structured knowledge: IN:GET: MESSAGE, ")
    assert "  " not in pair.source
    assert pair.target == target


def test_mtops_structured_knowledge_is_that_of_the_training_forms(shared):
    groups = {}
    for pair in MTOP().read(str(shared / "data" / "mtop"))["train"]:
        group, _, member = re.match(r"\[IN:([A-Z_]+)", pair.target)[1].partition("_")
        groups.setdefault(group, {})[member] = None
    told = " | ".join(f"IN:{group}: {', '.join(members)}" for group, members in groups.items())
    assert re.sub(" +", " ", told) == MTOP_INTENTS


def test_mtops_words_are_the_published_ones(shared):
    rows = [line.split("\t") for line in (shared / "data/mtop/en/test.txt").read_text().splitlines()]
    assert len(rows) == 500
    for row in rows:
        assert mtop_words(row[3]) == " ".join(json.loads(row[7])["tokens"])


@pytest.mark.parametrize("form", ["en", "json"])
def test_both_forms_of_mtop_give_the_same_pairs(shared, form, tmp_path):
    shutil.copytree(shared / "data/mtop" / form, tmp_path / form)
    whole = MTOP().read(str(shared / "data/mtop"))["test"]
    assert MTOP().read(str(tmp_path))["test"] == MTOP().read(str(tmp_path / form))["test"] == whole


def test_webqsp_is_the_appendix_to_the_letter(tmp_path, shared):
    appendix = (shared / "paper" / "appendix.txt").read_text()
    example = re.search(r"where is isthmus of panama.*?m\.07c5l\n", appendix, re.DOTALL)[0]
    knowledge = squeezed(example).split("m.04zwft|", 1)[1]
    triples = [
        re.fullmatch(r"(m\..*?)((?:location|common)\..*?)(m\..*)", part).groups() for part in knowledge.split("|")
    ]
    record = {
        "question": "where is isthmus of panama located?",
        "entities": [["Isthmus of Panama", "m.04zwft"]],
        "kg_tuples": triples,
        "s_expression": "(JOIN (R location.location.containedby) m.04zwft)",
    }
    pair = WebQSP().read(write(tmp_path, train_dot_jsonl=json.dumps(record)))["train"][0]
    assert squeezed(pair.source) == squeezed(example)
    assert pair.source.startswith(
        "where is isthmus of panama located? ; structured knowledge: Isthmus of Panama: m.04zwft | m.06n3y "
        "location.location.contains m.06w99sr | m.06n3y location.location.contains m.0cn1d6 | "
    )
    assert pair.target == record["s_expression"]


def test_webqsps_official_chains_give_the_published_s_expressions(shared):
    bad = []
    official = WebQSP().read(str(shared / "data/webqsp/official"), bad.append)["test"]
    assert len(official) + len(bad) == 50
    known = {pair.source.split(" ;")[0]: pair for pair in WebQSP().read(str(shared / "data/webqsp/derived"))["test"]}
    both = [(pair, known[pair.source.split(" ;")[0]]) for pair in official if pair.source.split(" ;")[0] in known]
    assert len(both) > 15
    for ours, theirs in both:
        assert ours.target == theirs.target
        assert theirs.source.startswith(ours.source)
    for error in bad:
        assert re.search(r"question WebQTest-\d+, first parse: has .* no s-expression can be made", str(error))


def test_a_record_of_unifiedskg_is_read(shared, tmp_path):
    shutil.copy(shared / "data/webqsp/unifiedskg_format/record.jsonl", tmp_path / "train.jsonl")
    (pair,) = WebQSP().read(str(tmp_path))["train"]
    assert pair.source.startswith(
        "where did jennifer hudson go to school? ; structured knowledge: Jennifer Hudson: m.02ktrs "
        "| m.07k7bh0 common.topic.notable_types m.0jsg2m | "
    )
    assert pair.source.count(" | ") == 50
    assert pair.target == "(JOIN (R education.education.institution) (JOIN (R people.person.education) m.02ktrs))"


def test_squad_is_as_in_the_appendix(shared):
    pair = SQuAD().read(str(shared / "data/squad"))["validation"][0]
    raw = json.loads((shared / "data/squad/dev-v1.1.json").read_text())["data"][0]["paragraphs"][0]
    assert pair.source == f"question: {raw['qas'][0]['question']} context: {raw['context']}"
    assert pair.target == raw["qas"][0]["answers"][0]["text"]


def test_cnndm_is_as_in_the_appendix(shared):
    pair = CNNDailyMail().read(str(shared / "data/cnndm"))["train"][0]
    assert pair.source.startswith("summarize: by . associated press . published: . 14:11 est, 25 october 2013 . ")
    assert pair.target.startswith("bishop john folda, of north dakota, is taking time off after being diagnosed . he ")
    cased = CNNDailyMail(letter_case=LetterCase.AS_WRITTEN).read(str(shared / "data/cnndm"))["train"][0]
    assert cased.source.startswith("summarize: By . Associated Press . PUBLISHED: . 14:11 EST, ")
    assert (cased.source.lower(), cased.target.lower()) == pair[:2]


def test_stories_are_joined_as_the_tables_have_them(shared, tmp_path):
    shutil.copytree(shared / "data/cnndm/cnn", tmp_path / "cnn")
    stories = sorted((tmp_path / "cnn/stories").glob("*.story"))
    (tmp_path / "train").mkdir()
    for story in stories:
        shutil.copy(story, tmp_path / "train")
    pairs = CNNDailyMail(letter_case=LetterCase.AS_WRITTEN).read(str(tmp_path))["train"]
    assert len(pairs) == 10
    for pair, story in zip(pairs, stories, strict=True):
        article, *highlights = story.read_text().split("@highlight")
        assert pair.source.split(": ", 1)[1].replace(" .", "").split() == article.replace(" .", "").split()
        assert pair.target.replace(" .", "").split() == " ".join(highlights).replace(" .", "").split()
        assert pair.target.endswith((".", "?", "!", '"', "'", ")"))


def test_uspto_maps_are_taken_out_as_the_other_file_writes_reactions(shared):
    pytest.importorskip("rdkit", reason="the extra `chemistry` is not installed")
    mapped = USPTO50K().read(str(shared / "data/uspto50k/mapped"))["validation"]
    plain = {}
    for pairs in USPTO50K().read(str(shared / "data/uspto50k")).values():
        for pair in pairs:
            plain.setdefault(pair.source, set()).add(pair.target)
    found = [pair for pair in mapped if pair.source in plain]
    assert len(mapped) == 1_000
    assert len(found) > 950  # about 1 % of the products in the other file are not in RDKit's form
    assert Counter(pair.target in plain[pair.source] for pair in found)[True] / len(found) > 0.95


def test_without_rdkit_mapped_reactions_are_one_line_even_where_bad_rows_are_skipped(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    rdkit.cache_clear()
    write(tmp_path, train_dot_csv="class,id,rxn_smiles\n1,a,[CH4:1]>>[CH4:1]\n")
    with pytest.raises(InputError, match=r"^RDKit is needed to read molecules: pip install 'raysynth\[chemistry\]'$"):
        USPTO50K().read(str(tmp_path), lambda error: None)
    rdkit.cache_clear()


# ---------------------------------------------------------------------------------------------------------- other forms


@pytest.mark.parametrize("task", READERS)
@pytest.mark.parametrize(
    "files",
    [
        {"train_dot_tsv": "source\ttarget\na b\tc\nd\te\n", "valid_dot_tsv": "f\tg", "test_dot_tsv": "h\ti\r\n"},
        {"train_dot_txt": "a b\tc\nd\te\n", "dev_dot_txt": "f\tg\n", "test_dot_txt": "h\ti\n"},
        {
            "train_dot_jsonl": '{"source": "a b", "target": "c"}\n{"target": "e", "source": "d", "id": 1}\n',
            "validation_dot_jsonl": '{"source": "f", "target": "g"}',
            "test_dot_jsonl": '{"source": "h", "target": "i"}\n',
        },
        {
            "train_dot_source": "a b\nd\n",
            "train_dot_target": "c\ne\n",
            "val_dot_source": "f\n",
            "val_dot_target": "g\n",
            "test_dot_source": "h\n",
            "test_dot_target": "i\n",
        },
    ],
    ids=["tsv", "txt", "jsonl", "parallel"],
)
def test_every_task_takes_source_and_target_as_they_are(task, files, tmp_path):
    assert READERS[task].read(write(tmp_path, **files)) == {
        "train": [Pair("a b", "c"), Pair("d", "e")],
        "validation": [Pair("f", "g")],
        "test": [Pair("h", "i")],
    }


def test_columns_may_come_in_any_order_and_fields_may_span_lines(tmp_path):
    one = 'id,highlights,article,more\r\n1,"Ann won .\nBob lost .","He said ""no"",\nand left .",x\r\n'
    other = ",article,highlights\n0,Short .,It is .\n"
    table = pa.table({"id": ["1"], "article": ["A"], "highlights": ["B\nC"]})
    pq.write_table(table, tmp_path / "test-00000-of-00001.parquet")
    splits = CNNDailyMail().read(write(tmp_path, train_dot_csv=one, dev_dot_csv=other))
    assert splits["train"] == [Pair('summarize: he said "no", and left .', "ann won . bob lost .")]
    assert splits["validation"] == [Pair("summarize: short .", "it is .")]
    assert splits["test"] == [Pair("summarize: a", "b c")]


def test_stories_may_be_listed_by_their_addresses(tmp_path):
    story = "One sentence.\n\nA caption\n\n@highlight\n\nIt rained\n\n@highlight\n\nNobody left!\n"
    address = "http://news.example/1"
    digest = hashlib.sha1(address.encode()).hexdigest()
    files = {f"dailymail__stories__{digest}_dot_story": story, "url_lists__all_val_dot_txt": f"{address}\n"}
    assert CNNDailyMail().read(write(tmp_path, **files)) == {
        "validation": [Pair("summarize: one sentence. a caption .", "it rained . nobody left!")]
    }
    (tmp_path / f"dailymail/stories/{digest}.story").unlink()
    with pytest.raises(
        InputError, match=rf"all_val\.txt, line 1: {digest}\.story, the story of {address}, is not under"
    ):
        CNNDailyMail().read(str(tmp_path))


def test_squad_keeps_all_answers_and_learns_the_first(tmp_path):
    answers = [{"text": "Denver Broncos"}, {"text": " the Broncos "}, {"text": "Denver Broncos"}]
    splits = SQuAD().read(write(tmp_path, **squad(dict(QUESTION, answers=answers, question=" Who won? "))))
    assert splits["validation"] == [
        Pair(
            "question: Who won? context: They won.",
            "Denver Broncos",
            ("Denver Broncos", "the Broncos", "Denver Broncos"),
        )
    ]


def test_webqsp_leaves_out_training_questions_without_s_expression_only(tmp_path):
    records = "\n".join(json.dumps(RECORDS["webqsp"] | {"s_expression": text}) for text in ("(JOIN a b)", "null"))
    splits = WebQSP().read(write(tmp_path, train_dot_jsonl=records, test_dot_jsonl=records))
    assert [pair.target for pair in splits["train"]] == ["(JOIN a b)"]
    assert [pair.target for pair in splits["test"]] == ["(JOIN a b)", "null"]


# ------------------------------------------------------------------------------------------------------------- bad rows

QUESTION = {"id": "q1", "question": "Who won?", "answers": [{"text": "Ann", "answer_start": 0}]}


def squad(*questions, **paragraph):
    document = {"data": [{"title": "t", "paragraphs": [{"context": "They won.", "qas": list(questions)} | paragraph]}]}
    return {"dev-v1_dot_1_dot_json": json.dumps(document, indent=1)}


def table(*rows):
    return {"train_dot_csv": "id,article,highlights\n1,Good .,Fine .\n" + "".join(rows)}


RECORDS = {
    "mtop": {"question": "Call Ann", "logical_form": "[IN:CREATE_CALL [SL:CONTACT Ann ] ]"},
    "webqsp": {
        "question": "q",
        "entities": [["A", "m.1"]],
        "kg_tuples": [["m.1", "r", "m.2"]],
        "s_expression": "(J a)",
    },
}
TOP = "\t".join(["1", "IN:X", "", "Call Ann", "calling", "en_XX", "[IN:CREATE_CALL ]", '{"tokens": ["Call", "Ann"]}'])
GOOD = {
    "mtop": {"train_dot_json": json.dumps(RECORDS["mtop"]) + "\n"},
    "webqsp": {"train_dot_jsonl": json.dumps(RECORDS["webqsp"]) + "\n"},
}


def second(task, line):
    """A good record of the task and then a line."""
    ((file, good),) = GOOD[task].items()
    return {file: good.encode() + (line if isinstance(line, bytes) else line.encode())}


def without(task, field, **changes):
    return json.dumps({key: value for key, value in RECORDS[task].items() if key != field} | changes)


BAD = {
    "csv columns": ("cnndm", table("2,Only two\n"), r"train\.csv, line 3: has 2 columns where the header has 3"),
    "csv empty target": ("cnndm", table("2,Text, \n"), r"train\.csv, line 3: empty highlights"),
    "csv quote": ("cnndm", table('2,"a"b,c\n'), r"train\.csv, line 3: broken CSV: "),
    "csv open quote": ("cnndm", table('2,"a,c\n\n'), r"train\.csv, line 3: broken CSV: unexpected end of data"),
    "csv utf-8": (
        "cnndm",
        {"train_dot_csv": b"id,article,highlights\n1,Good .,Fine .\n2,caf\xe9,c\n"},
        r"train\.csv, line 3: not UTF-8",
    ),
    "csv second line": ("cnndm", table('2,"a\nb",c\n3,d\n'), r"train\.csv, line 5: has 2 columns"),
    "story": (
        "cnndm",
        {"train__a_dot_story": "Text.\n\n@highlight\n\nGood", "train__b_dot_story": "Text.\n"},
        r"train/b\.story: empty highlights",
    ),
    "mtop columns": (
        "mtop",
        {"en__train_dot_txt": TOP + "\n" + TOP.replace("\ten_XX", "") + "\n"},
        r"en/train\.txt, line 2: has 7 tab-separated columns, must have 8 \(as MTOP's own files\) or 2",
    ),
    "mtop tokens": (
        "mtop",
        {"en__train_dot_txt": TOP + "\n" + TOP.replace('"tokens"', '"words"') + "\n"},
        r"line 2: the tokens must be JSON such as",
    ),
    "mtop form": (
        "mtop",
        {"en__train_dot_txt": TOP + "\n" + TOP.replace("[IN:CREATE_CALL ]", " ")},
        r"line 2: empty logical_form",
    ),
    "json missing": (
        "mtop",
        second("mtop", without("mtop", "logical_form")),
        r"train\.json, line 2: field 'logical_form' is missing; the row has 'question'$",
    ),
    "json broken": ("mtop", second("mtop", '{"question": "Call'), r"train\.json, line 2: broken JSON: Unterminated"),
    "json list": ("mtop", second("mtop", "[1]"), r"train\.json, line 2: not a JSON object"),
    "json type": ("mtop", second("mtop", without("mtop", "", logical_form=7)), r"'logical_form' must be text, got 7"),
    "json utf-8": ("mtop", second("mtop", b'{"question": "\xff"}'), r"line 2: not UTF-8 at byte 15"),
    "json empty line": ("mtop", second("mtop", "\n"), r"train\.json, line 2: empty line"),
    "webqsp triples": (
        "webqsp",
        second("webqsp", without("webqsp", "kg_tuples")),
        r"train\.jsonl, line 2: field 'kg_tuples' is missing",
    ),
    "webqsp triple": (
        "webqsp",
        second("webqsp", without("webqsp", "", kg_tuples=[["m.1", "r"]])),
        r"line 2: field 'kg_tuples' must hold lists of 3 texts, got \['m\.1', 'r'\]",
    ),
    "webqsp null": (
        "webqsp",
        second("webqsp", without("webqsp", "", s_expression=None)),
        r"line 2: field 's_expression' must be text, got None",
    ),
    "squad answers": (
        "squad",
        squad(QUESTION, dict(QUESTION, id="q2", answers=[])),
        r"dev-v1\.1\.json, line 20, question q2: field 'answers' must hold at least one answer",
    ),
    "squad empty": (
        "squad",
        squad(QUESTION, dict(QUESTION, id="q2", answers=[{"text": " "}])),
        r"line 20, question q2: empty text",
    ),
    "squad question": (
        "squad",
        squad(QUESTION, {key: value for key, value in QUESTION.items() if key != "question"} | {"id": "q2"}),
        r"line 20, question q2: field 'question' is missing",
    ),
    "code empty": (
        "code_translation",
        {"train_dot_java-cs_dot_txt_dot_java": "a\n\nc\n", "train_dot_java-cs_dot_txt_dot_cs": "a\nb\nc\n"},
        r"train\.java-cs\.txt\.java, line 2: empty line",
    ),
    "code utf-8": (
        "code_translation",
        {"train_dot_java-cs_dot_txt_dot_java": "a\nb\n", "train_dot_java-cs_dot_txt_dot_cs": b"a\ntwo \xff\n"},
        r"train\.java-cs\.txt\.cs, line 2: not UTF-8 at byte 5",
    ),
    "reaction arrow": (
        "retrosynthesis",
        {"train_dot_smi": "CC >> C.C\nCC > C.C\n"},
        r"train\.smi, line 2: must have one '>>' between product and reactants, has 0",
    ),
    "reaction empty": (
        "retrosynthesis",
        {"train_dot_smi": "CC >> C.C\nCC >> \n"},
        r"train\.smi, line 2: empty reactants",
    ),
    "ready columns": (
        "squad",
        {"train_dot_tsv": "a\tb\na\tb\tc\n"},
        r"train\.tsv, line 2: has 3 tab-separated columns",
    ),
    "ready target": ("squad", {"train_dot_tsv": "a\tb\na\t \n"}, r"train\.tsv, line 2: empty target"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_one_line_or_skipped_and_counted(case, tmp_path):
    task, files, message = BAD[case]
    folder = write(tmp_path, **files)
    with pytest.raises(InputError, match=message) as error:
        READERS[task].read(folder)
    assert "\n" not in str(error.value)
    skipped = []
    splits = READERS[task].read(folder, skipped.append)
    assert [str(found) for found in skipped] == [str(error.value)]
    assert sum(map(len, splits.values())) == (2 if case in ("csv second line", "code empty") else 1)


@pytest.mark.parametrize(
    ("task", "files", "message"),
    [
        (
            "squad",
            {"train-v1_dot_1_dot_json": '{"data": [\n{"title": }'},
            r"json, line 2: broken JSON: Expecting value",
        ),
        (
            "squad",
            {"train-v1_dot_1_dot_json": b'{"data": [\n"\xff"'},
            r"json, line 2: not UTF-8 at byte 13 of the file",
        ),
        ("squad", {"train-v1_dot_1_dot_json": '{"version": "1.1"}'}, r"json: field 'data' must be a list"),
        ("webqsp", {"WebQSP_dot_train_dot_json": '{"Version": "1"}'}, r"must hold a list of questions or an object"),
        (
            "mtop",
            {"notes_dot_md": "x"},
            r"found none of its files under .*; for the training split it looks for en/train",
        ),
        ("retrosynthesis", {"train_dot_smi": "x"}, r"line 1: must have one '>>'"),
        (
            "code_translation",
            {"train_dot_java-cs_dot_txt_dot_java": "a\nb\n", "train_dot_java-cs_dot_txt_dot_cs": "a\n"},
            r"java has 2 lines and .*cs has 1: each line must have its own",
        ),
        ("code_translation", {"train_dot_java-cs_dot_txt_dot_java": "a\n"}, r"cs cannot be read: No such file"),
    ],
)
def test_broken_files_are_one_line(task, files, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        READERS[task].read(write(tmp_path, **files))
    assert "\n" not in str(error.value)


def test_a_file_without_a_row_that_can_be_read_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"train\.smi holds no example that can be read$"):
        USPTO50K().read(write(tmp_path, train_dot_smi="x\ny\n"), lambda error: None)


@pytest.mark.parametrize("task", READERS)
def test_a_task_says_how_to_name_its_files(task):
    with pytest.raises(InputError, match=rf"--data {task}=DIR or set RAYSYNTH_DATA_{task.upper()} "):
        READERS[task].read(None)
    with pytest.raises(InputError, match=rf"^{task} reads files: /missing is not a directory$"):
        READERS[task].read("/missing")


def test_the_manifest_tells_what_was_skipped(tmp_path):
    lines = [f"C{'C' * n} >> {'N' * (n + 1)}.C" for n in range(60)]
    lines[7] = lines[31] = "broken"
    write(tmp_path, data__train_dot_smi="\n".join(lines), data__valid_dot_smi=lines[0], data__test_dot_smi=lines[1])
    dataset = TextDataset(
        name="retrosynthesis", texts=USPTO50K(), vocabulary=TrainedVocabulary(num_pieces=110), num_train=50
    )
    store, data = Store(str(tmp_path / "store")), {"retrosynthesis": str(tmp_path / "data")}
    with pytest.raises(InputError, match="line 8: must have one '>>'"):
        generate_text(dataset, store, data)
    manifest = generate_text(dataset, store, data, BadRows.SKIP)
    assert manifest.skipped_rows == 2
    assert [re.search(r"line (\d+)", told)[1] for told in manifest.first_skipped] == ["8", "32"]
    assert manifest.splits["train"][0].rows == 50
    clean = generate_text(dataclasses.replace(dataset, num_train=40), store, data, BadRows.SKIP)
    assert clean.skipped_rows == 2
