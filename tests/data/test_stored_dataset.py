"""A trial's copy of a data set: read only against the record, and fetched again where it is damaged."""

import shutil

import numpy as np
import pytest

from raysynth import Dataset, InputError, Ragged, synthetic_tasks
from raysynth.data.manifest import Manifest, write_manifest
from raysynth.data.shard_files import check_remade, intact, shard_bytes, write_shard
from raysynth.data.stored_dataset import StoredDataset, fetch
from raysynth.downstream.rows import Split
from raysynth.specs.identity import name
from raysynth.store.marks import provenance
from raysynth.store.records import DataResult
from raysynth.store.store import Store

DATA = Dataset(task=synthetic_tasks["set"], num_examples=3, num_validation=2)


def made(store, *ids):
    """Write a data set of these training ids with its record; returns the manifest."""
    directory = name(DATA)
    rows = Ragged.of([list(ids)] * 3)
    splits = {
        split: (write_shard(store, directory, f"{split}-00000.parquet", shard_bytes(part, part), len(part)),)
        for split, part in ((Split.VALIDATION, rows.take(np.arange(2))), (Split.TRAIN, rows))
    }
    manifest = Manifest(splits=splits, prefix=())
    write_manifest(manifest, store, directory)
    store.record(DATA, result=DataResult(rows=manifest.num_rows, sha256=manifest.digest), provenance=provenance(0.0))
    return manifest


@pytest.fixture
def remote(tmp_path):
    """A remote store with a data set, and a cache on this machine."""
    store = Store("mock://store")
    made(store, 5, 6)
    return store, tmp_path / "cache"


@pytest.mark.parametrize("file", ["train-00000.parquet", "validation-00000.parquet", "manifest.json"])
@pytest.mark.parametrize("spoil", [lambda content: content[:-1], lambda content: content[:9] + b"?" + content[10:]])
def test_a_damaged_copy_is_fetched_again(remote, file, spoil):
    store, cache = remote
    directory, digest = fetch(DATA, store, cache)
    copy = directory / file
    before = copy.read_bytes()
    copy.write_bytes(spoil(before))
    assert fetch(DATA, store, cache) == (directory, digest)
    assert copy.read_bytes() == before
    copy.unlink()
    fetch(DATA, store, cache)
    assert copy.read_bytes() == before


def test_a_copy_of_another_data_set_is_fetched_again(remote, tmp_path):
    store, cache = remote
    directory, digest = fetch(DATA, store, cache)
    other = Store(str(tmp_path / "other"))
    assert made(other, 8, 9).digest != digest
    shutil.rmtree(directory)
    shutil.copytree(other.local_root / name(DATA), directory)
    fetch(DATA, store, cache)
    assert StoredDataset.open(directory, digest).split(Split.TRAIN).read().sources[0].tolist() == [5, 6]


def test_what_is_damaged_in_the_store_itself_is_one_line(remote):
    store, cache = remote
    store.write_bytes(f"{name(DATA)}/train-00000.parquet", b"PAR1")
    with pytest.raises(InputError) as caught:
        fetch(DATA, store, cache)
    assert "\n" not in str(caught.value)


def test_a_data_set_that_is_not_done_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"is not done: run the same command again to have it made$"):
        fetch(DATA, Store(str(tmp_path)), tmp_path / "cache")


def test_what_is_made_again_must_be_what_it_was(tmp_path):
    store = Store(str(tmp_path))
    manifest = made(store, 5, 6)
    assert intact(DATA, store)
    (tmp_path / name(DATA) / "train-00000.parquet").unlink()
    assert not intact(DATA, store)
    check_remade(DATA, manifest, store)
    with pytest.raises(
        InputError, match=r"comes out with other content than before it was damaged: its task, its files"
    ):
        check_remade(DATA, Manifest(splits=manifest.splits, prefix=(4,)), store)
