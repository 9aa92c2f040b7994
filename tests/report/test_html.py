"""The page of a report: well-formed, without external files, with every number and record of the sweep."""

import dataclasses
import json
import posixpath
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from raysynth import Finetune, FullInit, RandomInit, Sweep, pretrained
from raysynth.report import figures
from raysynth.report.write import print_report
from raysynth.specs.identity import in_order, name
from raysynth.specs.tiny import tiny as tiny_finetune
from raysynth.store.store import Outcome, State, Store
from raysynth.sweep.command import main
from tests.report.grids import MODEL, TASK, VALUES, grid, record, trial

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Tags, texts and references of a page; fails where tags do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.references, self.tags = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for key, value in attributes if key in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] != "style":
            self.texts.append(text)


@pytest.fixture
def store(store):
    """Records of two inits, and of a third that diverged; the first seed of the third is that of full."""
    for init in ("random", "full"):
        for seed, value in enumerate(VALUES[init]):
            record(store, trial(init, seed), value)
    store.fail(trial("shared", 1), outcome=Outcome.DIVERGED, error="the loss is <b>nan</b> & so on", log="")
    return store


def sweep():
    sweep = grid(random=3, full=3, shared=2)
    sweep.name, sweep.claim = "s", "a < b & c"
    return sweep


def page(store):
    """The page of the sweep, as text and read."""
    assert main(sweep(), ["report", "--store", store.uri]) == 0
    text = store.read_bytes("reports/s/report.html").decode()
    return text, Reader(text)


def test_the_page_refers_to_nothing_but_records(store):
    text, read = page(store)
    assert not re.search(r"https?://(?!www\.w3\.org)|url\(|@import|<script|<link", text)
    links = [reference for reference in read.references if not reference.startswith("data:image/svg+xml;base64,")]
    assert len(read.references) - len(links) == read.tags.count("img") == 2  # dots and learning curves
    assert all(store.exists(posixpath.normpath(f"reports/s/{unquote(link)}")) for link in links)
    artifacts = in_order([cell.artifact for cell in sweep().cells()])
    done = [artifact for artifact in artifacts if store.status(artifact).state is State.DONE]
    assert {f"../../{name(artifact)}/record.json" for artifact in done} < set(links)


def test_text_is_escaped(store):
    text, read = page(store)
    assert {"the loss is <b>nan</b> & so on", "a < b & c"} <= set(read.texts)
    assert "b" in read.tags  # the page's own
    assert "<b>nan" not in text


def test_the_page_tells_how_much_is_done_and_the_numbers_of_the_table(store):
    _, read = page(store)
    assert "6 of 7 fine-tunings are done" in "".join(read.texts)
    assert {"34.0", "(4.0)", "40.0"} <= set(map(str.strip, read.texts))  # the mean of each row and its SD
    assert name(trial("shared", 1)) in read.texts
    assert store.uri in read.texts


def test_the_page_tells_what_to_run_next(store, capsys):
    _, read = page(store)
    capsys.readouterr()
    assert main(sweep(), ["report", "--next", "--store", store.uri]) == 0
    printed = capsys.readouterr().out
    lines = [line.strip() for line in printed.splitlines() if line.strip().startswith("sweep.extend(")]
    assert lines
    assert "\n".join(lines) in read.texts
    assert "full against random" in printed
    assert "full against random" in read.texts


def test_a_page_of_nothing_is_a_page(tmp_path):
    _, read = page(Store(str(tmp_path)))
    assert "0 of 7 fine-tunings are done" in "".join(read.texts)
    assert "img" not in read.tags


def test_a_layout_without_next_seeds_still_has_its_report(store):
    all_in_one = sweep()
    all_in_one.tables.clear()
    all_in_one.table(title="all in one", rows=(), fold="seed")
    assert main(all_in_one, ["report", "--store", store.uri]) == 0
    assert "folds init besides seed" in store.read_bytes("reports/s/report.html").decode()


def test_tiny_tables_and_pages_are_rehearsals(tmp_path, capsys):
    tiny = sweep()
    assert main(tiny, ["report", "--tiny", "--store", str(tmp_path)]) == 0
    for cell in tiny.cells(size=tiny_finetune):
        record(Store(str(tmp_path)), cell.artifact, 0.5)
    assert main(tiny, ["report", "--tiny", "--store", str(tmp_path)]) == 0
    assert "Rehearsal (--tiny)" in capsys.readouterr().out
    reports = tmp_path / "reports/s-tiny"
    assert "Rehearsal (--tiny)" in (reports / "report.html").read_text()
    assert "Rehearsal with tiny models" in (reports / "table1.md").read_text()
    assert "Rehearsal with tiny models" in (reports / "table1.tex").read_text()
    assert (reports / "table1.csv").read_text().splitlines()[0].endswith(",rehearsal")
    assert (reports / "results.csv").read_text().splitlines()[0].endswith(",rehearsal")
    assert tiny.results(store=tmp_path, tiny=True)["rehearsal"].to_pylist() == ["tiny"] * 8


