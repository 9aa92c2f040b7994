"""Which files a reader takes: compressed and sharded ones, hidden ones, copies, links, and what is no file."""

import bz2
import gzip
import hashlib
import lzma
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.data.corpus import documents
from raysynth.downstream.cnn_dailymail import CNNDailyMail
from raysynth.downstream.files import SourceFile, files_read
from raysynth.downstream.mtop import MTOP
from raysynth.downstream.rows import Pair
from raysynth.errors import InputError

LINE = '{"source": "a", "target": "b"}\n'
TEXT = '{"text": "t"}\n'


def num_pairs(folder):
    return {split: len(pairs) for split, pairs in MTOP().read(folder).items()}


# --------------------------------------------------------------------------------------------------------- compression

PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}


@pytest.mark.parametrize("ending", PACK)
def test_a_file_may_be_compressed(write, ending):
    content = LINE.encode() * 3
    assert num_pairs(write({f"train.jsonl{ending}": PACK[ending](content)})) == {"train": 3}
    assert list(documents(write({f"c/a.txt{ending}": PACK[ending](b"one"), "c/b.txt": "two"}) + "/c")) == ["one", "two"]


def test_parallel_files_may_be_compressed_and_in_shards(write):
    files = {f"train-{n}-of-2.source.gz": gzip.compress(b"a\n") for n in (1, 2)}
    files |= {"train-1-of-2.target": "b\n", "train-2-of-2.target.bz2": bz2.compress(b"b\n")}
    assert MTOP().read(write(files)) == {"train": [Pair("a", "b")] * 2}
    os.unlink(os.path.join(write({}), "train-1-of-2.target"))
    with pytest.raises(InputError, match=r"train-1-of-2\.target\.gz cannot be read: No such file"):
        MTOP().read(write({}))


NOT_TEXT = random.Random(0).randbytes(5_000)  # cannot be compressed, so every cut loses some of it


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_broken_compressed_file_is_one_line(write, ending, damage):
    packed = PACK[ending](NOT_TEXT)
    content = {"cut": packed[:-20], "empty": b"", "other": LINE.encode()}[damage]
    with pytest.raises(
        InputError, match=rf"train\.jsonl{ending}(, line 1: not UTF-8| cannot be (read|decompressed): )"
    ):
        MTOP().read(write({f"train.jsonl{ending}": content}))
    with pytest.raises(InputError, match=rf"a\.txt{ending} cannot be (read|decompressed): "):
        list(documents(write({f"c/a.txt{ending}": content}) + "/c"))


# ---------------------------------------------------------------------------------------------- hidden files and copies


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints/a.txt",
        "._a.txt",
        ".a.txt.swp",
        "a.txt~",
        "#a.txt#",
        "__MACOSX/._a.txt",
        "b/.c/d.txt",
        "~$a.txt",
    ],
)
def test_hidden_files_and_backups_are_no_documents(write, name):
    assert list(documents(write({"a.txt": "one", name: b"\0\5\x16\7"}))) == ["one"]


def test_hidden_files_and_backups_are_no_stories(write):
    story = "Text.\n\n@highlight\n\nGood"
    files = {f"train/{name}": b"\xff" for name in ("._a.story", ".DS_Store", "a.story~", ".x/b.story")}
    assert len(CNNDailyMail().read(write({"train/a.story": story} | files))["train"]) == 1


@pytest.mark.parametrize("ending", [".bak", ".orig", "~", ".part", ".1"])
def test_backups_of_a_split_are_not_read(write, ending):
    files = {"train.jsonl": LINE, f"train.jsonl{ending}": LINE, "train (1).jsonl": LINE, "train_old.jsonl": LINE}
    assert num_pairs(write(files)) == {"train": 1}


def test_other_parquet_files_are_no_shards(tmp_path):
    for name in ("train", "train (1)", "train_old", "training", "train.bak"):
        pq.write_table(pa.table({"article": ["a"], "highlights": ["b"]}), tmp_path / f"{name}.parquet")
    assert CNNDailyMail().read(str(tmp_path)) == {"train": [Pair("summarize: a", "b")]}


@pytest.mark.parametrize(
    "name", ["a (1).txt", "a(2).txt", "a - Copy.txt", "a - Copy (2).txt", "a copy.txt", "a.txt.gz"]
)
def test_a_copy_of_a_document_is_one_line(write, name):
    content = gzip.compress(b"one") if name.endswith(".gz") else "one"
    with pytest.raises(InputError, match=r"seems to be a copy of a\.txt: remove one of them$"):
        list(documents(write({"a.txt": "one", name: content})))
    os.unlink(os.path.join(write({}), "a.txt"))
    assert list(documents(write({}))) == ["one"]


# --------------------------------------------------------------------------------------------------------------- shards


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train-00000-of-00003", "train-00002-of-00003"], r"train-00001-of-00003\.jsonl is missing"),
        (["train-00000-of-00003", "train-00001-of-00003"], r"train-00002-of-00003\.jsonl is missing"),
        (["train-1-of-3", "train-3-of-3"], r"train-2-of-3\.jsonl is missing"),
        (["train-00001-of-00002-0123456789abcdef"], r"train-00000-of-00002\.jsonl is missing"),
        (["train-00000-of-00001", "train-00000-of-00002"], "shards of two different sets"),
        (["train-00000-of-00001", "train-00000-of-00001-0123456789abcdef"], "are the same shard"),
        (["train-0-of-2", "train-1-of-2", "train-2-of-2"], r"train-2-of-2\.jsonl does not belong to a set of 2"),
        (["train-0-of-999999999"], r"train-1-of-999999999\.jsonl is missing"),
    ],
)
def test_incomplete_shards_are_one_line(write, names, message):
    with pytest.raises(InputError, match=message):
        MTOP().read(write({f"{name}.jsonl": LINE for name in names}))
    with pytest.raises(InputError, match=message):
        list(documents(write({f"c/{name}.jsonl": TEXT for name in names}) + "/c"))


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00002", "train-00001-of-00002"],
        ["train-1-of-2", "train-2-of-2"],
        ["train-00000-of-00002-0123456789abcdef", "train-00001-of-00002-fedcba9876543210"],
    ],
)
def test_complete_shards_are_one_split_or_corpus(write, names):
    assert num_pairs(write({f"{name}.jsonl": LINE for name in names})) == {"train": 2}
    assert len(list(documents(write({f"c/{x}/{name}.jsonl": TEXT for name in names for x in "ab"}) + "/c"))) == 4


