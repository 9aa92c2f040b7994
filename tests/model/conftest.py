"""Tiny data sets, and a count of compilations."""

import contextlib

import jax.monitoring
import numpy as np
import pytest

from raysynth.data.manifest import Manifest, write_manifest
from raysynth.data.shard_files import shard_bytes, write_shard
from raysynth.data.text_pairs import generate_text
from raysynth.downstream.rows import Split
from raysynth.specs.identity import name
from raysynth.store.store import Store
from tests.model.tiny import DATA, TASK


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory):
    """The directory of a synthetic data set, written without Ray."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    sources = DATA.task.sample(np.random.default_rng(0), 248)
    splits = {}
    for split, rows in ((Split.VALIDATION, np.arange(48)), (Split.TRAIN, np.arange(48, 248))):
        part = sources.take(rows)
        content = shard_bytes(part, DATA.task.solve(part))
        splits[split] = (write_shard(store, "d", f"{split}-0.parquet", content, len(part)),)
    write_manifest(Manifest(splits=splits, prefix=()), store, "d")
    return store.local_root / "d"


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """The directory of a text data set."""
    store = Store(str(tmp_path_factory.mktemp("texts")))
    generate_text(TASK.data, store, {})
    return store.local_root / name(TASK.data)


@pytest.fixture
def compilations():
    """A context manager that yields a list with one entry for each program that XLA compiles meanwhile."""

    @contextlib.contextmanager
    def counted():
        compiled = []

        def listener(event, duration, **_):
            if event == "/jax/core/compile/backend_compile_duration":
                compiled.append(duration)

        jax.monitoring.register_event_duration_secs_listener(listener)
        try:
            yield compiled
        finally:
            jax.monitoring.unregister_event_duration_listener(listener)

    return counted
