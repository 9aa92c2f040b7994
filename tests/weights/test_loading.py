"""Models of a store to use: outputs as in training, names, the `predict` command, and exports for transformers."""

import dataclasses
import io
import json
import random
import shutil
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

import raysynth
from raysynth import (
    Dataset,
    DownstreamTask,
    Finetune,
    InputError,
    Pretrain,
    RandomInit,
    T5Vocabulary,
    TextDataset,
    TextPairs,
    TrainedVocabulary,
    pretrained,
    synthetic_tasks,
    token_space,
)
from raysynth.cli import main
from raysynth.data.layout import Packed
from raysynth.data.manifest import Manifest, result_of, write_manifest
from raysynth.data.shard_files import shard_bytes, write_shard
from raysynth.data.stored_dataset import StoredDataset
from raysynth.data.text_pairs import generate_text
from raysynth.downstream.rows import Split
from raysynth.model.checkpoints import params_digest, write_params
from raysynth.model.decode import generate
from raysynth.model.evaluate import TextEvaluator
from raysynth.model.t5 import T5
from raysynth.specs.identity import name
from raysynth.specs.parameters import paths
from raysynth.store.store import Store
from raysynth.tokens.ragged import Ragged
from tests.records import provenance, weights_result
from tests.tiny import MODEL

TEXTS = TextDataset(
    name="odd",
    texts=TextPairs(format="jsonl", validation_share=0.2, test_share=0.2),
    vocabulary=TrainedVocabulary(num_pieces=120),
)
RUN = Finetune(
    task=DownstreamTask(
        name="odd",
        data=TEXTS,
        learning_rate=0.01,
        num_steps=8,
        eval_every=4,
        batch_size=16,
        input_length=12,
        target_length=10,
        decode_length=10,
        num_beams=2,
    ),
    init=RandomInit(dataclasses.replace(MODEL, dtype="float32")),
)
IDS = Dataset(
    task=dataclasses.replace(synthetic_tasks["identity"], tokens=token_space(num_pieces=156), prefix=(200, 7)),
    num_examples=2,
)
SOURCE = Pretrain(data=IDS, model=RUN.model, num_steps=8, eval_every=4, input_length=12, target_length=9)
OTHER = dataclasses.replace(SOURCE, seed=1)


def pairs(count=120):
    """Distinct texts of different lengths, some of them longer than the recipe's inputs."""
    draw = random.Random(3)
    texts = {"".join(draw.choices("abcdefgh (){}:=", k=draw.randint(1, 24))).strip() or "x" for _ in range(count)}
    return [{"source": text, "target": text[::-1].strip()} for text in sorted(texts)]


def arrays(model, seed=0):
    rng = np.random.default_rng(seed)
    flat = {
        path: rng.normal(len(shape) == 1, 0.1 if len(shape) == 1 else shape[0] ** -0.5, shape).astype(np.float32)
        for path, shape in paths(model).items()
    }
    return unflatten_dict(flat, sep="/")


def add_weights(store, artifact, seed=0):
    params = arrays(artifact.model, seed)
    with store.workspace(artifact) as workspace:
        write_params(workspace.path / "checkpoints", 4, params, artifact=name(artifact))
        workspace.push()
    result = weights_result(selected_step=4, params_sha256=params_digest(params))
    store.record(artifact, result=result, provenance=provenance())


def add_texts(store, dataset, folder):
    file = folder / "odd.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs()))
    manifest = generate_text(dataset, store, {dataset.name: str(file)})
    store.record(dataset, result=result_of(manifest), provenance=provenance())


def fill(store, folder):
    add_texts(store, TEXTS, folder)
    shard = write_shard(store, name(IDS), "train-00000.parquet", shard_bytes(*2 * [Ragged.of([[5], [6]])]), 2)
    manifest = Manifest(splits={Split.TRAIN: (shard,)}, prefix=IDS.task.prefix)
    write_manifest(manifest, store, name(IDS))
    store.record(IDS, result=result_of(manifest), provenance=provenance())
    for seed, artifact in enumerate([RUN, SOURCE, OTHER]):
        add_weights(store, artifact, seed)
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("loading")
    return fill(Store(str(root / "store")), root)


