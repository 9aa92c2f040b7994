"""Text corpora: files to documents to segments; nothing is lost and no document is in both splits."""

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.data.corpus import documents, draw_shard, encode, num_segments, readable, segments
from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.specs.catalog import text_corpora
from raysynth.specs.datasets import Dataset, TextCorpus, TrainedVocabulary
from raysynth.specs.identity import describe, name
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.span_corruption import SpanCorruption

TEXTS = [f"article {n} tells of {'abcdefgh'[n % 8]} and {n * n} and then {n % 13} more." for n in range(60)]
CORPUS = TextCorpus(
    name="toy",
    num_documents=40,
    validation_share=0.1,
    vocabulary=TrainedVocabulary(num_pieces=120, num_sentinels=10),
    objective=SpanCorruption(input_length=32, first_sentinel=129),
)


@pytest.fixture
def folder(tmp_path):
    """The texts in files of every kind, at two depths."""
    (tmp_path / "b").mkdir()
    for place, text in enumerate(TEXTS[:10]):
        (tmp_path / f"a{place:02}.txt").write_text(text)
    lines = [json.dumps({"text": text, "title": "t"}) for text in TEXTS[10:40]]
    (tmp_path / "b" / "one.jsonl").write_text("\n".join([*lines[:15], "", *lines[15:]]) + "\n")
    pq.write_table(pa.table({"text": TEXTS[40:], "id": list(range(20))}), tmp_path / "b" / "two.parquet")
    (tmp_path / "b" / "notes.md").write_text("ignored")
    (tmp_path / "blank.txt").write_text(" \n")
    return tmp_path


# ------------------------------------------------------------------------------------------------------------ documents


def test_documents_come_in_the_order_of_their_files(folder):
    assert list(documents(str(folder))) == TEXTS
    assert list(documents(str(folder / "b" / "one.jsonl"))) == TEXTS[10:40]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("x.jsonl", b'{"text": "a"}\n{"text": \n', "x.jsonl, line 2: broken JSON: Expecting value"),
        ("x.jsonl", b'{"text": "a"}\n{"body": "b"}\n', 'x.jsonl, line 2: no text in the field "text"'),
        ("x.jsonl", b'["text"]\n', "x.jsonl, line 1: not a JSON object"),
        ("x.jsonl", b'{"text": "\xff"}\n', "x.jsonl, line 1: not UTF-8 at byte 11"),
        ("x.jsonl", b'{"text": "a\\ud800"}\n', "x.jsonl, line 1: character 2 is half of a surrogate pair"),
        ("x.jsonl", b'{"text": "a", "text": "b"}\n', "x.jsonl, line 1: broken JSON: the field 'text' is there twice"),
        ("x.jsonl", b'{"text": ' + b"[" * 100_000, "x.jsonl, line 1: broken JSON: nested too deeply"),
        ("x.txt", b"a\nb\0", "x.txt, line 2: has a NUL byte"),
        ("x.txt", b"ab\xff", "x.txt, line 1: not UTF-8 at byte 3 of the file"),
        ("x.parquet", b"PAR1nonsense", "x.parquet cannot be read: Parquet magic bytes not found"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError) as error:
        list(documents(str(tmp_path)))
    assert str(error.value).startswith(f"{tmp_path}/{message}")
    assert "\n" not in str(error.value)


def test_documents_are_read_as_they_are_but_for_a_byte_order_mark(tmp_path):
    text = " a\r\n\r\x85\u2028b\t\n"
    (tmp_path / "a.txt").write_bytes(f"\ufeff{text}".encode())
    (tmp_path / "b.jsonl").write_bytes(f"\ufeff{json.dumps({'text': text})}\r\n\r\n".encode())
    assert list(documents(str(tmp_path))) == [text, text]


