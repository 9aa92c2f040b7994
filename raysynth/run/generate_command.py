"""Writes one data set to a store and prints the outcome."""

import sys

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


def write_data_set(
    dataset: Dataset | TextDataset, store: Store, address: str | None, data: dict[str, str], bad_rows: BadRows
) -> int:
    """Write a data set unless the store has it with all shards intact; returns the exit status.

    `address` is that of a running Ray cluster; `data` has the places of text files by task.
    """
    record = store.status(dataset).record
    if record is not None:
        check_same_files(dataset, record, data, store)
    if record is not None and shard_files.intact(dataset, store):
        print(f"nothing to do: {name(dataset)} is in {store.uri}")
        return 0
    # These import Ray, which the lines above do not need.
    from raysynth.run.address import cluster
    from raysynth.run.make_data import make_data

    cluster(address)
    store.check_writable()

    with leases.driver(store) as driver, Terminal(1) as terminal:
        run = Run(store=store, driver=driver, observer=terminal, locations=data, address=address, bad_rows=bad_rows)
        error = make_data(dataset, run)
    if error is not None:
        print(f"error: {error}", file=sys.stderr)
        return 1
    record = store.status(dataset).record
    assert record is not None, "make_data recorded the data set"
    assert isinstance(record.result, DataResult), "data sets have no other result"
    rows = ", ".join(f"{count:,} {split}" for split, count in record.result.rows.items())
    print(f"{store.uri}/{name(dataset)}: {rows}")
    return 0
