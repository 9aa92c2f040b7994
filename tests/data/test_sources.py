"""Files of a text data set that are given again: the same rows pass, other rows are one line."""

import dataclasses

import pytest

from raysynth import InputError, TextCorpus, TrainedVocabulary, downstream_tasks
from raysynth.data.sources import check_same_files, digest_of_documents, note_files, signature
from raysynth.data.text_pairs import generate_text
from raysynth.specs.datasets import Dataset
from raysynth.specs.identity import describe, name
from raysynth.store.marks import provenance
from raysynth.store.records import DataResult, Record
from raysynth.store.store import Store
from raysynth.tokens.span_corruption import SpanCorruption

PAIRS = dataclasses.replace(
    downstream_tasks["code_translation"].data, vocabulary=TrainedVocabulary(num_pieces=110, num_sentinels=4)
)
CORPUS = Dataset(
    task=TextCorpus(
        name="wiki_10k",
        vocabulary=TrainedVocabulary(num_pieces=110, num_sentinels=4),
        objective=SpanCorruption(input_length=32, first_sentinel=113),
    )
)


@pytest.fixture
def pairs(tmp_path):
    """A folder of text pairs, the store with the data set made of them, and its record."""
    folder = tmp_path / "files"
    folder.mkdir()
    for split, count in (("train", 30), ("valid", 5), ("test", 5)):
        rows = [f"int {split}{n} = {n};\tvar {split}{n} := {n}" for n in range(count)]
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    store = Store(str(tmp_path / "store"))
    return folder, store, record_of(PAIRS, generate_text(PAIRS, store, {"code_translation": str(folder)}))


def record_of(dataset, manifest):
    result = DataResult(rows=manifest.num_rows, sha256=manifest.digest, sources_sha256=manifest.sources_sha256)
    return Record(artifact=name(dataset), description=describe(dataset), result=result, provenance=provenance(0.0))


def test_the_same_files_pass_wherever_and_whenever_they_are(pairs, tmp_path):
    folder, store, record = pairs
    check_same_files(PAIRS, record, {"code_translation": str(folder)}, store)
    folder.rename(tmp_path / "elsewhere")
    check_same_files(PAIRS, record, {"code_translation": str(tmp_path / "elsewhere")}, store)
    check_same_files(PAIRS, record, {}, store)


@pytest.mark.parametrize("file", ["train.tsv", "valid.tsv", "test.tsv"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("3", "4", 1),
        lambda text: text + "one more\trow\n",
        lambda text: "".join(reversed(text.splitlines(keepends=True))),
        lambda text: "".join(text.splitlines(keepends=True)[1:]),
    ],
    ids=["word", "more", "order", "fewer"],
)
def test_other_rows_are_one_line(pairs, file, change):
    folder, store, record = pairs
    (folder / file).write_text(change((folder / file).read_text()))
    with pytest.raises(InputError) as caught:
        check_same_files(PAIRS, record, {"code_translation": str(folder)}, store)
    assert str(caught.value).startswith(
        f"{folder} has other rows than those that {name(PAIRS)} was made of; use another"
    )
    assert "\n" not in str(caught.value)


def test_a_place_in_the_environment_counts_unless_it_is_gone(pairs, monkeypatch):
    folder, store, record = pairs
    monkeypatch.setenv("RAYSYNTH_DATA_CODE_TRANSLATION", str(folder))
    (folder / "train.tsv").write_text("another\trow\n")
    with pytest.raises(InputError, match="has other rows"):
        check_same_files(PAIRS, record, {}, store)
    monkeypatch.setenv("RAYSYNTH_DATA_CODE_TRANSLATION", "/gone")
    check_same_files(PAIRS, record, {}, store)


def test_unchanged_files_are_not_read_again_and_a_torn_note_is_no_harm(pairs, monkeypatch):
    folder, store, record = pairs
    where = {"code_translation": str(folder)}
    (note,) = store.local_root.glob("dataset/*/sources.json")
    note.write_bytes(note.read_bytes()[:20])
    check_same_files(PAIRS, record, where, store)
    note_files(store, name(PAIRS), signature(str(folder)))
    monkeypatch.setattr(type(PAIRS.texts), "read", lambda *_: pytest.fail("read again"))
    check_same_files(PAIRS, record, where, store)


def test_a_corpus_with_another_document_is_one_line(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("a b c")
    record = Record(
        artifact=name(CORPUS),
        description=describe(CORPUS),
        result=DataResult(rows={}, sha256="", sources_sha256=digest_of_documents(["a b c"])),
        provenance=provenance(0.0),
    )
    store, where = Store(str(tmp_path / "store")), {"wiki_10k": str(texts)}
    check_same_files(CORPUS, record, where, store)
    (texts / "b.txt").write_text("d")
    with pytest.raises(InputError, match="has other rows than those that dataset/wiki_10k"):
        check_same_files(CORPUS, record, where, store)


def test_borders_between_documents_count():
    assert digest_of_documents(["ab", "c"]) != digest_of_documents(["a", "bc"])
