"""The `raysynth` command: examples print as in the appendix, data sets are written where the command says."""

import dataclasses
import os
import re
import subprocess
import sys
import time

import pytest
import ray

from raysynth import (
    ComposedInit,
    Dataset,
    Finetune,
    FullInit,
    Pretrain,
    RandomInit,
    StatisticInit,
    T5Config,
    downstream_tasks,
    synthetic_tasks,
)
from raysynth.cli import main
from raysynth.data import batches
from raysynth.data.manifest import MANIFEST
from raysynth.data.show import of_task
from raysynth.specs.identity import name
from raysynth.store.store import Outcome, State, Store
from raysynth.synthetic.simple import simple_tasks
from tests.records import DATA_RESULT, provenance, weights_result


@pytest.mark.parametrize("task", simple_tasks)
def test_every_simple_task_can_be_shown(task, capsys):
    assert main(["show", task, "-n", "2", "--seed", "3", "--max-length", "12"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[0] for line in lines if line] == ["Source", "Target"] * 2
    for line in lines:
        if line.startswith("Source"):
            assert 10 <= int(re.match(r"Source \((\d+) tokens\)", line)[1]) <= 12


@pytest.mark.parametrize("task", ["lime", "dyck"])
def test_other_tasks_can_be_shown(task, capsys):
    assert main(["show", task, "-n", "2"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[0] for line in lines if line] == ["Source", "Target"] * 2


def test_a_text_corpus_can_be_shown(tmp_path, shared, monkeypatch, capsys):
    monkeypatch.setenv("RAYSYNTH_T5_VOCABULARY", str(shared / "data" / "t5_vocab" / "spiece.model"))
    for place in range(4):
        (tmp_path / f"{place}.txt").write_text("A short article about nothing in particular. " * 40)
    assert main(["show", "wiki_10k", "--data", str(tmp_path), "-n", "1"]) == 0
    source, target = capsys.readouterr().out.strip().splitlines()
    assert source.startswith("Source (511 tokens): ")
    assert target.startswith("Target (113 tokens): <extra_id_0>")


def test_letters_stand_for_tokens(capsys):
    assert main(["show", "set", "-n", "1", "--num-letters", "3", "--max-length", "10"]) == 0
    source, target = (line.split(": ")[1].split() for line in capsys.readouterr().out.strip().splitlines())
    assert target == list(dict.fromkeys(source))
    assert set(source) <= set("abc")


def test_numbers_answers_and_separators_are_words():
    task = dataclasses.replace(synthetic_tasks["length"], min_length=17, max_length=17)
    assert of_task(task, num_examples=1, seed=0).splitlines()[1] == "Target (1 tokens): 17"
    task = dataclasses.replace(synthetic_tasks["search"], contained_share=1.0)
    source, target = of_task(task, num_examples=1, seed=0).splitlines()
    assert source.count("<s>") == 1
    assert target.endswith(": yes")


def test_the_same_seed_shows_the_same():
    first, second = (of_task(synthetic_tasks["sort"], num_examples=2, seed=seed) for seed in (5, 5))
    assert first == second != of_task(synthetic_tasks["sort"], num_examples=2, seed=6)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["show", "sett"], "error: unknown task 'sett' (did you mean 'set'?)"),
        (["show", "pyhton_ast"], "error: unknown task 'pyhton_ast' (did you mean 'python_ast'?)"),
        (["show", "set", "--num-letters", "1"], "error: --num-letters must be from 2 to 31,998, got 1"),
        (["show", "wiki_10k"], "error: wiki_10k needs its documents: pass --data wiki_10k=PATH"),
        (["show", "set", "-n", "0"], "error: num_examples must be at least 1, got 0"),
        (["show", "set", "--min-length", "30", "--max-length", "20"], "error: Set.min_length must not exceed"),
        (["generate", "set", "--num-examples", "0", "--store", "x"], "error: Dataset.num_examples must be an integer"),
        (["generate", "set", "--store", "/proc/nowhere"], "error: store '/proc/nowhere' is not writable"),
    ],
)
def test_bad_input_is_one_line(arguments, line, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(line)
    assert error.count("\n") == 1


def test_generate_writes_the_data_set_once(tmp_path, capsys):
    arguments = ["generate", "count", "--num-examples", "300", "--num-validation", "50", "--store", str(tmp_path)]
    assert main(arguments) == 0
    assert "50 validation, 300 train" in capsys.readouterr().out
    dataset = Dataset(task=synthetic_tasks["count"], num_examples=300, num_validation=50)
    assert len(batches.read(tmp_path / name(dataset), "train")) == 300
    assert main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.long
def test_a_disk_that_is_full_once_ray_has_ended_is_one_line(tmp_path, capsys, monkeypatch):
    arguments = ["generate", "count", "--num-examples", "300", "--num-validation", "50", "--store", str(tmp_path)]

    write_bytes = Store.write_bytes

    def write_all_but_the_manifest(store, path, content):
        if path.endswith(MANIFEST):
            while ray.is_initialized():
                time.sleep(0.1)
            raise OSError("No space left on device")
        write_bytes(store, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_bytes", write_all_but_the_manifest)
        assert main(arguments) == 1
    assert "OSError: No space left on device" in capsys.readouterr().err
    dataset = Dataset(task=synthetic_tasks["count"], num_examples=300, num_validation=50)
    assert Store(str(tmp_path)).status(dataset).state is State.FAILED
    assert main(arguments) == 0
    assert "50 validation, 300 train" in capsys.readouterr().out


def test_generate_takes_a_downstream_task_and_skips_bad_rows_on_request(tmp_path, shared, monkeypatch, capsys):
    monkeypatch.setenv("RAYSYNTH_T5_VOCABULARY", str(shared / "data" / "t5_vocab" / "spiece.model"))
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.tsv").write_text(f"source\ttarget\nC\tO.N {split}\nbroken\nCC\tN.N\n")
    store = str(tmp_path / "store")
    arguments = ["generate", "retrosynthesis", "--data", f"retrosynthesis={tmp_path}", "--store", store]
    assert main(arguments) == 2
    assert capsys.readouterr().err.endswith(
        f"error: {tmp_path}/train.tsv, line 3: has 1 tab-separated columns, must have 2 (source, target)\n"
    )
    assert main([*arguments, "--skip-bad-rows"]) == 0
    printed = capsys.readouterr()
    assert "2 train, 2 validation, 2 test" in printed.out
    assert f"3 bad rows skipped, the first: {tmp_path}/train.tsv, line 3: has 1" in printed.err
    record = Store(store).status(downstream_tasks["retrosynthesis"].data).record
    assert record.result.skipped_rows == 3
    assert main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_list_prints_states_and_whole_names(tmp_path, capsys, monkeypatch):
    store = Store(str(tmp_path))
    monkeypatch.setenv("RAYSYNTH_STORE", store.uri)
    model = T5Config(emb_dim=64, num_heads=2, head_dim=32, mlp_dim=256, num_encoder_layers=2, num_decoder_layers=2)
    trained = Pretrain(data=Dataset(task=synthetic_tasks["set"]), model=model)
    task = downstream_tasks["python_ast"]
    random, full = (Finetune(task=task, init=init) for init in (RandomInit(model), FullInit(trained)))
    store.record(trained.data, result=DATA_RESULT, provenance=provenance())
    result = weights_result(selected_step=3_000, validation={"token_accuracy": 0.25})
    store.record(trained, result=result, provenance=provenance())
    store.fail(random, outcome=Outcome.DIVERGED, error="the loss is nan", log="")
    store.progress(full, step=7, num_steps=9, seconds_per_step=None)
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["state", "step", "accuracy", "model", "name"],
        ["done", "2", "rows", name(trained.data)],
        ["done", "3,000", "25.0", "d64", "2+2", name(trained)],
        ["diverged", name(random)],
        ["the", "loss", "is", "nan"],
        ["running", "7", "of", "9", name(full)],
        [*f"{store.uri}: 4 of 4 artifacts: 1 running, 1 diverged, 2 done".split()],
    ]
    for arguments, found in (
        (["--kind", "finetune,dataset"], [trained.data, random, full]),
        (["--task", "set"], [trained.data, trained]),
        (["--init", "full"], [full]),
        (["--init", "set.full,random"], [random, full]),
        (["--state", "diverged", "--text", "nan"], [random]),
        (["--kind", "pretrain", "--state", "failed"], []),
    ):
        assert main(["list", *arguments]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert [line.split()[-1] for line in printed[:-1] if "/" in line] == [*map(name, found)]
    for arguments, line in (
        (["--kind", "finetunes"], "error: unknown kind 'finetunes' (did you mean 'finetune'?); allowed: dataset, "),
        (["--state", "new"], "error: unknown state 'new'"),
        (["--task", "sett"], f"error: unknown task in {store.uri} 'sett' (did you mean 'set'?)"),
        (["--init", "ful"], f"error: unknown init scheme in {store.uri} 'ful' (did you mean 'full'?)"),
        (["--store", "nowhere"], "error: there is no store at "),
    ):
        assert main(["list", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith(line)
        assert error.count("\n") == 1
    store.write_bytes(f"{name(trained)}/record.json", b"{")
    assert main(["list", "--state", "damaged"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-1] == name(trained)


def test_why_prints_a_table_of_the_fields_that_differ(tmp_path, capsys, monkeypatch):
    store = Store(str(tmp_path))
    monkeypatch.setenv("RAYSYNTH_STORE", store.uri)
    first = Dataset(task=synthetic_tasks["set"], num_examples=100)
    second = dataclasses.replace(first, seed=3, task=dataclasses.replace(first.task, max_length=50))
    for artifact, version in ((first, "1.0"), (second, "1.1")):
        store.record(artifact, result=DATA_RESULT, provenance=provenance(versions={"numpy": version}))
    assert main(["why", name(first), name(second)[-8:]]) == 0
    names = [f"1: {name(first)}", f"2: {name(second)}"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == names
    assert [line.split() for line in lines if "───" not in line][2:] == [
        [],
        ["field", "1", "2"],
        ["seed", "default", "3"],
        ["task.max_length", "default", "50"],
        ["version", "of", "numpy", "1.0", "1.1"],
        [],
    ]
    assert main(["why", name(first), "dataset/nothing"]) == 2
    assert "unknown artifact of" in capsys.readouterr().err


def test_why_fits_80_columns(tmp_path, capsys):
    store = Store(str(tmp_path))
    statistics = {"group_by": "parameter", "statistic": "mean_sd", "where": "mlp"}
    trained = Pretrain(data=Dataset(task=synthetic_tasks["nonsense_summary"]), model=T5Config())
    composed = ComposedInit(schemes=(FullInit(trained), StatisticInit(trained, **statistics)))
    tuned = [Finetune(task=downstream_tasks["python_ast"], init=init) for init in (RandomInit(T5Config()), composed)]
    for artifact in tuned:
        store.record(artifact, result=weights_result(), provenance=provenance())
    assert main(["why", *map(name, tuned), "--store", store.uri]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[2:])) <= 80
    assert "init.schemes.0.source.is" in "".join(lines)


def test_show_prints_examples_of_a_downstream_task(capsys):
    assert main(["show", "python_ast", "-n", "2", "--seed", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in lines] == ["Source", "Target", "", "Source", "Target"]
    assert main(["show", "python_ast", "-n", "2", "--seed", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert main(["show", "mtop", "--data", "/nowhere"]) == 2
    assert "/nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "python_ast", "--min-length", "5"],
        ["show", "python_ast", "--num-letters", "5"],
        ["show", "set", "--data", "/tmp"],
        ["show", "lime", "--max-length", "9"],
        ["generate", "python_ast", "--max-length", "5", "--store", "nowhere"],
        ["generate", "set", "--data", "set=/tmp", "--store", "nowhere"],
        ["generate", "set", "--skip-bad-rows", "--store", "nowhere"],
        ["generate", "python_ast", "--num-examples", "0", "--store", "nowhere"],
        ["generate", "python_ast", "--seed", "0", "--store", "nowhere"],
    ],
)
def test_an_option_of_another_kind_of_task_is_one_line(arguments, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {arguments[2]} does not apply to {arguments[1]}, a ")
    assert error.count("\n") == 1


def test_a_reader_that_goes_away_is_no_error():
    shown = subprocess.run(
        f"{sys.executable} -m raysynth.cli show set -n 500 | head -1", shell=True, capture_output=True, text=True
    )
    assert shown.stdout.startswith("Source (")
    assert not shown.stderr


def printed_error(arguments, capsys):
    """What the command prints as it refuses a command line."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "raysynth: error: the following arguments are required: VERB"),
        (["shwo"], "raysynth: error: argument VERB: invalid choice: 'shwo' (choose from "),
        (["show", "set", "--store", "x"], "raysynth show: error: unrecognized arguments: --store x"),
        (["show", "set", "--num-exam", "3"], "raysynth show: error: unrecognized arguments: --num-exam 3"),
        (
            ["tensorboard", "--port", "65536"],
            "raysynth tensorboard: error: argument --port: must be a whole number of at most 65535",
        ),
        (
            ["show", "set", "--seed", "-1"],
            "raysynth show: error: argument --seed: must be a whole number of at least 0",
        ),
        (["cluster", "check", "x", "--all"], "raysynth cluster check: error: unrecognized arguments: --all"),
        (["cluster", "x.yaml"], "raysynth cluster: error: argument VERB: invalid choice: 'x.yaml'"),
        (["--store", "x", "stats"], "raysynth: error: the verb comes first, then its options; got --store"),
    ],
)
def test_a_wrong_command_line_prints_the_usage_of_its_verb_and_one_line(arguments, line, capsys):
    usage, *_, error = printed_error(arguments, capsys).splitlines()
    assert error.startswith(line)
    assert usage.startswith(f"usage: {line.partition(': ')[0]} ")


VERBS = {
    "show": {"--num-examples", "--seed", "--data", "--min-length", "--max-length", "--num-letters"},
    "generate": {
        *("--num-examples", "--num-validation", "--min-length", "--max-length", "--seed", "--store", "--address"),
        *("--data", "--skip-bad-rows", "--in-process"),
    },
    "fetch": {"--into"},
    "list": {"--store", "--kind", "--task", "--init", "--state", "--text"},
    "predictions": {"--store", "--num-examples", "--only"},
    "predict": {"--store", "--file", "--beams", "--length-penalty"},
    "plan": {"--store", "--on", "--workers", "--price"},
    "verify": {"--store", "--deep", "--repair"},
    "why": {"--store"},
    "import": {"--name", "--store", "--model", "--dtype"},
    "export": {"--store", "--format", "--step"},
    "stats": {"--store", "--by", "--format", "--step"},
    "figure6": {"--store", "--out"},
    "tensorboard": {"--store", "--port"},
    "cluster check": set(),
    "cluster leftovers": set(),
    "cluster delete-leftovers": set(),
}


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_its_options_only(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*verb.split(), "--help"])
    assert not ended.value.code
    assert set(re.findall(r"--[a-z][a-z0-9-]*", capsys.readouterr().out)) == VERBS[verb] | {"--help"}


def test_light_verbs_import_neither_jax_nor_ray():
    script = (
        "import sys\n"
        "from raysynth.cli import main\n"
        "assert main(['show', 'set']) == 0\n"
        "heavy = {'jax', 'ray', 'flax', 'orbax', 'tensorstore', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr


SWEEP = """
from raysynth import T5_SMALL, Finetune, RandomInit, Sweep, downstream_tasks

def trial(seed):
    return Finetune(task=downstream_tasks["python_ast"], init=RandomInit(T5_SMALL), seed=seed)

sweep = Sweep(name="s", claim="c")
sweep.add(trial, seed=range(SEEDS))
"""


def test_a_plan_of_two_files_with_one_name_has_a_row_for_each(tmp_path, capsys):
    files = [tmp_path / folder / "s.py" for folder in "ab"]
    for num_seeds, file in zip((2, 3), files, strict=True):
        file.parent.mkdir()
        file.write_text(SWEEP.replace("SEEDS", str(num_seeds)))
    assert main(["plan", *map(str, files), "--store", str(tmp_path / "store")]) == 0
    _, header, *rows = capsys.readouterr().out.splitlines()
    assert header.endswith("  device time")
    assert [row.split()[:2] for row in rows[:3]] == [[str(files[0]), "3"], [str(files[1]), "4"], ["together", "4"]]


def test_each_sweep_file_of_a_plan_imports_the_modules_beside_it(tmp_path, capsys):
    files = [tmp_path / folder / "s.py" for folder in "ab"]
    for num_seeds, file in zip((2, 3), files, strict=True):
        file.parent.mkdir()
        (file.parent / "number_of_seeds.py").write_text(f"SEEDS = {num_seeds}\n")
        file.write_text("from number_of_seeds import SEEDS\n" + SWEEP)
    assert main(["plan", *map(str, files), "--store", str(tmp_path / "store")]) == 0
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:2] for row in rows[:2]] == [[str(files[0]), "3"], [str(files[1]), "4"]]


def test_a_path_in_place_of_a_run_is_one_line_without_a_cure(tmp_path, capsys):
    assert main(["predictions", "../../etc", "--store", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {tmp_path} holds no fine-tunings\n"
    assert error.count("\n") == 1


# ------------------------------------------------------------------------------------------------------ completion


def completions(line, tmp_path):
    """What a shell with argcomplete offers after a command line."""
    out = tmp_path / "completions"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(out)}
    environ = os.environ | asked | {"COMP_LINE": line, "COMP_POINT": str(len(line)), "RAYSYNTH_STORE": str(tmp_path)}
    command = "from raysynth.cli import main; main()"
    subprocess.run([sys.executable, "-c", command], env=environ, check=True)
    return {word.strip() for word in out.read_text().split("\n")}


def test_a_shell_completes_verbs_tasks_and_artifacts(tmp_path):
    tuned = Finetune(task=downstream_tasks["python_ast"], init=RandomInit(T5Config()))
    Store(str(tmp_path)).record(tuned, result=weights_result(), provenance=provenance())
    assert completions("raysynth predi", tmp_path) == {"predict", "predictions"}
    assert completions("raysynth show ident", tmp_path) == {"identity"}
    assert completions("raysynth predictions f", tmp_path) == {name(tuned)}
