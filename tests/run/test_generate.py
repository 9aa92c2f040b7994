"""Shards: rows depend on (task, seed, shard) alone, no input occurs twice, and a killed call is continued."""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

from raysynth import Dataset, InputError, Mixture, synthetic_tasks, token_space
from raysynth.data import batches, shard_files
from raysynth.data.draws import draw_shard
from raysynth.data.manifest import read_from_store
from raysynth.errors import WorkerError
from raysynth.run import session
from raysynth.run.generate import generate
from raysynth.run.generate_corpus import generate_corpus, write_documents
from raysynth.run.spread import spread_here
from raysynth.specs.datasets import TextCorpus, TrainedVocabulary
from raysynth.specs.identity import name
from raysynth.store.marks import provenance
from raysynth.store.records import DataResult
from raysynth.store.store import Store
from raysynth.synthetic.base import SyntheticTask
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.span_corruption import SpanCorruption

generated = partial(generate, spread=session.spread)
corpus_drawn = partial(generate_corpus, spread=session.spread)

SMALL = dataclasses.replace(
    synthetic_tasks["set"], min_length=3, max_length=8, tokens=token_space(num_pieces=30, num_sentinels=8)
)
DATA = Dataset(task=SMALL, num_examples=900, num_validation=150, shard_size=200, seed=5)


@pytest.fixture(scope="module")
def one_node():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def made(one_node, tmp_path_factory):
    store = Store(str(tmp_path_factory.mktemp("store")))
    return store, generated(DATA, store, tick=lambda done, of: None, warn=print)


def rows(store, dataset, split):
    examples = batches.read(store.local_root / name(dataset), split)
    return [(tuple(s.tolist()), tuple(t.tolist())) for s, t in zip(examples.sources, examples.targets, strict=True)]


def test_the_counts_are_those_asked_for_and_no_input_is_there_twice(made):
    store, _ = made
    train, validation = rows(store, DATA, "train"), rows(store, DATA, "validation")
    assert (len(train), len(validation)) == (900, 150)
    assert len({source for source, _ in train + validation}) == 1050


def test_every_row_is_the_tasks(made):
    store, _ = made
    for source, target in rows(store, DATA, "train")[::50]:
        assert tuple(dict.fromkeys(source)) == target


def test_a_mixture_has_no_input_twice_and_may_have_two_answers_to_one(one_node, tmp_path):
    few = token_space(num_pieces=5, num_sentinels=8)
    tasks = (
        dataclasses.replace(synthetic_tasks[task], min_length=3, max_length=5, tokens=few)
        for task in ("set", "identity")
    )
    dataset = Dataset(task=Mixture(tasks=tuple(tasks), tokens=few), num_examples=180, num_validation=60, shard_size=200)
    store = Store(str(tmp_path))
    manifest = generated(dataset, store, tick=lambda done, of: None, warn=print)
    assert manifest.prefix == ()
    examples = dict(rows(store, dataset, "train") + rows(store, dataset, "validation"))
    assert len(examples) == 240
    inputs = {mark: {source[1:] for source in examples if source[0] == mark} for mark in (few.empty - 1, few.empty - 2)}
    assert all(len(sources) > 40 for sources in inputs.values())
    assert inputs[few.empty - 1] & inputs[few.empty - 2], "the pool is small enough for both tasks to get the same"
    for (mark, *source), target in examples.items():
        assert list(target) == (source if mark == few.empty - 2 else list(dict.fromkeys(source)))


def test_the_manifest_tells_of_the_files_as_they_are(made):
    store, manifest = made
    assert read_from_store(store, name(DATA)) == manifest
    for split, shards in manifest.splits.items():
        for shard in shards:
            assert shard.file.startswith(split)
            table = pq.read_table(store.local_root / name(DATA) / shard.file)
            assert table.num_rows == shard.rows
            assert str(table.schema.field("source").type) == "large_binary"
    assert not store.exists(f"{name(DATA)}/draws")


def test_a_killed_call_keeps_what_it_drew_and_ends_with_the_same_data(made, tmp_path):
    _, manifest = made
    store = Store(str(tmp_path))

    class Killed(Exception):
        pass

    def die(done, of):
        if done >= 400:
            raise Killed

    with pytest.raises(Killed):
        generated(DATA, store, tick=die, warn=print)
    kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / name(DATA) / "draws").iterdir()}
    assert len(kept) >= 2
    assert generated(DATA, store, tick=lambda done, of: None, warn=print) == manifest


