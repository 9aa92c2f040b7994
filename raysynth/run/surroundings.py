"""What all parts of a run share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from raysynth.downstream.rows import BadRows
from raysynth.observer import Observer
from raysynth.store.leases import Driver
from raysynth.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run's surroundings: where it works, who watches, and what it does when something goes wrong."""

    store: Store
    driver: Driver
    observer: Observer
    locations: Mapping[str, str] = field(default_factory=dict)
    """Where the files of downstream tasks and text corpora are, by name."""
    address: str | None = None
    """Of a running Ray cluster; None starts Ray on this machine."""
    bad_rows: BadRows = BadRows.REFUSE
    max_failed: int | None = None
    """The run ends once this many artifacts have failed; None never ends it early."""
