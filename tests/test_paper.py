"""The paper's tables: their cells, the cells that they share, and the printed numbers beside ours."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raysynth import InputError
from raysynth.paper import SCHEMES, TASKS, initialization, pretraining
from raysynth.report.published import read_printed
from raysynth.report.tables import as_markdown, render
from raysynth.specs.finetuning import Finetune
from raysynth.specs.identity import fingerprint, in_order
from raysynth.specs.pretraining import Pretrain
from raysynth.specs.recipes import AtStep, Best, FirstAbove
from raysynth.store.store import State, Status
from tests.records import done

ROOT = Path(__file__).parents[1]
SWEEPS = sorted(file.stem for file in (ROOT / "sweeps").glob("*.py"))
APPENDIX = ROOT.parent / "shared" / "paper" / "appendix.txt"
NUMBERS = {"table4": 27, "table5": 64, "table6": 144, "table7": 180, "table8": 90, "table9": 24}
"""Number of fine-tunings of each table of the appendix, counted cell by cell."""


def sweep(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "sweeps" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.sweep


def finetunes(name):
    return [cell.artifact for cell in sweep(name).cells()]


# ------------------------------------------------------------------------------------------------------------ the grids


def test_the_appendix_holds_529_fine_tunes_of_which_318_are_distinct():
    assert {name: len(finetunes(name)) for name in NUMBERS} == NUMBERS
    everything = [artifact for name in NUMBERS for artifact in finetunes(name)]
    assert len(everything) == 529
    assert len({fingerprint(artifact) for artifact in everything}) == 318
    assert sum(artifact.task.num_steps for artifact in everything) == 89_800_000
    assert sum(artifact.task.num_steps for artifact in set(everything)) == 53_400_000
    pretrains = [artifact for artifact in in_order(list(everything)) if isinstance(artifact, Pretrain)]
    assert len([pretrain for pretrain in pretrains if pretrain.source_name != "wiki_10k"]) == 19


@pytest.mark.parametrize(("part", "whole"), [("table1", "table6"), ("table2", "table5"), ("table3", "table8")])
def test_the_main_papers_tables_are_parts_of_the_appendixs(part, whole):
    assert set(finetunes(part)) < set(finetunes(whole))


def test_every_seed_has_its_own_data_and_pre_training():
    sources = [
        source for finetune in finetunes("table6") for source in finetune.init.sources if isinstance(source, Pretrain)
    ]
    lime = {source for source in sources if source.source_name == "lime"}
    assert len(lime) == len({source.data for source in lime}) == 5
    assert all(source.seed == source.data.seed for source in lime)


def last_step(recipe):
    """The step at which a training ends: that of a fixed selection, which later steps cannot change."""
    return recipe.selection.step if isinstance(recipe.selection, AtStep) else recipe.num_steps


@pytest.mark.parametrize("name", SWEEPS)
def test_the_docstring_has_the_numbers_of_the_grid(name):
    artifacts = in_order(finetunes(name))
    docstring = (ROOT / "sweeps" / f"{name}.py").read_text().split('"""')[1]
    assert re.search(rf"\b{sum(isinstance(artifact, Finetune) for artifact in artifacts)} fine-tun", docstring)
    pretrains = sum(isinstance(artifact, Pretrain) for artifact in artifacts)
    assert re.search(rf"\b{pretrains} pre-training", docstring) or (pretrains == 0 and "Trials:" in docstring)
    if name != "quickstart":
        steps = sum(last_step(artifact.task) for artifact in artifacts if isinstance(artifact, Finetune))
        if steps > 1e6:
            assert abs(float(re.search(r"([\d.]+) M steps of fine-tuning", docstring)[1]) - steps / 1e6) <= 0.05
        else:
            assert f"{steps:,} steps of fine-tuning" in docstring
    for heading in ("Table:", "Varies:", "Trials:", "Cost:", "Command:"):
        assert heading in docstring