def test_a_shard_is_drawn_once(one_node, tmp_path):
    store = Store(str(tmp_path))
    first, hashes = draw_shard(DATA, store, 3)
    file = tmp_path / name(DATA) / "draws" / "00003.parquet"
    before = file.stat().st_mtime_ns
    again, same = draw_shard(DATA, store, 3)
    assert first == again
    assert np.array_equal(hashes, same)
    assert file.stat().st_mtime_ns == before


def copy(made, tmp_path):
    """The finished data set with its record in a store of its own, with its directory."""
    store, manifest = made
    shutil.copytree(store.local_root / name(DATA), tmp_path / name(DATA))
    copied = Store(str(tmp_path))
    result = DataResult(rows={split.value: rows for split, rows in manifest.num_rows.items()}, sha256=manifest.digest)
    copied.record(DATA, result=result, provenance=provenance(0.0))
    return copied, tmp_path / name(DATA)


def spoil(file):
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)


def times(directory):
    return {file.name: file.stat().st_mtime_ns for file in directory.glob("*.parquet")}


def test_a_whole_data_set_is_left_alone(made, tmp_path):
    store, directory = copy(made, tmp_path)
    before = times(directory)
    assert generated(DATA, store, tick=lambda done, of: None, warn=pytest.fail) == made[1]
    assert times(directory) == before


def test_damaged_and_missing_shards_alone_are_made_again_with_a_warning(made, tmp_path):
    store, directory = copy(made, tmp_path)
    before = times(directory)
    spoil(directory / "train-00002.parquet")
    (directory / "train-00000.parquet").unlink()
    assert (directory / "validation-00000.parquet").exists(), "shard 0 lies in two files"
    warned = []
    assert not shard_files.intact(DATA, store)
    assert generated(DATA, store, tick=lambda done, of: None, warn=warned.append) == made[1]
    assert not store.exists(f"{name(DATA)}/record.json"), "it is written last"
    assert [line.split("/")[-1].split()[0] for line in sorted(warned)] == ["train-00000.parquet", "train-00002.parquet"]
    changed = {file for file, time in times(directory).items() if time != before[file]}
    assert changed == {"train-00000.parquet", "validation-00000.parquet", "train-00002.parquet"}


@pytest.mark.parametrize(
    "changes", [{"prefix": (7,)}, {"splits": {}}, {"shards": slice(1, None)}, {"rows": 7}, {"file": "../x"}], ids=str
)
def test_a_manifest_without_a_record_must_be_that_of_the_data_set(made, tmp_path, changes):
    store, directory = copy(made, tmp_path)
    outside = tmp_path / "dataset" / "x"
    outside.write_text("kept")
    value = store.read_json(f"{name(DATA)}/manifest.json")
    train = value["splits"]["train"]
    if "shards" in changes:
        value["splits"]["train"] = train[changes.pop("shards")]
    elif changes.keys() <= train[0].keys():
        train[0] |= changes
    else:
        value |= {key: list(item) if isinstance(item, tuple) else item for key, item in changes.items()}
    store.write_json(f"{name(DATA)}/manifest.json", value)
    store.delete(f"{name(DATA)}/record.json")
    warned = []
    assert generated(DATA, store, tick=lambda done, of: None, warn=warned.append) == made[1]
    assert "made again" in warned[0]
    assert outside.read_text() == "kept"
    assert (directory / "manifest.json").read_bytes() == (
        made[0].local_root / name(DATA) / "manifest.json"
    ).read_bytes()


def test_a_damaged_draw_is_made_again_with_a_warning(made, tmp_path):
    store = Store(str(tmp_path))
    for number in range(3):
        draw_shard(DATA, store, number)
    spoil(tmp_path / name(DATA) / "draws" / "00001.parquet")
    warned = []
    assert generated(DATA, store, tick=lambda done, of: None, warn=warned.append) == made[1]
    assert warned == [f"{tmp_path}/{name(DATA)}/draws/00001.parquet is damaged and is made again"]


SPARSE = Dataset(task=synthetic_tasks["identity"], num_examples=900, num_validation=100, shard_size=100)
"""So few of so many possible inputs that no shard has duplicates: shards are moved, not rewritten."""


