"""Sweeps as a user runs them: real Ray, real files, one process per command."""

import csv
import dataclasses
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from raysynth import (
    Dataset,
    Finetune,
    FullInit,
    InputError,
    Pretrain,
    RandomInit,
    Split,
    Sweep,
    T5Config,
    TextCorpus,
    TextDataset,
    TextPairs,
    downstream_tasks,
)
from raysynth.model.checkpoints import params_digest, read_params
from raysynth.specs.identity import name
from raysynth.store.store import Store
from tests.records import provenance, weights_result

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "tests" / "sweeps" / "quickstart.py"


def command(*arguments, script=QUICKSTART, cwd=ROOT, **environment):
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment, "XLA_FLAGS": "", "PYTHONPATH": ""},
    )


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The store of one tiny quickstart, and what the run printed."""
    store = tmp_path_factory.mktemp("quickstart")
    done = command("run", "--tiny", "--store", store)
    assert done.returncode == 0, done.stderr
    return store, done


def records(store, kind="finetune"):
    return {file.parent.name: json.loads(file.read_text()) for file in sorted((store / kind).glob("*/record.json"))}


# -------------------------------------------------------------------------------- the main job


def test_the_run_makes_every_artifact_and_shows_progress(quickstart):
    store, done = quickstart
    assert len(records(store, "pretrain")) == 2
    assert len(records(store, "dataset")) == 3
    finetunes = records(store)
    schemes = {record["description"]["init"]["is"] for record in finetunes.values()}
    assert schemes == {"RandomInit", "ConstantInit", "StatisticInit", "FullInit"}
    assert len(re.findall(r"done     finetune/", done.stderr)) == len(finetunes)


def test_a_second_run_does_nothing_and_needs_no_ray(quickstart):
    store, _ = quickstart
    before = {file: file.stat().st_mtime_ns for file in store.rglob("*") if "reports" not in file.parts}
    done = command("run", "--tiny", "--store", store, RAY_ADDRESS="127.0.0.1:1")  # no cluster is there
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
    after = {file: file.stat().st_mtime_ns for file in store.rglob("*") if "reports" not in file.parts}
    assert before.items() <= after.items()


def test_plan_and_status_show_that_all_is_done(quickstart):
    store, _ = quickstart
    plan = command("plan", "--tiny", "--store", store).stdout
    assert set(re.findall(r"^(\w+) +(?:dataset|pretrain|finetune)/", plan, re.MULTILINE)) == {"done"}
    assert "to do: 0 training steps" in plan
    assert f"{len(records(store)) + 5} done" in command("status", "--tiny", "--store", store).stdout


def test_the_table_is_that_of_the_records(quickstart):
    store, done = quickstart
    lines = list(csv.DictReader((store / "reports/quickstart-tiny/table1.csv").open()))
    assert {"synthetic", "init", "match", "accuracy", "closed", "seeds"} <= set(done.stdout.split())
    for line in lines:
        accuracies = [
            record["result"]["test"]["token_accuracy"]
            for label, record in records(store).items()
            if f".{line['synthetic']}."
            in label.replace("python_ast.", "python_ast.none." if line["synthetic"] == "none" else "python_ast.")
            and scheme_of(record) == line["init"]
            and f".lr{line['learning_rate']}." in label
        ]
        assert len(accuracies) == int(line["seeds"]) >= 2
        mean, spread = re.fullmatch(r"([\d.]+) \(([\d.]+)\)", line["token_accuracy"]).groups()
        assert float(mean) == pytest.approx(100 * statistics.fmean(accuracies), abs=0.051)
        assert float(spread) == pytest.approx(100 * statistics.stdev(accuracies), abs=0.051)


def scheme_of(record):
    return {
        "RandomInit": "random",
        "ConstantInit": "pre-attn LN 0.2",
        "StatisticInit": "per param mean/SD",
        "FullInit": "full",
    }[record["description"]["init"]["is"]]


def test_event_files_hold_the_scalars_and_the_numbers_of_the_records(quickstart):
    store, _ = quickstart
    for label, record in records(store).items():
        events = EventAccumulator(str(store / "finetune" / label), size_guidance={"scalars": 0}).Reload()
        assert {
            "finetune/train/loss",
            "finetune/validation/token_accuracy",
            "schedule/finetune/learning_rate",
            "speed/finetune/tokens_per_second",
            "speed/finetune/seconds_per_step",
        } <= set(events.Tags()["scalars"])
        result = record["result"]
        validation = {event.step: event.value for event in events.Scalars("finetune/validation/token_accuracy")}
        assert validation == pytest.approx(
            {int(step): evaluation["token_accuracy"] for step, evaluation in result["evaluations"].items()}
        )
        for metric, value in result["test"].items():
            (event,) = events.Scalars(f"finetune/test/{metric}")
            assert (event.step, event.value) == (result["selected_step"], pytest.approx(value))


def test_hparams_are_declared_from_the_start_with_the_same_columns_for_all_runs(quickstart):
    store, _ = quickstart
    columns = set()
    for label in records(store):
        events = EventAccumulator(str(store / "finetune" / label)).Reload()
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        values = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
        columns.add(frozenset(values))
        assert values["task"].string_value == "python_ast"
        content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
        declared = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos
        tests = {info.name.tag for info in declared if "/test/" in info.name.tag}
        assert tests == {f"finetune/test/{metric}" for metric in records(store)[label]["result"]["test"]}
    fields = {"kind", "task", "init", "source", "model", "num_steps", "source_steps", "learning_rate", "seed"}
    assert columns == {frozenset(fields)}


def test_learning_curves_are_a_picture(quickstart):
    store, _ = quickstart
    png = (store / "reports/quickstart-tiny/learning_curves1.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 10_000


def test_records_hold_the_digest_of_the_checkpoint(quickstart):
    store, _ = quickstart
    label, record = next(iter(records(store).items()))
    params = read_params(store / "finetune" / label / "checkpoints", record["result"]["selected_step"])
    assert params_digest(params) == record["result"]["params_sha256"]


def test_a_record_says_what_it_was_made_with(quickstart):
    store, _ = quickstart
    for record in [*records(store).values(), *records(store, "pretrain").values()]:
        made = record["provenance"]
        assert (made["device"], made["threads"]) == ("1 cpu", int(os.environ["NPROC"]))
        assert made["processor"]
        assert made["backend"]
        assert made["variables"]["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=true"
        assert {"jax", "jaxlib", "numpy", "numba", "sentencepiece"} <= made["versions"].keys()


WITHOUT_RAY = """
import functools, pathlib, runpy, sys
from raysynth.model import train
from raysynth.model.checkpoints import read_params
from raysynth.observer import Silent
from raysynth.specs.identity import name
from raysynth.specs.tiny import tiny
store, scratch = map(pathlib.Path, sys.argv[1:])
sweep = runpy.run_path("tests/sweeps/quickstart.py")["sweep"]
runs = {type(cell.artifact.init).__name__: cell.artifact for cell in sweep.cells(size=tiny)}
source = runs["FullInit"].init.source
training = train.pretrain(source, data=store / name(source.data), directory=scratch / "p", observer=Silent())
print(name(source), training.result.params_sha256)
checkpoint = functools.partial(read_params, scratch / "p/checkpoints", training.result.selected_step)
for run in runs.values():
    training = train.finetune(
        run, data=store / name(run.task.data), sources=dict.fromkeys(run.init.sources, checkpoint),
        directory=scratch / name(run), observer=Silent(),
    )
    print(name(run), training.result.params_sha256)
