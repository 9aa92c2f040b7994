"""Whatever users write is shown as text: no markup, no terminal escapes, no formulas, no lines that are none."""

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from raysynth import Finetune, InputError, RandomInit, Sweep
from raysynth.errors import printable
from raysynth.observer import Progress
from raysynth.report.figures import dots, learning_curves
from raysynth.report.latex import as_latex
from raysynth.report.next_seeds import propose_seeds
from raysynth.report.predictions import print_predictions
from raysynth.report.tables import Layout, as_csv, as_markdown, as_terminal_table, render
from raysynth.report.write import print_report
from raysynth.run.progress import Terminal
from raysynth.specs.identity import in_order, name
from raysynth.store.store import Outcome, State, Status, Store
from tests import records
from tests.records import provenance, weights_result
from tests.report.grids import MODEL, TASK, grid, record

LABELS = [
    *("attn [scale]", "[/end]", "[bold]x", "\\[x]", ":smile:", "p|q", "`a`", "*b*", "_c_", "~~d~~", "$e$", "[f](g)"),
    *("<b>h</b>", "&amp;", "a\nb", "a\rb", "\x1b[2J", "\x9b31m", "\u202eabc", "a\u2028b", "a\x85b", "\x0cx", "\ud800"),
    *('=HYPERLINK("x")', "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\uff1d1", "", " ", "-", "-0.5", "x" * 300),
]
TEXTS = st.text(st.characters(exclude_categories=[]), max_size=30) | st.sampled_from(LABELS)

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text, width=1_000):
    """What a terminal shows of a table with one text in it."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(as_terminal_table(text, [text, "n"], [[text, "1"]], num_text_columns=1))
    return console.file.getvalue()


@given(TEXTS)
def test_printable_text_is_one_line_without_controls_and_ordinary_text_stays(text):
    assert not CONTROLS.search(printable(text))
    assert printable(printable(text)) == printable(text)
    assert len(printable(text).splitlines()) <= 1
    if not CONTROLS.search(text) and text.isprintable():
        assert printable(text) == text


@pytest.mark.parametrize("text", LABELS, ids=ascii)
def test_a_terminal_shows_labels_and_titles_as_they_are(text):
    lines = shown(text)
    kept = " ".join(printable(text).replace("\t", " ").split())
    assert kept in " ".join(lines.split())
    assert not CONTROLS.search(lines)


@given(TEXTS, TEXTS)
@settings(deadline=None)
def test_a_csv_file_has_the_texts_and_no_formula(header, text):
    rows = list(csv.reader(io.StringIO(as_csv([header, "n"], [[text, "-0.5"]]))))
    assert len(rows) == 2
    assert rows[1][1] == "-0.5"
    for cell, written in zip((header, text), (rows[0][0], rows[1][0]), strict=True):
        lines = "\n".join(map(printable, cell.split("\n"))).replace("\n", " ")
        assert written in (lines, f"'{lines}")
        assert not CONTROLS.search(written)
        if written[:1] in tuple("=+-@\t"):
            float(written.removesuffix(" %").partition(" (")[0].removesuffix(" SD")) if written != "-" else None


NAMED = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textasciigrave": "`",
}
LATEX = re.compile(
    rf'\\({"|".join(NAMED)}){{}}|(\\symbol\{{34\}})|\\([&%$#_{{}}])|{{([\[\]*])}}|(-){{}}|([^\\{{}}&%$#_~^\[\]*<>|"`])'
)


def shown_by_latex(text):
    """What LaTeX shows; fails at a sign that it would read as markup."""
    assert re.fullmatch(f"(?:{LATEX.pattern})*", text, re.DOTALL)
    assert "--" not in text
    return LATEX.sub(lambda match: NAMED[match[1]] if match[1] else '"' if match[2] else match[match.lastindex], text)


@given(TEXTS, TEXTS)
def test_latex_shows_texts_as_they_are(name, number):
    layout = Layout(
        header=["a", "n"],
        rows=[["x" + name, "1 " + number]],
        num_names=1,
        edges=frozenset(),
        best=frozenset(),
        notes=[name],
    )
    lines = as_latex(name, layout).split("\n")
    assert len(lines) == 14
    assert not CONTROLS.search("".join(lines))
    as_line = printable(name.replace("\n", " ")).replace("\t", " ")
    assert shown_by_latex(lines[3].removeprefix("\\caption{").removesuffix("}")) == as_line
    assert shown_by_latex(re.split(r" & (?=1 )", lines[8])[0]).rstrip(" ") == f"x{as_line}".rstrip(" ")


def test_numbers_of_a_table_stay_numbers_in_csv():
    numbers = ["-0.5", "+1.2", "-3 %", "+0.4 SD", "-1.0 (0.2)", "-", "nan", "1e-05", "-1e-05"]
    assert as_csv(["a"], [[number] for number in numbers]) == "a\n" + "".join(f"{number}\n" for number in numbers)
    assert as_csv(["a"], [["-1+1"], ["=1"], ["-x"]]) == "a\n'-1+1\n'=1\n'-x\n"


@given(TEXTS)
def test_a_markdown_table_has_its_cells(text):
    lines = as_markdown([text, "n"], [[text, "1"]]).split("\n")
    assert len(lines) == 4
    for line in (lines[0], lines[2]):
        cells = re.split(r"(?<!\\)(?:\\\\)*\|", line)
        assert len(cells) == 4
        assert not re.search(r"(?<!\\)(?:\\\\)*[`*~$]", line)
        assert not re.search(r"(?<!\\)<(?!br>)[A-Za-z/!?]", line)


def test_markdown_leaves_harmless_brackets_alone():
    assert as_markdown(["exact_match"], [["attn [scale]"], ["p|q"], ["[a](b)"], ["_x_"]]) == (
        "| exact_match |\n| --- |\n| attn [scale] |\n| p\\|q |\n| [a\\](b) |\n| \\_x\\_ |\n"
    )


def hostile_sweep(labels):
    """A sweep with these labels as rows, columns and title, in a table of each kind."""
    sweep = Sweep(name="s", claim=" ".join(labels))

    def trial(scale, group, seed):
        return Finetune(task=TASK, init=RandomInit(MODEL), seed=seed + scale)

    axis = {label: index for index, label in enumerate(labels)}
    sweep.add(trial, scale=axis, group=labels[:2], seed=[0, 10_000])
    sweep.table(title=labels[0], rows=("scale",), baseline=(labels[0],), ceiling=(labels[1],))
    sweep.table(title=labels[1], rows=("scale",), columns=("group",))
    return sweep


def distinct(labels):
    return list({printable(label): label for label in labels}.values())


class Reader(HTMLParser):
    """The texts and tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.tags = "", set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, text):
        self.texts += text


