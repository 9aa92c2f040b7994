"""Text data sets that are damaged: each damage is found, the data set is made again with the same bytes, or refused."""

import dataclasses

import pyarrow.parquet as pq
import pytest

from raysynth import Finetune, InputError, RandomInit, T5Config, TrainedVocabulary, downstream_tasks
from raysynth.data.manifest import read_from_store, write_manifest
from raysynth.data.shard_files import problems, table_bytes, write_shard
from raysynth.downstream.rows import Split
from raysynth.observer import Silent
from raysynth.run.execute import execute
from raysynth.run.make_data import damaged_inputs, make_data
from raysynth.run.surroundings import Run
from raysynth.specs.identity import name
from raysynth.store import leases
from raysynth.store.sealed import seal
from raysynth.store.store import State, Store

TASK = dataclasses.replace(
    downstream_tasks["code_translation"],
    data=dataclasses.replace(
        downstream_tasks["code_translation"].data, vocabulary=TrainedVocabulary(num_pieces=110, num_sentinels=4)
    ),
)
DATA = TASK.data
FINETUNE = Finetune(task=TASK, init=RandomInit(T5Config(vocab_size=128)))


@pytest.fixture
def made(tmp_path):
    """A run in a store with a text data set, and the folder of its files."""
    folder = tmp_path / "files"
    folder.mkdir()
    for split, count in (("train", 30), ("valid", 5), ("test", 5)):
        (folder / f"{split}.tsv").write_text("".join(f"int {split}{n} = {n};\tvar {split}{n}\n" for n in range(count)))
    store = Store(str(tmp_path / "store"))
    with leases.driver(store) as driver:
        run = Run(store=store, driver=driver, observer=Silent(), locations={"code_translation": str(folder)})
        assert make_data(DATA, run) is None
        yield run, folder


def directory_of(run):
    return run.store.local_root / name(DATA)


def contents(run):
    return {file.name: file.read_bytes() for file in directory_of(run).iterdir() if file.name != "record.json"}


def heal(run):
    damaged = damaged_inputs([FINETUNE], {DATA}, run.store)
    assert damaged == {DATA}
    execute([], set(), damaged, run)


def reorder(run):
    manifest = read_from_store(run.store, name(DATA))
    (shard,) = manifest.splits[Split.TRAIN]
    table = pq.read_table(directory_of(run) / shard.file)
    content = table_bytes(table.take(list(reversed(range(table.num_rows)))))
    return manifest, write_shard(run.store, name(DATA), shard.file, content, shard.rows)


def reorder_and_say_so(run):
    manifest, shard = reorder(run)
    splits = {**manifest.splits, Split.TRAIN: (shard,)}
    write_manifest(dataclasses.replace(manifest, splits=splits), run.store, name(DATA))


def change_manifest(**changes):
    def change(run):
        manifest = read_from_store(run.store, name(DATA))
        write_manifest(dataclasses.replace(manifest, **changes), run.store, name(DATA))

    return change


def without_training(run):
    manifest = read_from_store(run.store, name(DATA))
    splits = {split: shards for split, shards in manifest.splits.items() if split is not Split.TRAIN}
    write_manifest(dataclasses.replace(manifest, splits=splits), run.store, name(DATA))


def cut(file, size):
    return lambda run: (directory_of(run) / file).write_bytes((directory_of(run) / file).read_bytes()[:size])


def gone(file):
    return lambda run: (directory_of(run) / file).unlink()


DAMAGES = {
    "rows in another order": reorder,
    "rows in another order, said so": reorder_and_say_so,
    "prefix": change_manifest(prefix=(7,)),
    "sentinels": change_manifest(num_sentinels=3),
    "no training split": without_training,
    "no splits": change_manifest(splits={}),
    "manifest cut": cut("manifest.json", 99),
    "manifest empty": cut("manifest.json", 0),
    "manifest gone": gone("manifest.json"),
    "vocabulary cut": cut("spiece.model", 100),
    "vocabulary gone": gone("spiece.model"),
    "shard cut": cut("test-00000.parquet", 50),
    "shard gone": gone("validation-00000.parquet"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_text_data_set_is_made_again_with_the_same_bytes(made, damage):
    run, _ = made
    assert damaged_inputs([FINETUNE], {DATA}, run.store) == set()
    before = contents(run)
    record = run.store.record_of(name(DATA))
    damage(run)
    (line, *_) = problems(record, run.store)
    assert "\n" not in line
    heal(run)
    assert contents(run) == before
    assert run.store.record_of(name(DATA)).result == record.result
    assert problems(record, run.store) == []


def test_a_damaged_data_set_is_not_made_again_from_other_files(made):
    run, folder = made
    before, text = contents(run), (folder / "train.tsv").read_text()
    reorder(run)
    (folder / "train.tsv").write_text(text.replace("int", "let"))
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"was damaged and cannot be made again: .* comes out with other content than before"
        ):
            heal(run) if run.store.status(DATA).state is State.DONE else execute([DATA], set(), set(), run)
        assert run.store.status(DATA).state is not State.DONE
    (folder / "train.tsv").write_text(text)
    execute([DATA], set(), set(), run)
    after = contents(run)
    after.pop("sources.json"), before.pop("sources.json")
    assert after == before


def test_without_its_files_a_damaged_data_set_is_one_line(made):
    run, _ = made
    reorder(run)
    with pytest.raises(InputError, match="was damaged and cannot be made again: code_translation needs its files"):
        heal(dataclasses.replace(run, locations={}))


@pytest.mark.parametrize("file", ["../../../outside", "train-0.parquet/../../../../outside", "/outside", "record.json"])
def test_a_manifest_never_leads_to_a_file_elsewhere(made, tmp_path, file):
    run, _ = made
    before = contents(run)
    outside = tmp_path / "outside"
    outside.write_text("kept")
    manifest = run.store.read_json(f"{name(DATA)}/manifest.json")
    manifest["splits"]["train"][0]["file"] = file.replace("/outside", str(outside)) if file[0] == "/" else file
    (directory_of(run) / "manifest.json").write_bytes(seal(manifest))
    heal(run)
    assert outside.read_text() == "kept"
    assert contents(run) == before


def test_half_written_files_of_a_killed_run_do_not_stay(made):
    run, _ = made
    before = contents(run)
    cut("manifest.json", 9)(run)
    (directory_of(run) / ".train-00000.parquet.0123.aside").write_bytes(b"half")
    heal(run)
    assert contents(run) == before
