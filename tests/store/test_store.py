"""The store: records are whole or absent, states are told apart, and a remote store behaves like a local one."""

import dataclasses
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyarrow import fs

from raysynth import T5_SMALL, Dataset, InputError, Pretrain, synthetic_tasks
from raysynth.errors import StoreError
from raysynth.specs.identity import name
from raysynth.store import leases
from raysynth.store.store import Outcome, State, Store, differences
from tests.records import provenance, weights_result

DATA = Dataset(task=synthetic_tasks["set"], num_examples=100)
ARTIFACT = Pretrain(data=DATA, model=T5_SMALL)


@pytest.fixture(params=["path", "file", "s3"])
def store(request, tmp_path):
    if request.param == "s3":
        return Store(request.getfixturevalue("bucket")(tmp_path.name))
    return Store(str(tmp_path) if request.param == "path" else tmp_path.as_uri())


def test_an_artifact_goes_from_new_over_running_and_failed_to_done(store):
    assert store.status(ARTIFACT).state is State.NEW
    store.progress(ARTIFACT, step=3, num_steps=9, seconds_per_step=None)
    assert store.status(ARTIFACT).progress.step == 3
    store.fail(ARTIFACT, outcome=Outcome.FAILED, error="no memory", log="Traceback ...")
    assert store.status(ARTIFACT).state is State.FAILED
    failure = store.status(ARTIFACT).failure
    assert (failure.error, failure.step, failure.log) == ("no memory", 3, "Traceback ...")
    store.forget_failure(ARTIFACT)
    assert store.status(ARTIFACT).state is State.NEW
    store.fail(ARTIFACT, outcome=Outcome.FAILED, error="no memory", log="")
    store.record(ARTIFACT, result=weights_result(selected_step=4), provenance=provenance())
    assert store.status(ARTIFACT).state is State.DONE
    assert store.status(ARTIFACT).record.result == weights_result(selected_step=4)
    assert not store.exists(f"{name(ARTIFACT)}/failure.json")


def test_a_record_of_another_description_is_an_error_that_names_the_field(store):
    store.record(ARTIFACT, result=weights_result(), provenance=provenance())
    record = store.read_json(f"{name(ARTIFACT)}/record.json")
    record["description"]["data"]["num_examples"] = 7
    store.write_json(f"{name(ARTIFACT)}/record.json", record)
    with pytest.raises(InputError, match=r"data\.num_examples \(7 against 100\)"):
        store.status(ARTIFACT)


def test_a_workspace_comes_back_as_it_was_pushed(store):
    with store.workspace(ARTIFACT) as work:
        (work.path / "checkpoints" / "5").mkdir(parents=True)
        (work.path / "checkpoints" / "5" / "a.bin").write_bytes(b"five")
        work.push()
        (work.path / "checkpoints" / "5" / "a.bin").unlink()
        (work.path / "checkpoints" / "6").mkdir()
        (work.path / "checkpoints" / "6" / "a.bin").write_bytes(b"six")
        work.push()
        (work.path / "later.txt").write_text("never pushed")
    with store.workspace(ARTIFACT) as work:
        assert (work.path / "checkpoints" / "6" / "a.bin").read_bytes() == b"six"
        assert not (work.path / "checkpoints" / "5" / "a.bin").exists()
        assert (work.path / "later.txt").exists() == (store.local_root is not None)


def test_inputs_are_fetched_whole_by_many_at_once(store, tmp_path):
    with store.workspace(ARTIFACT) as work:
        for index in range(20):
            (work.path / f"{index}.txt").write_text(str(index) * 1000)
        work.push()
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: store.fetch(ARTIFACT, tmp_path / "cache"), range(4)))
    (path,) = paths
    assert {file.name for file in path.glob("*.txt")} == {f"{index}.txt" for index in range(20)}
    assert not list((tmp_path / "cache").rglob("*.aside"))


def test_a_store_means_the_same_in_every_process(store):
    store.write_json("mark.json", {"x": 1})
    assert pickle.loads(pickle.dumps(store)).read_json("mark.json") == {"x": 1}


def test_a_relative_path_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = pickle.dumps(Store("results"))
    monkeypatch.chdir("/")
    assert pickle.loads(store).root == str(tmp_path / "results")


@pytest.fixture
def other(store):
    """The pid of another run on the store, which lives until it is killed."""
    code = (
        "import sys, time; from raysynth.store import Store, leases; from tests.store.test_store import ARTIFACT\n"
        "with leases.driver(Store(sys.argv[1])) as driver:\n"
        "    print(driver.lease(ARTIFACT), flush=True)\n"
        "    time.sleep(60)"
    )
    arguments = [sys.executable, "-c", code, store.uri]
    run = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert run.stdout.readline() == "True\n"
    yield run
    run.kill()
    run.wait()


def test_an_artifact_is_leased_to_one_run_until_it_releases_it_or_dies(store, other):
    free = dataclasses.replace(ARTIFACT, seed=17)
    with leases.driver(store) as driver:
        assert len(driver.others()) == 1
        assert not driver.lease(ARTIFACT)
        assert driver.lease(free)
        assert driver.lease(free), "its own lease is no hindrance"
        other.kill()
        other.wait()
        assert driver.lease(ARTIFACT)
        assert not driver.others()
        driver.release(ARTIFACT)
        assert not store.exists(f"leases/{name(ARTIFACT)}.json")
    assert not store.filesystem.get_file_info(fs.FileSelector(f"{store.root}/drivers", allow_not_found=True))


