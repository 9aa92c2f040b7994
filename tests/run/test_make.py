"""A trial makes an artifact only while its run holds the lease."""

import pytest

from raysynth import Finetune, RandomInit
from raysynth.data.text_pairs import generate_text
from raysynth.downstream.rows import BadRows
from raysynth.run.make import LeaseLost, make
from raysynth.specs.identity import name
from raysynth.store.records import DataResult
from raysynth.store.store import State, Store
from tests.records import provenance
from tests.tiny import MODEL, TASK

SPEC = Finetune(task=TASK, init=RandomInit(MODEL))


def test_a_trial_ends_once_another_run_has_its_lease(tmp_path):
    store = Store(str(tmp_path))
    manifest = generate_text(TASK.data, store, {}, BadRows.REFUSE)
    rows = {split.value: count for split, count in manifest.num_rows.items()}
    store.record(TASK.data, result=DataResult(rows=rows, sha256=manifest.digest), provenance=provenance())
    store.write_json(f"leases/{name(SPEC)}.json", {"driver": "0123abcd"})
    with pytest.raises(LeaseLost):
        make(SPEC, store=store, cache=tmp_path, report=lambda result: None, node="here", driver="deadbeef")
    assert store.status(SPEC).state is State.NEW
    make(SPEC, store=store, cache=tmp_path, report=lambda result: None, node="here", driver="0123abcd")
    assert store.status(SPEC).state is State.DONE
