"""T5's vocabulary on the real downstream texts, compared with the SentencePiece tokenizer of `transformers`."""

import csv
import json
import random

import pytest

from raysynth.tokens.vocabulary import Vocabulary

transformers = pytest.importorskip("transformers", reason="transformers is absent: pip install 'raysynth[parity]'")

FIELD_LIMIT = 1 << 24
"""Characters of the longest field of a CSV file; some articles exceed the default limit of the csv module."""


@pytest.fixture(scope="module")
def t5_file(shared):
    file = shared / "data/t5_vocab/spiece.model"
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    return file


@pytest.fixture(scope="module")
def ours(t5_file):
    return Vocabulary.load(t5_file.read_bytes(), 100)


@pytest.fixture(scope="module")
def theirs(t5_file):
    """The slow T5 tokenizer: `T5Tokenizer` up to transformers 4, a SentencePiece backend with T5's tokens since.

    In transformers 5, `T5Tokenizer` is the fast tokenizer, which breaks ties between segmentations differently.
    """
    if int(transformers.__version__.split(".")[0]) < 5:
        return transformers.T5Tokenizer(str(t5_file), legacy=True)
    from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

    return SentencePieceBackend(
        vocab_file=str(t5_file),
        legacy=True,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=[
            transformers.AddedToken(f"<extra_id_{n}>", lstrip=True, rstrip=True, special=True, normalized=False)
            for n in reversed(range(100))
        ],
    )


def texts_of(folder):
    """Every source and target of a task's files, in the paper's format if that is simple."""
    match folder.name:
        case "code_translation":
            for file in sorted(folder.iterdir()):
                yield from file.read_text().splitlines()
        case "mtop":
            for file in sorted((folder / "json").iterdir()):
                for example in map(json.loads, file.read_text().splitlines()):
                    yield from (example["question"], example["logical_form"])
        case "squad":
            for file in sorted(folder.iterdir()):
                for article in json.loads(file.read_text())["data"]:
                    for paragraph in article["paragraphs"]:
                        for asked in paragraph["qas"]:
                            yield f"question: {asked['question']} context: {paragraph['context']}"
                            yield from (answer["text"] for answer in asked["answers"])
        case "uspto50k":
            for file in sorted(folder.glob("*.smi")):
                for line in file.read_text().splitlines():
                    yield from line.split(" >> ")
        case "webqsp":
            for file in sorted((folder / "derived").iterdir()):
                for example in map(json.loads, file.read_text().splitlines()):
                    triples = " | ".join(" ".join(map(str, triple)) for triple in example["kg_tuples"])
                    yield from (f"{example['question']} ; structured knowledge: {triples}", example["s_expression"])
        case "cnndm":
            csv.field_size_limit(FIELD_LIMIT)
            for file in sorted(folder.glob("*.csv")):
                with file.open(newline="") as lines:
                    for row in csv.DictReader(lines):
                        yield from (f"summarize: {row['article']}", row["highlights"])
            for file in sorted((folder / "cnn/stories").iterdir()):
                yield file.read_text()


FOLDERS = ["code_translation", "mtop", "squad", "uspto50k", "webqsp", "cnndm"]


def distinct_texts(shared, name):
    folder = shared / "data" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return list(dict.fromkeys(texts_of(folder)))


def assert_same_ids(ours, theirs, texts):
    expected = theirs(texts, add_special_tokens=False).input_ids
    rows = [row.tolist() for row in ours.encode_many(texts)]
    assert len(rows) == len(expected) == len(texts)
    assert [text for text, a, b in zip(texts, rows, expected, strict=True) if a != b] == []


@pytest.mark.parametrize("name", FOLDERS)
def test_a_sample_of_every_tasks_texts_has_the_ids_of_transformers(ours, theirs, shared, name):
    texts = distinct_texts(shared, name)
    assert len(texts) > 500
    assert_same_ids(ours, theirs, random.Random(0).sample(texts, 100))


@pytest.mark.long
@pytest.mark.parametrize("name", FOLDERS)
def test_all_texts_have_the_ids_of_transformers(ours, theirs, shared, name):
    assert_same_ids(ours, theirs, distinct_texts(shared, name))


@pytest.mark.parametrize("name", FOLDERS)
def test_sentinels_anywhere_in_real_texts_have_the_ids_of_transformers(ours, theirs, shared, name):
    """At the start, the end, within words, next to each other, with and without spaces around them."""
    draw = random.Random(1)
    texts = []
    for text in draw.sample(distinct_texts(shared, name), 60):
        text = text[:400]
        places = sorted({0, len(text), *(draw.randrange(len(text) + 1) for _ in range(5))}, reverse=True)
        for place in draw.sample(places, draw.randint(1, len(places))):
            sentinels = draw.choice([" ", ""]).join(
                f"<extra_id_{draw.randrange(100)}>" for _ in range(draw.choice([1, 1, 2]))
            )
            text = text[:place] + draw.choice(["", " ", "  "]) + sentinels + draw.choice(["", " ", "  "]) + text[place:]
        texts.append(text)
    assert_same_ids(ours, theirs, texts)


@pytest.mark.parametrize(
    "text",
    [
        *(f"<extra_id_{n}>" for n in (0, 1, 9, 10, 42, 99)),
        " <extra_id_0> ",
        "<extra_id_0> <extra_id_1>",
        "<extra_id_0><extra_id_1><extra_id_2>",
        "a<extra_id_0>b",
        "a <extra_id_0>, b",
        "(<extra_id_0>)",
        "a\n<extra_id_0>\nb",
        "<extra_id_100> <extra_id_01> <extra_id_-1> <extra_id_>",
        "<extra_id_5",
        "<<extra_id_5>>",
        "",
        " ",
    ],
)
def test_sentinels_and_similar_texts_have_the_ids_of_transformers(ours, theirs, text):
    assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids


def test_ids_decode_to_the_texts_of_transformers(ours, theirs, shared):
    """Only texts whose every character has a piece; the two write unknown characters differently."""
    texts = [text for text in distinct_texts(shared, "mtop") if 2 not in ours.encode(text)]
    for text in random.Random(2).sample(texts, 300):
        ids = ours.encode(text)
        assert ours.decode([*ids, 1, 0]) == theirs.decode(ids, clean_up_tokenization_spaces=False)