def test_leases_that_dead_runs_left_on_finished_artifacts_are_deleted(store, other):
    other.kill()
    other.wait()
    with leases.driver(store):
        assert store.exists(f"leases/{name(ARTIFACT)}.json"), "whoever makes the artifact takes it over"
    store.record(ARTIFACT, result=weights_result(), provenance=provenance())
    with leases.driver(store):
        assert not store.exists(f"leases/{name(ARTIFACT)}.json")


def test_a_run_that_ends_releases_what_it_leased(store):
    with leases.driver(store) as driver:
        assert driver.lease(ARTIFACT)
    assert not store.exists(f"leases/{name(ARTIFACT)}.json")


def test_of_two_that_write_a_lease_at_once_the_last_one_has_it(store, other, monkeypatch):
    free = dataclasses.replace(ARTIFACT, seed=17)
    with leases.driver(store) as driver:
        rival = f"leases/{name(free)}.json"
        theirs = store.read_json(f"leases/{name(ARTIFACT)}.json")
        monkeypatch.setattr(time, "sleep", lambda seconds: store.write_json(rival, theirs))
        assert not driver.lease(free)


def test_a_diverged_artifact_is_known_as_such(store):
    store.fail(ARTIFACT, outcome=Outcome.DIVERGED, error="diverged: the loss is nan by step 7", log="")
    assert store.status(ARTIFACT).state is State.DIVERGED


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("nosuch://x", "store 'nosuch://x' is not a path or a URI that pyarrow knows"),
        ("/proc/nowhere", "store '/proc/nowhere' is not writable"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(uri, line):
    with pytest.raises(InputError) as caught:
        Store(uri).check_writable()
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_broken_record_is_one_line_that_names_the_remedy(store):
    store.write_bytes(f"{name(ARTIFACT)}/record.json", b'{"half": ')
    damage = r"record\.json is damaged: it is not a whole JSON object"
    with pytest.raises(InputError, match=rf"{damage}; to heal it: raysynth verify --store .* --repair"):
        store.status(ARTIFACT)


def test_a_write_that_dies_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    store.write_json("a.json", {"old": 1})
    monkeypatch.setattr(os, "replace", power_cut)
    with pytest.raises(StoreError, match=r"cannot write a\.json: power cut"):
        store.write_json("a.json", {"new": 2})
    assert store.read_json("a.json") == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def power_cut(*_):
    raise OSError("power cut")


def test_differences_name_the_fields():
    assert differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}, "d": 4}) == [
        ("b.c", "2", "3"),
        ("d", "default", "4"),
    ]


def test_descriptions_differ_field_by_field_even_where_one_has_no_such_part():
    one, other = {"init": {"is": "Random"}}, {"init": {"is": "Full", "source": {"is": "Pretrain", "seed": 3}}}
    assert differences(one, other) == [
        ("init.is", "'Random'", "'Full'"),
        ("init.source.is", "default", "'Pretrain'"),
        ("init.source.seed", "default", "3"),
    ]
    assert differences({"a": [{"b": 1}]}, {"a": [{"b": 1}, {"c": 2}]}) == [("a.1.c", "default", "2")]
    assert differences({"a": [1, 2]}, {"a": [1]}) == [("a", "[1, 2]", "[1]")]


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"store '.*/file' must be a directory, got a file"):
        Store(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"surprise": 1}, r"record\.json is damaged: it has the unknown field 'surprise'"),
        ({"provenance": {}}, r"record\.json, provenance is damaged: it lacks the field 'host'"),
        ({"result": {"rows": {}}}, r"record\.json, result is damaged: it lacks the field 'sha256'"),
        ({"result": 3}, r"record\.json, result is damaged: it must be an object, got 3"),
    ],
)
def test_unknown_and_missing_fields_of_a_record_are_one_line(change, line, tmp_path):
    store = Store(str(tmp_path))
    store.record(ARTIFACT, result=weights_result(), provenance=provenance())
    file = f"{name(ARTIFACT)}/record.json"
    store.write_json(file, store.read_json(file) | change)
    with pytest.raises(InputError, match=line) as caught:
        store.status(ARTIFACT)
    assert "\n" not in str(caught.value)


def test_a_record_comes_back_as_it_was_written(tmp_path):
    store = Store(str(tmp_path))
    result = weights_result(last_step=8, evaluations={4: {"loss": 1.5}, 8: {"loss": 1.25}}, test={"exact_match": 0.5})
    where = provenance(seconds_per_step=0.5, device="1 cpu")
    store.record(ARTIFACT, result=result, provenance=where)
    record = store.status(ARTIFACT).record
    assert (record.artifact, record.result, record.provenance) == (name(ARTIFACT), result, where)


@pytest.mark.parametrize("read", [Store.read_bytes, Store.checksum, lambda store, path: store.read_file(path, Path())])
def test_a_named_pipe_is_refused_instead_of_read_for_ever(tmp_path, read):
    os.mkfifo(tmp_path / "record.json")
    with pytest.raises(InputError, match="is damaged: it is no file"):
        read(Store(str(tmp_path)), "record.json")