@pytest.mark.long
@pytest.mark.parametrize("name", SWEEPS)
def test_plan_of_an_empty_store_prints_the_totals(name, tmp_path):
    steps = sum(
        last_step(artifact if isinstance(artifact, Pretrain) else artifact.task)
        for artifact in in_order(finetunes(name))
        if isinstance(artifact, Pretrain | Finetune)
    )
    command = [sys.executable, str(ROOT / "sweeps" / f"{name}.py"), "plan", "--store", str(tmp_path)]
    plan = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"to do: {steps:,} training steps" in plan


# ------------------------------------------------------------------------------------------------------------- recipes

RECIPES = {
    "CNNDM-10K": (1e-3, 128, 512, 256, 148, 100_000, 10_000, AtStep(50_000)),
    "MTOP": (1e-3, 128, 1024, 128, 128, 100_000, 10_000, Best("token_accuracy")),
    "WebQSP": (1e-3, 32, 2048, 256, 256, 50_000, 5_000, Best("token_accuracy")),
    "SQuAD": (1e-3, 128, 512, 128, 128, 250_000, 10_000, Best("squad_exact_match")),
    "Code Trans.": (3e-3, 32, 1024, 1024, 1024, 150_000, 10_000, Best("token_accuracy")),
    "Retrosyn.": (3e-3, 128, 256, 256, 256, 400_000, 10_000, Best("token_accuracy")),
}
"""The recipes of Appendices B and D.3, copied by hand."""


@pytest.mark.parametrize("name", TASKS)
def test_fine_tuning_recipes_are_the_appendixs(name):
    task = TASKS[name]
    sizes = (task.batch_size, task.input_length, task.target_length, task.decode_length)
    assert (task.learning_rate, *sizes, task.num_steps, task.eval_every, task.selection) == RECIPES[name]


@pytest.mark.parametrize("source", ["LIME", "Dyck", "Nonsense Summary", "Set", "Identity", "Wiki 10K", "search"])
def test_the_pre_training_recipe_is_appendix_a(source):
    recipe = pretraining(source, seed=3)
    assert (recipe.batch_size, recipe.input_length, recipe.target_length, recipe.eval_every) == (128, 512, 512, 5_000)
    assert recipe.selection == FirstAbove("token_accuracy", 0.99)
    assert recipe.learning_rate.warmup_steps == 10_000
    assert recipe.num_steps == (300_000 if source == "Dyck" else 80_000)
    assert recipe.seed == recipe.data.seed == 3


def test_an_unknown_source_is_one_line():
    with pytest.raises(InputError, match=r"^unknown synthetic task 'sett' \(did you mean 'set'"):
        initialization("sett", TASKS["MTOP"], 0)


# ------------------------------------------------------------------------------------------------------ printed numbers


@pytest.mark.skipif(not APPENDIX.exists(), reason=f"{APPENDIX} holds the paper's appendix and is absent")
@pytest.mark.parametrize("table", ["table4", "table5", "table5_baselines", "table6", "table7", "table8", "table9"])
def test_printed_cells_stand_in_the_appendix(table):
    number = table[5]
    text = APPENDIX.read_text()
    start = text.index(f"Table {number}: ")
    page = text[start : start + 3_500]
    for (row, column), cell in read_printed(table).items():
        values = "/".join(re.escape(f"{value:g}") + r"\.?0*" for value in cell.values)
        spreads = "" if cell.spreads is None else r" \(" + "/".join(map(re.escape, map(str, cell.spreads))) + r"\)"
        assert re.search(rf"(?<![\d./]){values}{spreads}(?![\d/])", page), (row, column, cell)


def test_every_printed_cell_has_a_place_in_its_sweep():
    for name in NUMBERS:
        table_sweep = sweep(name)
        cells = table_sweep.cells()
        statuses = {artifact: Status(state=State.NEW) for artifact in in_order([cell.artifact for cell in cells])}
        text = "".join(as_markdown(*render(table, cells, statuses)) for table in table_sweep.tables)
        printed_cells = read_printed(name)
        if name == "table5":
            printed_cells |= read_printed("table5_baselines")
        for cell in printed_cells.values():
            assert "/".join(f"{value:.1f}" for value in cell.values) in text, (name, cell)