def test_the_whole_file_beside_shards_is_one_line(write):
    with pytest.raises(InputError, match="remove either the whole file or its shards"):
        MTOP().read(write({"train.jsonl": LINE, "train-0-of-1.jsonl": LINE}))


def test_one_shard_may_be_named_as_a_corpus(write):
    assert list(documents(write({"wiki-00000-of-00041.jsonl": TEXT}) + "/wiki-00000-of-00041.jsonl")) == ["t"]


@pytest.mark.parametrize(("numbers", "is_whole"), [((0, 1), True), ((1, 2), True), ((0, 2), False), ((2,), False)])
def test_parquet_shards_may_have_numbers_only(tmp_path, numbers, is_whole):
    for number in numbers:
        pq.write_table(pa.table({"article": ["a"], "highlights": ["b"]}), tmp_path / f"train-{number}.parquet")
    if is_whole:
        assert len(CNNDailyMail().read(str(tmp_path))["train"]) == 2
    else:
        with pytest.raises(InputError, match=r"has train-2\.parquet, but number 1 is missing$"):
            CNNDailyMail().read(str(tmp_path))


# -------------------------------------------------------------------------------------------------- what is not a file


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda path: path.mkdir(), "is a directory, must be a file"),
        (lambda path: os.mkfifo(path), "is a pipe or a device, must be a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device, must be a file"),
        (lambda path: path.symlink_to("nothing"), "cannot be read: No such file or directory"),
        (lambda path: path.symlink_to(path), "cannot be read: (Too many levels|No such file)"),
    ],
    ids=["directory", "pipe", "device", "dangling link", "link to itself"],
)
def test_what_is_no_file_is_one_line(tmp_path, build, message):
    build(tmp_path / "train.jsonl")
    with pytest.raises(InputError, match=rf"train\.jsonl {message}"):
        MTOP().read(str(tmp_path))


def test_links_of_a_corpus_are_followed_once(write, tmp_path):
    write({"corpus/a.txt": "one", "other/b.txt": "two"})
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "other")
    assert list(documents(f"{tmp_path}/corpus")) == ["one", "two"]
    (tmp_path / "corpus/cycle").symlink_to(tmp_path / "corpus")
    with pytest.raises(InputError, match=r"is the same folder as .*: remove the link$"):
        list(documents(f"{tmp_path}/corpus"))
    (tmp_path / "corpus/cycle").unlink()
    (tmp_path / "corpus/c.txt").symlink_to("nothing")
    with pytest.raises(InputError, match=r"c\.txt is a link to a file that is not there$"):
        list(documents(f"{tmp_path}/corpus"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_one_line(write, tmp_path):
    folder = write({"train.jsonl": LINE, "c/d/a.txt": "one"})
    (tmp_path / "train.jsonl").chmod(0)
    (tmp_path / "c/d").chmod(0)
    with pytest.raises(InputError, match=r"train\.jsonl cannot be read: Permission denied$"):
        MTOP().read(folder)
    with pytest.raises(InputError, match=r"c/d cannot be read: Permission denied$"):
        list(documents(f"{folder}/c"))
    (tmp_path / "c/d").chmod(0o700)


@pytest.mark.parametrize("name", [b"a\nb.txt", b"a\x1b[31m.txt", b"a\xff.txt"])
def test_any_file_name_is_printed_on_one_line(tmp_path, name):
    with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
        file.write(b"\xff")
    with pytest.raises(InputError) as error:
        list(documents(str(tmp_path)))
    assert str(error.value).isprintable()


# ------------------------------------------------------------------------------------------------------- what was read


def test_files_that_were_read_are_noted_with_their_digests(write):
    packed = gzip.compress(b"two")
    folder = write({"train.jsonl": LINE, "notes.md": "x", "c/a.txt": "one", "c/b.txt.gz": packed})
    with files_read() as files:
        MTOP().read(folder)
        with files_read() as inner:
            list(documents(f"{folder}/c"))
    assert inner == {
        f"{folder}/c/a.txt": SourceFile(size=3, sha256=hashlib.sha256(b"one").hexdigest()),
        f"{folder}/c/b.txt.gz": SourceFile(size=len(packed), sha256=hashlib.sha256(packed).hexdigest()),
    }
    train = SourceFile(size=len(LINE), sha256=hashlib.sha256(LINE.encode()).hexdigest())
    assert files == inner | {f"{folder}/train.jsonl": train}


def test_a_file_that_changes_between_two_readings_is_one_line(write):
    with files_read():
        MTOP().read(write({"train.jsonl": LINE}))
        with pytest.raises(InputError, match=r"train\.jsonl changed while it was read$"):
            MTOP().read(write({"train.jsonl": LINE * 2}))
    assert num_pairs(write({})) == {"train": 2}
