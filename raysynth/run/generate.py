"""Synthetic data sets and text corpora, drawn in parallel by Ray Data.

Shard i of a synthetic data set draws from (seed, i), whoever runs it, so the number of workers never changes the
data. Duplicates are found by a 64-bit hash of the input over the whole data set: two different inputs that share a
hash cost one of them its place, two equal ones can never both stay.

A shard is first written whole under `draws/`. Once all are there, one without duplicates that belongs to one split is
renamed to its final place; of the others the rows that stay are written anew. So a killed call finds either a shard's
draw or all its final files, and a damaged shard is drawn again from nothing but its number.
"""

import contextlib
import hashlib
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.data.duplicates import first_of_equals, row_hashes
from raysynth.data.shard_files import (
    MANIFEST,
    damaged,
    list_files,
    parquet,
    ragged,
    table_bytes,
    table_of,
    write,
)
from raysynth.errors import InputError
from raysynth.run.session import spread
from raysynth.specs.datasets import Dataset, TextCorpus
from raysynth.specs.identity import name
from raysynth.store.store import Store
from raysynth.synthetic.base import SyntheticTask
from raysynth.tokens.ragged import Ragged
from raysynth.tokens.token_space import EOS, PAD

Tick = Callable[[int, int], None]
"""Called with the examples drawn and the examples to draw."""
Warn = Callable[[str], None]
"""Called with one line."""


_FEW = 64
"""So many shards are written anew in threads here: Ray Data takes seconds to begin."""


def compile_for(task: SyntheticTask | TextCorpus) -> None:
    """Have Numba compile what draws from a task, so that the workers of this machine find it in its cache."""
    if isinstance(task, SyntheticTask):
        with contextlib.suppress(Exception):  # told where it matters, by the worker that draws
            row_hashes(task.draw(np.random.default_rng(0), 1)[0])


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """A shard as it lies in the store: whole among the draws, or its rows that stay in their final files."""

    number: int
    files: dict[str, tuple[int, str]]
    """Rows and SHA-256 of each file, by its name."""
    remade: str | None = None
    """The file that was found damaged, if any."""


