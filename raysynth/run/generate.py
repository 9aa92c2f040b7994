"""Synthetic data sets: all shards are drawn, then their rows go to splits without duplicates.

Duplicates are found over the whole data set by a 64-bit hash of the input. If two different inputs share a hash, one
of them is lost; two equal inputs never both stay.

Every shard is first written in full under `draws/`, then a note with its checksum. Once all are there, a shard without
duplicates whose rows belong to one split is renamed to its final file; of the others, the rows that stay are written
again. So a killed call leaves either a shard's draw or all its final files, and a damaged shard can be drawn again from
its number alone. A file that no note names is drawn again too.
"""

import contextlib
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

from raysynth.data.draws import (
    SplitRows,
    StoredShard,
    draw_shard,
    num_more_shards,
    number_of,
    rewrite_shard,
    rows_by_split,
    settle_in_place,
    split_of,
)
from raysynth.data.duplicates import first_of_equals, row_hashes
from raysynth.data.manifest import MANIFEST, Manifest, Shard, read_from_store, write_manifest
from raysynth.data.shard_files import NOTES, Note, damaged_files, write_note
from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.run.spread import Spread
from raysynth.specs.datasets import Dataset, TextCorpus
from raysynth.specs.identity import name
from raysynth.store.store import Store
from raysynth.synthetic.base import SyntheticTask
from raysynth.tokens.streams import Purpose, stream

Tick = Callable[[int, int], None]
"""Called with the number of examples drawn and the number to draw."""
Warn = Callable[[str], None]
"""Called with one line."""


def compile_for(task: SyntheticTask | TextCorpus) -> None:
    """Compile the task's Numba functions, so that the workers of this machine find them in Numba's cache."""
    if isinstance(task, SyntheticTask):
        with contextlib.suppress(Exception):  # the worker that draws reports it
            row_hashes(task.draw(stream(Purpose.COMPILATION, 0), 1)[0])


def generate(
    dataset: Dataset,
    store: Store,
    *,
    spread: Spread,
    tick: Tick,
    warn: Warn,
    drawn: Callable[[], object] = lambda: None,
    most_rewritten_here: int = 64,
) -> Manifest:
    """Draw, deduplicate, split and write a synthetic data set; returns its manifest. Calls `drawn` when done with Ray.

    `spread` draws the shards. Those that an earlier, killed call finished are kept. Those of a data set with a manifest
    are checked, and damaged ones are drawn again, with a warning. Up to `most_rewritten_here` shards are rewritten by
    threads of this process, since Ray Data takes seconds to start. Raises `InputError` if the task does not have enough
    distinct inputs.
    """
    directory = name(dataset)
    manifest = _manifest_of(dataset, store, directory, warn)
    if manifest is not None:
        damaged = damaged_files(manifest, store, directory)
        if not damaged:
            store.delete(f"{directory}/{NOTES}")
            return manifest
        _delete_damaged(manifest, damaged, store, directory, warn)

    shards: list[StoredShard] = []
    hashes = np.zeros(0, np.uint64)
    starts = [0]
    is_distinct = np.zeros(0, bool)
    while (num_distinct := int(is_distinct.sum())) < dataset.num_validation + dataset.num_examples:
        num_drawn = len(shards) * dataset.shard_size
        num_more = num_more_shards(dataset, num_drawn=num_drawn, num_distinct=num_distinct)
        answers: list[tuple[StoredShard, npt.NDArray[np.uint64]]] = spread(
            partial(draw_shard, dataset, store),
            range(len(shards), len(shards) + num_more),
            tick=_examples_of_shards(tick, num_drawn, dataset.shard_size),
            describe=lambda number: f"{dataset.task.name}.draw for shard {number}",
        )
        for shard, shard_hashes in answers:
            if shard.damaged_file is not None:
                warn(f"{store.uri}/{directory}/{shard.damaged_file} is damaged and is made again")
            shards.append(shard)
            starts.append(starts[-1] + len(shard_hashes))
        hashes = np.concatenate([hashes, *(shard_hashes for _, shard_hashes in answers)])
        is_distinct = first_of_equals(hashes)
    plan = rows_by_split(dataset, [is_distinct[start:end] for start, end in itertools.pairwise(starts)])
    settled = _settle(directory, store, list(zip(shards, plan, strict=True)), spread, drawn, most_rewritten_here)
    splits: dict[Split, list[Shard]] = {Split.VALIDATION: [], Split.TRAIN: []}
    for file in sorted((file for shard in settled for file in shard.files), key=lambda file: file.file):
        splits[split_of(file.file)].append(file)
    manifest = Manifest(
        splits={split: tuple(files) for split, files in splits.items()}, prefix=tuple(dataset.task.prefix)
    )
    write_manifest(manifest, store, directory)
    store.delete(f"{directory}/{NOTES}")
    return manifest


def _manifest_of(dataset: Dataset, store: Store, directory: str, warn: Warn) -> Manifest | None:
    """The manifest that an earlier call left; None, with a warning, if it cannot be that of the data set."""
    try:
        manifest = read_from_store(store, directory)
    except InputError as error:
        warn(f"{error}; it is made again")
        return None
    rows = {Split.VALIDATION: dataset.num_validation, Split.TRAIN: dataset.num_examples}
    if manifest is None or (manifest.num_rows, manifest.prefix) == (rows, tuple(dataset.task.prefix)):
        return manifest
    warn(f"{store.uri}/{directory}/{MANIFEST} disagrees with the description of the data set; it is made again")
    return None


def _delete_damaged(manifest: Manifest, damaged: list[str], store: Store, directory: str, warn: Warn) -> None:
    """Delete all files of damaged shards, then the manifest: half the files of a shard would pass for all of it.

    First leaves notes about the other shards, so that they are kept.
    """
    by_number: dict[int, list[Shard]] = {}
    for shard in manifest.shards:
        by_number.setdefault(number_of(shard.file), []).append(shard)
    bad = {number_of(file) for file in damaged}
    with ThreadPoolExecutor(8) as pool:
        whole = [(number, files) for number, files in by_number.items() if number not in bad]
        list(pool.map(lambda one: write_note(store, directory, f"{one[0]:05d}", Note(files=tuple(one[1]))), whole))
    for number in bad:
        for shard in by_number[number]:
            store.delete(f"{directory}/{shard.file}")
    for file in damaged:
        warn(f"{store.uri}/{directory}/{file} is damaged or missing and is made again")
    store.delete(f"{directory}/{MANIFEST}")


def _examples_of_shards(tick: Tick, num_drawn: int, shard_size: int) -> Tick:
    """A `tick` for shards drawn after the first `num_drawn` examples."""

    def count(num_shards: int, of: int) -> None:
        tick(num_drawn + num_shards * shard_size, num_drawn + of * shard_size)

    return count


def _settle(
    directory: str,
    store: Store,
    plan: list[tuple[StoredShard, SplitRows]],
    spread: Spread,
    drawn: Callable[[], object],
    most_rewritten_here: int,
) -> list[StoredShard]:
    """Bring the rows of every shard to their final files; returns the shards that have some."""
    settled = []
    rewritten = []
    for shard, rows in plan:
        in_place = settle_in_place(directory, store, shard, rows)
        if in_place is not None:
            settled.append(in_place)
        elif rows:
            rewritten.append((shard, rows))
    rewrite = partial(rewrite_shard, directory, store)
    if len(rewritten) > most_rewritten_here:
        settled += spread(rewrite, rewritten, tick=lambda done, of: None)
        drawn()
    else:
        drawn()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            settled += pool.map(rewrite, rewritten)
    return settled
