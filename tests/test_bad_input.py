"""Bad input to every verb and option is one line and a status other than 0, and nothing is written."""

import functools
import itertools

import pytest

from raysynth import Finetune, InputError, RandomInit, Sweep, T5Config, downstream_tasks
from raysynth.cli import main

TASK = downstream_tasks["python_ast"]
MODEL = T5Config(vocab_size=512, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: a file, an empty directory and nothing else."""
    monkeypatch.chdir(tmp_path)
    for variable in ("RAYSYNTH_STORE", "RAYSYNTH_DATA_MTOP", "RAYSYNTH_DATA_WIKI_10K"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "file").write_text("x")
    (tmp_path / "dir").mkdir()
    return tmp_path


def assert_one_line(command, capsys, folder):
    """The command ends with status 1 or 2 and one line, which may come below a usage; nothing is written."""
    try:
        status = command()
    except SystemExit as ended:
        status = ended.code
    error = capsys.readouterr().err.rstrip("\n")
    assert status in (1, 2)
    lines = error.split("\n")
    assert lines[0].startswith("usage: ") or len(lines) == 1, error
    assert "error: " in lines[-1]
    assert len(lines[-1]) < 3_000
    assert error.replace("\n", "").isprintable()
    assert {file.name for file in folder.rglob("*")} == {"file", "dir"}


# -------------------------------------------------------------------------------- the raysynth command

NUMBERS = ["-1", "nan", "inf", "1e400", "1" + "0" * 30, "", " ", "\u0661", "1_000", "3.5", "9" * 5000]
TASKS = ["", " ", "../set", "set/", "SET", "s\u0435t", "set\n", "\x1b[31m", "x" * 100_000]
STORES = ["", " ", "s3:/x", "foo://bar", "file", "\0"]
ARTIFACTS = ["", " ", "dataset/..", "/", "finetune/", "pretrain/x", "finetune/a/b", "\n", "..", "\x1b[2J"]


def command_lines():
    """Command lines of the `raysynth` command, each with one thing wrong."""
    for number in NUMBERS:
        for option in ("-n", "--seed", "--min-length", "--max-length", "--num-letters"):
            yield ["show", "set", option, number]
        for option in ("--num-examples", "--num-validation", "--seed", "--min-length", "--max-length"):
            yield ["generate", "set", option, number, "--store", "new"]
        yield ["predictions", "finetune/x", "--store", "dir", "-n", number]
    for task in TASKS:
        yield from (["show", task], ["generate", task, "--store", "new"], ["fetch", task, "--into", "new"])
    for store in STORES:
        yield ["generate", "set", "--store", store]
        yield ["why", "dataset/a", "dataset/b", "--store", store]
        yield ["predictions", "finetune/x", "--store", store]
    for artifact in ARTIFACTS:
        yield ["predictions", artifact, "--store", "dir"]
        yield ["why", artifact, artifact, "--store", "dir"]
    for path in ("", " ", "nowhere", "file"):
        yield ["show", "wiki_10k", "--data", path] if path != "file" else ["show", "mtop", "--data", path]
        yield ["generate", "mtop", "--data", path, "--store", "new"]
    yield from (["fetch", "mtop", "--into", path] for path in ("", " "))
    yield from (["generate", "set", "--store", "new", "--address", address] for address in ("", " "))
    yield ["show", "set", "-n", "100001"]
    yield ["show", "set", "--seed", str(2**32)]
    yield ["show", "set", "--seed", "1", "--seed", "2"]
    yield ["generate", "set", "--store", "new", "--store", "dir"]
    yield ["generate", "set", "--store=new", "--store", "dir"]
    yield ["predictions", "x", "--store", "dir", "--only", "maybe"]
    yield from (
        [""],
        ["\x1b[31mx"],
        ["show"],
        ["show", "set", "set\x1b[31m"],
        ["why", "a", "--store", "dir"],
        ["cluster"],
        *(["cluster", verb, file] for verb in ("check", "leftovers", "delete-leftovers") for file in ("", "a\0")),
    )


@pytest.mark.parametrize("arguments", list(command_lines()), ids=lambda arguments: ascii(" ".join(arguments))[:60])
def test_a_bad_command_line_is_one_line(arguments, folder, capsys):
    assert_one_line(lambda: main(arguments), capsys, folder)


# -------------------------------------------------------------------------------- the verbs of a sweep


def trial(init, seed):
    return Finetune(task=TASK, init=RandomInit(MODEL), seed=seed)


def sweep(**axes):
    """A sweep with one cell, or with other values of its axes."""
    one = Sweep(name="s", claim="c")
    one.add(trial, **{"init": ["a"], "seed": [0], **axes})
    one.table(title="t", rows=("init",))
    return one


def verbs():
    """Verbs of a sweep with options of which one is wrong."""
    numbers = ["0", *NUMBERS]
    yield from (
        ["plan", option, number] for option in ("--workers", "--price") for number in numbers if number != "3.5"
    )
    yield from (["status", "--follow", number] for number in [*numbers, "1e300"] if number != "3.5")
    for verb in ("plan", "run", "status", "report"):
        yield from ([verb, "--store", store] for store in STORES)
        yield from ([verb, "--store", "new", "--store", "dir"], [verb, "--x\x1b[31m"])
    yield from (["run", "--data", data] for data in ("", " ", "x", "x=", "=x", "mtop=nowhere", "mtpo=dir", "../=dir"))
    yield from (["run", "--address", ""], ["plan", "--measure", "--address", " "], ["plan", "--address", "a:1"])


@pytest.mark.parametrize("arguments", list(verbs()), ids=lambda arguments: ascii(" ".join(arguments))[:60])
def test_a_bad_option_of_a_verb_is_one_line(arguments, folder, capsys):
    assert_one_line(lambda: sweep().main(arguments), capsys, folder)


def test_an_empty_variable_is_none(folder, capsys, monkeypatch):
    monkeypatch.setenv("RAYSYNTH_STORE", "")
    with pytest.raises(SystemExit) as ended:
        sweep().main(["plan"])
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"{folder}/results/full: ")


# -------------------------------------------------------------------------------- sweep files

NAMES = [
    *(
        None,
        "",
        1,
        "../x",
        "a/b",
        "a\0",
        "a\nb",
        "x" * 101,
        ".",
        "..",
        ".x",
        "x.",
        "x ",
        "\u202ex",
        "e\u0301",
        "\ud800",
    ),
    *("a\\b", "C:x", "\u00e9" * 51, "a?b", b"x", [], "a\u2028b", "a\x85b"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_sweep_s_name_is_that_of_a_folder(name):
    with pytest.raises(InputError, match=r"^Sweep\.name must be a name for a folder: .*, got ") as caught:
        Sweep(name=name, claim="c")
    assert str(caught.value).isprintable()


def test_a_sweep_s_name_may_have_brackets_spaces_and_signs_of_other_languages():
    for name in ("labels [draft] v1.2", "\u00e9tude", "a=b & c", "_x"):
        assert Sweep(name=name, claim="c").name == name


def raises():
    raise ZeroDivisionError("no [value]\nat all")


SEEDS = {
    "none": [],
    "no mapping": {},
    "no list": 3,
    "text": "abc",
    "bytes": b"abc",
    "endless": itertools.count(),
    "a generator that raises": (raises() for _ in range(3)),
    "negative": [-1],
    "2**32": [2**32],
    "2**63": [2**63],
    "10**400": [10**400],
    "a boolean": [True],
    "a numeral": ["0"],
    "None": [None],
    "NaN": [float("nan")],
    "1.5": [1.5],
    "a list": [[0]],
    "alike": [0, "0"],
}


@pytest.mark.parametrize("seeds", SEEDS.values(), ids=SEEDS)
def test_a_bad_axis_is_one_line(seeds, folder, capsys):
    with pytest.raises(InputError) as caught:
        sweep(seed=seeds).cells()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


TRIALS = {
    "raises": lambda init, seed: raises(),
    "returns None": lambda init, seed: None,
    "text": "x",
    "partial": functools.partial(lambda x, init, seed: None, 1),
    "class": dict,
    "without arguments": lambda: None,
}


def cells_of(function):
    bad = Sweep(name="s", claim="c")
    bad.add(function, init=["a"], seed=[0])
    return bad.cells()


@pytest.mark.parametrize("function", TRIALS.values(), ids=TRIALS)
def test_a_bad_trial_is_one_line(function):
    with pytest.raises(InputError) as caught:
        cells_of(function)
    assert str(caught.value).isprintable()


def test_a_trial_s_own_error_has_its_class_message_and_place():
    with pytest.raises(InputError, match=r"^ZeroDivisionError: no \[value\] \(test_bad_input\.py, line \d+\), in the"):
        cells_of(TRIALS["raises"])


@pytest.mark.parametrize(
    ("layout", "line"),
    [
        ({"title": 3}, "table title must be text, got 3"),
        ({"rows": "init"}, "table rows must be a tuple of axes, got 'init'"),
        ({"rows": ("x",)}, "unknown table field 'x'"),
        ({"columns": 3}, "table columns must be a tuple of axes, got 3"),
        ({"where": {"init": "ab"}}, "table where must give a tuple of values of init, got 'ab'"),
        ({"where": {"init": ("z",)}}, "unknown value of init in the table's where 'z'"),
        ({"where": {"x": ("z",)}}, "unknown table field 'x'"),
        ({"where": ["a"]}, "table where must be a mapping from axes to tuples of values, got ['a']"),
        ({"published": "x"}, "published.json has no table 'x'"),
        ({"fold": 3}, "table fold must be text, got 3"),
        ({"best_of": "x"}, "unknown table field 'x'"),
        ({"baseline": "a"}, "table baseline 'a' is not a row; rows: ('a',)"),
        ({"ceiling": [["a"]]}, "table ceiling [['a']] is not a row; rows: ('a',)"),
    ],
)
def test_a_bad_table_is_one_line(layout, line):
    bad = sweep()
    bad.table(**{"title": "t", "rows": ("init",), **layout})
    with pytest.raises(InputError) as caught:
        bad.cells()
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    ("where", "axes"),
    [
        ({"x": ["a"]}, {"seed": [1]}),
        ({"init": ["z"]}, {"seed": [1]}),
        ({"init": "a"}, {"seed": [1]}),
        ({"init": 3}, {"seed": [1]}),
        ({"init": [["a"]]}, {"seed": [1]}),
        ({"init": ["a"]}, {"sed": [1]}),
        ({}, {"sed": [1]}),
        (None, {"seed": [1]}),
        ({"init": ["a"]}, {"seed": []}),
        ({"init": ["a"]}, {"seed": 1}),
    ],
)
def test_a_bad_extension_is_one_line(where, axes):
    with pytest.raises(InputError):
        sweep().extend(where, **axes)


def test_a_grid_of_too_many_cells_or_none_is_one_line(folder, capsys):
    with pytest.raises(InputError, match=r"^a grid must have at most 100,000 cells, got 100,000,000: init 10"):
        sweep(init=range(10_000), seed=range(10_000)).cells()
    assert_one_line(lambda: Sweep(name="s", claim="c").main(["plan", "--store", "new"]), capsys, folder)


def test_labels_without_a_hash_have_their_table(folder, capsys):
    listed = Sweep(name="s", claim="c")
    listed.add(lambda steps, seed: Finetune(task=TASK, init=RandomInit(MODEL), seed=seed), steps=[[1], [2]], seed=[0])
    listed.table(title="t", rows=("steps",), baseline=([1],), ceiling=([2],))
    with pytest.raises(SystemExit) as ended:
        listed.main(["report", "--store", "dir"])
    assert not ended.value.code
    assert "[2]" in capsys.readouterr().out
