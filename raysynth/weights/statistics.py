"""What the parameters of a checkpoint are like in a few numbers: those that init schemes take over, and Figure 6's.

Parameters are arrays by path here. NumPy only.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from raysynth.model.initialize import mean_and_sd
from raysynth.specs.init_schemes import Family, GroupBy
from raysynth.specs.parameters import parse

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Moments:
    """The values of one group of parameters taken together."""

    group: str
    heading: str
    """Where in the model the group lies, as a table says it once for many groups; empty for groups across layers."""
    label: str
    """The group's name below that heading."""
    num_values: int
    mean: float
    sd: float
    """Population standard deviation, as the init schemes have it."""
    lowest: float
    highest: float


def moments(params: Arrays, group_by: GroupBy) -> list[Moments]:
    """The moments of each group that statistic init schemes form (Sections 5.1, 5.2 and Appendix H), layers in order.

    Token embedding and T5 1.1's output layer, which no such scheme touches, have groups of their own.
    """
    grouped: dict[str, list[str]] = {}
    for path in params:
        grouped.setdefault(parse(path).group(group_by), []).append(path)
    told = []
    for group, paths in sorted(grouped.items(), key=lambda item: _natural(item[0])):
        arrays = [params[path] for path in paths]
        mean, sd = mean_and_sd(arrays)
        heading, label = _heading_and_label(paths[0], group_by)
        told.append(
            Moments(
                group=group,
                heading=heading,
                label=label,
                num_values=sum(array.size for array in arrays),
                mean=mean,
                sd=sd,
                lowest=min(float(array.min()) for array in arrays),
                highest=max(float(array.max()) for array in arrays),
            )
        )
    return told


def attention_norm_means(params: Arrays) -> dict[str, list[float]]:
    """The mean weight of each layer's pre-attention layer norm, by the norm's module (Figure 6).

    Modules are `pre_attention_layer_norm` of the encoder, `pre_self_attention_layer_norm` and
    `pre_cross_attention_layer_norm` of the decoder; each list starts at layer 0.
    """
    means: dict[str, dict[int, float]] = {}
    for path, array in params.items():
        parameter = parse(path)
        if parameter.family is Family.PRE_ATTENTION_LAYER_NORM:
            assert parameter.layer is not None, "parse gives families within layers only"
            means.setdefault(parameter.module, {})[parameter.layer] = mean_and_sd([array])[0]
    return {module: [layers[layer] for layer in sorted(layers)] for module, layers in means.items()}


def table(told: Iterable[Moments], group_by: GroupBy) -> str:
    """Lines for a terminal of 80 columns: headings alone, below each its groups, numbers to the right."""
    rows, heading = [[str(group_by), "values", "mean", "SD", "min", "max"]], ""
    for group in told:
        if group.heading != heading:
            heading = group.heading
            rows.append([heading])
        numbers = (group.mean, group.sd, group.lowest, group.highest)
        rows.append([" " * bool(heading) + group.label, f"{group.num_values:,}", *map(_short, numbers)])
    first, *widths = (max(map(len, column)) for column in zip(*(row for row in rows if len(row) > 1), strict=True))
    return "\n".join(
        " ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=False))]).rstrip()
        for name, *cells in rows
    )


def spreadsheet(told: Iterable[Moments], group_by: GroupBy) -> tuple[list[str], list[list[str]]]:
    """Header and rows with whole names and all digits."""
    rows = [
        [group.group, *map(repr, (group.num_values, group.mean, group.sd, group.lowest, group.highest))]
        for group in told
    ]
    return [str(group_by), "num_values", "mean", "sd", "min", "max"], rows


def _heading_and_label(path: str, group_by: GroupBy) -> tuple[str, str]:
    parameter = parse(path)
    group = parameter.group(group_by)
    stack = parameter.stack or "shared"
    if group_by is GroupBy.LAYER:
        return stack, group.removeprefix(f"{stack}/")
    if group_by is GroupBy.PARAMETER:
        layer = "" if parameter.layer is None else f"/layers_{parameter.layer}"
        return stack + layer, "/".join(filter(None, (parameter.module, parameter.matrix)))
    return "", group


def _natural(name: str) -> list[str | int]:
    """A key that sorts layer 10 after layer 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _short(number: float) -> str:
    """Three significant digits in at most eight characters."""
    text = f"{number:.3g}"
    return text if len(text) <= 8 else f"{number:.1e}"
