"""A sweep: a grid of fine-tunings and the tables that show their results."""

import functools
import inspect
import itertools
import math
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from raysynth.errors import InputError, WorkerError, brief, shorten_uncaught_errors, unknown
from raysynth.fields import file_name, instance
from raysynth.specs.finetuning import Finetune
from raysynth.specs.grid import Cell, finetuning_at, hashable, label_text, labelled_points, select_points, trial_name

if TYPE_CHECKING:
    import pyarrow

    from raysynth.report.cost import Cost
    from raysynth.report.tables import Table

Location: TypeAlias = str | PathLike[str] | None
"""A directory, or a URI that pyarrow's file systems accept; None as on the command line."""


@dataclass
class Sweep:
    """Fine-tunings by named axes, and the tables to print; `main` is the command line of a sweep file."""

    name: str
    """The name of the folder of its reports in a store."""
    claim: str
    """What the sweep shows, in a few words."""
    grids: list[tuple[Callable[..., Finetune], dict[str, Any]]] = field(default_factory=list)
    tables: "list[Table]" = field(default_factory=list)

    def __post_init__(self) -> None:
        shorten_uncaught_errors()
        file_name(self, "name")
        instance(self, "claim", str)

    def add(self, trial: Callable[..., Finetune], **axes: Iterable[Any] | Mapping[str, Any]) -> None:
        """Add the product of the axes to the grid: `trial` gets one value of each axis by keyword.

        The values of an axis are a list, or a mapping from their names to them. Raises `InputError` for axes that
        `trial` does not take, and for values that are neither, none, or more than one with the same name.
        """
        kept = {axis: _points(axis, values) for axis, values in axes.items()}
        if not callable(trial):
            raise InputError(f"the trial must be a function that returns a Finetune, got {brief(trial)}")
        try:
            signature = inspect.signature(trial)
        except (TypeError, ValueError):
            raise InputError(f"the trial must be a function with named arguments, got {brief(trial)}") from None
        try:
            signature.bind(**kept)
        except TypeError as error:
            takes = ", ".join(signature.parameters)
            raise InputError(f"{trial_name(trial)} takes {takes}, got the axes {', '.join(axes)}: {error}") from None
        self.grids.append((trial, kept))

    def extend(self, where: Mapping[str, Sequence[Any]], **axes: Iterable[Any] | Mapping[str, Any]) -> None:
        """Add cells of the grid again at other values of some axes, such as more seeds for a few cells.

        `where` selects the cells: by axis, the names of values. Raises `InputError` if the grid lacks such a name.
        """
        if not isinstance(where, Mapping):
            raise InputError(f"where must be a mapping from axes to lists of the names of values, got {brief(where)}")
        for axis, names in where.items():
            if isinstance(names, str) or not isinstance(names, Iterable):
                raise InputError(f"where must give a list of the names of values of {axis}, got {brief(names)}")
        axes = {axis: _points(axis, values) for axis, values in axes.items()}
        extended = [
            (trial, {**own, **{axis: select_points(own[axis], names) for axis, names in where.items()}, **axes})
            for trial, own in self.grids
            if {*where, *axes} <= own.keys()
        ]
        extended = [(trial, own) for trial, own in extended if all(own[axis] for axis in where)]
        if not extended and not where:
            raise unknown("axis", ", ".join(axes), {axis for _, own in self.grids for axis in own})
        for axis, names in where.items():
            labels = {hashable(label) for _, own in extended for label, _ in labelled_points(own[axis])}
            for name in names:
                if hashable(name) not in labels:
                    raise InputError(
                        f"sweep {self.name!r} has no point to extend with {axis} {brief(name)} and {brief(dict(where))}"
                    )
        self.grids += extended

    def table(
        self,
        *,
        title: str,
        rows: tuple[str, ...],
        columns: tuple[str, ...] = (),
        where: Mapping[str, tuple[Any, ...]] | None = None,
        published: str | None = None,
        fold: str = "seed",
        best_of: str | None = None,
        baseline: tuple[Any, ...] | None = None,
        ceiling: tuple[Any, ...] | None = None,
        metric: str | None = None,
    ) -> None:
        """Add a table of results, with one row per combination of the axes `rows`; see `raysynth.report.tables.Table`.

        Args:
            title: printed above the table.
            rows: axes that name the rows.
            columns: axes that name the columns; without them there is one column per metric.
            where: by axis, the names of the values to show; all by default.
            published: the table of the paper to compare with, by its name in `published.json`.
            fold: the axis over which mean and sample SD are taken.
            best_of: an axis of which only the value with the best validation accuracy is shown.
            baseline: the row at 0 % of the gap.
            ceiling: the row at 100 % of the gap.
            metric: the only metric to show and to compare; by default those of the tasks.
        """
        from raysynth.report.tables import Table  # imports stores and reports, and `import raysynth` must stay fast

        self.tables.append(
            Table(
                title=title,
                rows=rows,
                columns=columns,
                where={} if where is None else where,
                published=published,
                fold=fold,
                best_of=best_of,
                baseline=baseline,
                ceiling=ceiling,
                metric=metric,
            )
        )

    def cells(self, *, size: Callable[[Finetune], Finetune] = lambda artifact: artifact) -> list[Cell]:
        """All cells of the grid, each once; `size` is applied to every fine-tuning (`tiny.tiny` for `--tiny`).

        Raises `InputError` for a description that cannot be built, for two different fine-tunings in one cell, and for
        tables that do not fit the grid.
        """
        cells: dict[Hashable, Cell] = {}
        for trial, axes in self.grids:
            if (num_cells := math.prod(map(len, axes.values()))) > _MAX_POINTS:
                sizes = " x ".join(f"{axis} {len(values)}" for axis, values in axes.items())
                raise InputError(f"a grid must have at most {_MAX_POINTS:,} cells, got {num_cells:,}: {sizes}")
            for combination in itertools.product(*map(labelled_points, axes.values())):
                fields = {axis: label for axis, (label, _) in zip(axes, combination, strict=True)}
                values = {axis: value for axis, (_, value) in zip(axes, combination, strict=True)}
                cell = _cell(fields, functools.partial(finetuning_at, trial, values, size))
                # Grids may overlap: the same fine-tuning counts once.
                if cells.setdefault(_key(fields), cell) != cell:
                    raise InputError(f"two different fine-tunings are the cell {_text(fields)}; give them another axis")
        for table in self.tables:
            table.check(list(cells.values()))
        return list(cells.values())

    @property
    def file(self) -> Path | None:
        """The file that describes the sweep: that of its first trial; None in a notebook."""
        codes = (getattr(inspect.unwrap(trial), "__code__", None) for trial, _ in self.grids)
        files = (Path(code.co_filename) for code in codes if code is not None)
        return next((file for file in files if file.is_file()), None)

    def main(self, arguments: Sequence[str] | None = None) -> NoReturn:
        """Run the verb on the command line and exit with its status; `arguments` defaults to those of the process."""
        from raysynth.sweep.command import main  # imports readers and reports, which describing a sweep does not need

        sys.exit(main(self, arguments))

    # The verbs, for notebooks. They import readers and reports, which describing a sweep does not need.

    def plan(self, *, store: Location = None, tiny: bool = False, **options: Any) -> "Cost":
        """Print what the verb `plan` prints; returns what remains: steps, and the hours of those of known speed.

        Args:
            store: a directory or URI; by default as on the command line.
            tiny: use a tiny model and few steps for the same grid.
            options: those of the verb, such as `workers=2`; a text, a list of texts or a mapping for `TASK=PATH`.

        Raises `InputError` for what the command line refuses. The other verbs do so too, and take these arguments.
        """
        from raysynth.report.cost import cost
        from raysynth.sweep.calls import call
        from raysynth.sweep.command import times_of

        current = call(self, "plan", {"store": store, "tiny": tiny, **options})
        return cost(current.statuses, current.statuses, times_of(current.statuses, current.store, options.get("on")))

    def run(self, *, store: Location = None, tiny: bool = False, **options: Any) -> dict[str, str]:
        """Make what is missing and print the tables; returns the reasons of what failed or diverged by artifact.

        Raises `WorkerError` if Ray is lost.
        """
        from raysynth.sweep.calls import call

        return call(self, "run", {"store": store, "tiny": tiny, **options}).failures

    def status(self, *, store: Location = None, tiny: bool = False, **options: Any) -> dict[str, str]:
        """Print how far the sweep is; returns the state of every artifact by its name, inputs first."""
        from raysynth.sweep.calls import call

        return call(self, "status", {"store": store, "tiny": tiny, **options}).states

    def report(self, *, store: Location = None, tiny: bool = False, **options: Any) -> None:
        """Print the tables so far and write them, as the verb `report` does."""
        from raysynth.sweep.calls import call

        call(self, "report", {"store": store, "tiny": tiny, **options})

    def results(self, *, store: Location = None, tiny: bool = False, **options: Any) -> "pyarrow.Table":
        """All results as an Arrow table with one row a fine-tuning; `.to_pandas()` gives a data frame.

        The columns are the axes, `seed`, `state`, every metric in [0, 1] as `validation_METRIC` and `test_METRIC`,
        steps, digest, artifact, error, times, host and device. It prints nothing.
        """
        from raysynth.report.results import as_arrow, results
        from raysynth.sweep.calls import look_up

        current = look_up(self, {"store": store, "tiny": tiny, **options})
        return as_arrow(results(current.cells, current.statuses, rehearsal=current.is_tiny))