def finished(cells, **fields):
    """Statuses in which every fine-tuning is done, with results that have these fields."""
    done = records.done(
        **{
            "validation": {"token_accuracy": 0.5},
            "evaluations": {1: {"token_accuracy": 0.1}, 2: {"token_accuracy": 0.5}},
            "test": {"exact_match": 0.25, "token_accuracy": 0.5},
            **fields,
        }
    )
    artifacts = in_order([cell.artifact for cell in cells])
    return {each: done if each.kind == "finetune" else Status(state=State.NEW) for each in artifacts}


def test_a_report_shows_hostile_labels_as_they_are(store, capsys):
    labels = distinct(LABELS)
    sweep = hostile_sweep(labels)
    cells = sweep.cells()
    print_report(sweep.name, sweep.claim, sweep.tables, cells, finished(cells), store)
    printed = " ".join(capsys.readouterr().out.split())
    page = store.read_bytes("reports/s/report.html").decode()
    read = Reader(page)
    for label in labels:
        if len(label) < 100:
            assert " ".join(printable(label).split()) in printed
        assert printable(label) in read.texts
    assert "script" not in read.tags
    assert not CONTROLS.search(page)
    assert not CONTROLS.search(printed)
    for number in (1, 2):
        lines = csv.reader(io.StringIO(store.read_bytes(f"reports/s/table{number}.csv").decode()))
        assert len(list(lines)) > len(labels)