@pytest.fixture
def copy(store, tmp_path):
    """A copy of the store to damage."""
    shutil.copytree(store.root, tmp_path / "copy")
    return Store(str(tmp_path / "copy"))


# -------------------------------------------------------------------------------- outputs


def test_outputs_are_those_of_the_evaluation_in_training(store):
    dataset = StoredDataset.open(store.local_root / name(TEXTS))
    examples = dataset.split(Split.TEST).read()
    sources = [source for source, _ in examples.texts]
    assert max(examples.sources.lengths) > RUN.task.input_length
    layout = Packed.fitting(examples, batch_size=16, input_length=12, target_length=10)
    vocabulary = dataset.vocabulary()
    greedy = dataclasses.replace(RUN.task, num_beams=1)
    evaluator = TextEvaluator(
        network=T5(RUN.model), recipe=greedy, layout=layout, examples=examples, vocabulary=vocabulary
    )
    model = raysynth.load(RUN, store=store.uri)
    assert model.config == RUN.model
    assert params_digest(model.params) == params_digest(arrays(RUN.model))
    assert model.generate(sources, num_beams=1) == evaluator.predictions(arrays(RUN.model))
    assert model.generate(sources, num_beams=1) != model.generate(sources)
    assert model.generate([]) == []


def test_the_search_is_that_of_the_recipe_unless_another_is_asked_for(store):
    model, sources = raysynth.load(RUN, store=store.uri), [pair["source"] for pair in pairs()[:16]]
    beams = model.generate(sources)
    assert beams == model.generate(sources, num_beams=2, length_penalty=0.6, decode_length=10)
    assert beams != model.generate(sources, num_beams=1)
    assert max(map(len, model.generate_ids([[5], [6, 7]], num_beams=1, decode_length=3))) == 3


def test_a_synthetic_model_takes_and_gives_ids_after_its_prefix(store):
    model = raysynth.load(SOURCE, store=store.uri)
    inputs = jnp.asarray([[200, 7, 5, 30, 1, *7 * [0]]], jnp.int32)
    (expected,) = np.asarray(generate(T5(SOURCE.model), arrays(SOURCE.model, 1), inputs, decode_length=9)[0])
    expected = [int(token) for token in expected if token > 1]
    assert expected
    assert model.generate_ids([[5, 30]]) == [expected]
    assert model.generate(["5 30"]) == [" ".join(map(str, expected))]
    for text in ("a b", "5 256", "-1", "٣"):
        with pytest.raises(InputError, match="inputs are token ids, because the synthetic task identity has no text"):
            model.generate([text])


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (lambda model: model.generate("text"), r"generate takes a list of texts, got 'text'$"),
        (lambda model: model.generate([b"text"]), r"generate takes a list of texts, got "),
        (lambda model: model.generate(["\ud800"]), r"a text has no UTF-8 form"),
        (lambda model: model.generate(["x"], num_beams=0), r"num_beams must be an integer of at least 1, got 0"),
        (lambda model: model.generate(["x"], length_penalty=float("nan")), r"length_penalty must be a finite number"),
        (lambda model: model.generate_ids([5, 6]), r"generate_ids takes a list of lists of ids, got \[5, 6\]$"),
        (lambda model: model.generate_ids(5), r"generate_ids takes a list of lists of ids, got 5$"),
        (lambda model: model.generate_ids([[256]]), r"an id must be from 0 to 255, got 256"),
        (lambda model: model.generate_ids([[0.5]]), r"an id must be from 0 to 255, got 0\.5"),
    ],
)
def test_wrong_inputs_are_one_line(wrong, line, store):
    with pytest.raises(InputError, match=line):
        wrong(raysynth.load(RUN, store=store.uri))


# -------------------------------------------------------------------------------- names


