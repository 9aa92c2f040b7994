"""Records and statuses that tests of reports make up."""

from typing import Any

from raysynth.store.records import Provenance, Record, WeightsResult
from raysynth.store.store import State, Status

PROVENANCE = Provenance(host="here", platform="Linux", python="3.11", versions={"jax": "0.9"}, started=0.0, seconds=1.0)


def done(**result: Any) -> Status:
    """The status of a finished training with these fields of its result."""
    fields = {"selected_step": 1, "params_sha256": "0" * 64, **result}
    record = Record(artifact="finetune/some", description={}, result=WeightsResult(**fields), provenance=PROVENANCE)
    return Status(state=State.DONE, record=record)