def test_the_page_shows_some_predictions_right_and_wrong(store):
    run = name(trial("random", 0))
    rows = [{"source": f"s{row}", "target": "t<b>", "prediction": "p&", "right": row % 2 == 0} for row in range(20)]
    store.write_bytes(f"{run}/predictions.jsonl", "\n".join(map(json.dumps, rows)).encode())
    _, read = page(store)
    assert "Sample predictions: random, seed 0" in read.texts
    assert [each for each in read.texts if re.fullmatch(r"s\d+", each)] == ["s0", "s2", "s4", "s1", "s3", "s5"]
    assert "t<b>" in read.texts
    store.write_bytes(f"{run}/predictions.jsonl", b"{")
    assert f"{store.uri}: {run}, line 1 is damaged" in page(store)[0]


def on_task(init, task, seed):
    """A fine-tuning on one of two tasks, which differ in their steps."""
    tuned = trial(init, seed)
    return dataclasses.replace(
        tuned, task=dataclasses.replace(tuned.task, num_steps={"one": 1_000, "two": 2_000}[task])
    )


def test_the_gap_closed_is_a_panel_of_tables_with_columns_too(tmp_path, monkeypatch):
    store, shown = Store(str(tmp_path)), {}
    values = {"random": [0.2, 0.4], "slow": [0.5, 0.5], "fast": [0.4, 0.8]}
    by_task = Sweep(name="s", claim="c")
    by_task.add(on_task, init=list(values), task=["one", "two"], seed=range(2))
    by_task.table(title="t", rows=("init",), columns=("task",), baseline=("random",), ceiling=("fast",))
    for init, of_seeds in values.items():
        for seed, value in enumerate(of_seeds):
            record(store, on_task(init, "one", seed), value)
            if (init, seed) != ("slow", 1):
                record(store, on_task(init, "two", seed), value + 0.1)

    def keep(rows, panels, seeds):
        shown.update(seeds["gap closed"])
        return dots(rows, panels, seeds)

    dots = figures.dots
    monkeypatch.setattr(figures, "dots", keep)
    assert main(by_task, ["report", "--store", store.uri]) == 0
    assert shown["random"] == pytest.approx([-100 / 3, 100 / 3])
    assert shown["fast"] == pytest.approx([100 / 3, 500 / 3])
    assert shown["slow"] == pytest.approx([200 / 3]), "its second seed lacks a task"


def test_without_the_cells_of_the_ceiling_there_is_no_panel_of_the_gap(tmp_path, monkeypatch):
    """A run leaves out cells whose imported weights are not there."""
    store, shown = Store(str(tmp_path)), []
    by_task = Sweep(name="s", claim="c")
    by_task.add(on_task, init=["random", "fast"], task=["one", "two"], seed=range(2))
    by_task.table(title="t", rows=("init",), columns=("task",), baseline=("random",), ceiling=("fast",))
    monkeypatch.setattr(figures, "dots", lambda rows, panels, seeds: shown.extend(panels) or b"<svg/>")
    cells = [cell for cell in by_task.cells() if cell.fields["init"] == "random"]
    for cell in cells:
        record(store, cell.artifact, 0.5)
    statuses = {artifact: store.status(artifact) for artifact in in_order([cell.artifact for cell in cells])}
    print_report("s", "c", by_task.tables, cells, statuses, store)
    assert shown
    assert "gap closed" not in shown


def test_a_tiny_table_whose_ceiling_is_not_imported_is_a_table_without_a_gap(tmp_path, capsys):
    sweep = Sweep(name="s", claim="c")
    inits = {"random": RandomInit(MODEL), "t5": FullInit(pretrained("t5-small"))}
    sweep.add(lambda init, seed: Finetune(task=TASK, init=init, seed=seed), init=inits, seed=range(2))
    sweep.table(title="t", rows=("init",), baseline=("random",), ceiling=("t5",))
    for cell in sweep.cells(size=tiny_finetune)[:2]:
        record(Store(str(tmp_path)), cell.artifact, 0.5)
    for options in ([], ["--next"]):
        assert main(sweep, ["report", "--tiny", "--store", str(tmp_path), *options]) == 0
        assert "left out: 2 fine-tunings from t5-small, not imported" in capsys.readouterr().err
    assert (tmp_path / "reports/s-tiny/table1.csv").read_text().splitlines()[1] == "random,50.0 (0.0),-,-,2,tiny"


def test_a_tiny_sweep_whose_weights_are_all_missing_is_one_line(tmp_path, capsys):
    sweep = Sweep(name="s", claim="c")
    sweep.add(lambda seed: Finetune(task=TASK, init=FullInit(pretrained("t5-small")), seed=seed), seed=range(2))
    assert main(sweep, ["run", "--tiny", "--store", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: all fine-tunings start from t5-small, which must be imported first\n"
