"""Learning curves, and Figure 6: pre-attention layer norms by layer."""

import io
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from raysynth.errors import InputError

Curve = Mapping[int, float]
"""A validation metric by step."""


def learning_curves(
    title: str, panels: Mapping[str, Mapping[str, Sequence[Curve]]], *, ylabel: str, form: str
) -> bytes:
    """A "png" or "svg" with a plot per panel: a line per name, the mean over its runs, in a band from the lowest to the
    highest of them.

    A name has the same color in all panels.
    """
    from matplotlib.figure import Figure  # imported here because plan and status must start in a second
    from matplotlib.ticker import EngFormatter

    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    size = (8, 5) if len(panels) == 1 else (4 * across, 0.5 + 3 * down + 0.2 * -(-len(names) // 4))
    figure = Figure(figsize=size, layout="constrained")
    plots = figure.subplots(down, across, squeeze=False).flat
    lines = {}
    for (panel, curves), axes in zip(panels.items(), plots, strict=False):
        for name, runs in curves.items():
            index = names.index(name)
            steps = sorted(set.intersection(*(set(run) for run in runs)))
            values = [[run[step] for run in runs] for step in steps]
            (lines[name],) = axes.plot(
                steps,
                [statistics.fmean(value) for value in values],
                color=f"C{index}",
                label=f"{name} ({len(runs)})",
                marker="os^Dvx*"[index % 7],
                markersize=4 if len(panels) == 1 else 3,
            )
            axes.fill_between(
                steps,
                [min(value) for value in values],
                [max(value) for value in values],
                color=f"C{index}",
                alpha=0.15,
            )
        axes.set_title(panel, fontsize="medium", parse_math=False)
        axes.set_xlabel("fine-tuning step", fontsize="small")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize="small")
    for axes in plots:
        axes.set_visible(False)
    figure.supylabel(ylabel, fontsize="medium")
    figure.suptitle(title, parse_math=False)
    if len(panels) == 1:
        legend = axes.legend(title="initialization (runs)", fontsize="small")
    else:
        legend = figure.legend(lines.values(), lines, loc="outside lower center", ncols=4, fontsize="small")
    for text in legend.get_texts():
        text.set_parse_math(False)  # a label is text, dollar signs too
    return _saved(figure, form, dpi=120)


Interval = tuple[float, float]
"""Mean and SD, the SD 0 where there is none."""


def dots(rows: Sequence[str], panels: Mapping[str, Mapping[str, tuple[Interval | None, Interval | None]]]) -> bytes:
    """An SVG with a plot per panel: for each row our mean and the printed one, with a bar of one SD to each side.

    A panel holds ours and theirs by row, None where there is none.
    """
    from matplotlib.figure import Figure

    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    figure = Figure(figsize=(2.2 + 3 * across, 0.5 + (0.6 + 0.27 * len(rows)) * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    styles = (("ours", "o", "#1f77b4", "#1f77b4"), ("printed", "D", "#8a8a8a", "none"))
    plots = grid.flat
    for (panel, cells), axes in zip(panels.items(), plots, strict=False):
        for side, (label, marker, color, face) in enumerate(styles):
            places = [row for row in rows if cells.get(row, (None, None))[side] is not None]
            if places:
                axes.errorbar(
                    [cells[row][side][0] for row in places],  # type: ignore[index]
                    [rows.index(row) + (0.16 if side else -0.16) for row in places],
                    xerr=[cells[row][side][1] for row in places],  # type: ignore[index]
                    fmt=marker,
                    color=color,
                    markerfacecolor=face,
                    markersize=5 - side,
                    elinewidth=1.5,
                    label=label,
                )
        axes.set_title(panel, loc="left", fontsize="medium", parse_math=False)
        axes.set_yticks(range(len(rows)), rows, parse_math=False)
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(labelsize="small", length=0, axis="y")
        axes.tick_params(labelsize="small", axis="x")
        axes.spines[["top", "right", "left"]].set_visible(False)
    for axes in plots:
        axes.set_visible(False)
    grid[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside upper right", ncols=2, frameon=False, fontsize="small")
    return _saved(figure, "svg", dpi=150)


def _saved(figure: Any, form: str, *, dpi: int) -> bytes:
    """The figure's bytes, which are the same for the same figure."""
    import matplotlib

    file = io.BytesIO()
    # Otherwise SVG has random ids and the date, and PNG the version.
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "raysynth"}):
        figure.savefig(file, format=form, dpi=dpi, metadata=metadata)
    return file.getvalue()


RANDOM = "random init"
"""The line of layer norms as they are before any training."""

_PANELS = {
    "pre_attention_layer_norm": "Encoder pre-attention",
    "pre_self_attention_layer_norm": "Decoder pre-self-attention",
    "pre_cross_attention_layer_norm": "Decoder pre-cross-attention",
}
"""The plots of Figure 6 by the norm's module, from the top."""


def norms_by_layer(sources: Mapping[str, Mapping[str, Sequence[float]]], *, form: str) -> bytes:
    """Figure 6 as "png" or "svg": the mean layer-norm weight of each layer, a line per source and one for random init.

    A source holds, by module, the means from layer 0 on; sources may differ in their numbers of layers. Equal sources
    give equal bytes with one version of Matplotlib.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    columns = max(1, min(4, 80 // (max(map(len, (RANDOM, *sources))) + 8)))
    legend_rows = -(-(len(sources) + 1) // columns)
    figure = Figure(figsize=(7, 7.5 + 0.2 * legend_rows), layout="constrained")
    panels = figure.subplots(len(_PANELS), sharex=True, sharey=True)
    deepest = max(len(means) for source in sources.values() for means in source.values())
    for axes, (module, title) in zip(panels, _PANELS.items(), strict=True):
        axes.plot(range(deepest), [1.0] * deepest, color="black", linestyle="--", marker=".", zorder=3)
        for index, source in enumerate(sources.values()):
            means = source[module]
            axes.plot(range(len(means)), means, marker="os^Dvx*"[index % 7], markersize=5)
        axes.set_title(title, loc="left", fontsize="medium")
        axes.set_xlim(-0.5, deepest - 0.5)
        axes.xaxis.set_major_locator(MultipleLocator(-(-deepest // 14)))
        axes.grid(alpha=0.3)
    every = [mean for source in sources.values() for means in source.values() for mean in means]
    panels[0].set_ylim(bottom=None if min(every) < 0 else 0, top=1.1 * max(1, *every))
    panels[-1].set_xlabel("layer")
    panels[1].set_ylabel("mean layer-norm weight")
    lines = panels[0].get_lines()
    legend = figure.legend(lines, [RANDOM, *sources], loc="outside lower center", ncols=columns, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a label is text, dollar signs too
    return _saved(figure, form, dpi=150)


def files(out: Path) -> tuple[Path, ...]:
    """The files that `out` asks for: itself, or one PNG and one SVG where it has no suffix."""
    if out.suffix in (".png", ".svg"):
        return (out,)
    if out.suffix or not out.name:
        raise InputError(f"a figure's file must end in .png or .svg, or in neither for both, got {str(out)!r}")
    return out.with_suffix(".png"), out.with_suffix(".svg")


def legends(artifacts: Iterable[str]) -> list[str]:
    """Names for readers, each as short as tells an artifact from the others of its figure.

    `pretrain/set.seed0-3fb5a7f9` is "set"; beside another seed it is "set, seed0".
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
