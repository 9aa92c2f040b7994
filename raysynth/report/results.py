"""The results of a sweep as numbers: one row a fine-tuning, for pandas, Arrow and spreadsheets."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from raysynth.errors import printable
from raysynth.report import tables
from raysynth.specs.grid import Cell, label_text
from raysynth.specs.identity import Artifact, name
from raysynth.store.store import Status

if TYPE_CHECKING:
    import pyarrow

Columns = Mapping[str, Sequence[Any]]
"""Values by the column's name, all of one length; None where there is none."""

_PROVENANCE = {
    "seconds": float,
    "train_seconds": float,
    "evaluation_seconds": float,
    "test_seconds": float,
    "seconds_per_step": float,
    "host": str,
    "device": str,
    "threads": int,
    "commit": str,
    "sweep_commit": str,
}
_TYPES: dict[str, type] = {
    "seed": int,
    "state": str,
    "selected_step": int,
    "last_step": int,
    "num_test": int,
    "params_sha256": str,
    "artifact": str,
    "error": str,
    "started": datetime,
    **_PROVENANCE,
}
"""The columns that every table of results has, besides axes and metrics."""


def results(cells: Sequence[Cell], statuses: Mapping[Artifact, Status], *, rehearsal: bool = False) -> Columns:
    """One row a cell, in the order of the grid: axes, seed, state, metrics, steps, digest, name, times and host.

    Metrics are in [0, 1], in columns `validation_METRIC` (at the selected step) and `test_METRIC`. Results of a
    rehearsal have the column `rehearsal`. A column whose name is that of an axis is called `run_NAME`; `seed` is there
    once if the axis `seed` holds the seeds.
    """
    axes = list(dict.fromkeys(axis for cell in cells for axis in cell.fields))
    columns = {axis: _axis([cell.fields.get(axis) for cell in cells]) for axis in axes}
    runs = _runs(cells, statuses) | ({"rehearsal": ["tiny"] * len(cells)} if rehearsal else {})
    for column, values in runs.items():
        if columns.get(column) == values:
            continue
        while column in columns:
            column = f"run_{column}"
        columns[column] = values
    return columns


def _axis(labels: list[Any]) -> list[Any]:
    """Labels of one kind of value: whole numbers, numbers or truth values as they are, all others as text."""
    kinds = {type(label) for label in labels if label is not None}
    if kinds == {bool} or (kinds == {int} and all(label is None or abs(label) < 2**63 for label in labels)):
        return labels
    if kinds and kinds <= {int, float}:
        return [None if label is None else _as_float(label) for label in labels]
    return [None if label is None else label_text(label) for label in labels]


def _as_float(label: float) -> float:
    try:
        return float(label)
    except OverflowError:
        return float("inf") if label > 0 else float("-inf")


def _runs(cells: Sequence[Cell], statuses: Mapping[Artifact, Status]) -> dict[str, list[Any]]:
    """The columns besides the axes."""
    records = [statuses[cell.artifact].record for cell in cells]
    failures = [statuses[cell.artifact].failure for cell in cells]
    outcomes = [None if record is None else record.weights for record in records]
    test_metrics = dict.fromkeys(metric for cell in cells for metric in cell.artifact.task.metrics)
    scores: dict[str, dict[str, Any]] = {"validation": {"token_accuracy": None}, "test": {**test_metrics}}
    for split in scores:
        for outcome in outcomes:
            scores[split].update(dict.fromkeys(getattr(outcome, split, None) or {}))
    return {
        "seed": [cell.artifact.seed for cell in cells],
        "state": [str(statuses[cell.artifact].state) for cell in cells],
        **{
            f"{split}_{metric}": [(getattr(outcome, split, None) or {}).get(metric) for outcome in outcomes]
            for split, metrics in scores.items()
            for metric in metrics
        },
        **{
            field: [getattr(outcome, field, None) for outcome in outcomes]
            for field in ("selected_step", "last_step", "num_test", "params_sha256")
        },
        "artifact": [name(cell.artifact) for cell in cells],
        "error": [None if failure is None else printable(failure.error) for failure in failures],
        "started": [
            None if record is None else datetime.fromtimestamp(record.provenance.started, UTC) for record in records
        ],
        **{
            field: [None if record is None else getattr(record.provenance, field) for record in records]
            for field in _PROVENANCE
        },
    }


def as_arrow(columns: Columns) -> "pyarrow.Table":
    """The results as an Arrow table; its method `to_pandas` gives a data frame."""
    import pyarrow as pa

    types = {int: pa.int64(), float: pa.float64(), str: pa.string(), datetime: pa.timestamp("us", tz="UTC")}

    def array(column: str, values: Sequence[Any]) -> Any:
        kinds = {type(value) for value in values if value is not None}
        known = _TYPES.get(column.removeprefix("run_"), float if column.startswith(("validation_", "test_")) else str)
        # Without a value the column's own type is the only one that tells.
        kind = kinds.pop() if len(kinds) == 1 else float if kinds == {int, float} else known
        return pa.array(values, types.get(kind) or pa.bool_())

    return pa.table({column: array(column, values) for column, values in columns.items()})


def as_csv(columns: Columns) -> str:
    """The results as CSV with all digits; times are in ISO 8601, and what is missing is empty."""
    return tables.as_csv(list(columns), [list(map(_text, row)) for row in zip(*columns.values(), strict=True)])


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
