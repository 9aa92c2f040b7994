"""Vocabularies: T5's ids on real data, and models trained here, which lose nothing and are reproducible bit for bit."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from raysynth.downstream.code_translation import CodeXGLUE
from raysynth.errors import InputError
from raysynth.tokens.token_space import T5_NUMBERS
from raysynth.tokens.vocabulary import Vocabulary, t5_vocabulary_bytes

TEXTS = [f"value_{n} = self.read({n % 7}, '{'abcdefgh'[n % 8]}')  +  {n * n}" for n in range(400)]


@pytest.fixture(scope="module")
def small():
    return Vocabulary.train(TEXTS, 160, num_sentinels=10)


@pytest.fixture(scope="module")
def t5_file(shared):
    return shared / "data" / "t5_vocab" / "spiece.model"


@pytest.fixture(scope="module")
def t5(t5_file):
    return Vocabulary.load(t5_file.read_bytes(), 100)


# ------------------------------------------------------------------------------------------------------------- training


def test_a_trained_vocabulary_has_the_requested_size(small):
    assert (small.num_pieces, small.num_sentinels, small.size) == (160, 10, 170)
    assert max(max(small.encode(text)) for text in TEXTS) < 160


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "  two  spaces  ",
        "(Assign (Name x) (Constant ' '))",
        "~`^{}<>\\|",
        "".join(map(chr, range(32, 127))),
    ],
)
def test_printable_ascii_survives_even_if_absent_from_training(small, text):
    ids = small.encode(text)
    assert small.decode(ids) == text
    assert not {0, 1, 2} & set(ids)


def test_training_texts_survive_and_batches_agree_with_single_texts(small):
    rows = small.encode_many(TEXTS)
    assert len(rows) == len(TEXTS)
    for row, text in zip(rows, TEXTS, strict=True):
        assert row.tolist() == small.encode(text)
        assert small.decode(row) == text
    assert rows.values.dtype == np.uint16
    assert len(small.encode_many([])) == 0
    assert small.encode_many(["", "x", ""]).lengths.tolist() == [0, len(small.encode("x")), 0]


def test_characters_absent_from_training_become_unknown(small):
    ids = small.encode("x é y")
    assert 2 in ids
    assert small.decode(ids) == "x  \N{DOUBLE QUESTION MARK}  y"


def test_non_ascii_training_text_survives():
    texts = [f"größe {n} 漢字" for n in range(200)]
    vocabulary = Vocabulary.train(texts, 115, num_sentinels=4)
    assert [vocabulary.decode(vocabulary.encode(text)) for text in texts] == texts


def test_equal_texts_give_equal_bytes_in_another_process(small):
    program = (
        "import json, sys, hashlib; from raysynth.tokens.vocabulary import Vocabulary; "
        "model = Vocabulary.train(json.load(sys.stdin), 160, num_sentinels=10).model_bytes; "
        "print(hashlib.sha256(model).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(TEXTS), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == hashlib.sha256(small.model_bytes).hexdigest()
    assert done.stderr == ""


def test_a_saved_vocabulary_is_the_same(small):
    again = Vocabulary.load(small.model_bytes, 10)
    assert again.size == small.size
    assert [again.encode(text) for text in TEXTS[:50]] == [small.encode(text) for text in TEXTS[:50]]


@pytest.mark.parametrize(
    ("texts", "num_pieces", "message"),
    [
        (TEXTS, 100_000, r"^num_pieces must be at most \d+ for these texts, got 100000$"),
        (TEXTS, 20, r"^num_pieces must be at least 98 for these texts, got 20$"),
        ([], 160, "^a vocabulary needs texts to train on, got none$"),
        ([""], 160, "^a vocabulary needs texts to train on, got none$"),
    ],
)
def test_impossible_training_is_one_line(texts, num_pieces, message, capfd):
    with pytest.raises(InputError, match=message):
        Vocabulary.train(texts, num_pieces)
    assert capfd.readouterr() == ("", "")


# ----------------------------------------------------------------------------------------------- sentinels and decoding


def test_sentinels_count_down_from_the_top(small):
    assert [small.encode(f"<extra_id_{n}>") for n in range(10)] == [[169 - n] for n in range(10)]
    assert [small.decode([169 - n]) for n in range(10)] == [f"<extra_id_{n}>" for n in range(10)]


def test_sentinels_within_text(small):
    text = "value_1 <extra_id_0> = <extra_id_1>"
    ids = small.encode(text)
    assert [token for token in ids if token >= 160] == [169, 168]
    assert small.decode(ids) == text
    assert small.encode("value_1<extra_id_0> =<extra_id_1>") == ids


@pytest.mark.parametrize("text", ["x<extra_id_10>", "x<extra_id_01>", "x<extra_id_", "x<extra_id_1"])
def test_text_that_resembles_a_sentinel_is_text(small, text):
    ids = small.encode(text)
    assert max(ids) < 160
    assert small.decode(ids) == text


def test_decoding_stops_at_the_end_drops_padding_and_accepts_ids_beyond_the_vocabulary(small):
    ids = small.encode("value_3 = 9")
    assert small.decode([0, *ids, 0, 1, *ids]) == "value_3 = 9"
    assert small.decode(np.array([*ids, 1, 0, 0], np.int32)) == "value_3 = 9"
    assert small.decode([1]) == small.decode([]) == ""
    assert small.decode([170, 10_000]) == small.decode([2, 2])


# -------------------------------------------------------------------------------------------------------- broken models


def test_a_truncated_model_is_rejected(small):
    whole = small.model_bytes
    for length in (0, 1, 100, 1000, len(whole) // 2, len(whole) - 1):
        with pytest.raises(InputError, match=rf"^not a complete SentencePiece model \({length} bytes\)$"):
            Vocabulary.load(whole[:length], 10)


def test_other_bytes_are_rejected(capfd):
    for content in (b"<html>not found</html>", b"\x00" * 100, b"version https://git-lfs.github.com/spec/v1\n"):
        with pytest.raises(InputError) as error:
            Vocabulary.load(content, 10)
        assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_ids_must_fit_in_sixteen_bits(small):
    with pytest.raises(InputError, match="at most 65536 ids"):
        Vocabulary.load(small.model_bytes, 65_400)


# ------------------------------------------------------------------------------------------------------------------- T5


def test_t5_has_its_published_ids(t5):
    assert (t5.num_pieces, t5.size) == (32_000, 32_100)
    assert t5.encode("<extra_id_0>") == [32_099]
    assert t5.encode("<extra_id_99>") == [32_000]
    assert t5.encode("yes") == [4273]
    assert t5.encode("no") == [150]
    # The example of span corruption in the T5 paper (Raffel et al. 2020, Figure 2).
    ids = t5.encode("Thank you <extra_id_0> me to your party <extra_id_1> week.")
    assert ids == [1562, 25, 32_099, 140, 12, 39, 1088, 32_098, 471, 5]


def test_t5_numbers_are_those_of_the_token_space(t5):
    assert [tuple(token for token in t5.encode(str(n)) if token != 3) for n in range(221)] == list(T5_NUMBERS)


def test_t5_loses_braces_and_keeps_other_text(t5):
    assert (
        t5.decode(t5.encode("a { b } ~ c"))
        == "a  \N{DOUBLE QUESTION MARK}  b  \N{DOUBLE QUESTION MARK}   \N{DOUBLE QUESTION MARK}  c"
    )
    assert t5.decode(t5.encode("carbon monoxide [1] @ 5% | x > y")) == "carbon monoxide [1] @ 5% | x > y"


def test_t5_has_no_piece_for_the_braces_of_csharp(t5, shared):
    pairs = CodeXGLUE().read(str(shared / "data" / "code_translation"))["test"]
    targets = [pair.target for pair in pairs]
    rows = t5.encode_many(targets)
    assert all(2 in row for row, target in zip(rows, targets, strict=True) if "{" in target)
    assert [row.tolist() for row in rows][:50] == [t5.encode(target) for target in targets[:50]]
    assert rows.values.max() < 32_000


def test_t5_is_found_by_path_or_environment(t5_file, monkeypatch):
    monkeypatch.delenv("RAYSYNTH_T5_VOCABULARY", raising=False)
    content = t5_file.read_bytes()
    assert t5_vocabulary_bytes(str(t5_file)) == content
    monkeypatch.setenv("RAYSYNTH_T5_VOCABULARY", str(t5_file))
    assert t5_vocabulary_bytes(None) == content


def test_a_missing_t5_vocabulary_says_how_to_give_it(monkeypatch, tmp_path):
    monkeypatch.delenv("RAYSYNTH_T5_VOCABULARY", raising=False)
    with pytest.raises(InputError, match=r"set RAYSYNTH_T5_VOCABULARY to the path of its spiece\.model"):
        t5_vocabulary_bytes(None)
    with pytest.raises(InputError, match=r"absent\.model cannot be read: No such file"):
        t5_vocabulary_bytes(str(tmp_path / "absent.model"))
    for location in ("a\0b", "a\ud800"):  # no file system takes these
        with pytest.raises(InputError, match=r"^T5's vocabulary a.* cannot be read: "):
            t5_vocabulary_bytes(location)


def test_another_model_is_not_t5s(small, tmp_path, t5_file):
    file = tmp_path / "spiece.model"
    file.write_bytes(small.model_bytes)
    with pytest.raises(InputError, match=r"spiece\.model is not T5's vocabulary: it has 160 pieces, not 32000"):
        t5_vocabulary_bytes(str(file))
    file.write_bytes(t5_file.read_bytes()[:500_000])
    with pytest.raises(InputError, match=r"spiece\.model: not a complete SentencePiece model \(500000 bytes\)"):
        t5_vocabulary_bytes(str(file))
    file.write_bytes(t5_file.read_bytes().replace("▁the".encode(), "▁teh".encode(), 1))
    with pytest.raises(InputError, match=r"spiece\.model is not T5's vocabulary: its SHA-256 is not d60acb12"):
        t5_vocabulary_bytes(str(file))


@pytest.mark.parametrize("text", ["a\ud800", None, 7, b"a"])
def test_a_text_without_a_utf8_form_is_one_line(small, text):
    for use in (small.encode, lambda text: small.encode_many(["a", text]), lambda text: Vocabulary.train([text], 120)):
        with pytest.raises(InputError, match=r"^a text has no UTF-8 form: ") as error:
            use(text)
        assert str(error.value).isprintable()


@pytest.mark.parametrize("build", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_not_t5s(tmp_path, build):
    build(tmp_path / "spiece.model")
    with pytest.raises(InputError, match=r"spiece\.model is not a file$"):
        t5_vocabulary_bytes(str(tmp_path / "spiece.model"))
