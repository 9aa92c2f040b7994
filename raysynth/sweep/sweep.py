"""A sweep: a grid of fine-tunings and the tables that show their results."""

import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from raysynth.command_line import shorten_uncaught_errors
from raysynth.errors import InputError
from raysynth.specs.finetuning import Finetune
from raysynth.specs.grid import Cell, finetuning_at, labelled_points, select_points

if TYPE_CHECKING:
    from raysynth.report.tables import Table


@dataclass
class Sweep:
    """Fine-tunings by named axes, and the tables to print; `main` is the command line of a sweep file."""

    name: str
    claim: str
    """What the sweep shows, in a few words."""
    grids: list[tuple[Callable[..., Finetune], dict[str, Any]]] = field(default_factory=list)
    tables: "list[Table]" = field(default_factory=list)

    def __post_init__(self) -> None:
        # A script builds descriptions at its top level, outside `main`, and a typo there must read as one line too.
        caller = sys._getframe(2)  # frame 1 is the generated `__init__`
        if caller.f_globals.get("__name__") == "__main__":
            shorten_uncaught_errors()

    def add(self, trial: Callable[..., Finetune], **axes: Iterable[Any] | Mapping[str, Any]) -> None:
        """Add the product of the axes to the grid: `trial` gets one value of each axis by keyword.

        The values of an axis are a list, or a mapping from their names to them. Raises `InputError` for axes that
        `trial` does not take and for values that are neither.
        """
        for axis, values in axes.items():
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise InputError(f"axis {axis} must be a list or a mapping of values, got {values!r}")
        kept = {axis: values if isinstance(values, Mapping) else list(values) for axis, values in axes.items()}
        try:
            inspect.signature(trial).bind(**kept)
        except TypeError as error:
            takes = ", ".join(inspect.signature(trial).parameters)
            raise InputError(f"{trial.__name__} takes {takes}, got the axes {', '.join(axes)}: {error}") from None
        self.grids.append((trial, kept))

    def extend(self, where: Mapping[str, Sequence[Any]], **axes: Iterable[Any] | Mapping[str, Any]) -> None:
        """Add cells of the grid again at other values of some axes, such as more seeds for a few cells.

        `where` selects the cells: by axis, the names of values. Raises `InputError` if the grid lacks such a name.
        """
        extended = [
            (trial, {**own, **{axis: select_points(own[axis], names) for axis, names in where.items()}, **axes})
            for trial, own in self.grids
            if {*where, *axes} <= own.keys()
        ]
        extended = [(trial, own) for trial, own in extended if all(own[axis] for axis in where)]
        for axis, names in where.items():
            for missing in set(names) - {label for _, own in extended for label, _ in labelled_points(own[axis])}:
                raise InputError(
                    f"sweep {self.name!r} has no point to extend with {axis} {missing!r} and {dict(where)!r}"
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
            )
        )

    def cells(self, *, size: Callable[[Finetune], Finetune] = lambda artifact: artifact) -> list[Cell]:
        """All cells of the grid, each once; `size` is applied to every fine-tuning (`tiny.tiny` for `--tiny`).

        Raises `InputError` for a description that cannot be built, for two different fine-tunings in one cell, and for
        tables that do not fit the grid.
        """
        cells: dict[Hashable, Cell] = {}
        for trial, axes in self.grids:
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

    def main(self, arguments: Sequence[str] | None = None) -> NoReturn:
        """Run the verb on the command line and exit with its status; `arguments` defaults to those of the process."""
        from raysynth.sweep.command import main  # imports readers and reports, which describing a sweep does not need

        sys.exit(main(self, arguments))


def _cell(fields: dict[str, Any], again: Callable[..., Finetune]) -> Cell:
    """The cell with these fields; errors name the cell."""
    try:
        return Cell(fields=fields, artifact=again(), again=again)
    except InputError as error:
        raise InputError(f"{error}, in the cell {_text(fields)}") from None
    except Exception as error:
        error.add_note(f"in the cell {_text(fields)}")
        raise


def _text(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{axis}={label}" for axis, label in fields.items())


def _key(fields: Mapping[str, Any]) -> Hashable:
    """A key that is equal for equal fields, whatever the order of their axes; labels need not be hashable."""
    try:
        return frozenset(fields.items())
    except TypeError:
        return repr(sorted(fields.items(), key=lambda item: item[0]))
