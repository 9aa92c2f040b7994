"""Writes one data set to a store and prints the outcome."""

import sys
from collections.abc import Callable

from raysynth.data import shard_files
from raysynth.data.sources import check_same_files
from raysynth.downstream.rows import BadRows
from raysynth.run.progress import Terminal
from raysynth.run.surroundings import Run
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.identity import name
from raysynth.store import leases
from raysynth.store.records import DataResult
from raysynth.store.store import Store

Make = Callable[[Dataset | TextDataset, Run], str | None]
"""Makes a data set; returns why it could not be made, in one line, or None."""


def is_written(dataset: Dataset | TextDataset, store: Store, data: dict[str, str]) -> bool:
    """Whether the store has a data set with all shards intact, which is printed.

    Raises `InputError` if the files in `data`, the places of text files by task, are not those that it was made from.
    """
    record = store.status(dataset).record
    if record is None:
        return False
    check_same_files(dataset, record, data, store)
    if not shard_files.intact(dataset, store):
        return False
    print(f"nothing to do: {name(dataset)} is in {store.uri}")
    return True


def write_data_set(
    dataset: Dataset | TextDataset,
    store: Store,
    address: str | None,
    data: dict[str, str],
    bad_rows: BadRows,
    make: Make,
) -> int:
    """Write a data set; returns the exit status.

    `address` is that of a running Ray cluster; `data` has the places of text files by task.
    """
    store.check_writable()
    with leases.driver(store) as driver, Terminal(1) as terminal:
        run = Run(store=store, driver=driver, observer=terminal, locations=data, address=address, bad_rows=bad_rows)
        error = make(dataset, run)
    if error is not None:
        print(f"error: {error}", file=sys.stderr)
        return 1
    record = store.status(dataset).record
    assert record is not None, "its maker recorded the data set"
    assert isinstance(record.result, DataResult), "data sets have no other result"
    rows = ", ".join(f"{count:,} {split}" for split, count in record.result.rows.items())
    print(f"{store.uri}/{name(dataset)}: {rows}")
    return 0