assert "ray" not in sys.modules
"""


def test_without_ray_the_bits_are_those_of_the_sweep(quickstart, tmp_path):
    """Every scheme's fine-tuning and a pre-training, from `train.py` alone in a process of its own."""
    store, _ = quickstart
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, str(store), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XLA_FLAGS": ""},
    )
    assert done.returncode == 0, done.stderr
    digests = dict(line.split() for line in done.stdout.splitlines())
    assert len(digests) == 5
    for label, digest in digests.items():
        assert json.loads((store / label / "record.json").read_text())["result"]["params_sha256"] == digest


HIDING = """
import json, runpy, sys

class Hides:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("ray", "tensorboardX", "rouge_score"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hides())
for arguments in json.loads(sys.argv[1]):
    sys.argv = arguments
    try:
        if arguments[0] == "raysynth":
            from raysynth.cli import main
            status = main(arguments[1:])
        else:
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
    print("status", *arguments, status, flush=True)
"""


def without_ray(*commands, **environment):
    """A process in which Ray, tensorboardX and rouge-score cannot be imported, and that runs these command lines."""
    return subprocess.Popen(
        [sys.executable, "-c", HIDING, json.dumps([list(map(str, command)) for command in commands])],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XLA_FLAGS": "", **environment},
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A sweep file with two of the quickstart's fine-tunings, and an empty store."""
    script = tmp_path_factory.mktemp("small") / "small.py"
    text = QUICKSTART.read_text()
    for old, new in (
        ("SEEDS = range(2)", "SEEDS = range(1)"),
        ("[0.01, 0.02]", "[0.01]"),
        ('["set"], init=["per param mean/SD", "full"]', '["set"], init=["full"]'),
        ('sweep.add(trial, synthetic=["identity"]', '# sweep.add(trial, synthetic=["identity"]'),
        ('init=["random", "pre-attn LN 0.2"]', 'init=["random"]'),
    ):
        assert old in text
        text = text.replace(old, new)
    script.write_text(text)
    return script, script.parent / "store"


def test_a_machine_without_ray_runs_a_sweep_with_the_bits_of_one_with_ray(quickstart, small):
    """It is interrupted once; then, in one process, every verb works or says in one line what it needs."""
    expected, _ = quickstart
    script, store = small
    run = [script, "run", "--in-process", "--tiny", "--store", store]
    interrupted = without_ray(run)
    while "started  finetune/" not in (line := interrupted.stderr.readline()):
        assert line
    interrupted.send_signal(signal.SIGTERM)
    assert interrupted.communicate()[1].endswith("interrupted; run the same command again to continue\n")
    assert interrupted.returncode == 128 + signal.SIGTERM
    assert records(store, "pretrain")
    assert not records(store)

    (source,) = records(store, "pretrain")
    alone = [[script, verb, "--tiny", "--store", store] for verb in ("plan", "status", "report")]
    alone += [["raysynth", "show", "set", "-n", "1"], ["raysynth", "verify", "--store", store, "--deep"]]
    alone += [["raysynth", "stats", f"pretrain/{source}", "--store", store]]
    few = ["raysynth", "generate", "set", "--num-examples", "20", "--num-validation", "5", "--store", store / "data"]
    needy = [[script, "run", "--tiny", "--store", store / "new"], few, ["raysynth", "cluster", "check", "cluster.yaml"]]
    needy += [[script, "plan", "--measure", "--tiny", "--store", store / "new"]]
    process = without_ray(*needy, run, *alone, [*few, "--in-process"], [*few, "--in-process"])
    output, errors = process.communicate()
    statuses = [line.split()[-1] for line in output.splitlines() if line.startswith("status ")]
    assert statuses == ["2"] * len(needy) + ["0"] * (len(alone) + 3), output + errors
    assert errors.count("error: Ray is not installed: pip install 'ray[data,tune]'") == len(needy)
    assert not (store / "new").exists()
    assert errors.count("tensorboardX is not installed") == 1
    assert "Traceback" not in errors
    assert output.count("nothing to do: dataset/set") == 1
    assert not list(store.rglob("events.out.tfevents.*"))

    for kind, number in (("dataset", 2), ("pretrain", 1), ("finetune", 2)):
        made = records(store, kind)
        assert len(made) == number
        for label, record in made.items():
            assert record["result"] == records(expected, kind)[label]["result"]
            assert "node" not in record["provenance"]
            for file in (store / kind / label).rglob("*"):
                if file.suffix in (".parquet", ".jsonl", ".model"):
                    assert file.read_bytes() == (expected / file.relative_to(store)).read_bytes()


def test_adding_a_seed_runs_only_what_is_new(quickstart, tmp_path):
    store, _ = quickstart
    before = set(records(store))
    script = tmp_path / "quickstart.py"
    text, replaced = re.subn(
        r"^SEEDS = range\((\d+)\)",
        lambda m: f"SEEDS = range({int(m[1]) + 1})",
        QUICKSTART.read_text(),
        flags=re.MULTILINE,
    )
    assert replaced == 1
    script.write_text(text)
    plan = command("plan", "--tiny", "--store", store, script=script).stdout
    new = re.findall(r"^new +(\S+)", plan, re.MULTILINE)
    assert new
    assert all(re.search(r"finetune/.*\.seed\d-", label) for label in new)
    assert not {label.removeprefix("finetune/") for label in new} & before
    assert len(re.findall(r"^done ", plan, re.MULTILINE)) == len(before) + 5


# -------------------------------------------------------------------------------- failures, real data, no Ray

BROKEN = """
import dataclasses
from raysynth import *

MODEL = T5Config(emb_dim=8, num_heads=1, head_dim=8, num_encoder_layers=1, num_decoder_layers=1, mlp_dim=8)
CODE = downstream_tasks["code_translation"]
CODE = dataclasses.replace(
    CODE, data=dataclasses.replace(CODE.data, num_train=40, num_validation=8, num_test=8), num_steps=2, eval_every=1,
    batch_size=8, input_length=32, target_length=32, decode_length=8, num_beams=1,
)
DATA = Dataset(task=dataclasses.replace(synthetic_tasks["set"], max_length=12), num_examples=64, num_validation=8)
ONE = dataclasses.replace(synthetic_tasks["first_token"], min_length=1, max_length=1)
SHORT = Dataset(task=ONE, num_examples=40_000)

def trial(init, seed):
    common = dict(
        model=MODEL, num_steps=2, eval_every=1, batch_size=8, num_eval_examples=8, input_length=16, target_length=16
    )
    schemes = {
        "random": lambda: RandomInit(MODEL),
        "full": lambda: FullInit(Pretrain(data=DATA, **common)),
        "short": lambda: FullInit(Pretrain(data=SHORT, **common)),
    }
    return Finetune(task=CODE, init=schemes[init](), seed=seed)

sweep = Sweep(name="broken", claim="one data set cannot be made")
sweep.add(trial, init=["random", "full", "short"], seed=[0])
sweep.table(title="t", rows=("init",))
sweep.main()
"""


@pytest.fixture(scope="module")
def broken(shared, tmp_path_factory):
    """A sweep on real Java-C# pairs with T5's vocabulary in which one data set cannot be made."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "broken.py").write_text(BROKEN)
    done = command(
        "run",
        "--store",
        folder / "store",
        "--data",
        f"code_translation={shared / 'data/code_translation'}",
        script=folder / "broken.py",
        cwd=folder,
        RAYSYNTH_T5_VOCABULARY=str(shared / "data/t5_vocab/spiece.model"),
    )
    return folder, done


@pytest.mark.long
def test_real_java_pairs_go_from_files_to_metrics_through_t5s_vocabulary(broken):
    folder, done = broken
    finetunes = records(folder / "store")
    schemes = {record["description"]["init"]["is"] for record in finetunes.values()}
    assert schemes == {"RandomInit", "FullInit"}, done.stderr
    for label, record in finetunes.items():
        assert record["result"]["num_test"] == 8
        lines = (folder / "store/finetune" / label / "predictions.jsonl").read_text().splitlines()
        assert all("(" in json.loads(line)["target"] for line in lines)


@pytest.mark.long
def test_the_children_of_a_failed_artifact_are_reported_as_blocked_with_the_reason(broken):
    _, done = broken
    assert done.returncode == 1
    assert re.search(r"failed: dataset/first_token\.\S+: first_token gave only \d+ distinct inputs", done.stderr)
    assert re.search(
        r"blocked: pretrain/first_token\S+, finetune/\S*first_token\.full\S+: waiting for dataset/first_token",
        done.stderr,
    )
    assert "Traceback" not in done.stderr
    assert re.search(r"^5 succeeded, 1 failed, 2 blocked, in /", done.stderr, re.M), done.stderr
    assert "0 of 1" in done.stdout


@pytest.mark.long
def test_status_shows_the_failure_from_another_shell(broken):
    folder, _ = broken
    status = command("status", "--store", folder / "store", script=folder / "broken.py", cwd=folder)
    assert status.returncode == 1
    assert "1 failed" in status.stdout
    assert "first_token gave only" in status.stderr


@pytest.mark.long
def test_two_runs_on_one_store_share_the_work(quickstart, tmp_path):
    """Started together, they end with the records of one, and each artifact was made once."""
    runs = [
        subprocess.Popen(
            [sys.executable, str(QUICKSTART), "run", "--tiny", "--store", str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XLA_FLAGS": ""},
        )
        for _ in range(2)
    ]
    errors = [run.communicate(timeout=600)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    assert_equal_results(quickstart[0], tmp_path)
    started = [line.split()[-1] for text in errors for line in text.splitlines() if " started  " in line]
    assert len(started) == len(set(started)) == 23, "each artifact was made once"


def assert_equal_results(expected, actual):
    """All records of two stores have the same results, and the predictions are the same bytes."""
    for kind in ("dataset", "pretrain", "finetune"):
        left, right = records(expected, kind), records(actual, kind)
        assert left.keys() == right.keys()
        for label in left:
            assert left[label]["result"] == right[label]["result"], label
    for label in records(expected):
        left, right = ((store / "finetune" / label / "predictions.jsonl").read_bytes() for store in (expected, actual))
        assert left == right


# -------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "--store", "/proc/nowhere"], "error: store '/proc/nowhere' is not writable"),
        (["plan", "--store", "nosuch://bucket"], "error: store 'nosuch://bucket' is not a path or a URI"),
        (["plan", "--store", "gs:/bucket/x"], "error: store 'gs:/bucket/x' is not a path or a URI"),
        (["run", "--data", "mtoop=x"], "error: unknown task of --data 'mtoop'"),
        (["run", "--data", "python_ast"], "error: --data takes TASK=PATH, got 'python_ast'"),
        (["run", "--data", "python_ast=/nowhere"], "error: --data python_ast: /nowhere does not exist"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing_behind(arguments, line, tmp_path):
    if "--store" not in arguments:
        arguments = [*arguments, "--store", str(tmp_path / "store")]
    done = command(*arguments)
    assert done.returncode == 2
    errors = [printed for printed in done.stderr.splitlines() if printed.startswith("error")]
    assert errors[0].startswith(line)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("record.json"))


VERBS = {
    "plan": {
        *("--only", "--set"),
        *("--store", "--tiny", "--data", "--measure", "--address", "--cpus-per-trial", "--on", "--workers", "--price"),
    },
    "run": {
        *("--store", "--tiny", "--data", "--skip-bad-rows", "--address", "--cpus-per-trial", "--checkpoint-minutes"),
        *("--max-preemptions", "--in-process", "--wandb", "--fail-fast", "--only", "--set"),
    },
    "status": {"--store", "--tiny", "--only", "--set", "--follow"},
    "report": {"--store", "--tiny", "--only", "--set", "--next", "--format"},
}


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_its_options_only(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        Sweep(name="s", claim="c").main([verb, "--help"])
    assert not ended.value.code
    described = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert described == VERBS[verb]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "error: the following arguments are required: VERB"),
        (["pln"], "error: argument VERB: invalid choice: 'pln' (choose from "),
        (["plan", "--fail-fast"], "plan: error: unrecognized arguments: --fail-fast"),
        (["plan", "--skip-bad-rows"], "plan: error: unrecognized arguments: --skip-bad-rows"),
        (["run", "--price", "8"], "run: error: unrecognized arguments: --price 8"),
        (["status", "--measure"], "status: error: unrecognized arguments: --measure"),
        (["report", "--follow", "1"], "report: error: unrecognized arguments: --follow 1"),
        (["plan", "--workers", "0"], "plan: error: argument --workers: must be a whole number of at least 1, got '0'"),
        (["plan", "--price", "nan"], "plan: error: argument --price: must be a number above 0, got 'nan'"),
        (["--tiny", "plan"], "error: the verb comes first, then its options; got --tiny"),
    ],
)
def test_a_wrong_command_line_prints_one_line_and_status_2(arguments, line, capsys):
    with pytest.raises(SystemExit) as ended:
        Sweep(name="s", claim="c").main(arguments)
    assert ended.value.code == 2
    assert line in capsys.readouterr().err.splitlines()[-1]


def test_an_address_without_a_measurement_is_one_line(tmp_path, capsys):
    sweep = Sweep(name="s", claim="c")
    task = downstream_tasks["code_translation"]
    sweep.add(lambda seed: Finetune(task=task, init=RandomInit(T5Config()), seed=seed), seed=[0])
    with pytest.raises(SystemExit) as ended:
        sweep.main(["plan", "--store", str(tmp_path), "--address", "a:1"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: --address needs --measure: only that uses a cluster\n"


OWN = TextDataset(name="own-data", texts=TextPairs(format="tsv", validation_share=0.5), scored=Split.VALIDATION)


def own_sweep():
    """A sweep on files of one's own, on MTOP's files and on a text corpus."""
    task = downstream_tasks["mtop"]
    corpus = Pretrain(data=Dataset(task=TextCorpus(name="own_corpus")), model=T5Config())
    sweep = Sweep(name="s", claim="c")
    sweep.add(
        lambda task, init: Finetune(task=task, init=init),
        task={"mtop": task, "own": dataclasses.replace(task, name="own_task", data=OWN)},
        init={"random": RandomInit(T5Config()), "full": FullInit(corpus)},
    )
    return sweep


def test_plan_and_run_name_all_files_that_are_missing(tmp_path, monkeypatch, capsys):
    for variable in ("T5_VOCABULARY", "DATA_MTOP", "DATA_OWN_DATA", "DATA_OWN_CORPUS"):
        monkeypatch.delenv(f"RAYSYNTH_{variable}", raising=False)
    (tmp_path / "own.tsv").write_text("source\ttarget\na\tb\nc\td\n")
    store = ["--store", str(tmp_path / "store")]

    def lines(*arguments):
        with pytest.raises(SystemExit) as ended:
            own_sweep().main([*arguments, *store])
        output = capsys.readouterr()
        assert bool(ended.value.code) == bool(output.err)
        return (output.out + output.err).splitlines()

    missing = [line.removeprefix("missing: ") for line in lines("plan") if line.startswith("missing: ")]
    assert len(missing) == 4
    assert missing[0].startswith("mtop needs its files: pass --data mtop=DIR")
    assert missing[1].startswith("T5's vocabulary is needed: set RAYSYNTH_T5_VOCABULARY")
    assert missing[2] == "own_corpus needs its files: pass --data own_corpus=PATH or set RAYSYNTH_DATA_OWN_CORPUS"
    assert missing[3] == "own-data needs its files: pass --data own-data=PATH or set RAYSYNTH_DATA_OWN_DATA"
    assert lines("run") == [f"error: {'; '.join(missing)}"]

    own = ("--data", f"own_task={tmp_path}/own.tsv", "--data", f"own_corpus={tmp_path}/own.tsv")
    still = [line for line in lines("plan", *own) if line.startswith("missing: ")]
    assert still == [f"missing: {line}" for line in missing[:2]]
    monkeypatch.setenv("RAYSYNTH_DATA_OWN_DATA", str(tmp_path / "nowhere"))
    assert f"missing: own-data needs its files: {tmp_path}/nowhere does not exist" in lines("plan")
    assert lines("run", "--data", "own=x")[0].startswith(
        "error: unknown task of --data 'own' (did you mean 'own-data'?)"
    )
    both = ("--data", f"own-data={tmp_path}", "--data", f"own_task={tmp_path}")
    assert lines("plan", *both) == [f"error: --data own-data is there twice: {tmp_path} and {tmp_path}"]
    assert not (tmp_path / "store").exists()


def test_missing_data_files_are_one_line_before_ray_starts(tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    done = command("run", "--store", tmp_path / "store", script=tmp_path / "broken.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "error: code_translation needs its files: pass --data code_translation=DIR" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("record.json"))


def test_a_record_that_disagrees_with_its_description_is_one_line(tmp_path):
    model = T5Config(emb_dim=16)
    run = Finetune(task=downstream_tasks["code_translation"], init=RandomInit(model))
    store = Store(str(tmp_path))
    store.record(run, result=weights_result(), provenance=provenance())
    record = store.read_json(f"{name(run)}/record.json")
    record["description"]["init"]["model"]["emb_dim"] = 32
    store.write_json(f"{name(run)}/record.json", record)
    with pytest.raises(InputError, match=r"disagrees with its description in init\.model\.emb_dim \(32 against 16\)"):
        store.status(run)


# -------------------------------------------------------------------------------- grids


def test_a_grid_is_a_product_and_equal_points_are_one_artifact():
    model = T5Config(emb_dim=16)
    task = downstream_tasks["code_translation"]
    sweep = Sweep(name="s", claim="c")
    sweep.add(
        lambda other, seed: Finetune(task=task, init=RandomInit(model), seed=seed), other=["a", "b"], seed=range(3)
    )
    cells = sweep.cells()
    assert len(cells) == 6
    assert len({cell.artifact for cell in cells}) == 3
    assert [cell.fields for cell in cells[:2]] == [{"other": "a", "seed": 0}, {"other": "a", "seed": 1}]


def test_a_mapping_axis_passes_its_values_and_names_its_keys():
    model = T5Config(emb_dim=16)
    sweep = Sweep(name="s", claim="c")
    sweep.add(
        lambda task, seed: Finetune(task=task, init=RandomInit(model), seed=seed),
        task={"code": downstream_tasks["code_translation"]},
        seed=[0],
    )
    (cell,) = sweep.cells()
    assert cell.fields["task"] == "code"
    assert cell.artifact.task is downstream_tasks["code_translation"]


def test_points_of_the_grid_are_added_again_at_other_seeds_and_once():
    sweep = Sweep(name="s", claim="c")

    def trial(rate, task, seed):
        return Finetune(task=dataclasses.replace(task, learning_rate=rate), init=RandomInit(T5Config()), seed=seed)

    tasks = {name: downstream_tasks[name] for name in ("mtop", "webqsp")}
    sweep.add(trial, rate=[0.1, 0.2], task=tasks, seed=[0])
    sweep.add(trial, rate=[0.3], task=tasks, seed=range(3))
    before = sweep.cells()
    sweep.extend({"rate": [0.2, 0.3], "task": ["mtop"]}, seed=[2, 3])
    new = [cell for cell in sweep.cells() if cell not in before]
    assert [tuple(cell.fields.values()) for cell in new] == [(0.2, "mtop", 2), (0.2, "mtop", 3), (0.3, "mtop", 3)]
    assert new[0].artifact == trial(0.2, tasks["mtop"], 2)
    sweep.extend({"rate": [0.2], "task": ["mtop"]}, seed=[2, 3])
    assert len(sweep.cells()) == len(before) + len(new)


@pytest.mark.parametrize("where", [{"rate": [0.2]}, {"task": ["mtop"]}, {"rate": [0.1, 0.2]}])
def test_what_the_grid_has_not_cannot_be_extended(where):
    sweep = Sweep(name="s", claim="c")
    sweep.add(lambda rate, seed: None, rate=[0.1], seed=[0])
    with pytest.raises(InputError, match=r"has no point to extend with (rate 0\.2|task 'mtop')"):
        sweep.extend(where, seed=[1])
    with pytest.raises(InputError, match="has no point to extend"):
        sweep.extend({"rate": [0.1]}, sead=[1])


# -------------------------------------------------------------------------------- kills


@pytest.mark.long
def test_a_store_in_a_bucket_gives_the_results_of_a_local_one(quickstart, bucket):
    local, _ = quickstart
    remote, part = bucket("quickstart"), ("--only", "seed=0", "init=random,full", "learning_rate=0.01")
    done = command("run", "--tiny", "--store", remote, *part)
    assert done.returncode == 0, done.stderr
    store = Store(remote)
    for kind, number in (("dataset", 3), ("pretrain", 2), ("finetune", 3)):
        made = [label for label in records(local, kind) if f"{kind}/{label}" in store.names([kind])]
        assert len(made) == number
        for label in made:
            assert store.read_json(f"{kind}/{label}/record.json")["result"] == records(local, kind)[label]["result"]
    assert "nothing to do" in command("run", "--tiny", "--store", remote, *part).stdout


@pytest.mark.long
@pytest.mark.endurance
@pytest.mark.parametrize("seed", [0])
def test_a_run_killed_at_random_and_continued_equals_one_never_killed(seed, quickstart, tmp_path):
    whole, _ = quickstart
    draw = random.Random(seed)
    for _ in range(3):
        running = subprocess.Popen(
            [sys.executable, str(QUICKSTART), "run", "--tiny", "--store", str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "XLA_FLAGS": ""},
        )
        time.sleep(draw.uniform(5, 45))
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        time.sleep(5)
    done = command("run", "--tiny", "--store", tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal_results(whole, tmp_path)