def _cell(fields: dict[str, Any], again: Callable[..., Finetune]) -> Cell:
    """The cell with these fields; errors name the cell."""
    try:
        return Cell(fields=fields, artifact=again(), again=again)
    except InputError as error:
        raise InputError(f"{error}, in the cell {_text(fields)}") from None
    except Exception as error:
        raise InputError(f"{WorkerError.of(error)}, in the cell {_text(fields)}") from error


def _text(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{axis}={label_text(label):.80}" for axis, label in fields.items())


_MAX_POINTS = 100_000
"""An axis or a grid with more values or cells is taken for a mistake."""


def _points(axis: str, values: Iterable[Any] | Mapping[str, Any]) -> Mapping[Any, Any] | list[Any]:
    """The values of an axis, checked; raises `InputError` as `Sweep.add` does."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(f"axis {axis} must be a list or a mapping of values, got {brief(values)}")
    if isinstance(values, Mapping):
        values = {_plain(label): _plain(value) for label, value in values.items()}
    else:
        try:
            values = list(map(_plain, itertools.islice(values, _MAX_POINTS + 1)))
        except Exception as error:
            raise InputError(f"axis {axis} must be a list or a mapping of values; {WorkerError.of(error)}") from error
    if not 1 <= len(values) <= _MAX_POINTS:
        raise InputError(f"axis {axis} must have from 1 to {_MAX_POINTS:,} values, got {len(values):,}")
    labels: dict[str, Any] = {}
    for label, _ in labelled_points(values):
        first = labels.setdefault(label_text(label), label)
        if hashable(first) != hashable(label):
            raise InputError(
                f"axis {axis} has two values that look alike in a table: {brief(first)} and {brief(label)}"
            )
    return values


def _plain(value: Any) -> Any:
    """A number of NumPy as Python's, so that messages, lines to copy and tables of results show the number alone."""
    return value.item() if isinstance(value, np.generic) else value


def _key(fields: Mapping[str, Any]) -> Hashable:
    """A key that is equal for equal fields, whatever the order of their axes; labels need not be hashable."""
    try:
        return frozenset(fields.items())
    except TypeError:
        return repr(sorted(fields.items(), key=lambda item: item[0]))
