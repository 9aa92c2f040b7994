"""Manifests: they come back as they were written, and a malformed one is a one-line error."""

import contextlib
import dataclasses

import numpy as np
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
from raysynth.data.shard_files import shard_bytes, write_shard, write_vocabulary
from raysynth.data.stored_dataset import StoredDataset
from raysynth.downstream.rows import Split
from raysynth.store.store import Store
from raysynth.tokens.ragged import Ragged

A, B, C, D = (letter * 64 for letter in "abcd")
SPLITS = {
    Split.VALIDATION: (Shard(file="validation-00000.parquet", rows=3, sha256=A),),
    Split.TRAIN: (
        Shard(file="train-00000.parquet", rows=5, sha256=B),
        Shard(file="train-00001.parquet", rows=2, sha256=C),
    ),
}
PLAIN = Manifest(splits=SPLITS, prefix=(7, 8))
TEXT = TextManifest(
    splits=SPLITS,
    prefix=(),
    vocabulary_sha256=D,
    sources_sha256=A,
    num_sentinels=100,
    skipped_rows=1,
    first_skipped=("line 3: empty",),
)
JSON = {
    "splits": {
        "validation": [{"file": "validation-00000.parquet", "rows": 3, "sha256": A}],
        "train": [
            {"file": "train-00000.parquet", "rows": 5, "sha256": B},
            {"file": "train-00001.parquet", "rows": 2, "sha256": C},
        ],
    },
    "prefix": [7, 8],
    "vocabulary_sha256": None,
    "sources_sha256": None,
}
TEXT_JSON = {
    **JSON,
    "prefix": [],
    "vocabulary_sha256": D,
    "sources_sha256": A,
    "num_sentinels": 100,
    "skipped_rows": 1,
    "first_skipped": ["line 3: empty"],
}


@pytest.mark.parametrize(("manifest", "value"), [(PLAIN, JSON), (TEXT, TEXT_JSON)])
def test_a_manifest_comes_back_as_it_was_written(tmp_path, manifest, value):
    store = Store(str(tmp_path))
    assert read_from_store(store, "d") is None
    write_manifest(manifest, store, "d")
    assert store.read_json("d/manifest.json") == value
    assert read_from_store(store, "d") == read_from_directory(tmp_path / "d") == manifest
    assert type(read_from_store(store, "d")) is type(manifest)


def test_a_remote_store_lists_the_files(tmp_path):
    store = Store("mock://list-files")
    files = [*(shard.file for shard in TEXT.shards), "spiece.model"]
    for file in files:
        store.write_bytes(f"d/{file}", file.encode())
    write_manifest(TEXT, store, "d")
    listed = store.read_json("d/files.json")["files"]
    assert listed.keys() == {*files, "manifest.json"}
    assert all(listed[file] == vars(store.checksum(f"d/{file}")) for file in listed)


def test_rows_and_shards_are_counted_by_split():
    assert PLAIN.num_rows == {"validation": 3, "train": 7}
    assert [shard.sha256 for shard in PLAIN.shards] == [A, B, C]


def test_the_digest_depends_on_all_that_is_read():
    (validation,), (first, second) = SPLITS.values()
    train = {Split.VALIDATION: (validation,)}
    others = [
        dataclasses.replace(PLAIN, prefix=(7,)),
        dataclasses.replace(PLAIN, prefix=()),
        dataclasses.replace(PLAIN, vocabulary_sha256=D),
        *(
            dataclasses.replace(PLAIN, splits=splits)
            for splits in (
                train,
                train | {Split.TRAIN: (first,)},
                train | {Split.TRAIN: (first, second, second)},
                train | {Split.TRAIN: (second, first)},
                train | {Split.TRAIN: (first, dataclasses.replace(second, rows=3))},
                train | {Split.TRAIN: (first, dataclasses.replace(second, sha256=D))},
                train | {Split.TRAIN: (first, dataclasses.replace(second, file="train-00002.parquet"))},
            )
        ),
        TEXT,
        dataclasses.replace(TEXT, num_sentinels=99),
        dataclasses.replace(TEXT, skipped_rows=2),
    ]
    assert len({PLAIN.digest, *(other.digest for other in others)}) == 1 + len(others)
    turned = Manifest(splits=dict(reversed(SPLITS.items())), prefix=(7, 8))
    assert turned.digest == PLAIN.digest, "the order of splits means nothing"
    elsewhere = dataclasses.replace(TEXT, first_skipped=("/elsewhere, line 3: empty",))
    assert elsewhere.digest == TEXT.digest, "the place of the files is no content"