@pytest.mark.parametrize(("dataset", "step"), [(SPARSE, "move"), (DATA, "manifest"), (SPARSE, "manifest")])
def test_a_call_killed_while_it_settles_keeps_its_shards(one_node, tmp_path, monkeypatch, dataset, step):
    whole, broken = Store(str(tmp_path / "whole")), Store(str(tmp_path / "broken"))
    manifest = generated(dataset, whole, tick=lambda done, of: None, warn=pytest.fail)
    calls = iter(range(5))
    method = "move" if step == "move" else "write_bytes"
    going = getattr(Store, method)

    def killed(self, path, *arguments):
        if (step == "move" and next(calls, None) is None) or path.endswith("manifest.json"):
            raise KeyboardInterrupt
        going(self, path, *arguments)

    monkeypatch.setattr(Store, method, killed)
    with pytest.raises(KeyboardInterrupt):
        generated(dataset, broken, tick=lambda done, of: None, warn=pytest.fail)
    monkeypatch.undo()
    directory = broken.local_root / name(dataset)
    before = times(directory)
    assert len(before) >= 5
    assert generated(dataset, broken, tick=lambda done, of: None, warn=pytest.fail) == manifest
    after = times(directory)
    assert {file: after[file] for file in before} == before


def test_seeds_give_other_data(made, tmp_path):
    other = Store(str(tmp_path))
    manifest = generated(dataclasses.replace(DATA, seed=6), other, tick=lambda done, of: None, warn=print)
    assert manifest.digest != made[1].digest


FEW_INPUTS = dataclasses.replace(
    synthetic_tasks["first_token"], min_length=1, max_length=2, tokens=token_space(num_pieces=16, num_sentinels=8)
)
"""A task with 210 inputs."""


def test_too_few_distinct_inputs_are_one_line(one_node, tmp_path):
    dataset = Dataset(task=FEW_INPUTS, num_examples=900, num_validation=10, shard_size=500)
    with pytest.raises(InputError) as caught:
        generated(dataset, Store(str(tmp_path)), tick=lambda done, of: None, warn=print)
    assert str(caught.value).startswith("first_token gave only 210 distinct inputs")
    assert not list(tmp_path.rglob("manifest.json"))


def test_generation_goes_on_until_the_count_is_reached(one_node, tmp_path):
    dataset = Dataset(task=FEW_INPUTS, num_examples=190, num_validation=10, shard_size=100)
    store = Store(str(tmp_path))
    manifest = generated(dataset, store, tick=lambda done, of: None, warn=print)
    assert manifest.num_rows["train"] == 190
    assert len({source for source, _ in rows(store, dataset, "train") + rows(store, dataset, "validation")}) == 200


def test_what_is_wrong_with_a_task_of_ones_own_is_one_line(one_node, tmp_path):
    def task_of(kind, drawn):
        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Own(SyntheticTask):
            name = kind

            def draw(self, rng, count):
                return drawn(count)

        return Own(tokens=token_space(num_pieces=28))

    ids = Ragged.of([[2, 3]] * 100)
    for kind, drawn, error, line in [
        ("misspelt", lambda count: nowhere, WorkerError, r"NameError: .*'nowhere'.* \(test_generate.py, line \d+\)"),  # noqa: F821
        ("lone", lambda count: ids, InputError, "^lone.draw must return a pair of inputs and targets, got Ragged$"),
        ("none", lambda count: None, InputError, "^none.draw must return a pair of inputs and targets, got NoneType$"),
        ("wide", lambda count: (Ragged.of([[65_540]] * 100), ids), InputError, "^token ids must be .* got 65540$"),
        ("less", lambda count: (Ragged.of([[-1]] * 100), ids), InputError, "^token ids must be .* got -1$"),
        ("ends", lambda count: (ids, Ragged.of([[1]] * 100)), InputError, "ids of at least 2, got 1 in its targets"),
        ("lists", lambda count: (ids, [[2]]), InputError, "must return 100 targets as a Ragged, got list"),
        ("few", lambda count: (Ragged.of([[2]]), ids), InputError, "must return 100 inputs as a Ragged, got 1 rows"),
        ("high", lambda count: (ids, Ragged.of([[128]] * 100)), InputError, "ids up to 126, got 128 in its targets"),
    ]:
        dataset = Dataset(task=task_of(kind, drawn), num_examples=100, num_validation=10, shard_size=100)
        with pytest.raises(error, match=line) as caught:
            generated(dataset, Store(str(tmp_path)), tick=lambda done, of: None, warn=print)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_damaged_shard_is_one_line(made, tmp_path):
    store, manifest = made
    directory = tmp_path / "copy"
    directory.mkdir()
    for file in (store.local_root / name(DATA)).iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    broken = directory / manifest.splits["train"][0].file
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(InputError, match=r"train-.*\.parquet cannot be read") as caught:
        batches.read(directory, "train")
    assert "\n" not in str(caught.value)