def record(scores):
    result = {"validation": {"token_accuracy": 0.5}, "test": scores}
    return done(**result)


def test_a_report_of_known_numbers():
    """Table 6 with results of two tasks: means, SDs, averages and gaps worked out by hand."""
    table6 = sweep("table6")
    tasks = {name: TASKS[name] for name in ("CNNDM-10K", "MTOP")}
    table6.grids = [(trial, {**axes, "task": tasks}) for trial, axes in table6.grids]
    cells = table6.cells()
    statuses = {artifact: Status(state=State.NEW) for artifact in in_order([cell.artifact for cell in cells])}
    rouge = {"Random Init": 0.19, "Pre-trained T5": 0.36, "Set": 0.33}
    match = {"Random Init": 0.40, "Pre-trained T5": 0.80, "Set": 0.70}
    for cell in cells:
        source, seed = cell.fields["source"], cell.fields["seed"]
        if source in rouge and seed < 3:
            shift = (seed - 1) / 100
            if cell.fields["task"] == "MTOP":
                statuses[cell.artifact] = record({"exact_match": match[source] + shift, "token_f1": 0.9})
            else:
                statuses[cell.artifact] = record({"rouge1": rouge[source] + shift})
    header, rows = render(table6.tables[0], cells, statuses)
    assert header == ["source", "CNNDM-10K ROUGE-1", "MTOP EM/F1", "average", "gap closed"]
    by_source = {row[0]: (row, rows[index + 1]) for index, row in enumerate(rows) if row[0] != "  paper"}
    ours, paper = by_source["Set"]
    # The printed cells are 32.8 (0.5) and 71.7/93.7 (0.9/0.2).
    assert ours == ["Set", "33.0\n(1.0)\n+0.4 SD\n3 of 5", "70.0/90.0\n(1.0/0.0)\n-1.9 SD\n3 of 5", "51.5", "77 %"]
    assert paper == ["  paper", "32.8\n(0.5)", "71.7/93.7\n(0.9/0.2)", "", ""]
    assert by_source["Pre-trained T5"][0][-2:] == ["58.0", "100 %"]
    assert by_source["Random Init"][0][-2:] == ["29.5", "0 %"]
    assert by_source["LIME"][0][1:] == ["(data)", "(data)", "-", "-"]


def test_the_ten_schemes_of_table_5_are_those_of_the_file():
    rows = {row for row, _ in read_printed("table5")}
    assert rows == set(SCHEMES)


# ----------------------------------------------------------------------------------------------------------- rehearsals

REHEARSAL = """
import sys
from raysynth import Sweep
sys.path.insert(0, sys.argv.pop(1))
chosen = {}
for table, values in {
    "learning_rate": [0.003], "table1": ["Dyck", "Nonsense Summary", "Wiki 10K"], "table4": ["LIME"],
    "table5": ["Across Layers Scale", "MLP Per Param Scale"], "table7": ["Per Param Mean/SD"], "table8": [0.4],
    "table9": ["Set"],
}.items():
    cells = __import__(table).sweep.cells()
    for value in values:
        # The last column is not the first task's, so that every task is covered.
        cell = [cell for cell in cells if value in cell.fields.values()][-1]
        chosen[f"{table} {value} {cell.fields['task']}"] = cell.artifact
sweep = Sweep(name="rehearsal", claim="cells of every table")
sweep.add(lambda cell, seed: cell, cell=chosen, seed=[0])
sweep.table(title="t", rows=("cell",))
sweep.main()
"""


