"""Downstream tasks: the appendix's numbers, where their files are, subsets, and texts as ids."""

import dataclasses
from pathlib import Path

import pytest

from raysynth.data.locations import location, locations
from raysynth.data.text_pairs import encode
from raysynth.downstream.python_ast import PythonAST
from raysynth.downstream.retrosynthesis import USPTO50K
from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.specs.catalog import downstream_tasks, natural_source, paper_tasks
from raysynth.specs.datasets import T5Vocabulary, TextDataset, TrainedVocabulary
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import fingerprint
from raysynth.specs.init_schemes import FullInit
from raysynth.specs.pretraining import pretrained
from raysynth.specs.recipes import AtStep, Best, Constant


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with 400 statements of Python."""
    code = tmp_path_factory.mktemp("code")
    lines = [f"value_{n} = read(self, {n * n}, 'text {n % 13}')" for n in range(400)]
    (code / "statements.py").write_text("\n".join(lines))
    return str(code)


def dataset(**changes):
    values = {"name": "python_ast", "texts": PythonAST(), "vocabulary": TrainedVocabulary(num_pieces=150)}
    return TextDataset(**values | changes)


# -------------------------------------------------------------------------------------------------------------- recipes


# From Appendices B and D.3 and Table 6: learning rate, steps, steps between evaluations, batch size, input, target and
# decode length, selection, metrics.
PAPER = {
    "cnndm_10k": (1e-3, 100_000, 10_000, 128, 512, 256, 148, AtStep(50_000), ["rouge1"]),
    "mtop": (1e-3, 100_000, 10_000, 128, 1024, 128, 128, Best("token_accuracy"), ["exact_match", "token_f1"]),
    "webqsp": (1e-3, 50_000, 5_000, 32, 2048, 256, 256, Best("token_accuracy"), ["exact_match", "token_f1"]),
    "squad": (
        *(1e-3, 250_000, 10_000, 128, 512, 128, 128),
        Best("squad_exact_match"),
        ["squad_exact_match", "squad_f1"],
    ),
    "code_translation": (3e-3, 150_000, 10_000, 32, 1024, 1024, 1024, Best("token_accuracy"), ["exact_match"]),
    "retrosynthesis": (3e-3, 400_000, 10_000, 128, 256, 256, 256, Best("token_accuracy"), ["exact_match"]),
}


@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_is_the_appendix(name):
    task = downstream_tasks[name]
    rate, *numbers, selection, metrics = PAPER[name]
    assert task.schedule == Constant(rate)
    assert numbers == [
        *(task.num_steps, task.eval_every, task.batch_size),
        *(task.input_length, task.target_length, task.decode_length),
    ]
    assert task.selection == selection
    assert list(task.metrics) == [*metrics, "token_accuracy"]
    assert (task.num_beams, task.length_penalty, task.dropout_rate, task.z_loss) == (4, 0.6, 0.1, 1e-4)
    assert task.data.vocabulary == T5Vocabulary()
    assert task.data.scored is (Split.VALIDATION if name == "squad" else Split.TEST)
    assert (task.data.num_validation, task.data.num_test, task.num_eval_examples) == (None, None, None)


def test_the_papers_tasks_are_in_the_order_of_its_tables():
    assert [task.name for task in paper_tasks] == list(PAPER)
    assert all(downstream_tasks[task.name] is task for task in paper_tasks)


def test_sizes_are_those_of_appendix_f():
    sizes = {
        "cnndm_1k": 1_000,
        "cnndm_10k": 10_000,
        "cnndm_100k": 100_000,
        "squad_1k": 1_000,
        "squad_10k": 10_000,
        "retrosynthesis_1k": 1_000,
        "retrosynthesis_10k": 10_000,
    }
    for name, size in sizes.items():
        task = downstream_tasks[name]
        assert (task.name, task.data.num_train) == (name, size)
        whole = next(full_size for full_size in paper_tasks if full_size.data.name == task.data.name)
        data = dataclasses.replace(task.data, num_train=whole.data.num_train)
        assert dataclasses.replace(task, name=whole.name, data=data) == whole
    # A size that is all of the data is the same task under another name.
    assert downstream_tasks["squad_87k"] == downstream_tasks["squad"]
    assert downstream_tasks["retrosynthesis_40k"] == downstream_tasks["retrosynthesis"]
    assert downstream_tasks["squad"].data.num_train is downstream_tasks["retrosynthesis"].data.num_train is None


def test_older_artifacts_keep_their_fingerprints():
    assert fingerprint(downstream_tasks["code_translation"].data) == "7ca37578"


def test_cnndm_starts_from_t5_v1_1_and_the_others_from_t5():
    for task in downstream_tasks.values():
        expected = "t5-v1_1-small" if task.data.name == "cnndm" else "t5-small"
        assert natural_source(task) == pretrained(expected)
        Finetune(task=task, init=FullInit(natural_source(task)))  # its vocabulary fits


@pytest.mark.parametrize("name", ["exact_match", "rouge1"])
def test_a_task_is_selected_by_its_own_metrics_only(name):
    with pytest.raises(
        InputError, match=rf"^unknown selection metric '{name}'.*: squad_exact_match, squad_f1, token_accuracy$"
    ):
        dataclasses.replace(downstream_tasks["squad"], selection=Best(name))


def test_the_scored_split_is_validation_or_test():
    squad = downstream_tasks["squad"].data
    with pytest.raises(InputError, match=r"^TextDataset.scored must be validation or test, got train$"):
        dataclasses.replace(squad, scored=Split.TRAIN)
    with pytest.raises(InputError, match=r"^unknown TextDataset.scored 'dev'; allowed: test, train, validation$"):
        dataclasses.replace(squad, scored="dev")
    with pytest.raises(InputError, match=r"^TextDataset.num_test must be left out if the validation split is scored"):
        dataclasses.replace(squad, num_test=5)


def test_an_unknown_task_is_one_line():
    with pytest.raises(InputError, match=r"^unknown downstream task 'python_asd' \(did you mean 'python_ast'\?\)"):
        downstream_tasks["python_asd"]


# ------------------------------------------------------------------------------------------------------------ locations


def test_an_option_takes_precedence_over_the_environment(monkeypatch):
    monkeypatch.delenv("RAYSYNTH_DATA_CODE_TRANSLATION", raising=False)
    assert location("code_translation", {}) is None
    monkeypatch.setenv("RAYSYNTH_DATA_CODE_TRANSLATION", "/from/environment")
    assert location("code_translation", {}) == "/from/environment"
    assert location("code_translation", {"code_translation": "/from/option"}) == "/from/option"
    assert location("code_translation", {"python_ast": "/elsewhere"}) == "/from/environment"
    monkeypatch.setenv("RAYSYNTH_DATA_CODE_TRANSLATION", "")
    assert location("code_translation", {}) is None


def test_a_task_of_another_size_has_the_same_files(monkeypatch):
    for name in ("CNNDM", "CNNDM_1K", "CNNDM_10K", "CNNDM_100K"):
        monkeypatch.delenv(f"RAYSYNTH_DATA_{name}", raising=False)
    assert location("cnndm", {"cnndm_10k": "/from/task"}) == "/from/task"
    assert location("cnndm", {"cnndm_10k": "/from/task", "cnndm": "/from/data"}) == "/from/data"
    monkeypatch.setenv("RAYSYNTH_DATA_CNNDM_10K", "/from/environment")
    assert location("cnndm", {}) == "/from/environment"
    assert location("squad", {}) is None


def test_a_misspelt_option_is_one_line():
    with pytest.raises(
        InputError,
        match=r"^unknown task of --data 'code_trans' \(did you mean 'code_translation'\?\); allowed: cnndm, ",
    ):
        locations(["code_trans=/x"])


# ------------------------------------------------------------------------------------------------------------- encoding


def test_ids_decode_to_the_texts_row_by_row(folder):
    vocabulary, ids, texts = encode(dataset(), folder)
    assert tuple(ids) == tuple(texts) == tuple(Split)
    assert texts == PythonAST().read(folder)
    for split in Split:
        sources, targets = ids[split]
        assert len(sources) == len(targets) == len(texts[split])
        for row, (source, target, _) in enumerate(texts[split]):
            assert vocabulary.decode(sources[row]) == source
            assert vocabulary.decode(targets[row]) == target
            assert not {0, 1, 2} & {*sources[row].tolist(), *targets[row].tolist()}


def test_subsets_of_a_seed_are_nested_and_other_seeds_differ(folder):
    def rows(**changes):
        return encode(dataset(**changes), folder)[2]

    small, large = rows(num_train=40, num_test=5), rows(num_train=90, num_validation=6, num_test=9)
    assert (len(small["train"]), len(small["test"])) == (40, 5)
    assert large["train"][:40] == small["train"]
    assert large["test"][:5] == small["test"]
    assert set(large["validation"]) < set(small["validation"])
    assert rows(num_train=40, seed=1)["train"] != small["train"]
    assert len(set(large["train"])) == 90


@pytest.fixture
def reactions(tmp_path):
    """A folder with 200 training rows and a test split, but no validation split."""
    lines = [f"{'C' * (n % 29 + 1)} >> {'N' * (n % 31 + 1)}.O" for n in range(200)]
    (tmp_path / "train.smi").write_text("\n".join(lines))
    (tmp_path / "test.smi").write_text("\n".join(lines[:9]))
    return str(tmp_path)


def chemistry(**changes):
    values = {"name": "retrosynthesis", "texts": USPTO50K(), "vocabulary": TrainedVocabulary(num_pieces=110)}
    return TextDataset(**values | changes)


def test_validation_is_held_out_of_training_if_the_files_have_none(reactions):
    texts = encode(chemistry(num_held_out=30), reactions)[2]
    assert [len(texts[split]) for split in Split] == [170, 30, 9]
    whole = chemistry().texts.read(reactions)["train"]
    assert sorted(texts["train"] + texts["validation"]) == sorted(whole)
    fewer = encode(chemistry(num_held_out=30, num_train=50), reactions)[2]
    assert fewer["validation"] == texts["validation"]
    assert encode(chemistry(num_held_out=30, num_train=20), reactions)[2]["train"] == fewer["train"][:20]
    with pytest.raises(InputError, match=r"^retrosynthesis train has 200 examples, 200 were to be held out$"):
        encode(chemistry(num_held_out=200), reactions)


def test_a_missing_split_is_one_line(reactions):
    with pytest.raises(InputError, match=r"^retrosynthesis needs a validation split; .* has train, test$"):
        encode(chemistry(), reactions)


def test_the_validation_split_may_be_scored_in_place_of_the_test_split(reactions):
    (Path(reactions) / "dev.smi").write_text("C >> O\nN >> C")
    (Path(reactions) / "test.smi").unlink()
    texts = encode(chemistry(scored=Split.VALIDATION, num_validation=1), reactions)[2]
    assert texts["test"] == texts["validation"]
    assert len(texts["test"]) == 1


def test_sizes_of_the_real_files_are_nested(shared, monkeypatch):
    monkeypatch.setenv("RAYSYNTH_T5_VOCABULARY", str(shared / "data" / "t5_vocab" / "spiece.model"))
    folder = str(shared / "data" / "uspto50k")
    few = dataclasses.replace(downstream_tasks["retrosynthesis_1k"].data, num_validation=5, num_test=5)
    more = dataclasses.replace(downstream_tasks["retrosynthesis_10k"].data, num_validation=5, num_test=5)
    small, large = encode(few, folder)[2], encode(more, folder)[2]
    assert (len(small["train"]), len(large["train"])) == (1_000, 10_000)
    assert small["train"] == large["train"][:1_000]
    assert small["test"] == large["test"]


def test_the_vocabulary_sees_only_the_training_subset(folder):
    first = encode(dataset(num_train=60), folder)[0]
    assert encode(dataset(num_train=60, num_validation=3, num_test=2), folder)[0].model_bytes == first.model_bytes
    assert encode(dataset(num_train=90), folder)[0].model_bytes != first.model_bytes


@pytest.mark.parametrize("field", ["num_train", "num_validation", "num_test"])
def test_a_subset_larger_than_its_split_is_one_line(folder, field):
    split = field.removeprefix("num_")
    with pytest.raises(InputError, match=rf"^python_ast {split} has \d+ examples, {field} is 401$"):
        encode(dataset(**{field: 401}), folder)
    with pytest.raises(InputError, match=rf"^TextDataset.{field} must be an integer of at least 1, got 0$"):
        dataset(**{field: 0})


def test_too_many_pieces_is_one_line(folder):
    with pytest.raises(InputError, match=r"^num_pieces must be at most \d+ for these texts, got 30000$"):
        encode(dataset(vocabulary=TrainedVocabulary(num_pieces=30_000)), folder)


def test_the_ids_of_python_ast_decode_to_its_texts():
    task = downstream_tasks["python_ast"]
    data = dataclasses.replace(task.data, num_train=2_000, num_validation=None, num_test=None)
    vocabulary, ids, texts = encode(data, None)
    for split in Split:
        for column, rows in enumerate(ids[split]):
            assert all(vocabulary.decode(row) == pair[column] for row, pair in zip(rows, texts[split], strict=True))
    # The task's lengths, which include the end of sequence, cut only few sequences.
    sources, targets = ids["validation"]
    assert (sources.lengths < task.input_length).mean() > 0.98
    assert (targets.lengths < task.target_length).mean() > 0.98


def test_code_translation_takes_the_t5_vocabulary_from_the_environment(shared, monkeypatch):
    monkeypatch.setenv("RAYSYNTH_T5_VOCABULARY", str(shared / "data" / "t5_vocab" / "spiece.model"))
    data = dataclasses.replace(downstream_tasks["code_translation"].data, num_train=100)
    vocabulary, ids, texts = encode(data, str(shared / "data" / "code_translation"))
    assert vocabulary.size == 32_100
    assert [len(texts[split]) for split in Split] == [100, 499, 500]
    assert max(targets.lengths.max() for _, targets in ids.values()) < 1024


def test_code_translation_without_its_vocabulary_says_what_is_missing(shared, monkeypatch):
    monkeypatch.delenv("RAYSYNTH_T5_VOCABULARY", raising=False)
    with pytest.raises(InputError, match="RAYSYNTH_T5_VOCABULARY"):
        encode(downstream_tasks["code_translation"].data, str(shared / "data" / "code_translation"))
