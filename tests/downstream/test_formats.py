"""What the readers of each format take for a row and a line, broken content of every kind, and arbitrary bytes."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from raysynth.data.corpus import documents
from raysynth.downstream.cnn_dailymail import CNNDailyMail
from raysynth.downstream.code_translation import CodeXGLUE
from raysynth.downstream.mtop import MTOP
from raysynth.downstream.retrosynthesis import USPTO50K
from raysynth.downstream.rows import Pair
from raysynth.downstream.squad import SQuAD
from raysynth.downstream.webqsp import WebQSP
from raysynth.errors import InputError

LINE = '{"source": "a", "target": "b"}\n'
JAVA, C_SHARP = "train.java-cs.txt.java", "train.java-cs.txt.cs"


def train(reader, folder):
    return [(pair.source.removeprefix("summarize: "), pair.target) for pair in reader.read(folder)["train"]]


# -------------------------------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize("blank", ["\n", " \t\n", "\r\n"])
@pytest.mark.parametrize(
    ("reader", "file", "rows"),
    [
        (MTOP(), "train.jsonl", ['{"source": "a", "target": "b"}\n', '{"source": "c", "target": "d"}\n']),
        (MTOP(), "train.tsv", ["source\ttarget\n", "a\tb\n", "c\td\n"]),
        (USPTO50K(), "train.smi", ["a >> b\n", "c >> d\n"]),
        (CNNDailyMail(), "train.csv", ["article,highlights\n", "a,b\n", "c,d\n"]),
    ],
    ids=["JSON lines", "TSV", "SMILES", "CSV"],
)
def test_a_blank_line_is_no_row_wherever_it_is(reader, file, rows, blank, write):
    for place in range(len(rows) + 1):
        content = "".join([*rows[:place], blank, *rows[place:]])
        assert train(reader, write({file: content})) == [("a", "b"), ("c", "d")]
    assert train(reader, write({file: "".join(rows).removesuffix("\n")})) == [("a", "b"), ("c", "d")]
    assert train(reader, write({file: "".join(rows).replace("\n", "\r\n")})) == [("a", "b"), ("c", "d")]
    assert train(reader, write({file: "\ufeff" + "".join(rows)})) == [("a", "b"), ("c", "d")]


def test_a_blank_line_ends_parallel_files_but_is_no_row_between_others(write, check_bad_row):
    assert train(CodeXGLUE(), write({JAVA: "a\nc\n\n", C_SHARP: "b\nd"})) == [("a", "b"), ("c", "d")]
    assert train(CodeXGLUE(), write({JAVA: "a\nc\n", C_SHARP: "\ufeffb\r\nd\r\n\r\n\n"})) == [("a", "b"), ("c", "d")]
    check_bad_row(CodeXGLUE(), {JAVA: "a\nc\n", C_SHARP: "b\n\n"}, r"cs, line 2: empty line$")
    check_bad_row(CodeXGLUE(), {JAVA: "a\n\n", C_SHARP: "b\nd\n"}, r"java, line 2: empty line$")


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_only_a_line_feed_ends_a_line(character, write):
    text = f"a{character}b"
    record = json.dumps({"source": text, "target": "t"}, ensure_ascii=False)
    assert train(MTOP(), write({"train.jsonl": f"{record}\n"})) == [(text, "t")]
    assert train(CodeXGLUE(), write({JAVA: f"{text}\n", C_SHARP: "t\n"})) == [(text, "t")]
    assert train(CNNDailyMail(), write({"train.csv": f"article,highlights\n{text},t\n"})) == [(text, "t")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize(
    ("reader", "file", "content"),
    [
        (MTOP(), "train.jsonl", LINE),
        (MTOP(), "train.txt", "a\tb\n"),
        (SQuAD(), "train-v1.1.json", '{"data": []}'),
        (WebQSP(), "WebQSP.train.json", "[]"),
        (CNNDailyMail(), "train.csv", "article,highlights\na,b\n"),
        (CNNDailyMail(), "train/a.story", "Text.\n@highlight\nGood.\n"),
        (USPTO50K(), "train.smi", "C >> C\n"),
        (None, "a.txt", "text"),
        (None, "a.jsonl", '{"text": "a"}'),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[:20] else "",
)
def test_another_encoding_than_utf8_is_one_line(reader, file, content, encoding, write):
    folder = write({file: content.encode(encoding)})
    with pytest.raises(InputError, match=r", line 1: (the file is UTF-(16|32), must be UTF-8|has a NUL byte)"):
        list(documents(folder)) if reader is None else reader.read(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({JAVA: "a\rc\n", C_SHARP: "b\rd\n"}, "java, line 1: has a carriage return at character 2$"),
        ({JAVA: "a\0\n", C_SHARP: "b\n"}, "java, line 1: has a NUL byte at character 2$"),
    ],
)
def test_a_line_with_a_lone_carriage_return_or_a_nul_byte_is_bad(files, message, write):
    with pytest.raises(InputError, match=message):
        CodeXGLUE().read(write(files))


# --------------------------------------------------------------------------------------------------------------- JSON

SQUAD = (
    '{"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "q1", "question": "w", "answers": [{"text": "t"}]}]}]}]}'
)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"source": "a\\ud800", "target": "b"}', r"character 2 is half of a surrogate pair, '\\ud800'$"),
        ('{"source": "a", "target": "\\udc00"}', "character 1 is half of a surrogate pair"),
        ('{"source": "a", "source": "c", "target": "b"}', "broken JSON: the field 'source' is there twice$"),
        ('{"source": NaN, "target": "b"}', "field 'source' must be text, got nan$"),
        ('{"source": ' + "1" * 5_000 + ', "target": "b"}', "field 'source' must be text, got inf$"),
        ('{"source": 1e999, "target": "b"}', "field 'source' must be text, got inf$"),
        ('{"source": ' + "[" * 100_000, "broken JSON: nested too deeply$"),
        ('{"source": ' + "[" * 500 + "]" * 500 + ', "target": "b"}', r"must be text, got \[+\.\.\.$"),
        ('{"source": {"a": [1]}, "target": "b"}', "field 'source' must be text, got {'a': "),
        ('{"source": null, "target": "b"}', "field 'source' must be text, got None$"),
        ("null", "not a JSON object$"),
        ('{"source": "a"', "broken JSON: Expecting ',' delimiter at column 15$"),
    ],
)
def test_a_bad_json_row_is_one_line_or_skipped_and_counted(line, message, check_bad_row):
    check_bad_row(MTOP(), {"train.jsonl": f"{LINE}\n{line}\n"}, rf"train\.jsonl, line 3: .*{message}")


def test_a_whole_surrogate_pair_is_text(write):
    assert train(MTOP(), write({"train.jsonl": '{"source": "\\ud83d\\ude00", "target": "b"}'})) == [("\U0001f600", "b")]


@pytest.mark.parametrize(
    ("reader", "file", "content"),
    [
        (SQuAD(), "train-v1.1.json", SQUAD.replace('"c"', '"\\ud800"')),
        (SQuAD(), "train-v1.1.json", SQUAD.replace("[{\"text", '[{"text": "a"}, {"text": "\\udfff"}, {"text')),
        (WebQSP(), "train.jsonl",
         '{"question": "q", "entities": [["\\ud800", "m"]], "kg_tuples": [], "s_expression": "x"}'),
        (MTOP(), "train.json", '{"question": "q\\ud800", "logical_form": "x"}'),
        (CNNDailyMail(), "train.jsonl", '{"article": "q", "highlights": "\\ud800"}'),
    ],
    ids=["SQuAD", "SQuAD's references", "WebQSP", "MTOP", "CNN/DailyMail"],
)  # fmt: skip
def test_every_text_of_a_pair_can_be_encoded(reader, file, content, write):
    with pytest.raises(InputError, match=r"(line 1|question q).* is half of a surrogate pair"):
        reader.read(write({file: content}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "json, line 1: broken JSON: Expecting value"),
        ("[" * 100_000, "json: broken JSON: nested too deeply$"),
        ('{"data": [], "data": []}', "json: broken JSON: the field 'data' is there twice$"),
        ('{"data": ' + "1" * 5_000 + "}", "json: field 'data' must be a list$"),
        ('{"data": "\n\0"}', "json, line 2: has a NUL byte"),
    ],
)
def test_a_broken_json_file_is_one_line(content, message, write):
    with pytest.raises(InputError, match=message):
        SQuAD().read(write({"train-v1.1.json": content}))


def test_questions_without_ids_are_found_fast(write):
    question = {"question": "w", "answers": [{"text": "t"}]}
    document = {"data": [{"paragraphs": [{"context": "c", "qas": [question] * 20_000}]}]}
    assert len(SQuAD().read(write({"train-v1.1.json": json.dumps(document)}))["train"]) == 20_000


@pytest.mark.parametrize(
    ("reader", "file", "record", "message"),
    [
        (
            WebQSP(),
            "train.jsonl",
            {"entities": None, "kg_tuples": []},
            "'entities' must hold lists of 2 texts, got None",
        ),
        (WebQSP(), "train.jsonl", {"entities": [], "kg_tuples": "abc"}, "'kg_tuples' must hold lists of 3 texts"),
        (MTOP(), "train.json", {"tokenized_question": '{"tokens": "abc"}'}, "the tokens must be JSON such as"),
        (MTOP(), "train.json", {"tokenized_question": '{"tokens": [1]}'}, "the tokens must be JSON such as"),
        (MTOP(), "train.json", {"tokenized_question": "[" * 100_000}, "the tokens must be JSON such as"),
    ],
)
def test_texts_are_not_taken_for_lists(reader, file, record, message, write):
    record = {"question": "q", "s_expression": "x", "logical_form": "x"} | record
    with pytest.raises(InputError, match=rf"line 1: .*{message}"):
        reader.read(write({file: json.dumps(record)}))


@pytest.mark.parametrize("chain", ["abc", 7, [1], {"a": 1}])
def test_a_chain_of_relations_is_a_list(chain, write):
    parse = {"TopicEntityMid": "m", "TopicEntityName": "n", "InferentialChain": chain}
    document = {"Questions": [{"QuestionId": "a\n\x1b[31m", "RawQuestion": "q", "Parses": [parse]}]}
    with pytest.raises(InputError, match="'InferentialChain' must be a list of texts") as error:
        WebQSP().read(write({"WebQSP.train.json": json.dumps(document)}))
    assert str(error.value).isprintable()


def test_partial_and_other_files_of_webqsp_are_not_read(write):
    parse = {"TopicEntityMid": "m", "TopicEntityName": "n", "InferentialChain": ["r"]}
    document = json.dumps({"Questions": [{"RawQuestion": "q", "Parses": [parse]}]})
    names = ("WebQSP.train.json", "WebQSP.train.partial.json", "WebQSP.train.json.bak", "WebQSP.train (1).json")
    assert len(WebQSP().read(write(dict.fromkeys(names, document)))["train"]) == 1


# -------------------------------------------------------------------------------------------------------------- tables


def test_a_field_of_a_table_may_be_long(write):
    text = "a b" * 100_000
    assert train(CNNDailyMail(), write({"train.csv": f"article,highlights\n{text},t\n"})) == [(text, "t")]


def test_a_column_that_is_there_twice_is_one_line(write, tmp_path):
    with pytest.raises(InputError, match=r"train\.csv, line 1: the header has column 'article' twice$"):
        CNNDailyMail().read(write({"train.csv": "article,article,highlights\na,b,c\n"}))
    (tmp_path / "train.csv").unlink()
    pq.write_table(pa.table([["a"], ["b"]], names=["article", "article"]), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"train\.parquet has column 'article' twice$"):
        CNNDailyMail().read(str(tmp_path))


@pytest.mark.parametrize(
    "texts",
    [
        pa.array(["a"], pa.large_string()),
        pa.array(["a"], pa.string_view()),
        pa.array(["a"]).dictionary_encode(),
    ],
    ids=["large", "view", "dictionary"],
)
def test_every_kind_of_text_column_is_read_and_other_columns_do_not_matter(texts, tmp_path):
    times = pa.array([2**62], pa.timestamp("ns"))
    pq.write_table(
        pa.table({"text": texts, "article": texts, "highlights": texts, "t": times}), tmp_path / "train.parquet"
    )
    assert CNNDailyMail().read(str(tmp_path))["train"] == [Pair("summarize: a", "a")]
    assert list(documents(str(tmp_path))) == ["a"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (pa.array(["a", None]), "got None"),
        (pa.array([b"a", b"\xff"]).view(pa.string()), "not UTF-8"),
        (pa.array([1, 2]), r"got .*int64"),
        (pa.array([["a"], ["b"]]), "got .*list"),
    ],
    ids=["null", "not UTF-8", "numbers", "lists"],
)
def test_a_bad_row_of_a_parquet_file_is_one_line(texts, message, tmp_path):
    good = pa.array(["x", "y"])
    pq.write_table(pa.table({"article": texts, "highlights": good, "text": texts}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=rf"train\.parquet, row [12]: .*{message}"):
        CNNDailyMail().read(str(tmp_path))
    with pytest.raises(InputError, match=r"train\.parquet, row [12]: "):
        list(documents(str(tmp_path)))


def test_a_cut_parquet_file_is_one_line(tmp_path, write):
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    for end in range(0, len(content), 7):
        with pytest.raises(InputError, match=r"a\.parquet cannot be read: "):
            list(documents(write({"c/a.parquet": content[:end]}) + "/c"))


# ------------------------------------------------------------------------------------------------------ arbitrary bytes

GOOD = {
    "train.jsonl": LINE * 2,
    "train.txt": "a\tb\nc\td\n",
    "train.json": '{"question": "Call", "logical_form": "[IN ]", "tokenized_question": "{\\"tokens\\": [\\"é\\"]}"}\n',
    "train-v1.1.json": SQUAD,
    "train.csv": 'article,highlights,reactants>reagents>production\r\n"a, ""b""\r\nc",d é,C>>C\r\n',
    "WebQSP.train.json": '[{"QuestionId": "W", "RawQuestion": "q", "Parses": '
    '[{"TopicEntityMid": "m.1", "TopicEntityName": "A", "InferentialChain": ["a.b"]}]}]',
    "train/a.story": "Text é\n\n@highlight\n\nIt rained\n",
    JAVA: "a;\nb;\n",
    C_SHARP: "c;\nd;\n",
    "train.smi": "CC >> C.C\n",
    "docs.txt": "some text",
    "docs.jsonl": '{"text": "t"}\n',
}
READERS = (MTOP(), SQuAD(), WebQSP(), CNNDailyMail(), CodeXGLUE(), USPTO50K(), None)
PIECES = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(
        [
            *(b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\r", b"\n\n", b"\xc2\x85", b'"', b",", b"\t", b"\\ud800", b"NaN"),
            *(b"1" * 5_000, b"null", b"[]", b"{}", b"7", b"[" * 5_000, b'{"a":' * 500, b"\xed\xa0\x80", b">>", b"\\"),
        ]
    ),
)


@st.composite
def mutations(draw):
    """A file name, and content that differs from a good one in a few places."""
    name = draw(st.sampled_from(sorted(GOOD)))
    content = GOOD[name].encode()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        stop = draw(st.one_of(st.just(start), st.integers(start, len(content))))
        content = content[:start] + draw(PIECES) + content[stop:]
    return name, content


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(mutations(), st.tuples(st.sampled_from(sorted(GOOD)), st.binary(max_size=200))))
@example(("train.jsonl", b"\xff\xfe"))
@example(("docs.txt", b""))
def test_any_bytes_give_rows_or_one_line(tmp_path_factory, mutation):
    folder = tmp_path_factory.mktemp("files")
    files = {name: content.encode() for name, content in GOOD.items() if name in (JAVA, C_SHARP)} | dict([mutation])
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    for reader in READERS:
        for text in texts_or_line(reader, str(folder)):
            text.encode()


def texts_or_line(reader, folder):
    """The texts that a reader finds, or its error, which is one line."""
    try:
        if reader is None:
            return list(documents(folder))
        return [text for pairs in reader.read(folder).values() for pair in pairs for text in pair[:2]]
    except InputError as error:
        assert str(error).isprintable() and len(str(error)) < 1_000  # noqa: PT017, PT018
        return []