@pytest.fixture(scope="module")
def environment(shared, tmp_path_factory):
    """Environment variables with the places of the real files.

    Our copy of CNN/DailyMail has no test split, so the validation split takes its place.
    """
    data = shared / "data"
    cnndm, wiki = tmp_path_factory.mktemp("cnndm"), tmp_path_factory.mktemp("wiki")
    for split, file in (("train", "train"), ("validation", "validation"), ("test", "validation")):
        (cnndm / f"{split}.csv").symlink_to(data / "cnndm" / f"{file}.csv")
    for number, line in enumerate((data / "code_translation" / "train.java-cs.txt.java").read_text().splitlines()):
        (wiki / f"{number}.txt").write_text(line)  # any 10,000 documents
    folders = {
        "CNNDM": cnndm,
        "MTOP": data / "mtop",
        "WEBQSP": data / "webqsp" / "derived",
        "SQUAD": data / "squad",
        "CODE_TRANSLATION": data / "code_translation",
        "RETROSYNTHESIS": data / "uspto50k",
        "WIKI_10K": wiki,
    }
    places = {f"RAYSYNTH_DATA_{name}": str(folder) for name, folder in folders.items()}
    vocabulary = {"RAYSYNTH_T5_VOCABULARY": str(data / "t5_vocab" / "spiece.model")}
    return {**os.environ, **places, **vocabulary, "XLA_FLAGS": "", "RAY_ADDRESS": ""}


@pytest.mark.long
@pytest.mark.endurance
def test_a_whole_tiny_table_interrupted_and_continued(environment, tmp_path):
    command = [sys.executable, str(ROOT / "sweeps/table3.py"), "run", "--tiny", "--store", str(tmp_path)]
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    done = 0
    for line in first.stderr:
        done += "done     finetune/" in line
        if done == 4:
            break
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=60) == 130
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "left out: 10 fine-tunings from t5-small, t5-v1_1-small, not imported" in again.stderr
    assert again.stderr.count("done     finetune/") <= 16
    assert len(list(tmp_path.glob("finetune/*/record.json"))) == 20
    assert "Rehearsal (--tiny): " in again.stdout
    assert "56.4/89.3" not in again.stdout, "the paper's number beside a rehearsal's"


@pytest.mark.long
def test_cells_of_every_table_run_tiny_on_the_real_files(environment, tmp_path):
    script = tmp_path / "rehearsal.py"
    script.write_text(REHEARSAL)
    command = [sys.executable, str(script), str(ROOT / "sweeps"), "run", "--tiny", "--store", str(tmp_path / "store")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "store").glob("finetune/*/record.json"))) == 10
    assert len(list((tmp_path / "store").glob("pretrain/*/record.json"))) >= 6


BEYOND = """
import importlib, sys
from raysynth import Sweep
sys.path.insert(0, sys.argv.pop(1))
chosen_fields = {
    "later_tasks": {"synthetic": "set_and_identity"},
    "sizes": {"init": "mean/SD of the small model"},
    "parts": {"attention": "set", "mlp": "dyck", "norms": "none"},
    "scaling": {"examples": 2_000, "step": 500},
    "controls": {"init": "shuffled"},
}
chosen = {}
for file, fields in chosen_fields.items():
    for cell in importlib.import_module(file).sweep.cells():
        if {**cell.fields, **fields, "seed": 0, "learning_rate": 0.02} == cell.fields:
            chosen[file] = cell.artifact
assert len(chosen) == len(chosen_fields), chosen
sweep = Sweep(name="rehearsal", claim="cells beyond the paper")
sweep.add(lambda cell, seed: cell, cell=chosen, seed=[0])
sweep.table(title="t", rows=("cell",))
sweep.main()
"""


@pytest.mark.long
def test_a_cell_of_each_sweep_beyond_the_paper_runs_tiny(tmp_path):
    script = tmp_path / "rehearsal.py"
    script.write_text(BEYOND)
    command = [sys.executable, str(script), str(ROOT / "sweeps"), "run", "--tiny", "--store", str(tmp_path / "store")]
    environment = {**os.environ, "XLA_FLAGS": "", "RAY_ADDRESS": ""}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "store").glob("finetune/*/record.json"))) == 5
    assert len(list((tmp_path / "store").glob("pretrain/*/record.json"))) == 4
