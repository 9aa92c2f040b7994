"""Tables of one's own: formats, columns, splits by file or by share, and what decides the identity."""

import dataclasses
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth import InputError, TableFormat, TextDataset, TextPairs, TrainedVocabulary
from raysynth.downstream.rows import Pair
from raysynth.specs.identity import describe, fingerprint

ROWS = [{"id": str(row), "question": f"what is {row}?", "answer": f'it is "{row}", é'} for row in range(20)]
PAIRS = [Pair(row["question"], row["answer"]) for row in ROWS]
READER = TextPairs(format="jsonl", source="question", target="answer")
SHARES = dataclasses.replace(READER, validation_share=0.1, test_share=0.2)


def content(form, rows):
    """The bytes of a table."""
    match form:
        case TableFormat.TSV:
            lines = [list(rows[0]), *(list(row.values()) for row in rows)]
            return "".join("\t".join(line) + "\n" for line in lines).encode()
        case TableFormat.CSV:
            quoted = [[value.replace('"', '""') for value in row.values()] for row in rows]
            return "".join(
                ",".join(f'"{value}"' for value in line) + "\n" for line in [list(rows[0]), *quoted]
            ).encode()
        case TableFormat.JSONL:
            return "".join(json.dumps(row) + "\n" for row in rows).encode()
        case TableFormat.PARQUET:
            sink = pa.BufferOutputStream()
            pq.write_table(pa.Table.from_pylist(rows), sink)
            return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("form", TableFormat)
def test_two_columns_of_a_folder_or_of_one_file_are_read(form, write, tmp_path):
    reader = dataclasses.replace(READER, format=form)
    folder = write({f"train.{form}": content(form, ROWS[:12]), f"dev.{form}": content(form, ROWS[12:])})
    assert reader.read(folder) == {"train": PAIRS[:12], "validation": PAIRS[12:]}
    (tmp_path / "all").write_bytes(content(form, ROWS))
    splits = dataclasses.replace(SHARES, format=form).read(str(tmp_path / "all"))
    assert {split: len(pairs) for split, pairs in splits.items()} == {"train": 14, "validation": 2, "test": 4}
    assert sorted(pair for pairs in splits.values() for pair in pairs) == sorted(PAIRS)


def test_a_share_depends_on_the_seed_and_keeps_equal_inputs_together(write):
    rows = [row | {"answer": f"{row['answer']} {copy}"} for copy in range(3) for row in ROWS]
    file = write({"one.jsonl": content("jsonl", rows)}) + "/one.jsonl"
    splits = SHARES.read(file)
    assert [len(splits[split]) for split in ("train", "validation", "test")] == [42, 6, 12]
    inputs = {split: {pair.source for pair in pairs} for split, pairs in splits.items()}
    assert not inputs["train"] & inputs["validation"]
    assert not inputs["test"] & (inputs["train"] | inputs["validation"])
    assert SHARES.read(file) == splits
    assert dataclasses.replace(SHARES, split_seed=1).read(file) != splits
    assert dataclasses.replace(SHARES, test_share=None).read(file).keys() == {"train", "validation"}


def test_a_share_of_the_train_file_leaves_a_test_file(write):
    folder = write({"train.jsonl": content("jsonl", ROWS[:10]), "test.jsonl": content("jsonl", ROWS[10:])})
    splits = dataclasses.replace(SHARES, test_share=None).read(folder)
    assert {split: len(pairs) for split, pairs in splits.items()} == {"train": 9, "test": 10, "validation": 1}
    with pytest.raises(InputError, match=r"has train and test files, but TextPairs\.validation_share takes all splits"):
        SHARES.read(folder)


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("tsv", "question\tanswer\na\tb\nc\n", r"train\.tsv, line 3: has 1 tab-separated columns, the header has 2"),
        ("tsv", "question\tanswer\na\tb\nc\t \n", r"train\.tsv, line 3: empty answer"),
        ("csv", "question,answer\na,b\nc\n", r"train\.csv, line 3: has 1 columns, the header has 2"),
        (
            "jsonl",
            '{"question": "a", "answer": "b"}\n{"question": "c"}\n',
            r"line 2: field 'answer' is missing",
        ),
        (
            "jsonl",
            '{"question": "a", "answer": "b"}\n{"question": "c", "answer": 5}\n',
            r"line 2: field 'answer' must",
        ),
    ],
)
def test_a_bad_row_is_one_line(form, text, message, check_bad_row):
    check_bad_row(dataclasses.replace(READER, format=form), {f"train.{form}": text}, message)


