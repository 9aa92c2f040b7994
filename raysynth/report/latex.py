"""Tables in LaTeX, for papers: with booktabs, the highest means in bold."""

import re

from raysynth.errors import printable
from raysynth.report.tables import EDGE, PAPER, Layout


def as_latex(title: str, layout: Layout) -> str:
    """A table environment; it needs the package booktabs. All text is shown as it is."""
    alignment = "l" * layout.num_names + "r" * (len(layout.header) - layout.num_names)
    header = [_text(" ".join(column.replace("_", " ").split())) for column in layout.header]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_text(title)}}}",
        f"\\begin{{tabular}}{{{alignment}}}",
        "\\toprule",
        _row(header),
        "\\midrule",
        *(_row([_entry(layout, i, j) for j in range(len(row))]) for i, row in enumerate(layout.rows)),
        "\\bottomrule",
        "\\end{tabular}",
        *(f"\\par\\smallskip{{\\footnotesize {_text(note)}\\par}}" for note in layout.notes),
        "\\end{table}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _row(texts: list[str]) -> str:
    return f"{' & '.join(texts)} \\\\"


def _entry(layout: Layout, i: int, j: int) -> str:
    """A text of the table in one line: names as they are, the paper's numbers in italics, the best means in bold."""
    text = layout.rows[i][j]
    if j < layout.num_names:
        return _text(text.strip(" "))
    first, *others = text.split("\n")
    mean, space, spread = first.partition(" ")
    mean = "--" if mean == "-" else _number(mean)
    if (i, j) in layout.best:
        mean = f"\\textbf{{{mean}}}"
    mark = f"\\textsuperscript{{{_text(EDGE)}}}" if (i, j) in layout.edges else ""
    rest = "".join(f" {_number(each)}" for each in [*([spread] if space else []), *others])
    entry = f"{mean}{mark}{rest}"
    return f"\\textit{{{entry}}}" if layout.rows[i][0] == PAPER and entry else entry


def _number(text: str) -> str:
    """Text that may begin with a minus sign."""
    return f"$-${_text(text[1:])}" if re.match(r"-[\d.]", text) else _text(text)


_ESCAPES = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*"},  # after the end of a row, [ and * would be arguments
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    '"': "\\symbol{34}",
    "`": "\\textasciigrave{}",
    "-": "-{}",  # two hyphens would be a dash
}


def _text(text: str) -> str:
    """Text as LaTeX shows it."""
    line = printable(text.replace("\n", " ")).replace("\t", " ")
    return re.sub(r"-{}(?!-)", "-", "".join(_ESCAPES.get(sign, sign) for sign in line))
