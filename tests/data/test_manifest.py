"""Manifests: they come back as they were written, and a malformed one is a one-line error."""

import json

import pytest

from raysynth import InputError
from raysynth.data.manifest import (
    Manifest,
    Shard,
    TextManifest,
    read_from_directory,
    read_from_store,
    write_manifest,
)
from raysynth.data.stored_dataset import StoredDataset
from raysynth.downstream.rows import Split
from raysynth.store.store import Store

SPLITS = {
    Split.VALIDATION: (Shard(file="validation-00000.parquet", rows=3, sha256="aa"),),
    Split.TRAIN: (Shard(file="train-00000.parquet", rows=5, sha256="bb"), Shard(file="t-1", rows=2, sha256="cc")),
}
PLAIN = Manifest(splits=SPLITS, prefix=(7, 8))
TEXT = TextManifest(splits=SPLITS, prefix=(), num_sentinels=100, skipped_rows=1, first_skipped=("line 3: empty",))
JSON = {
    "splits": {
        "validation": [{"file": "validation-00000.parquet", "rows": 3, "sha256": "aa"}],
        "train": [
            {"file": "train-00000.parquet", "rows": 5, "sha256": "bb"},
            {"file": "t-1", "rows": 2, "sha256": "cc"},
        ],
    },
    "prefix": [7, 8],
}
TEXT_JSON = {**JSON, "prefix": [], "num_sentinels": 100, "skipped_rows": 1, "first_skipped": ["line 3: empty"]}


@pytest.mark.parametrize(("manifest", "value"), [(PLAIN, JSON), (TEXT, TEXT_JSON)])
def test_a_manifest_comes_back_as_it_was_written(tmp_path, manifest, value):
    store = Store(str(tmp_path))
    assert read_from_store(store, "d") is None
    write_manifest(manifest, store, "d")
    assert (tmp_path / "d" / "manifest.json").read_text() == json.dumps(value, indent=1)
    assert read_from_store(store, "d") == read_from_directory(tmp_path / "d") == manifest
    assert type(read_from_store(store, "d")) is type(manifest)


def test_a_remote_store_lists_the_files(tmp_path):
    store = Store("mock://list-files")
    files = [*(shard.file for shard in PLAIN.shards), "spiece.model"]
    for file in files:
        store.write_bytes(f"d/{file}", file.encode())
    write_manifest(PLAIN, store, "d", "spiece.model")
    listed = store.read_json("d/files.json")["files"]
    assert listed.keys() == {*files, "manifest.json"}
    assert all(listed[file] == vars(store.checksum(f"d/{file}")) for file in listed)


def test_rows_and_shards_are_counted_by_split():
    assert PLAIN.num_rows == {"validation": 3, "train": 7}
    assert [shard.sha256 for shard in PLAIN.shards] == ["aa", "bb", "cc"]


def test_the_digest_depends_on_the_checksums_alone():
    turned = Manifest(splits=dict(reversed(SPLITS.items())), prefix=())
    assert turned.digest == PLAIN.digest
    other = {**SPLITS, Split.TRAIN: SPLITS[Split.TRAIN][:1]}
    assert Manifest(splits=other, prefix=()).digest != PLAIN.digest


SHARD = JSON["splits"]["validation"][0]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "is not a JSON object"),
        ({"splits": {}}, "lacks 'prefix'"),
        ({**JSON, "prefixes": []}, "has an unknown field: 'prefixes'"),
        ({**JSON, "skipped_rows": 3}, "lacks 'num_sentinels'"),
        ({**JSON, "splits": []}, "has a value of the wrong type in 'splits': []"),
        ({**JSON, "splits": {"dev": []}}, "has an unknown split 'dev'"),
        ({**JSON, "splits": {"train": [{"file": "a", "rows": 1}]}}, "lacks a shard's 'sha256'"),
        ({**JSON, "splits": {"train": [{**SHARD, "size": 1}]}}, "has an unknown field: a shard's 'size'"),
        ({**JSON, "splits": {"train": [{**SHARD, "rows": "3"}]}}, "has a value of the wrong type in 'rows': '3'"),
        ({**JSON, "prefix": [1.5]}, "has a value of the wrong type in 'prefix': 1.5"),
        ({**TEXT_JSON, "skipped_rows": True}, "has a value of the wrong type in 'skipped_rows': True"),
    ],
)
def test_a_malformed_manifest_is_one_line(tmp_path, value, problem):
    file = tmp_path / "d" / "manifest.json"
    file.parent.mkdir()
    file.write_text(json.dumps(value))
    for read in (lambda: read_from_directory(tmp_path / "d"), lambda: read_from_store(Store(str(tmp_path)), "d")):
        with pytest.raises(InputError) as caught:
            read()
        if isinstance(value, dict):
            assert str(caught.value) == f"{file} {problem}; delete the data set's directory to have it made again"
        else:
            assert "manifest.json is not a JSON object; delete" in str(caught.value)


def test_a_manifest_that_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.json cannot be read: No such file or directory$"):
        read_from_directory(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json is not JSON; delete the data set's directory"):
        read_from_directory(tmp_path)


def test_a_synthetic_data_set_has_no_vocabulary(tmp_path):
    write_manifest(PLAIN, Store(str(tmp_path)), "d")
    with pytest.raises(InputError, match=r"has no vocabulary: it is not a downstream data set$"):
        StoredDataset.open(tmp_path / "d").vocabulary()