def test_a_file_that_cannot_be_used_is_one_line(write):
    folder = write({"one.jsonl": content("jsonl", ROWS), "few.jsonl": content("jsonl", ROWS[:2]), "two.tsv": "a\ta\n"})
    for reader, place, message in [
        (READER, None, r"^TextPairs reads a table of yours: pass --data NAME=PATH with the name of its data set$"),
        (READER, "/one.jsonl", r"one\.jsonl is one file: set TextPairs\.validation_share, or name a folder with train"),
        (READER, "", r"has no files under .* it looks for train\.jsonl"),
        (SHARES, "/few.jsonl", r"few\.jsonl has 2 distinct inputs: too few to hold out 2"),
        (dataclasses.replace(SHARES, format="tsv"), "/two.tsv", r"two\.tsv, line 1: the header has column 'a' twice"),
        (SHARES, "/nowhere", r"nowhere is not a directory"),
    ]:
        with pytest.raises(InputError, match=message):
            reader.read(place if place is None else folder + place)


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("tsv", b"question\tanswer\t\xe9\na\tb\t\nc\td\t\n", "line 1: not UTF-8 at byte 17"),
        ("csv", b"question,answer,\xe9\na,b,\nc,d,\n", "line 1: not UTF-8"),
        ("csv", b'question,"answer"x\na,b\nc,d\n', "line 1: broken CSV: .*"),
        ("tsv", b"question\treply\na\tb\nc\td\n", "has no row that can be read"),
        ("tsv", b"question\tanswer\n", "has no row that can be read"),
    ],
)
def test_a_file_without_its_columns_is_one_line_even_where_bad_rows_are_skipped(form, text, message, write):
    folder, skipped = write({f"train.{form}": text}), []
    for place in (folder, f"{folder}/train.{form}"):
        with pytest.raises(InputError, match=rf"train\.{form},? {message}$"):
            dataclasses.replace(SHARES, format=form).read(place, skipped.append)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "xlsx"}, r"unknown TextPairs\.format 'xlsx'; allowed: csv, jsonl, parquet, tsv"),
        ({"source": ""}, r"TextPairs\.source must name a column, got ''"),
        ({"validation_share": 0.0}, r"shares must be above 0 and leave some for training, got \[0\.0\]"),
        ({"validation_share": 0.5, "test_share": 0.5}, r"leave some for training, got \[0\.5, 0\.5\]"),
        ({"test_share": 0.5}, r"TextPairs\.test_share needs a validation_share"),
        ({"validation_share": "a"}, r"TextPairs\.validation_share must be a finite number, got 'a'"),
        ({"split_seed": -1}, r"TextPairs\.split_seed must be an integer of at least 0"),
    ],
)
def test_a_wrong_description_is_one_line(fields, message):
    with pytest.raises(InputError, match=message):
        TextPairs(**{"format": "tsv", **fields})


def test_the_identity_has_format_columns_and_the_rule_of_the_splits():
    reader = TextPairs(format=TableFormat.TSV, source="a", target="b", validation_share=0.1, split_seed=3)
    assert describe(reader) == {
        "is": "TextPairs",
        "format": "tsv",
        "source": "a",
        "target": "b",
        "validation_share": 0.1,
        "split_seed": 3,
    }
    readers = [
        READER,
        SHARES,
        *(dataclasses.replace(SHARES, **change) for change in ({"split_seed": 1}, {"source": "id"}, {"format": "csv"})),
    ]
    vocabulary = TrainedVocabulary(num_pieces=100)
    prints = {fingerprint(TextDataset(name="own", texts=texts, vocabulary=vocabulary)) for texts in readers}
    assert len(prints) == len(readers)


def test_a_reader_of_ones_own_must_be_frozen():
    @dataclasses.dataclass
    class Own:
        columns: list

        def read(self, location, bad_row):
            return {}

    with pytest.raises(
        InputError, match=r"^TextDataset\.texts must be a frozen dataclass of numbers, texts and tuples, got"
    ):
        TextDataset(name="own", texts=Own(columns=["a"]))
