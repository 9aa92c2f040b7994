"""Batches: the examples of a step depend on (seed, step) alone, and a layout only pads and cuts."""

import dataclasses
from collections import Counter
from itertools import groupby, pairwise

import numpy as np
import pyarrow as pa
import pytest

from raysynth import InputError
from raysynth.data.batches import Examples, Order, StoredSplit, Stream
from raysynth.data.layout import Packed, PadToLongest, evaluation_batches, pack
from raysynth.data.manifest import Manifest, write_manifest
from raysynth.data.shard_files import column_of, rows_of, shard_bytes, table_bytes, write_shard
from raysynth.downstream.rows import Split
from raysynth.store.store import Store
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.streams import Purpose
from raysynth.tokens.token_space import EOS

ORDER = Purpose.PRETRAIN_ORDER


def examples(count, *, longest=20, prefix=()):
    rng = np.random.default_rng(0)
    rows = [rng.integers(2, 900, size=rng.integers(1, longest)) for _ in range(count)]
    return Examples(sources=Ragged.of(rows), targets=Ragged.of([row[::-1] for row in rows]), prefix=prefix)


def places(order, step):
    """The (shard, row) of each example of a step."""
    examples = []
    for piece in order.pieces(step):
        window = [(shard, row) for shard in piece.window for row in range(order.shard_rows[shard])]
        examples += [window[row] for row in piece.rows]
    return examples


SHARDS = {
    "one shard": Order(shard_rows=(60,), batch_size=12, purpose=ORDER, seed=3),
    "one window": Order(shard_rows=(20, 7, 33), batch_size=12, purpose=ORDER, seed=3),
    "small windows": Order(shard_rows=(20, 7, 3, 10, 5, 15), batch_size=12, purpose=ORDER, seed=3, window_rows=20),
    "windows below a shard": Order(shard_rows=(20, 20, 20), batch_size=12, purpose=ORDER, seed=3, window_rows=1),
}


