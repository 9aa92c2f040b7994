"""Learning curves as PNG."""

import io
import statistics
from collections.abc import Mapping, Sequence

Curve = Mapping[int, float]
"""A validation metric by step."""


def learning_curves(title: str, curves: Mapping[str, Sequence[Curve]], *, ylabel: str) -> bytes:
    """A PNG with one line per name: the mean over its runs, with a band from the lowest to the highest."""
    from matplotlib.figure import Figure  # imported here because plan and status must start in a second

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for index, (name, runs) in enumerate(curves.items()):
        steps = sorted(set.intersection(*(set(run) for run in runs)))
        values = [[run[step] for run in runs] for step in steps]
        (line,) = axes.plot(
            steps,
            [statistics.fmean(value) for value in values],
            label=f"{name} ({len(runs)})",
            marker="os^Dvx*"[index % 7],
            markersize=4,
        )
        axes.fill_between(
            steps,
            [min(value) for value in values],
            [max(value) for value in values],
            color=line.get_color(),
            alpha=0.15,
        )
    axes.set_xlabel("fine-tuning step")
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(title="initialization (runs)", fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