def test_plots_have_any_names():
    names = [f"{label} {index}" for index, label in enumerate(LABELS)]
    curves = {name: [{1: 0.1, 2: float("nan")}] for name in names}
    assert learning_curves("[x] $y", {"_p": curves, "$q": curves}, ylabel="y", file_format="png").startswith(b"\x89PNG")
    svg = learning_curves("_", {"": {"_a_ $b$": [{1: 0.1}, {2: 0.1}]}}, ylabel="y", file_format="svg").decode()
    assert "<!-- _a_ $b$ (2) -->" in svg
    intervals = {"a": ((float("inf"), float("nan")), (1.0, 0.0))}
    assert dots(["a"], {"\x1b[2J": intervals}).startswith(b"<?xml")


@pytest.mark.parametrize(
    "fields",
    [
        {"test": {}},
        {"test": {"exact_match": float("nan"), "token_accuracy": float("inf")}},
        {"test": {"unknown": 0.5}, "num_test": 0},
        {"validation": None},
        {"validation": {"token_accuracy": float("nan")}},
        {"evaluations": None, "test": None},
        {"evaluations": {1: {}}},
        {"evaluations": {1: {"token_accuracy": float("inf")}, 2: {"token_accuracy": float("-inf")}}},
    ],
    ids=str,
)
def test_a_report_of_odd_records_is_a_report(fields, store, capsys):
    sweep = hostile_sweep(["a", "b", "c"])
    sweep.table(title="best", rows=("group",), best_of="scale")
    cells = sweep.cells()
    statuses = finished(cells, **fields)
    assert all(render(table, cells, statuses) for table in sweep.tables[1:])
    assert propose_seeds(sweep.tables[1], cells, statuses, store)
    print_report(sweep.name, sweep.claim, sweep.tables[:1], cells, statuses, store)
    assert store.exists("reports/s/report.html")
    assert "TensorBoard" in capsys.readouterr().out


def test_a_table_that_cannot_be_written_is_printed(store, capsys):
    sweep = hostile_sweep(["a", "b"])
    cells = sweep.cells()
    store.write_bytes("reports", b"a file where a directory must be")
    print_report(sweep.name, sweep.claim, sweep.tables, cells, finished(cells), store)
    printed = capsys.readouterr()
    assert "25.0" in printed.out
    assert "TensorBoard" not in printed.out
    assert printed.err.startswith(f"not written: {store.place}/reports/s/: ")
    assert printed.err.count("\n") == 1


# -------------------------------------------------------------------------------- predictions and failures


def predictions(store, *rows):
    """A finished fine-tuning with these predictions; returns its name."""
    artifact = Finetune(task=TASK, init=RandomInit(MODEL))
    store.record(artifact, result=weights_result(), provenance=provenance())
    content = b"".join(row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows)
    store.write_bytes(f"{name(artifact)}/predictions.jsonl", content)
    return name(artifact)


ROW = {"source": "s", "target": "t", "prediction": "p", "right": False}


def test_predictions_have_the_lines_of_the_file_and_no_escapes(store, capsys):
    texts = ["a\x85b", "a\u2028b", "a\x0bb\x0cc", "\x1b]0;title\x07", "a\n[2] right"]
    run = predictions(store, *in_lines({**ROW, "prediction": text} for text in texts))
    print_predictions(run, store, num_examples=None, right=None)
    printed = capsys.readouterr().out
    assert [line.strip() for line in printed.split("\n") if "prediction:" in line] == [
        f"prediction: {printable(text)}" for text in texts
    ]
    assert not CONTROLS.search(printed)
    assert printed.endswith("0 of 5 right\n")


def in_lines(rows):
    """Each row and the end of its line."""
    for row in rows:
        yield row
        yield b"\n"


@pytest.mark.parametrize(
    "line",
    [b"{", b"null", b"[]", b"\xff", b'{"right": true}', b'{"right": 1, "source": "", "target": "", "prediction": ""}'],
)
def test_a_damaged_prediction_is_one_line(line, store):
    run = predictions(store, ROW, b"\n", line)
    with pytest.raises(InputError, match=r"predictions\.jsonl, line 2 is damaged"):
        print_predictions(run, store, num_examples=None, right=None)