SHARD = JSON["splits"]["validation"][0]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"splits": {}}, "lacks 'prefix'"),
        ({**JSON, "prefixes": []}, "has an unknown field: 'prefixes'"),
        ({**JSON, "skipped_rows": 3}, "lacks 'num_sentinels'"),
        ({**JSON, "splits": []}, "has a value of the wrong type in 'splits': []"),
        ({**JSON, "splits": {"dev": []}}, "has an unknown split 'dev'"),
        ({**JSON, "splits": {"train": [{"file": "train-0.parquet", "rows": 1}]}}, "lacks a shard's 'sha256'"),
        ({**JSON, "splits": {"train": [SHARD]}}, "has the file 'validation-00000.parquet' in its split 'train'"),
        ({**JSON, "splits": {"validation": [SHARD, SHARD]}}, "has the file 'validation-00000.parquet' twice"),
        *(
            (
                {**JSON, "splits": {"train": [{**SHARD, "file": file}]}},
                f"names a file that raysynth does not write: {file!r}",
            )
            for file in ("../train-0.parquet", "/etc/passwd", "train-0.parquet/../../x", "train-0.parquet\n", "")
        ),
        ({**JSON, "splits": {"train": [{**SHARD, "rows": -1}]}}, "has a negative number in 'rows': -1"),
        ({**JSON, "splits": {"train": [{**SHARD, "sha256": "aa"}]}}, "has no SHA-256 in 'sha256': 'aa'"),
        ({**JSON, "prefix": [-5]}, "has an id in 'prefix' that is not from 0 to 65535: -5"),
        ({**JSON, "prefix": [65536]}, "has an id in 'prefix' that is not from 0 to 65535: 65536"),
        ({**TEXT_JSON, "vocabulary_sha256": None}, "has a value of the wrong type in 'vocabulary_sha256': None"),
        ({**TEXT_JSON, "num_sentinels": -1}, "has a negative number in 'num_sentinels': -1"),
        ({**JSON, "splits": {"train": [{**SHARD, "size": 1}]}}, "has an unknown field: a shard's 'size'"),
        ({**JSON, "splits": {"train": [{**SHARD, "rows": "3"}]}}, "has a value of the wrong type in 'rows': '3'"),
        ({**JSON, "prefix": [1.5]}, "has a value of the wrong type in 'prefix': 1.5"),
        ({**TEXT_JSON, "skipped_rows": True}, "has a value of the wrong type in 'skipped_rows': True"),
    ],
)
def test_a_malformed_manifest_is_one_line(tmp_path, value, problem):
    store = Store(str(tmp_path))
    store.write_json("d/manifest.json", value)
    for read in (lambda: read_from_directory(tmp_path / "d"), lambda: read_from_store(store, "d")):
        with pytest.raises(InputError) as caught:
            read()
        assert str(caught.value) == f"{tmp_path}/d/manifest.json is damaged: it {problem}"


def test_a_manifest_that_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.json cannot be read: No such file or directory$"):
        read_from_directory(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json is damaged: it is not a whole JSON object$"):
        read_from_directory(tmp_path)


@pytest.fixture
def whole(tmp_path):
    """A text data set's directory with its manifest."""
    store = Store(str(tmp_path))
    ids = Ragged.of([[5, 6], [7]])
    splits = {
        split: (write_shard(store, "d", f"{split}-00000.parquet", shard_bytes(ids, ids), 2),)
        for split in (Split.TRAIN, Split.VALIDATION)
    }
    vocabulary = write_vocabulary(store, "d", b"model")
    manifest = dataclasses.replace(TEXT, splits=splits, vocabulary_sha256=vocabulary)
    write_manifest(manifest, store, "d")
    return store, manifest


def test_every_flipped_byte_of_a_data_set_is_found_where_it_is_read(whole):
    store, manifest = whole
    directory = store.local_root / "d"
    rng = np.random.default_rng(0)

    def read_everything():
        dataset = StoredDataset.open(directory, manifest.digest)
        for split in manifest.splits:
            dataset.split(split).read()
            dataset.split(split).read_ids([0])
        with contextlib.suppress(InputError):  # the model of this test is none, which comes after its checksum
            dataset.vocabulary()

    read_everything()
    for file in ("train-00000.parquet", "validation-00000.parquet", "manifest.json"):
        before = (directory / file).read_bytes()
        for place in rng.integers(0, len(before), 25):
            spoilt = bytearray(before)
            spoilt[place] ^= 1 << int(rng.integers(8))
            (directory / file).write_bytes(spoilt)
            with pytest.raises(InputError) as caught:
                read_everything()
            assert "\n" not in str(caught.value)
        for size in (0, 1, len(before) // 2, len(before) - 1):
            (directory / file).write_bytes(before[:size])
            with pytest.raises(InputError):
                read_everything()
        (directory / file).write_bytes(before)
    read_everything()


@pytest.mark.parametrize("content", [b"Model", b"", b"model "])
def test_another_vocabulary_is_found(whole, content):
    store, manifest = whole
    (store.local_root / "d" / "spiece.model").write_bytes(content)
    with pytest.raises(InputError, match=r"spiece\.model is damaged: run the same command again to have it remade$"):
        StoredDataset.open(store.local_root / "d", manifest.digest).vocabulary()
    (store.local_root / "d" / "spiece.model").unlink()
    with pytest.raises(InputError, match=r"spiece\.model cannot be read: No such file"):
        StoredDataset.open(store.local_root / "d").vocabulary()


def test_another_manifest_is_refused_however_whole_it_is(whole):
    store, manifest = whole
    for other in (
        dataclasses.replace(manifest, prefix=(9,)),
        dataclasses.replace(manifest, splits={Split.VALIDATION: manifest.splits[Split.VALIDATION]}),
        dataclasses.replace(manifest, splits={**manifest.splits, Split.TRAIN: ()}),
        dataclasses.replace(manifest, num_sentinels=3),
    ):
        write_manifest(other, store, "d")
        with pytest.raises(InputError, match="it is not the manifest that the data set's record names"):
            StoredDataset.open(store.local_root / "d", manifest.digest)


def test_a_synthetic_data_set_has_no_vocabulary(tmp_path):
    write_manifest(PLAIN, Store(str(tmp_path)), "d")
    with pytest.raises(InputError, match=r"has no vocabulary: it is not a downstream data set$"):
        StoredDataset.open(tmp_path / "d").vocabulary()
