"""Private directories, paths that stay in the store, and storage errors in one line."""

import dataclasses
import errno
import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth import Dataset, InputError, Pretrained, T5Config, synthetic_tasks
from raysynth.errors import StoreError
from raysynth.specs.identity import name
from raysynth.store import leases
from raysynth.store.files import private_directory
from raysynth.store.store import Outcome, Store
from tests.records import DATA_RESULT, provenance

DATA = Dataset(task=synthetic_tasks["set"], num_examples=100)
NOBODY = 65_534

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")


def test_a_private_directory_is_this_users_alone(tmp_path):
    place = private_directory(tmp_path / "one" / "two")
    for directory in (place, place.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert private_directory(place) == place
    place.chmod(0o755)
    private_directory(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


@as_root
@pytest.mark.parametrize("part", ["one", "one/two"])
def test_a_directory_of_another_user_is_refused(tmp_path, part):
    (tmp_path / "one" / "two").mkdir(parents=True)
    os.chown(tmp_path / part, NOBODY, NOBODY)
    with pytest.raises(InputError, match=r"two cannot hold private files: .* belongs to another user"):
        private_directory(tmp_path / "one" / "two")


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_directory_that_others_can_write_is_refused(tmp_path, mode):
    (tmp_path / "one").mkdir()
    (tmp_path / "one").chmod(mode)
    for place in (tmp_path / "one", tmp_path / "one" / "two"):
        with pytest.raises(InputError, match="other users can write to"):
            private_directory(place)
    (tmp_path / "one").chmod(0o1777)  # as /tmp is
    private_directory(tmp_path / "one" / "two")


def test_a_symbolic_link_is_refused_where_others_could_have_made_it(tmp_path):
    (tmp_path / "real").mkdir()
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    for link in (shared / "link", tmp_path / "link"):
        link.symlink_to(tmp_path / "real")
    for place in (shared / "link", shared / "link" / "below", tmp_path / "link"):
        with pytest.raises(InputError, match="is a symbolic link"):
            private_directory(place)
    assert private_directory(tmp_path / "link" / "below") == (tmp_path / "real" / "below").resolve()


def test_what_is_no_directory_or_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for place, line in ((tmp_path / "file", "is not a directory"), (tmp_path / ("x" * 300), "File name too long")):
        with pytest.raises(InputError, match=line):
            private_directory(place)


# -------------------------------------------------------------------------------- paths


PATHS = ["../x", "a/../x", "/etc/passwd", "a//b", "a/", "./a", "a\0b", "a\\..\\b", "a/\n", "\ud800", "", "a/\x1b[0m"]


@pytest.mark.parametrize("path", PATHS)
def test_no_operation_leaves_the_store(tmp_path, path):
    store = Store(str(tmp_path / "store"))
    store.write_bytes("here", b"")
    operations = [
        lambda: store.exists(path),
        lambda: store.read_bytes(path),
        lambda: store.read_json(path),
        lambda: store.write_bytes(path, b""),
        lambda: store.write_json(path, {}),
        lambda: store.move(path, "to"),
        lambda: store.move("here", path),
        lambda: store.delete(path),
        lambda: store.set_aside(path),
        lambda: store.checksum(path),
        lambda: store.fetch_by_name(path, tmp_path / "cache"),
        lambda: store.record_of(path),
    ]
    for operation in operations:
        with pytest.raises(InputError, match="is no path of a file in a store") as caught:
            operation()
        assert len(str(caught.value).splitlines()) == 1
    assert {file.name for file in tmp_path.rglob("*")} == {"store", "here"}


@settings(deadline=None)
@given(path=st.text(st.sampled_from("./\\ab\0"), max_size=8))
def test_any_path_stays_inside_or_is_refused(tmp_path_factory, path):
    folder = tmp_path_factory.getbasetemp()
    store = Store(str(folder / "store"))
    try:
        store.write_bytes(path, b"")
    except InputError:
        return
    assert (folder / "store" / path).resolve().is_relative_to((folder / "store").resolve())
    store.delete(path.split("/")[0])


@pytest.mark.parametrize("label", ["../../x", "a/b", ".hidden", "/x", "a\\b", "a\0", "a\nb", "\x1b[31m"])
def test_a_name_that_is_a_path_is_refused_before_anything_is_written(tmp_path, label):
    store = Store(str(tmp_path / "store"))
    task = dataclasses.replace(synthetic_tasks["set"])
    artifact = dataclasses.replace(DATA, task=task)
    object.__setattr__(task, "name", label)  # however it came about
    operations = [
        lambda: store.status(artifact),
        lambda: store.record(artifact, result=DATA_RESULT, provenance=provenance()),
        lambda: store.fail(artifact, outcome=Outcome.FAILED, error="", log=""),
        lambda: store.progress(artifact, step=1, num_steps=2, seconds_per_step=None),
        lambda: store.forget_failure(artifact),
        lambda: store.workspace(artifact).__enter__(),
        lambda: store.fetch(artifact, tmp_path),
        lambda: leases.Driver(store).lease(artifact),
    ]
    for operation in operations:
        with pytest.raises(InputError, match="cannot be a directory of a store") as caught:
            operation()
        assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.rglob("*"))


def test_a_link_inside_the_store_is_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "dataset").symlink_to(tmp_path / "elsewhere")
    store = Store(str(tmp_path / "store"))
    store.record(DATA, result=DATA_RESULT, provenance=provenance())
    assert (tmp_path / "elsewhere" / name(DATA).split("/")[1] / "record.json").exists()
    assert store.status(DATA).record is not None