def test_an_artifact_is_its_description_or_a_name_that_fits_it_alone(store, monkeypatch):
    monkeypatch.setenv("RAYSYNTH_STORE", store.uri)
    full = name(RUN)
    for run in (RUN, full, f"{full}/", full[:-1], "finetune/odd", "odd.random", full[-8:], full[-8:-2]):
        assert raysynth.load(run).name == full
    with pytest.raises(InputError, match=r"'identity' must fit one artifact of .*; it fits pretrain/identity.seed0-"):
        raysynth.load("identity")
    for wrong in ("", "no", full[-8:-5]):
        with pytest.raises(InputError, match="unknown artifact"):
            raysynth.load(wrong)
    with pytest.raises(InputError, match="load takes an artifact's name, or a Finetune"):
        raysynth.load(TEXTS)
    with pytest.raises(InputError, match=r"unknown artifact of .*'finetune/odd.*seed1"):
        raysynth.load(dataclasses.replace(RUN, seed=1))


def test_what_is_damaged_or_missing_is_one_line(copy):
    vocabulary = copy.local_root / name(TEXTS) / "spiece.model"
    vocabulary.write_bytes(vocabulary.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"spiece\.model is damaged"):
        raysynth.load(RUN, store=copy.uri)
    shutil.rmtree(copy.local_root / "dataset")
    with pytest.raises(InputError, match=r"its inputs are not known: .* lacks the data set"):
        raysynth.load(RUN, store=copy.uri).generate(["x"])
    add_weights(copy, RUN, seed=9)
    record = copy.local_root / name(RUN) / "record.json"
    shutil.copy(record, record.with_suffix(".new"))
    add_weights(copy, RUN, seed=8)
    shutil.copy(record.with_suffix(".new"), record)
    with pytest.raises(InputError, match="holds other parameters than the record says"):
        raysynth.load(RUN, store=copy.uri)


# -------------------------------------------------------------------------------- the command