def test_data_are_drawn_off_the_hosts_of_accelerators():
    def node(name, **resources):
        return {"NodeID": name * 56, "Alive": True, "Resources": resources}

    head, dead = node("a", CPU=8.0, **{"node:__internal_head__": 1.0}), {**node("d", CPU=8.0), "Alive": False}
    hosts = [head, node("b", CPU=96.0, TPU=4.0), node("c", CPU=4.0), node("e", CPU=16.0, GPU=1.0), dead]
    assert session.placement(hosts) == {"label_selector": {"ray.io/node-id": f"in({'a' * 56},{'c' * 56})"}}
    assert session.placement(hosts[1:]) == {
        "label_selector": {"ray.io/node-id": f"in({'c' * 56})"},
        "fallback_strategy": [{"label_selector": {}}],
    }
    assert session.placement([head, dead]) == {}
    assert session.placement(hosts[1:2]) == {}


CORPUS = Dataset(
    task=TextCorpus(
        name="wiki_10k",
        num_documents=40,
        validation_share=0.1,
        vocabulary=TrainedVocabulary(num_pieces=120, num_sentinels=10),
        objective=SpanCorruption(input_length=32, first_sentinel=129),
    ),
    num_examples=900,
    num_validation=130,
    shard_size=200,
)


@pytest.fixture(scope="module")
def corpus(one_node, tmp_path_factory):
    """The data set of a small corpus of text files, with where they lie and its manifest."""
    texts = tmp_path_factory.mktemp("texts")
    for n in range(60):
        (texts / f"{n}.txt").write_text(f"article {n} tells of {'abcdefgh'[n % 8]} and {n * n} and then {n % 13} more.")
    store = Store(str(tmp_path_factory.mktemp("corpus")))
    write_documents(CORPUS, store, {"wiki_10k": str(texts)})
    return texts, store, corpus_drawn(CORPUS, store, tick=lambda done, of: None, warn=pytest.fail)


def test_a_corpus_becomes_a_data_set_of_the_counts_asked_for(corpus):
    _, store, _ = corpus
    train, validation = rows(store, CORPUS, "train"), rows(store, CORPUS, "validation")
    assert (len(train), len(validation)) == (900, 130)
    assert not {source for source, _ in train} & {source for source, _ in validation}
    assert max(len(source) for source, _ in train) == 31, "and the end of sequence"
    assert all(129 in source and target[0] == 129 for source, target in train)


def test_a_corpus_killed_and_damaged_gives_the_same_data(corpus, tmp_path):
    texts, whole, manifest = corpus
    store = Store(str(tmp_path))

    def die(done, of):
        if of == 900 and done >= 400:
            raise KeyboardInterrupt

    write_documents(CORPUS, store, {"wiki_10k": str(texts)})
    with pytest.raises(KeyboardInterrupt):
        corpus_drawn(CORPUS, store, tick=die, warn=pytest.fail)
    spoil(tmp_path / name(CORPUS) / "train-00001.parquet")
    warned = []
    assert corpus_drawn(CORPUS, store, tick=lambda done, of: None, warn=warned.append) == manifest
    assert len(warned) == 1
    for file in ("spiece.model", "train-00001.parquet", "train-00004.parquet"):
        path = f"{name(CORPUS)}/{file}"
        assert store.read_bytes(path) == whole.read_bytes(path)
    assert not store.exists(f"{name(CORPUS)}/documents")


def test_shards_of_other_documents_are_not_kept(corpus, tmp_path):
    texts, _, manifest = corpus
    other = tmp_path / "other"
    shutil.copytree(texts, other)
    (other / "0.txt").write_text("quite another text, which the corpus did not have before, and which it will have now")
    store = Store(str(tmp_path / "store"))

    def die(done, of):
        if done >= 130:
            raise KeyboardInterrupt

    write_documents(CORPUS, store, {"wiki_10k": str(other)})
    with pytest.raises(KeyboardInterrupt):
        corpus_drawn(CORPUS, store, tick=die, warn=pytest.fail)
    write_documents(CORPUS, store, {"wiki_10k": str(texts)})
    assert corpus_drawn(CORPUS, store, tick=lambda done, of: None, warn=lambda line: None) == manifest


