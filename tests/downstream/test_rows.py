"""What all readers share: the real files, the formats that every task accepts, absent files and skipped rows."""

import dataclasses
import re

import pytest

from raysynth.data.text_pairs import generate_text
from raysynth.downstream.cnn_dailymail import CNNDailyMail
from raysynth.downstream.code_translation import CodeXGLUE
from raysynth.downstream.mtop import MTOP
from raysynth.downstream.retrosynthesis import USPTO50K
from raysynth.downstream.rows import BadRows, Pair, Split
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


@pytest.mark.parametrize("task", READERS)
@pytest.mark.parametrize(
    "files",
    [
        {"train.tsv": "source\ttarget\na b\tc\nd\te\n", "valid.tsv": "f\tg", "test.tsv": "h\ti\r\n"},
        {"train.txt": "a b\tc\nd\te\n", "dev.txt": "f\tg\n", "test.txt": "h\ti\n"},
        {
            "train.jsonl": '{"source": "a b", "target": "c"}\n{"target": "e", "source": "d", "id": 1}\n',
            "validation.jsonl": '{"source": "f", "target": "g"}',
            "test.jsonl": '{"source": "h", "target": "i"}\n',
        },
        {
            "train.source": "a b\nd\n",
            "train.target": "c\ne\n",
            "val.source": "f\n",
            "val.target": "g\n",
            "test.source": "h\n",
            "test.target": "i\n",
        },
    ],
    ids=["tsv", "txt", "jsonl", "parallel"],
)
def test_every_task_accepts_source_and_target_as_they_are(task, files, write):
    splits = READERS[task].read(write(files))
    assert tuple(splits) == tuple(Split)
    assert splits == {
        "train": [Pair("a b", "c"), Pair("d", "e")],
        "validation": [Pair("f", "g")],
        "test": [Pair("h", "i")],
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.tsv": "a\tb\na\tb\tc\n"}, r"train\.tsv, line 2: has 3 tab-separated columns"),
        ({"train.tsv": "a\tb\na\t \n"}, r"train\.tsv, line 2: empty target"),
    ],
    ids=["columns", "empty target"],
)
def test_a_bad_row_of_source_and_target_is_one_line_or_skipped_and_counted(files, message, check_bad_row):
    check_bad_row(SQuAD(), files, message)


def test_a_folder_without_known_files_is_one_line(write):
    with pytest.raises(InputError, match=r"^mtop has no files under .*; for the training split it looks for en/train"):
        MTOP().read(write({"notes.md": "x"}))


def test_files_without_a_row_that_can_be_read_are_one_line(write):
    with pytest.raises(InputError, match=r"train\.smi has no row that can be read$"):
        USPTO50K().read(write({"train.smi": "x\ny\n"}), lambda error: None)


@pytest.mark.parametrize("task", READERS)
def test_a_task_says_how_to_name_its_files(task):
    with pytest.raises(InputError, match=rf"--data {task}=DIR or set RAYSYNTH_DATA_{task.upper()} "):
        READERS[task].read(None)
    with pytest.raises(InputError, match=rf"^{task} reads files: /missing is not a directory$"):
        READERS[task].read("/missing")


def test_the_manifest_lists_skipped_rows(write, tmp_path):
    lines = [f"C{'C' * n} >> {'N' * (n + 1)}.C" for n in range(60)]
    lines[7] = lines[31] = "broken"
    write({"data/train.smi": "\n".join(lines), "data/valid.smi": lines[0], "data/test.smi": lines[1]})
    dataset = TextDataset(
        name="retrosynthesis", texts=USPTO50K(), vocabulary=TrainedVocabulary(num_pieces=110), num_train=50
    )
    store, data = Store(str(tmp_path / "store")), {"retrosynthesis": str(tmp_path / "data")}
    with pytest.raises(InputError, match="line 8: must have one '>>'"):
        generate_text(dataset, store, data)
    manifest = generate_text(dataset, store, data, BadRows.SKIP)
    assert manifest.skipped_rows == 2
    assert [re.search(r"line (\d+)", message)[1] for message in manifest.first_skipped] == ["8", "32"]
    assert manifest.splits["train"][0].rows == 50
    fewer = generate_text(dataclasses.replace(dataset, num_train=40), store, data, BadRows.SKIP)
    assert fewer.skipped_rows == 2