def generate(
    dataset: Dataset, store: Store, *, tick: Tick, warn: Warn, drawn: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Draw, deduplicate, split and write a synthetic data set; returns its manifest. Calls `drawn` when done with Ray.

    Shards that an earlier, killed call finished are kept, and those of a finished data set are checked: a damaged one
    is made again, with a warning. Raises `InputError` where the task cannot give so many distinct inputs.
    """
    where = name(dataset)
    manifest = store.read_json(f"{where}/{MANIFEST}")
    if manifest is not None:
        wrong = damaged(manifest, store, where)
        if not wrong:
            return manifest
        numbers = {_number(file) for file in wrong}
        for file in [shard["file"] for files in manifest["splits"].values() for shard in files]:
            if _number(file) in numbers:  # all files of the shard, or half of it would pass for the whole
                store.delete(f"{where}/{file}")
        for file in wrong:
            warn(f"{store.uri}/{where}/{file} is damaged or missing and is made again")
        store.delete(f"{where}/{MANIFEST}")

    wanted = dataset.num_validation + dataset.num_examples
    shards: list[_Shard] = []
    hashes = np.zeros(0, np.uint64)
    starts = [0]
    stays = np.zeros(0, bool)
    while (count := int(stays.sum())) < wanted:
        draws = len(shards) * dataset.shard_size
        rate = count / draws if draws else 1.0
        if rate < 0.02:
            raise InputError(
                f"{dataset.task.name} gave only {count} distinct inputs in {draws} draws, {dataset.num_examples} and "
                f"{dataset.num_validation} for validation were asked for; "
                "allow longer inputs, more tokens or fewer examples"
            )
        more = max(1, -(-int((wanted - count) / rate) // dataset.shard_size))
        more += more // 50  # so that a few duplicates seldom cost another round
        answers = spread(
            partial(_draw, dataset, store),
            range(len(shards), len(shards) + more),
            tick=lambda done, of, draws=draws: tick(draws + done * dataset.shard_size, draws + of * dataset.shard_size),
        )
        for shard, hashed in answers:
            if shard.remade is not None:
                warn(f"{store.uri}/{where}/{shard.remade} is damaged and is made again")
            shards.append(shard)
            starts.append(starts[-1] + len(hashed))
        hashes = np.concatenate([hashes, *(hashed for _, hashed in answers)])
        stays = first_of_equals(hashes)
    return _settle(dataset, store, shards, [stays[start:end] for start, end in itertools.pairwise(starts)], drawn)


def _draw(dataset: Dataset, store: Store, number: int) -> tuple[_Shard, np.ndarray]:
    """Draw one shard and write it aside, or find it; with the hashes of its inputs, [rows] uint64."""
    where, draw = name(dataset), f"draws/{number:05d}.parquet"
    found = {
        file: content for file in (draw, *_final_files(number)) if (content := store.read_bytes(f"{where}/{file}"))
    }
    if draw in found:
        found = {draw: found[draw]}
    remade = None
    tables = []
    for file, content in found.items():
        try:
            tables.append(table_of(content))
        except (OSError, pa.ArrowException):
            remade = file
    if found and remade is None:
        sources = ragged(pa.concat_tables(tables)["source"])
        files = {
            file: (table.num_rows, hashlib.sha256(content).hexdigest())
            for (file, content), table in zip(found.items(), tables, strict=True)
        }
        return _Shard(number=number, files=files), row_hashes(sources)
    rng = np.random.default_rng([dataset.seed, number])
    sources, targets = _checked(dataset, dataset.task.draw(rng, dataset.shard_size))
    content = parquet(sources, targets)
    store.write_bytes(f"{where}/{draw}", content)
    files = {draw: (len(sources), hashlib.sha256(content).hexdigest())}
    return _Shard(number=number, files=files, remade=remade), row_hashes(sources)


def _checked(dataset: Dataset, drawn: Any) -> tuple[Ragged, Ragged]:
    """What a task drew; raises `InputError` unless that was asked for, with ids that a model of its tokens knows."""
    task = dataset.task
    if not isinstance(drawn, tuple) or len(drawn) != 2:
        raise InputError(f"{task.name}.draw must return a pair of inputs and targets, got {type(drawn).__name__}")
    for what, rows in zip(("inputs", "targets"), drawn, strict=True):
        if not isinstance(rows, Ragged) or len(rows) != dataset.shard_size:
            got = f"{len(rows)} rows" if isinstance(rows, Ragged) else type(rows).__name__
            raise InputError(f"{task.name}.draw must return {dataset.shard_size} {what} as a Ragged, got {got}")
        if (largest := int(rows.values.max(initial=0))) > task.largest_id:
            raise InputError(f"{task.name}.draw must return ids up to {task.largest_id}, got {largest} in its {what}")
        if (least := int(rows.values.min(initial=EOS + 1))) <= EOS:
            raise InputError(
                f"{task.name}.draw must return ids of at least {EOS + 1}, got {least} in its {what}: "
                f"{PAD} is padding and {EOS} the end of a sequence, which is added"
            )
    return drawn


def _settle(
    dataset: Dataset, store: Store, shards: list[_Shard], stays: list[np.ndarray], drawn: Callable[[], None]
) -> dict[str, Any]:
    """Give every row that stays its final place, then write the manifest and delete what is left of the draws."""
    where = name(dataset)
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    rewritten: list[tuple[_Shard, dict[str, np.ndarray]]] = []
    rank = 0
    for shard, mask in zip(shards, stays, strict=True):
        ranks = np.where(mask, rank + np.cumsum(mask) - 1, -1)
        rank += int(mask.sum())
        bounds = (0, dataset.num_validation, dataset.num_validation + dataset.num_examples)
        places = [np.flatnonzero((ranks >= start) & (ranks < end)) for start, end in itertools.pairwise(bounds)]
        rows = {file: chosen for file, chosen in zip(_final_files(shard.number), places, strict=True) if len(chosen)}
        if {file: len(chosen) for file, chosen in rows.items()} == {file: n for file, (n, _) in shard.files.items()}:
            pass  # an earlier call brought it here
        elif len(rows) == 1 and all(len(chosen) == len(mask) for chosen in rows.values()):
            ((draw, told),), (file,) = shard.files.items(), rows
            store.move(f"{where}/{draw}", f"{where}/{file}")
            shard = _Shard(number=shard.number, files={file: told})
        elif rows:
            rewritten.append((shard, rows))
            continue
        else:
            continue
        _list(splits, shard)
    rewrite = partial(_rewrite, where, store)
    if len(rewritten) > _FEW:
        settled = spread(rewrite, rewritten, tick=lambda done, of: None)
        drawn()
    else:
        drawn()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            settled = list(pool.map(rewrite, rewritten))
    for shard in settled:
        _list(splits, shard)
    for files in splits.values():
        files.sort(key=lambda told: told["file"])
    manifest = {"splits": splits, "prefix": list(dataset.task.prefix)}
    store.write_json(f"{where}/{MANIFEST}", manifest)
    list_files(store, where, manifest)
    store.delete(f"{where}/draws")
    return manifest


SPLITS = ("validation", "train")
"""The splits of a synthetic data set, in the order in which distinct inputs fill them."""


def _final_files(number: int) -> list[str]:
    return [f"{split}-{number:05d}.parquet" for split in SPLITS]


def _number(file: str) -> int:
    return int(file.removesuffix(".parquet").split("-")[-1])


def _list(splits: dict[str, list[dict[str, Any]]], shard: _Shard) -> None:
    for file, (rows, digest) in shard.files.items():
        splits[file.split("-")[0]].append({"file": file, "rows": rows, "sha256": digest})


def _rewrite(where: str, store: Store, work: tuple[_Shard, dict[str, np.ndarray]]) -> _Shard:
    """Write the chosen rows, [count] int64 by file, of a shard to their final files."""
    shard, rows = work
    content = [store.read_bytes(f"{where}/{file}") for file in shard.files]
    table = pa.concat_tables([table_of(part) for part in content])
    written = {}
    for file, chosen in rows.items():
        told = write(store, where, file, table_bytes(table.take(pa.array(chosen))), len(chosen))
        written[file] = (told["rows"], told["sha256"])
    for file in shard.files.keys() - written.keys():
        store.delete(f"{where}/{file}")
    return _Shard(number=shard.number, files=written)