# -------------------------------------------------------------------------------- storage errors


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_storage_error_is_one_line_with_operation_path_and_reason(tmp_path, monkeypatch, number):
    store = Store(str(tmp_path))
    model = Pretrained(name="m", model=T5Config(emb_dim=16))

    def fail(*_, **__):
        raise OSError(number, "whatever")

    monkeypatch.setattr(os, "replace", fail)
    operations = [
        lambda: store.write_json("speeds/a.json", {}),
        lambda: store.record(DATA, result=DATA_RESULT, provenance=provenance()),
        lambda: store.fail(model, outcome=Outcome.FAILED, error="", log=""),
        lambda: store.progress(model, step=1, num_steps=2, seconds_per_step=None),
        lambda: leases.Driver(store).lease(DATA),
    ]
    for operation in operations:
        with pytest.raises(StoreError) as caught:
            operation()
        line = str(caught.value)
        assert line.startswith(f"{store.uri}: cannot write ")
        assert line.endswith(f".json: {os.strerror(number)}")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()], "nothing is left behind"


def test_a_file_in_place_of_a_directory_and_the_reverse_are_one_line(tmp_path):
    store = Store(str(tmp_path))
    store.write_bytes("pretrain", b"")
    store.write_bytes(f"{name(DATA)}/record.json/x", b"")
    for operation in (store.names, lambda: store.status(DATA), lambda: store.write_bytes("pretrain/x", b"")):
        with pytest.raises(InputError) as caught:
            operation()
        assert len(str(caught.value).splitlines()) == 1


def test_names_that_raysynth_does_not_write_are_no_hindrance(tmp_path):
    for file in (
        b"dataset/\xff",
        b"dataset/a\x1bb",
        b"leases/.json",
        b"leases/x/y/z.json",
        b"drivers/\xff.json",
        b"\xfe",
    ):
        place = os.fsencode(tmp_path) + b"/" + file
        os.makedirs(os.path.dirname(place), exist_ok=True)
        open(place, "w").close()
    os.makedirs(tmp_path / "drivers" / "0123abcd.json")
    store = Store(str(tmp_path))
    with leases.driver(store) as driver:
        assert driver.lease(DATA)
        assert not driver.others()
    assert store.names(["dataset"]) == ["dataset/a\x1bb"]


def test_a_store_whose_name_is_no_text_is_one_line():
    with pytest.raises(InputError, match="must be a path that is text in UTF-8"):
        Store(os.fsdecode(b"/tmp/\xff"))
