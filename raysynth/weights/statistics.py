"""Statistics of parameters: the moments that init schemes transfer, and the means of Figure 6.

Parameters are NumPy arrays by path.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raysynth.model.initialize import mean_and_sd
from raysynth.specs.init_schemes import Family, GroupBy
from raysynth.specs.parameters import parse

Arrays = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Statistics over all values of one group of parameters."""

    group: str
    heading: str
    """The part of the model, printed once above its groups; empty for groups across layers."""
    label: str
    """The group's name under that heading."""
    num_values: int
    mean: float
    sd: float
    """Population standard deviation, as in the init schemes."""
    lowest: float
    highest: float


def moments(params: Arrays, group_by: GroupBy) -> list[Moments]:
    """The moments of each group that a statistic init scheme forms, sorted by name with layers in order.

    Groups are those of Sections 5.1 and 5.2 and Appendix H. The token embedding and T5 1.1's output layer, which those
    schemes leave alone, are groups of their own. Raises `InputError` for a path that is not a T5's.
    """
    grouped: dict[str, list[str]] = {}
    for path in params:
        grouped.setdefault(parse(path).group(group_by), []).append(path)
    rows = []
    for group, paths in sorted(grouped.items(), key=lambda item: _natural(item[0])):
        arrays = [params[path] for path in paths]
        mean, sd = mean_and_sd(arrays)
        heading, label = _heading_and_label(paths[0], group_by)
        rows.append(
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
    return rows


def attention_norm_means(params: Arrays) -> dict[str, list[float]]:
    """The mean weight of the pre-attention layer norm of every layer, by module (Figure 6).

    The modules are the encoder's `pre_attention_layer_norm` and the decoder's `pre_self_attention_layer_norm` and
    `pre_cross_attention_layer_norm`. Each list starts at layer 0.
    """
    means: dict[str, dict[int, float]] = {}
    for path, array in params.items():
        parameter = parse(path)
        if parameter.family is Family.PRE_ATTENTION_LAYER_NORM:
            assert parameter.layer is not None, "only modules within layers have a family"
            means.setdefault(parameter.module, {})[parameter.layer] = mean_and_sd([array])[0]
    return {module: [layers[layer] for layer in sorted(layers)] for module, layers in means.items()}


def table(groups: Iterable[Moments], group_by: GroupBy) -> str:
    """A table of at most 80 columns: each heading on a line of its own, its groups below it."""
    rows, heading = [[str(group_by), "values", "mean", "SD", "min", "max"]], ""
    for group in groups:
        if group.heading != heading:
            heading = group.heading
            rows.append([heading])
        numbers = (group.mean, group.sd, group.lowest, group.highest)
        rows.append([" " * bool(heading) + group.label, f"{group.num_values:,}", *map(_short, numbers)])
    columns = zip(*(row for row in rows if len(row) > 1), strict=True)
    name_width, *widths = (max(map(len, column)) for column in columns)
    lines = []
    for name, *entries in rows:
        aligned = (entry.rjust(width) for entry, width in zip(entries, widths, strict=False))  # a heading has none
        lines.append(" ".join([name.ljust(name_width), *aligned]).rstrip())
    return "\n".join(lines)


def spreadsheet(groups: Iterable[Moments], group_by: GroupBy) -> tuple[list[str], list[list[str]]]:
    """Header and rows for a CSV file, with full names and all digits."""
    rows = [
        [group.group, *map(repr, (group.num_values, group.mean, group.sd, group.lowest, group.highest))]
        for group in groups
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
    """A sort key that puts layer 10 after layer 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _short(number: float) -> str:
    """The number with three significant digits, in at most eight characters."""
    text = f"{number:.3g}"
    return text if len(text) <= 8 else f"{number:.1e}"