def test_a_parquet_file_needs_a_column_of_text(tmp_path):
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r'x.parquet, row 1: no text in the field "text"$'):
        list(documents(str(tmp_path)))
    pq.write_table(pa.table({"text": ["a", None]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r'x.parquet, row 2: no text in the field "text"$'):
        list(documents(str(tmp_path)))


def test_nothing_to_read_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"does not exist$"):
        list(documents(str(tmp_path / "none")))
    with pytest.raises(InputError, match=r"has no .txt, .jsonl or .parquet file$"):
        list(documents(str(tmp_path)))


# --------------------------------------------------------------------------------------------------------------- splits


def test_no_document_is_in_both_splits(folder):
    vocabulary, rows = encode(CORPUS, str(folder))
    texts = {split: [vocabulary.decode(row.tolist()) for row in documents] for split, documents in rows.items()}
    assert (len(texts["train"]), len(texts["validation"])) == (36, 4)
    assert not set(texts["train"]) & set(texts["validation"])
    assert {*texts["train"], *texts["validation"]} < set(TEXTS)
    again = encode(CORPUS, str(folder))[1]
    assert again["train"].values.tolist() == rows["train"].values.tolist()
    other = encode(dataclasses.replace(CORPUS, seed=1), str(folder))[1]
    assert other["train"].values.tolist() != rows["train"].values.tolist()


def test_all_documents_are_taken_by_default(folder):
    _, rows = encode(dataclasses.replace(CORPUS, num_documents=None), str(folder))
    assert sum(map(len, rows.values())) == 60
    with pytest.raises(InputError, match=r"^toy: .* has 60 documents, 61 are needed$"):
        encode(dataclasses.replace(CORPUS, num_documents=61), str(folder))


# ------------------------------------------------------------------------------------------------------------- examples


def row_set(rows):
    return sorted(row.tolist() for row in rows)


def test_an_epoch_holds_every_document_once():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 90, 30)
    rows = Ragged.packed(np.arange(lengths.sum()), lengths)
    for length in (7, 35, 1_000):
        count = num_segments(rows, length)
        for epoch in range(3):
            epoch_segments = segments(rows, length, Split.TRAIN, seed=5, first=epoch * count, count=count)
            stream = epoch_segments.values.tolist()
            assert set(epoch_segments.lengths[:-1].tolist()) <= {length}
            # Documents are runs of neighbouring numbers, so any order of whole documents is this.
            missing = set(range(int(lengths.sum()))) - set(stream)
            assert len(missing) <= 1
            assert len(stream) == len(set(stream))
            # Tokens are numbered in order, so a new document begins wherever a number does not follow the one before.
            begins = {stream[0], *(b for a, b in pairwise(stream) if b != a + 1)}
            assert begins <= set(rows.offsets.tolist())
            assert len(begins) > 20
    one, two = (segments(rows, 35, Split.TRAIN, seed=5, first=first, count=10) for first in (0, num_segments(rows, 35)))
    assert one.values.tolist() != two.values.tolist()


def test_shards_continue_one_another():
    rows = Ragged.packed(np.arange(1_003), np.array([400, 3, 600]))
    whole = [row.tolist() for row in segments(rows, 20, Split.TRAIN, seed=1, first=0, count=120)]
    parts = [
        row.tolist()
        for first in range(0, 120, 8)
        for row in segments(rows, 20, Split.TRAIN, seed=1, first=first, count=8)
    ]
    assert parts == whole


def restored(source, target, top=129, bottom=120):
    spans, sentinel = {}, None
    for id in target:
        if bottom <= id <= top:
            sentinel = id
            spans[sentinel] = []
        else:
            spans[sentinel].append(id)
    return [token for id in source for token in spans.get(id, [id])]


@pytest.mark.parametrize("split", [Split.TRAIN, Split.VALIDATION])
def test_shards_hold_corrupted_segments_of_their_split(folder, split):
    _, rows = encode(CORPUS, str(folder))
    draw = {"seed": 3, "shard_size": 16}
    seen = []
    for shard in range(4):
        sources, targets = draw_shard(rows[split], CORPUS.objective, split, shard=shard, **draw)
        assert sources.lengths.max() + 1 <= 32
        assert targets.lengths.max() + 1 <= CORPUS.objective.target_length
        whole = Ragged.of(restored(s.tolist(), t.tolist()) for s, t in zip(sources, targets, strict=True))
        length = CORPUS.objective.segment_length
        expected = segments(rows[split], length, split, seed=3, first=shard * 16, count=16)
        assert row_set(whole) == row_set(expected)
        again = draw_shard(rows[split], CORPUS.objective, split, shard=shard, **draw)[0]
        assert again.values.tolist() == sources.values.tolist()
        seen.append(sources.values.tolist())
    assert len({tuple(values) for values in seen}) == 4


def test_examples_read_as_text(folder):
    vocabulary, rows = encode(CORPUS, str(folder))
    sources, targets = draw_shard(rows["train"], CORPUS.objective, Split.TRAIN, seed=0, shard=0, shard_size=4)
    source, target = readable(vocabulary, sources[0], targets[0])
    assert "<extra_id_0>" in source
    assert target.startswith("<extra_id_0>")


# --------------------------------------------------------------------------------------------------------- descriptions


def test_the_wiki_baseline_and_its_data_set():
    corpus = text_corpora["wiki_10k"]
    assert (corpus.num_documents, corpus.objective.segment_length, corpus.largest_id) == (10_000, 568, 32_099)
    data = Dataset(task=corpus)
    assert name(data).startswith("dataset/wiki_10k.seed0-")
    assert describe(corpus) == {"is": "TextCorpus", "name": "wiki_10k", "num_documents": 10_000}
    assert corpus.tiny().objective.input_length == 24


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_documents": 1}, "TextCorpus.num_documents must be an integer of at least 2, got 1"),
        ({"validation_share": 2}, "TextCorpus.validation_share must lie between 0 and 1, got 2"),
        (
            {"objective": SpanCorruption()},
            "TextCorpus.objective: first_sentinel must be the vocabulary's last id (129)",
        ),
    ],
)
def test_a_wrong_field_is_one_line(fields, message):
    with pytest.raises(InputError) as error:
        dataclasses.replace(CORPUS, **fields)
    assert str(error.value).startswith(message)
