"""Made-up results, records and statuses for tests of the store and of reports."""

from typing import Any

from raysynth.data.manifest import read_from_store, result_of
from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.identity import name
from raysynth.store.records import DataResult, Provenance, Record, WeightsResult
from raysynth.store.store import State, Status, Store


def weights_result(**fields: Any) -> WeightsResult:
    """The result of a training with these fields; the others are made up."""
    return WeightsResult(**{"selected_step": 1, "params_sha256": "0" * 64, **fields})


DATA_RESULT = DataResult(rows={"train": 1, "validation": 1}, sha256="0" * 64)


def provenance(**fields: Any) -> Provenance:
    """A provenance with these fields; the others are made up."""
    made_up = {"host": "here", "platform": "Linux", "python": "3.11", "versions": {"jax": "0.9"}, "started": 0.0}
    return Provenance(**{**made_up, "seconds": 1.0, **fields})


def record_data(dataset: Dataset | TextDataset, store: Store) -> None:
    """Record a data set whose files are in the store, as a run does."""
    manifest = read_from_store(store, name(dataset))
    assert manifest is not None
    store.record(dataset, result=result_of(manifest), provenance=provenance())


def done(**fields: Any) -> Status:
    """The status of a finished training whose result has these fields."""
    record = Record(artifact="finetune/some", description={}, result=weights_result(**fields), provenance=provenance())
    return Status(state=State.DONE, record=record)