def test_the_terminal_of_a_run_shows_errors_as_they_are():
    """On a real pseudo-terminal, where Rich draws bars."""
    errors = ["no [/data/words.txt] or [home]", "[/end]", "\x1b[2Jx", "a\\", "[bold]"]
    script = (
        "import sys\n"
        "from raysynth.observer import Progress\n"
        "from raysynth.run.progress import Terminal\n"
        "with Terminal(9) as terminal:\n"
        f"    for error in {errors!r}:\n"
        "        terminal.progress(error, Progress(step=1, num_steps=2, scalars={'train/loss': float('nan')}))\n"
        "        terminal.noted(error, error)\n"
        "        terminal.failed(error, error)\n"
    )
    main, secondary = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen([sys.executable, "-c", script], stderr=secondary, env=environment)
    os.close(secondary)
    printed = b""
    try:
        while chunk := os.read(main, 65_536):
            printed += chunk
    except OSError:  # the other end is closed
        pass
    os.close(main)
    assert process.wait() == 0
    for error in errors:
        assert f"failed  \x1b[0m {printable(error)}: {printable(error)}".encode() in printed
    assert b"\x1b[2J" not in printed


def test_lines_of_a_run_without_a_terminal_are_lines(capsys):
    with Terminal(1) as terminal:
        terminal.progress("a\nb", Progress(step=1, num_steps=2, scalars={}))
        terminal.failed("a\nb", "x\r\x1b[2J\u2028y")
    lines = capsys.readouterr().err.rstrip("\n").split("\n")
    assert len(lines) == 2
    assert lines[1].endswith(r"failed   a\nb: x\r\x1b[2J\u2028y")


def test_status_and_plan_show_errors_of_a_store_as_text(store, capsys):
    sweep = hostile_sweep(["a", "b"])
    artifact = sweep.cells()[0].artifact
    store.fail(artifact, outcome=Outcome.FAILED, error="\x1b[2J[/x]\nspoofed: line", log="")
    for verb in ("plan", "status"):
        with pytest.raises(SystemExit):
            sweep.main([verb, "--store", store.uri])
        printed = capsys.readouterr()
        assert r"\x1b[2J[/x]\nspoofed: line" in printed.out + printed.err
        assert not CONTROLS.search(printed.out + printed.err)


def test_the_place_of_a_store_is_text_and_one_argument_of_the_commands_to_copy(tmp_path, capsys):
    store, sweep = Store(str(tmp_path / "a b\x1b[2J")), grid(random=1)
    record(store, sweep.cells()[0].artifact, 0.5)
    for verb in ("plan", "status", "report", "run"):
        with pytest.raises(SystemExit) as ended:
            sweep.main([verb, "--store", store.uri])
        assert ended.value.code == 0
    printed = capsys.readouterr()
    assert not CONTROLS.search(printed.out + printed.err)
    assert f"raysynth tensorboard --store '{printable(store.uri)}'" in printed.out


# -------------------------------------------------------------------------------- terminals

SCRIPT = """
from raysynth import *
from tests.report.test_hostile_text import hostile_sweep
hostile_sweep(["\\u00e9 [x]", "b"]).main()
"""


@pytest.mark.parametrize(
    ("verb", "redirection", "environment"),
    [
        ("plan", ">&-", {}),
        ("status", ">&-", {}),
        ("report", ">&-", {}),
        ("plan", ">&- 2>&-", {}),
        ("report", "", {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}),
        ("report", "", {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1", "COLUMNS": "20"}),
    ],
)
def test_verbs_need_neither_an_output_nor_an_encoding(verb, redirection, environment, tmp_path):
    script = tmp_path / "sweep.py"
    script.write_text(SCRIPT)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        f"{sys.executable} {script} {verb} --store {tmp_path} {redirection}",
        shell=True,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": root, **environment},
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    if not redirection:
        assert rb"\xe9 [x]" in done.stdout or b"\xe9 [x]" in done.stdout


def test_a_narrow_terminal_cuts_no_number():
    lines = shown("label [x]", width=5)
    assert "\u2026" not in lines or "1" in lines
