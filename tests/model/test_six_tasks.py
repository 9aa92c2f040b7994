"""A tiny fine-tuning on the real files of every task of the paper: raw file, pairs, ids, training, decoding, record."""

import dataclasses
import json

import pytest

from raysynth import T5_SMALL, Finetune, RandomInit
from raysynth.data import batches
from raysynth.data.text_pairs import generate_text
from raysynth.downstream import metrics
from raysynth.downstream.rows import BadRows, Split
from raysynth.run.make import make
from raysynth.specs.catalog import downstream_tasks, paper_tasks
from raysynth.specs.identity import name
from raysynth.specs.recipes import AtStep, Best
from raysynth.specs.tiny import tiny
from raysynth.store.store import State, Store
from tests.records import record_data

FOLDERS = {
    "cnndm_10k": "cnndm",
    "mtop": "mtop",
    "webqsp": "webqsp/derived",
    "squad": "squad",
    "code_translation": "code_translation",
    "retrosynthesis": "uspto50k",
}


@pytest.mark.parametrize("task", paper_tasks, ids=lambda task: task.name)
def test_a_tiny_fine_tuning_on_the_real_files(task, shared, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSYNTH_T5_VOCABULARY", str(shared / "data" / "t5_vocab" / "spiece.model"))
    if task.name == "cnndm_10k":  # the files at hand have no test split
        task = dataclasses.replace(task, data=dataclasses.replace(task.data, scored=Split.VALIDATION))
    artifact = tiny(Finetune(task=task, init=RandomInit(T5_SMALL)))
    few = dataclasses.replace(artifact.task.data, num_train=64, num_validation=12)
    few = dataclasses.replace(few, num_test=12 if few.scored is Split.TEST else None)
    artifact = dataclasses.replace(artifact, task=dataclasses.replace(artifact.task, data=few))
    task, store = artifact.task, Store(str(tmp_path / "store"))

    folder = shared / "data" / FOLDERS[task.name]
    manifest = generate_text(few, store, {task.name: str(folder)}, BadRows.REFUSE)
    assert manifest.skipped_rows == 0
    record_data(few, store)
    make(artifact, store=store, cache=tmp_path, report=lambda result: None, node="here")

    status = store.status(artifact)
    assert status.state is State.DONE
    result = status.record.weights
    assert set(result.test) == set(task.metrics) == set(downstream_tasks[task.name].metrics)
    assert all(0 <= value <= 1 for value in result.test.values())
    assert result.num_test == 12
    assert result.selected_step == (8 if isinstance(task.selection, AtStep) else result.selected_step)

    rows = [json.loads(line) for line in (tmp_path / "store" / name(artifact) / "predictions.jsonl").open()]
    examples = batches.read(tmp_path / "store" / name(few), "test")
    assert [row["source"] for row in rows] == [source for source, _ in examples.texts]
    for metric in task.metrics:
        if metric != "token_accuracy":
            answers = [row.get("references", [row["target"]]) for row in rows]
            assert metrics.metrics[metric]([row["prediction"] for row in rows], answers) == result.test[metric]
            assert [row["scores"][metric] == 1 for row in rows] == [row["right"] for row in rows] or (
                metric != task.metrics[0]
            )
    if task.selection == Best("squad_exact_match"):  # the validation split was decoded and is what is scored
        assert result.validation["squad_f1"] == result.test["squad_f1"]
        assert all("squad_exact_match" in scores for scores in result.evaluations.values())
        assert all(row["references"] for row in rows)