@pytest.mark.parametrize("file", ["train.parquet", "validation.parquet", "spiece.model", "checksums.json"])
def test_a_torn_file_of_documents_is_one_line(corpus, tmp_path, file):
    texts, _, _ = corpus
    store = Store(str(tmp_path))
    write_documents(CORPUS, store, {"wiki_10k": str(texts)})
    torn = tmp_path / name(CORPUS) / "documents" / file
    torn.write_bytes(torn.read_bytes()[:-3])
    with pytest.raises(InputError, match=rf"documents/{file} is damaged") as caught:
        corpus_drawn(CORPUS, store, tick=lambda done, of: None, warn=pytest.fail)
    assert "\n" not in str(caught.value)


def test_a_corpus_without_a_place_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"^wiki_10k needs its documents: pass --data wiki_10k=PATH or set RAYSYNTH_"):
        write_documents(CORPUS, Store(str(tmp_path)), {})


def test_one_process_without_ray_writes_the_same_bytes(made, corpus, tmp_path):
    store = Store(str(tmp_path))
    texts, corpus_store, corpus_manifest = corpus
    write_documents(CORPUS, store, {"wiki_10k": str(texts)})
    here = {"spread": spread_here, "tick": lambda done, of: None, "warn": pytest.fail}
    assert generate(DATA, store, **here) == made[1]
    assert generate_corpus(CORPUS, store, **here) == corpus_manifest
    for whole, dataset in ((made[0], DATA), (corpus_store, CORPUS)):
        for file in (whole.local_root / name(dataset)).iterdir():
            assert (tmp_path / name(dataset) / file.name).read_bytes() == file.read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("num_cpus", [1, 4])
def test_any_number_of_workers_writes_the_same_bytes(made, tmp_path, num_cpus):
    store, manifest = made
    code = (
        "import sys, ray; from raysynth.store.store import Store;"
        "import tests.run.test_generate as t;"
        f"ray.init(address='local', num_cpus={num_cpus}, include_dashboard=False, object_store_memory=100 * 2**20);"
        "t.generated(t.DATA, Store(sys.argv[1]), tick=lambda done, of: None, warn=print)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])
    for shard in manifest.shards:
        file = f"{name(DATA)}/{shard.file}"
        assert (tmp_path / file).read_bytes() == (store.local_root / file).read_bytes()


@pytest.mark.long
def test_generate_killed_three_times_at_random_gives_the_same_data(tmp_path):
    def command(store):
        return [sys.executable, "-m", "raysynth.cli", "generate", "set", "--num-examples", "300000", "--store", store]

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    began = time.monotonic()
    subprocess.run(command(str(whole)), check=True)
    seconds = time.monotonic() - began
    moments = random.Random(7)
    for _ in range(3):
        process = subprocess.Popen(command(str(broken)), start_new_session=True)
        try:
            process.wait(timeout=moments.uniform(0.3, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    subprocess.run(command(str(broken)), check=True)
    (one,), (other,) = whole.glob("dataset/*"), broken.glob("dataset/*")
    assert (one / "manifest.json").read_bytes() == (other / "manifest.json").read_bytes()
    assert not (other / "draws").exists()
    for file in one.glob("*.parquet"):
        assert file.read_bytes() == (other / file.name).read_bytes()


@pytest.mark.long
def test_two_nodes_write_the_rows_of_one(made, tmp_path):
    """Runs last in this module: it needs a cluster of its own."""
    _, manifest = made
    ray.shutdown()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20},
    )
    try:
        cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        ray.init(address=cluster.address, log_to_driver=False)
        store = Store(str(tmp_path))
        assert generated(DATA, store, tick=lambda done, of: None, warn=print) == manifest
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_shards_rewritten_by_ray_data_are_those_of_threads(made, tmp_path):
    store = Store(str(tmp_path))
    manifest = generated(DATA, store, tick=lambda done, of: None, warn=pytest.fail, most_rewritten_here=0)
    assert manifest == made[1]