def test_predict_prints_one_line_for_each_text(store, tmp_path, monkeypatch, capsys):
    model = raysynth.load(RUN, store=store.uri)
    texts = ["abc", "", "h g", "(a)"]
    expected = model.generate(texts, num_beams=1)
    (tmp_path / "inputs").write_text("\nh g\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"(a)\r\n")))
    arguments = ["predict", "odd", "abc", "-", "--file", str(tmp_path / "inputs"), "--beams", "1"]
    assert main([*arguments, "--store", store.uri]) == 0
    first, second, third, fourth = expected
    assert capsys.readouterr().out.split("\n") == [first, fourth, second, third, ""]

    monkeypatch.setenv("RAYSYNTH_STORE", store.uri)
    assert main(["predict", "odd"]) == 2
    assert "predict needs a TEXT" in capsys.readouterr().err
    assert main(["predict", "odd", "x", "--file", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/nowhere cannot be read: No such file or directory\n"


def test_models_of_a_remote_store(store, bucket, tmp_path):
    remote = Store(bucket("loading"))
    add_texts(remote, TEXTS, tmp_path)
    add_weights(remote, RUN)
    assert raysynth.load(RUN, store=remote.uri).generate(["abc"]) == raysynth.load(RUN, store=store.uri).generate(
        ["abc"]
    )


# -------------------------------------------------------------------------------- exports


def exported(store, artifact, folder):
    assert main(["export", name(artifact), "--store", store.uri, "--format", "hugging-face", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch", reason="needs the extra 'parity'")
    return pytest.importorskip("transformers", reason="needs the extra 'parity'")


ODD = [
    *("", " ", "  ", "\n", "\t", " a", "a ", "a  b", "a\nb", "a\tb\r\n", "\u00a0a\u2003b", "a\u200bb", "\ufeffa"),
    *("{", "}", "{a: [b]}", "a{{b}}", "<", "<<x>>", "a_b", "\\", "`~^|", "\x00", "\x7f", 'it\'s "it"', "...", "--x"),
    *(
        "Grüße",
        "naïve café",
        "日本語のテキスト",
        "Привет, мир",
        "مرحبا",
        "हिन्दी",
        "한국어",
        "👩‍🚀 emoji",
        "ﬁ ½ ² Ⅷ",
        "e\u0301",
    ),
    *("<extra_id_0>", "a<extra_id_1>b", "a <extra_id_2> b", "<extra_id_0><extra_id_99>", "<extra_id_100>", "▁a ▁"),
    "e\u0301",
    "word " * 200,
]


def strings(count=400):
    draw = random.Random(5)
    alphabet = "abcde ABC 012 .,:;{}[]()<>\n\t\"'_-=+*/\\éüß日本д🙂"
    drawn = ("".join(draw.choices(alphabet, k=draw.randint(1, 30))) for _ in range(count))
    return [*ODD, *drawn, *(pair["source"] for pair in pairs())]


@pytest.fixture(params=["trained", "t5"])
def finetuning(request, store, tmp_path, monkeypatch):
    """A fine-tuning with each vocabulary, and its store."""
    if request.param == "trained":
        return RUN, store
    file = request.getfixturevalue("shared") / "data/t5_vocab/spiece.model"
    monkeypatch.setenv("RAYSYNTH_T5_VOCABULARY", str(file))
    store, dataset = Store(str(tmp_path / "t5")), dataclasses.replace(TEXTS, vocabulary=T5Vocabulary())
    model = dataclasses.replace(RUN.model, vocab_size=32_128)
    run = Finetune(task=dataclasses.replace(RUN.task, data=dataset), init=RandomInit(model))
    add_texts(store, dataset, tmp_path)
    add_weights(store, run)
    return run, store


def test_an_exported_tokenizer_gives_our_ids(finetuning, transformers, tmp_path):
    run, store = finetuning
    vocabulary = StoredDataset.open(store.local_root / name(run.task.data)).vocabulary()
    theirs = transformers.AutoTokenizer.from_pretrained(exported(store, run, tmp_path / "out"))
    theirs.save_pretrained(tmp_path / "again")
    for tokenizer in (theirs, transformers.AutoTokenizer.from_pretrained(tmp_path / "again")):
        assert len(tokenizer) == vocabulary.size
        expected = [[*vocabulary.encode(text), 1] for text in strings()]
        found = tokenizer(strings()).input_ids
        assert [text for text, ours, ids in zip(strings(), expected, found, strict=True) if ours != ids] == []
    batch = theirs(["a", "a b c d"], padding=True)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch.input_ids[0][-1] == 0


def test_an_exported_model_generates_what_ours_does(finetuning, transformers, tmp_path):
    run, store = finetuning
    out = exported(store, run, tmp_path / "out")
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(out)
    settings = theirs.generation_config
    assert (settings.num_beams, settings.max_new_tokens, settings.decoder_start_token_id) == (2, 10, 0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    texts = [pair["source"] for pair in pairs() if len(pair["source"]) < 10][:20]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    found = theirs.generate(**batch, num_beams=1).numpy()
    model = raysynth.load(run, store=store.uri)
    ours = model.generate_ids([model.usage.vocabulary.encode(text) for text in texts], num_beams=1)
    assert len(set(map(tuple, ours))) > 5
    for row, ids in zip(found[:, 1:].tolist(), ours, strict=True):
        assert (row[: row.index(1)] if 1 in row else row) == ids


def test_an_export_of_a_synthetic_model_takes_ids_as_text(store, transformers, tmp_path):
    out = exported(store, SOURCE, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert tokenizer("5 30").input_ids == [200, 7, 5, 30, 1]
    assert tokenizer.decode([5, 30, 1], skip_special_tokens=True) == "5 30"
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(out)
    (found,) = theirs.generate(**tokenizer(["5 30"], return_tensors="pt"))
    assert [tokenizer.decode(found, skip_special_tokens=True)] == raysynth.load(SOURCE, store=store.uri).generate(
        ["5 30"]
    )
    assert "token ids" in (out / "README.md").read_text()


def test_an_export_without_a_known_vocabulary_has_no_silent_tokenizer(copy, transformers, tmp_path):
    own = pretrained("my-own", model=MODEL)
    add_weights(copy, own)
    shutil.rmtree(copy.local_root / "dataset")
    for number, artifact in enumerate((RUN, SOURCE)):
        out = exported(copy, artifact, tmp_path / str(number))
        assert "There is no tokenizer" in (out / "README.md").read_text()
        with pytest.raises(Exception, match="must be specified"):
            transformers.AutoTokenizer.from_pretrained(out)
    out = exported(copy, own, tmp_path / "own")
    assert "the vocabulary of imported weights is not known" in (out / "README.md").read_text()
