"""Copies of a remote store's files: only what is as it was written is used, and a kill at any point loses nothing."""

import errno
import hashlib
import tempfile

import pytest

from raysynth import T5_SMALL, Dataset, InputError, Pretrain, synthetic_tasks
from raysynth.errors import StoreError
from raysynth.specs.identity import name
from raysynth.store.store import Store

ARTIFACT = Pretrain(data=Dataset(task=synthetic_tasks["set"], num_examples=100), model=T5_SMALL)
WHERE = name(ARTIFACT)


@pytest.fixture
def store(bucket, tmp_path):
    return Store(bucket(f"mirror-{hashlib.sha256(str(tmp_path).encode()).hexdigest()}"))


def fill(directory, files):
    for file, text in files.items():
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        (directory / file).write_text(text)


def contents(directory):
    return {file.relative_to(directory).as_posix(): file.read_text() for file in directory.rglob("*") if file.is_file()}


BEFORE = {"checkpoints/1/a": "one", "evaluations/1.json": "1", "events": "1"}
AFTER = {"checkpoints/2/a": "two", "evaluations/1.json": "1", "evaluations/2.json": "2", "events": "12"}


def push_both(store, stop_after):
    """Push two states of an artifact; the second push is killed after that many changes of the store."""
    changes = [0]

    def counted(operation):
        def call(*arguments):
            if changes[0] == stop_after:
                raise KeyboardInterrupt
            changes[0] += 1
            return operation(*arguments)

        return call

    with store.workspace(ARTIFACT) as work:
        fill(work.path, BEFORE)
        work.push()
        (work.path / "checkpoints/1/a").unlink()
        fill(work.path, AFTER)
        changes[0] = 0
        for operation in ("write_bytes", "write_file", "delete"):
            setattr(store, operation, counted(getattr(store, operation)))
        try:
            work.push()
        finally:
            for operation in ("write_bytes", "write_file", "delete"):
                delattr(store, operation)


def test_a_push_that_is_killed_at_any_point_leaves_the_state_before_or_after_it(store):
    states = []
    for stop_after in range(20):
        store.delete(WHERE)
        try:
            push_both(store, stop_after)
            killed = False
        except KeyboardInterrupt:
            killed = True
        with store.workspace(ARTIFACT) as work:
            state = contents(work.path)
            assert state in (BEFORE, BEFORE | {"events": "12"}, AFTER), "an event file may only be ahead"
            states.append(state)
            fill(work.path, AFTER)
            for file in state.keys() - AFTER.keys():
                (work.path / file).unlink()
            work.push()
        with store.workspace(ARTIFACT) as work:
            assert contents(work.path) == AFTER
        stored = {file.removeprefix(f"{WHERE}/") for file in store.files_below(WHERE)} - {"files.json"}
        assert AFTER.keys() <= stored
        if not killed:
            break
    assert BEFORE in states
    assert stop_after > 5


DAMAGES = {
    "missing": lambda store, file: store.delete(file),
    "other": lambda store, file: store.write_bytes(file, b"oNe"),
    "cut": lambda store, file: store.write_bytes(file, b"o"),
    "empty": lambda store, file: store.write_bytes(file, b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_left_out_of_a_workspace_and_refused_of_a_done_artifact(store, damage, tmp_path):
    with store.workspace(ARTIFACT) as work:
        fill(work.path, BEFORE)
        work.push()
    DAMAGES[damage](store, f"{WHERE}/checkpoints/1/a")
    with pytest.raises(InputError) as caught:
        store.fetch(ARTIFACT, tmp_path / "cache")
    assert f"{WHERE}/checkpoints/1/a" in str(caught.value)
    assert "raysynth verify --store" in str(caught.value)
    assert str(caught.value).endswith("--repair --deep"), "sizes alone may be right"
    assert not list((tmp_path / "cache").rglob("a"))
    with store.workspace(ARTIFACT) as work:
        assert contents(work.path) == {file: text for file, text in BEFORE.items() if file != "checkpoints/1/a"}
        fill(work.path, BEFORE)
        work.push()
    assert contents(store.fetch(ARTIFACT, tmp_path / "cache")) == BEFORE


@pytest.mark.parametrize(
    "listed",
    [
        b"",
        b"{}",
        {"files": []},
        {"files": {"../../x": {"size": 0, "sha256": ""}}},
        {"files": {"/etc/x": {"size": 0, "sha256": ""}}},
        {"files": {"a": {"size": "0", "sha256": ""}}},
        {"files": {"a": None}},
        {"files": {}, "more": 1},
    ],
)
def test_a_damaged_list_is_one_line_or_no_list(store, listed, tmp_path):
    file = f"{WHERE}/files.json"
    (store.write_bytes if isinstance(listed, bytes) else store.write_json)(file, listed)
    with pytest.raises(InputError, match=r"files\.json is damaged") as caught:
        store.fetch(ARTIFACT, tmp_path / "cache")
    assert len(str(caught.value).splitlines()) == 1
    with store.workspace(ARTIFACT) as work:
        assert contents(work.path) == {}
        fill(work.path, BEFORE)
        work.push()
    assert contents(store.fetch(ARTIFACT, tmp_path / "cache")) == BEFORE


def test_a_copy_that_somebody_changed_is_copied_again(store, tmp_path):
    with store.workspace(ARTIFACT) as work:
        fill(work.path, BEFORE)
        work.push()
    place = store.fetch(ARTIFACT, tmp_path / "cache")
    for change in (
        lambda: (place / "events").write_text("2"),
        lambda: (place / "events").unlink(),
        lambda: (place / "more").write_text(""),
    ):
        change()
        assert contents(store.fetch(ARTIFACT, tmp_path / "cache")) == BEFORE
    assert not list((tmp_path / "cache").rglob(".*"))


def test_a_cache_that_others_can_write_is_refused(store, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(InputError, match="other users can write to"):
        store.fetch(ARTIFACT, tmp_path / "cache")


def test_a_lost_network_is_one_line(store):
    server = store.filesystem
    store.filesystem = LostNetwork()
    for operation in (
        lambda: store.status(ARTIFACT),
        lambda: store.names(),
        lambda: store.files_below(""),
        lambda: store.forget_failure(ARTIFACT),
        lambda: store.write_json("a", {}),
    ):
        with pytest.raises(StoreError, match=r"cannot .*: Connection timed out$"):
            operation()
    store.filesystem = server


class LostNetwork:
    """A file system of which every operation fails."""

    type_name = "s3"

    def __getattr__(self, operation):
        raise OSError(errno.ETIMEDOUT, "AWS Error NETWORK_CONNECTION during HeadObject operation")


def test_what_killed_processes_left_is_deleted_and_what_others_use_is_not(store, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with store.workspace(ARTIFACT) as work:
        ours = work.path.name
    prefix, machine, pid, birth, _ = ours.rsplit("-", 4)
    random = "0" * 32
    dead = [f"{prefix}-{machine}-{pid}-00000000-{random}", f"{prefix}-{machine}-{10**15}-{birth}-{random}"]
    kept = [f"{prefix}-00000000-{10**15}-{birth}-{random}", ours, f"{prefix}-notes", "other"]
    for folder in (*dead, *kept):
        (tmp_path / folder / "below").mkdir(parents=True)
    with store.workspace(ARTIFACT) as work:
        assert {path.name for path in tmp_path.iterdir()} == {*kept, work.path.name}
    assert {path.name for path in tmp_path.iterdir()} == set(kept)