@pytest.mark.parametrize("order", SHARDS.values(), ids=SHARDS)
def test_every_epoch_holds_every_example_once_in_a_new_order(order):
    everything = sorted((shard, row) for shard, rows in enumerate(order.shard_rows) for row in range(rows))
    epochs = [[place for step in range(5 * e, 5 * e + 5) for place in places(order, step)] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == everything
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("order", SHARDS.values(), ids=SHARDS)
def test_a_window_is_never_larger_than_allowed_and_is_read_once_an_epoch(order):
    windows = [piece.window for step in range(5) for piece in order.pieces(step)]
    runs = [window for window, _ in groupby(windows)]
    assert len(runs) == len(set(runs))
    for window in runs:
        assert len(window) == 1 or sum(order.shard_rows[shard] for shard in window) <= order.window_rows
        assert list(window) == sorted(window)


def test_the_following_window_is_the_one_that_comes():
    order = SHARDS["small windows"]
    pieces = [piece for step in range(25) for piece in order.pieces(step)]
    for piece, after in pairwise(pieces):
        assert after.window in (piece.window, piece.following)


def test_a_batch_may_span_two_epochs_and_loses_no_example():
    order = Order(shard_rows=(10,), batch_size=4, purpose=ORDER, seed=0)
    rows = [place for step in range(5) for place in places(order, step)]
    assert sorted(rows[:10]) == sorted(rows[10:]) == [(0, row) for row in range(10)]


def test_a_batch_larger_than_the_data_set_repeats_it():
    counts = Counter(places(Order(shard_rows=(3,), batch_size=7, purpose=ORDER, seed=0), 0))
    assert sorted(counts.values()) == [2, 2, 3]


@pytest.mark.parametrize("order", SHARDS.values(), ids=SHARDS)
def test_any_step_can_be_read_first(order):
    in_turn = [places(order, step) for step in range(40)]
    for step in (39, 0, 17, 3):
        assert places(dataclasses.replace(order), step) == in_turn[step]


def test_purposes_and_seeds_give_different_orders():
    orders = [Order(shard_rows=(30, 20), batch_size=50, purpose=ORDER, seed=seed, window_rows=30) for seed in range(2)]
    assert places(orders[0], 0) != places(orders[1], 0)
    other = dataclasses.replace(orders[0], purpose=Purpose.FINETUNE_ORDER)
    assert places(orders[0], 0) != places(other, 0)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Ten shards of five examples, example n of which is the id 100 + n."""
    directory = tmp_path_factory.mktemp("data")
    store, shards = Store(str(directory.parent)), []
    for shard in range(10):
        ids = Ragged.of([[100 + 5 * shard + row] for row in range(5)])
        shards.append(write_shard(store, directory.name, f"train-{shard:05d}.parquet", shard_bytes(ids, ids), 5))
    write_manifest(Manifest(splits={Split.TRAIN: tuple(shards)}, prefix=(7,)), store, directory.name)
    return directory


def test_a_stream_gives_the_examples_of_the_order(directory):
    split = StoredSplit.open(directory, Split.TRAIN)
    order = Order(shard_rows=split.shard_rows, batch_size=8, purpose=ORDER, seed=2, window_rows=12)
    with Stream(split, dataclasses.replace(order)) as stream:
        for step in (0, 1, 2, 3, 4, 5, 6, 7, 20, 3):
            examples = stream.examples(step)
            ids = [100 + 5 * shard + row for shard, row in places(order, step)]
            assert examples.sources.values.tolist() == examples.targets.values.tolist() == ids
            assert examples.prefix == (7,)


def test_a_stream_reads_no_more_than_the_window_and_the_next(directory, monkeypatch):
    read, read_ids = [], StoredSplit.read_ids
    monkeypatch.setattr(StoredSplit, "read_ids", lambda self, window: read.append(window) or read_ids(self, window))
    split = StoredSplit.open(directory, Split.TRAIN)
    order = Order(shard_rows=split.shard_rows, batch_size=4, purpose=ORDER, seed=2, window_rows=12)
    with Stream(split, order) as stream:
        stream.examples(1_000_003)
    assert 1 <= len(read) <= 3
    assert all(len(window) == 2 for window in read)


def test_a_damaged_page_is_one_line(directory, tmp_path):
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    broken = tmp_path / "train-00004.parquet"
    content = bytearray(broken.read_bytes())
    content[content.index(b"PAR1") + 40] ^= 1
    broken.write_bytes(content)
    with pytest.raises(InputError, match=r"train-00004\.parquet cannot be read") as caught:
        StoredSplit.open(tmp_path, Split.TRAIN).read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prefix", [(), (7, 8)])
def test_rows_end_in_eos_and_are_cut_to_the_length(prefix):
    data = examples(64, longest=30, prefix=prefix)
    (block,) = PadToLongest(input_length=16, target_length=40).to_blocks(data)
    assert block.encoder_input_tokens.shape[1] <= 16
    for row, source, target in zip(range(64), data.sources, data.targets, strict=True):
        whole = [*prefix, *source, EOS]
        kept = block.encoder_input_tokens[row]
        assert kept[: len(whole)].tolist() == whole[:16]
        assert not kept[len(whole) :].any()
        kept = block.decoder_target_tokens[row]
        assert kept[: len(target) + 1].tolist() == [*target, EOS]
        assert not kept[len(target) + 1 :].any()


@pytest.mark.parametrize("batch_size", [1, 12, 128])
@pytest.mark.parametrize("prefix", [(), (7, 8)])
def test_packing_loses_and_adds_nothing(prefix, batch_size):
    data = examples(500, longest=40, prefix=prefix)
    layout = Packed.fitting(data, batch_size=batch_size, input_length=30, target_length=40)
    assert layout == Packed.fitting(data, batch_size=batch_size, input_length=30, target_length=40)
    shapes = set()
    for start in range(0, 490, batch_size):
        part = data.take(np.arange(start, min(500, start + batch_size)))
        (block,) = layout.to_blocks(part)
        shapes.add((block.encoder_input_tokens.shape, block.decoder_target_tokens.shape))
        pairs = []
        for row in range(len(block.encoder_input_tokens)):
            inputs, input_segments = block.encoder_input_tokens[row], block.encoder_segment_ids[row]
            targets, target_segments = block.decoder_target_tokens[row], block.decoder_segment_ids[row]
            assert ((inputs > 0) == (input_segments > 0)).all()
            assert ((targets > 0) == (target_segments > 0)).all()
            for segment in range(1, max(input_segments.max(), target_segments.max()) + 1):
                pairs.append((inputs[input_segments == segment].tolist(), targets[target_segments == segment].tolist()))
        expected = [
            ([*prefix, *source, EOS][:30], [*target, EOS][:40])
            for source, target in zip(part.sources, part.targets, strict=True)
        ]
        assert sorted(pairs) == sorted(expected)
        assert len(block.encoder_input_tokens) % np.gcd(batch_size, 8) == 0
    assert len(shapes) <= 3


def test_packed_rows_hold_what_fits():
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(1, 60, (2, 400))
    places = pack(inputs, targets, 64, 100)
    used = np.bincount(places.row, inputs), np.bincount(places.row, targets)
    assert used[0].max() <= 64
    assert used[1].max() <= 100
    assert places.num_rows == places.row.max() + 1 <= 1.1 * inputs.sum() / 64 + 1


def test_few_shapes_are_compiled():
    data = examples(500, longest=160)
    layout = PadToLongest(input_length=150, target_length=64)
    blocks = [layout.to_blocks(data.take(np.array([row])))[0] for row in range(500)]
    assert {block.encoder_input_tokens.shape for block in blocks} == {(1, 40), (1, 80), (1, 120), (1, 150)}
    assert {block.decoder_target_tokens.shape for block in blocks} == {(1, 32), (1, 64)}


def test_evaluation_visits_every_row_once_in_full_batches():
    data = examples(50)
    batches = list(evaluation_batches(data, data.head(45), 16, PadToLongest(input_length=32, target_length=32)))
    assert sorted(np.concatenate([rows for rows, _ in batches])) == list(range(45))
    longest = [data.targets.lengths[rows].max() for rows, _ in batches]
    shortest = [data.targets.lengths[rows].min() for rows, _ in batches]
    assert all(before <= after for before, after in zip(longest, shortest[1:], strict=False))
    for rows, block in batches:
        assert block.encoder_input_tokens.shape[0] == block.decoder_target_tokens.shape[0] == 16
        assert not block.decoder_target_tokens[len(rows) :].any()
        assert (block.encoder_input_tokens[len(rows) :] == block.encoder_input_tokens[len(rows) - 1]).all()
        for row, line in zip(rows, block.encoder_input_tokens, strict=False):
            assert line[: len(data.sources[row])].tolist() == data.sources[row].tolist()


@pytest.mark.parametrize("lengths", [[3, 0, 2, 7], [0, 0], []])
def test_rows_come_back_from_a_column_as_they_went_whatever_part_of_it(lengths):
    rows = Ragged.packed(np.arange(sum(lengths), dtype=np.uint16) * 5, np.array(lengths, np.int64))
    whole = pa.chunked_array([column_of(rows)])
    for part, column in (
        (rows, whole),
        (Ragged.chained([rows, rows]), pa.chunked_array([*whole.chunks, *whole.chunks])),
    ):
        assert [row.tolist() for row in rows_of(column)] == [row.tolist() for row in part]
    assert [row.tolist() for row in rows_of(whole.slice(1))] == [row.tolist() for row in list(rows)[1:]]


def test_ids_in_another_form_are_one_line():
    with pytest.raises(InputError, match="ids are stored as list<item: uint16>, not as bytes"):
        rows_of(pa.chunked_array([[[1, 2]]], pa.list_(pa.uint16())))


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"source": "source"}, "lacks the column 'target'"),
        ({"source": "source", "target": "small"}, "different columns"),
    ],
)
def test_shards_without_the_columns_of_the_others_are_one_line(tmp_path, columns, line):
    ids = Ragged.of([[1]])
    whole = {"source": column_of(ids), "target": column_of(ids), "small": pa.array([b"ab"])}
    other = table_bytes(pa.table({name: whole[origin] for name, origin in columns.items()}))
    store = Store(str(tmp_path))
    shards = (
        write_shard(store, "d", "train-00000.parquet", shard_bytes(ids, ids), 1),
        write_shard(store, "d", "train-00001.parquet", other, 1),
    )
    write_manifest(Manifest(splits={Split.TRAIN: shards}, prefix=()), store, "d")
    split = StoredSplit.open(tmp_path / "d", Split.TRAIN)
    for read in (split.read, lambda: split.read_ids([0, 1])):
        with pytest.raises(InputError, match=line):
            read()
