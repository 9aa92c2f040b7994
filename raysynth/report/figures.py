"""Plots: learning curves, means beside printed ones, and layer-norm weights by layer (Figure 6)."""

import io
import math
import re
import statistics
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from raysynth.errors import InputError, printable

if TYPE_CHECKING:  # imported inside functions, because plan and status must start in a second
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

_MARKERS = "os^Dvx*"
"""The shapes of lines, in turn."""

# -------------------------------------------------------------------------------- learning curves

Curve = Mapping[Any, float]
"""A validation metric by step, or by another number."""


def learning_curves(
    title: str,
    panels: Mapping[str, Mapping[str, Sequence[Curve]]],
    *,
    ylabel: str,
    file_format: str,
    xlabel: str = "fine-tuning step",
    lines_are: str = "initialization",
    at_values: bool = False,
) -> bytes:
    """Learning curves as "png" or "svg", with a plot per panel.

    A panel holds the curves of several runs by line name. A line is the mean over its runs, in a band from the lowest
    to the highest. A name has the same color in all panels. The x-axis begins at step 0; `at_values` shows the numbers
    of the curves on it instead, far ones on a logarithmic scale.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, NullLocator

    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    num_columns = min(len(panels), 3)
    num_rows = -(-len(panels) // num_columns)
    size = (9, 4.5) if len(panels) == 1 else (4 * num_columns, 0.5 + 3 * num_rows + 0.2 * -(-len(names) // 4))
    figure = Figure(figsize=size, layout="constrained")
    plots = figure.subplots(num_rows, num_columns, squeeze=False).flat
    lines = {}
    for (panel, curves), axes in zip(panels.items(), plots, strict=False):
        for name, runs in curves.items():
            index = names.index(name)
            steps = sorted(set.intersection(*(set(run) for run in runs)))
            values = [[run[step] for run in runs] for step in steps]
            (lines[name],) = axes.plot(
                steps,
                [_mean(value) for value in values],
                color=f"C{index}",
                label=f"line {index}",  # its own name comes later: Matplotlib leaves out names that begin with _
                marker=_MARKERS[index % len(_MARKERS)],
                markersize=4 if len(panels) == 1 else 3,
            )
            axes.fill_between(
                steps,
                [min(value) for value in values],
                [max(value) for value in values],
                color=f"C{index}",
                alpha=0.15,
            )
        axes.set_title(_short(panel), fontsize="medium", parse_math=False)
        axes.set_xlabel(_short(xlabel), fontsize="small", parse_math=False)
        if at_values:
            ticks = sorted({step for runs in curves.values() for run in runs for step in run})
            if ticks[0] > 0 and ticks[-1] > 3 * ticks[0]:
                axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.set_xlim(left=0)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize="small")
    for axes in plots:  # those left over
        axes.set_visible(False)
    figure.supylabel(ylabel, fontsize="medium")
    figure.suptitle(_short(title, characters=100), fontsize="medium", parse_math=False)
    if len(panels) == 1:
        title = f"{lines_are} (runs)"
        legend = axes.legend(title=title, fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        _name_lines(legend, [f"{name} ({len(runs)})" for name, runs in curves.items()])
    else:
        places = [str(index) for index in range(len(lines))]
        legend = figure.legend(lines.values(), places, loc="outside lower center", ncols=4, fontsize="small")
        _name_lines(legend, lines)
    return _file(figure, file_format, dpi=120)


# -------------------------------------------------------------------------------- ours beside the printed

Interval = tuple[float, float]
"""Mean and SD; the SD is 0 if there is none."""


def dots(
    rows: Sequence[str],
    panels: Mapping[str, Mapping[str, tuple[Interval | None, Interval | None]]],
    seeds: Mapping[str, Mapping[str, Sequence[float]]] = MappingProxyType({}),
) -> bytes:
    """Means as dots with a bar of one SD to each side, ours and the printed ones by row, as SVG with a plot per panel.

    A panel holds our interval and the printed one by row; None if there is none. `seeds` holds, by panel and row, the
    values behind our means: a small dot each.
    """
    from matplotlib.figure import Figure

    num_columns = min(len(panels), 3)
    num_rows = -(-len(panels) // num_columns)
    size = (2.2 + 3 * num_columns, 0.5 + (0.6 + 0.27 * len(rows)) * num_rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True)
    styles = (("ours", "o", "#1f77b4", "#1f77b4"), ("printed", "D", "#8a8a8a", "none"))
    plots = grid.flat
    has_printed = any(theirs is not None for intervals in panels.values() for _, theirs in intervals.values())
    for (panel, intervals), axes in zip(panels.items(), plots, strict=False):
        for side, (label, marker, color, face) in enumerate(styles):
            known = {row: interval for row in rows if (interval := intervals.get(row, (None, None))[side]) is not None}
            if known:
                axes.errorbar(
                    [mean for mean, _ in known.values()],
                    [rows.index(row) + has_printed * (0.16 if side else -0.16) for row in known],
                    xerr=[spread for _, spread in known.values()],
                    fmt=marker,
                    color=color,
                    markerfacecolor=face,
                    markersize=5 - side,
                    elinewidth=1.5,
                    label=label,
                )
        singles = [
            (value, rows.index(row) - 0.25 - 0.12 * has_printed)
            for row, values in seeds.get(panel, {}).items()
            for value in values
            if len(values) > 1
        ]
        if singles:
            axes.scatter(*zip(*singles, strict=True), s=9, color="#d62728", alpha=0.6, zorder=3, label="a seed")
        axes.set_title(_short(panel), loc="left", fontsize="medium", parse_math=False)
        axes.set_yticks(range(len(rows)), [_short(row) for row in rows], parse_math=False)
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(labelsize="small", length=0, axis="y")
        axes.tick_params(labelsize="small", axis="x")
        axes.spines[["top", "right", "left"]].set_visible(False)
    for axes in plots:  # those left over
        axes.set_visible(False)
    grid[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside upper right", ncols=3, frameon=False, fontsize="small")
    return _file(figure, "svg", dpi=150)


# -------------------------------------------------------------------------------- Figure 6

RANDOM = "random init"
"""Name of the line of layer-norm weights before any training."""

_PANELS = {
    "pre_attention_layer_norm": "Encoder pre-attention",
    "pre_self_attention_layer_norm": "Decoder pre-self-attention",
    "pre_cross_attention_layer_norm": "Decoder pre-cross-attention",
}
"""Titles of the plots of Figure 6 by layer-norm module, from the top."""


def norms_by_layer(sources: Mapping[str, Mapping[str, Sequence[float]]], *, file_format: str) -> bytes:
    """Figure 6 as "png" or "svg": the mean layer-norm weight of each layer, a line per source and one for random init.

    A source holds, by module, the means from layer 0 on; sources may differ in their number of layers. Equal sources
    give equal bytes with one version of Matplotlib.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    num_columns = max(1, min(4, 80 // (max(map(len, (RANDOM, *sources))) + 8)))
    num_legend_rows = -(-(len(sources) + 1) // num_columns)
    figure = Figure(figsize=(7, 7.5 + 0.2 * num_legend_rows), layout="constrained")
    plots = figure.subplots(len(_PANELS), sharex=True, sharey=True)
    num_layers = max(len(means) for source in sources.values() for means in source.values())
    for axes, (module, title) in zip(plots, _PANELS.items(), strict=True):
        axes.plot(range(num_layers), [1.0] * num_layers, color="black", linestyle="--", marker=".", zorder=3)
        for index, source in enumerate(sources.values()):
            means = source[module]
            axes.plot(range(len(means)), means, marker=_MARKERS[index % len(_MARKERS)], markersize=5)
        axes.set_title(title, loc="left", fontsize="medium")
        axes.set_xlim(-0.5, num_layers - 0.5)
        axes.xaxis.set_major_locator(MultipleLocator(-(-num_layers // 14)))
        axes.grid(alpha=0.3)
    all_means = [mean for source in sources.values() for means in source.values() for mean in means]
    plots[0].set_ylim(bottom=None if min(all_means) < 0 else 0, top=1.1 * max(1, *all_means))
    plots[-1].set_xlabel("layer")
    plots[1].set_ylabel("mean layer-norm weight")
    lines = plots[0].get_lines()
    places = [str(index) for index in range(len(lines))]
    legend = figure.legend(lines, places, loc="outside lower center", ncols=num_columns, frameon=False)
    _name_lines(legend, [RANDOM, *sources])
    return _file(figure, file_format, dpi=150)


def legends(artifacts: Iterable[str]) -> list[str]:
    """Short names for the lines of a figure, from the names of the artifacts; each is still unique in the figure.

    `pretrain/set.seed0-1c575405` becomes "set"; beside another seed it becomes "set, seed0".
    """
    artifacts = list(artifacts)
    names = list(artifacts)
    for shorten in (_without_fingerprint, _without_seed):
        shorter = [shorten(artifact) for artifact in artifacts]
        names = [new if shorter.count(new) == 1 else old for old, new in zip(names, shorter, strict=True)]
    return names


def _without_seed(artifact: str) -> str:
    return re.sub(r"(, lr[-+.e0-9]+)?, seed\d+$", "", _without_fingerprint(artifact))


def _without_fingerprint(artifact: str) -> str:
    kind, _, rest = artifact.partition("/")
    label = rest.rpartition("-")[0] or artifact
    return label if kind == "pretrained" else re.sub(r"\.(?=[a-z])", ", ", label).replace("_", " ")


# -------------------------------------------------------------------------------- files


def output_files(out: Path) -> tuple[Path, ...]:
    """The files to write for `out`: itself, or a PNG and an SVG if it has no suffix.

    Raises `InputError` for another suffix than .png and .svg.
    """
    if out.suffix in (".png", ".svg"):
        return (out,)
    if out.suffix or not out.name:
        raise InputError(f"a figure's file must end in .png or .svg, or have no suffix for both, got {str(out)!r}")
    return out.with_suffix(".png"), out.with_suffix(".svg")


def _file(figure: "Figure", file_format: str, *, dpi: int) -> bytes:
    """The figure as a file; equal figures give equal bytes."""
    import matplotlib

    file = io.BytesIO()
    # By default an SVG holds random ids and the date, and a PNG the version of Matplotlib.
    metadata = {"Date": None} if file_format == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "raysynth"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of signs that the font lacks, and of labels that leave little room
        figure.savefig(file, format=file_format, dpi=dpi, metadata=metadata)
    return file.getvalue()


# -------------------------------------------------------------------------------- helpers


def _name_lines(legend: "Legend", names: Iterable[str]) -> None:
    """Set the texts of a legend as they are: dollar signs are no formula, and a name may begin with an underscore."""
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(_short(name))
        text.set_parse_math(False)


_MAX_NAME_CHARACTERS = 60
"""A plot shows this much of a longer name."""


def _short(name: str, characters: int = _MAX_NAME_CHARACTERS) -> str:
    name = printable(name)
    return name if len(name) <= characters else f"{name[:characters]}..."


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if all(map(math.isfinite, values)) else math.nan
