"""Grids: cells and their keys, axes, and errors that name the axis or the cell in one line."""

import dataclasses
import inspect
import re

import pytest

from raysynth import T5_SMALL, Finetune, InputError, RandomInit, Sweep, downstream_tasks
from raysynth.environment import check_environment
from raysynth.report.tables import Table
from raysynth.specs.grid import Cell, finetuning_at, hashable, labelled_points, select_points


def finetuning(seed):
    return Finetune(task=downstream_tasks["python_ast"], init=RandomInit(T5_SMALL), seed=seed)


def test_cells_have_equal_keys_just_when_they_have_equal_fields():
    def key(**fields):
        return Cell(fields=fields, artifact=finetuning(0), again=finetuning).key

    assert key(init="random", seed=1) == key(seed=1.0, init="random")
    assert key(init="random", seed=1) != key(init="random", seed=2)
    assert key(init="random", seed=1) != key(source="random", seed=1)
    assert key(layers=[1, 2]) == key(layers=[1, 2]) != key(layers=[2, 1])
    assert len({key(init=init, seed=seed) for init in "abc" for seed in range(5)}) == 15


def test_points_of_an_axis_are_labelled_by_key_name_or_value():
    mtop = downstream_tasks["mtop"]
    assert labelled_points({"small": T5_SMALL}) == [("small", T5_SMALL)]
    assert labelled_points([mtop, 3, "x"]) == [("mtop", mtop), (3, 3), ("x", "x")]
    assert select_points([3, mtop, 4], [4, "mtop"]) == {"mtop": mtop, 4: 4}


def test_a_trial_is_called_with_replaced_values_and_must_return_a_fine_tuning():
    assert finetuning_at(finetuning, {"seed": 0}, lambda artifact: artifact, seed=3) == finetuning(3)
    with pytest.raises(InputError, match=r"^dict must return a Finetune, got \{'seed': 0\}$"):
        finetuning_at(dict, {"seed": 0}, lambda artifact: artifact)


@pytest.mark.parametrize(
    ("axes", "line"),
    [
        ({"inits": ["random"], "seed": [0]}, "trial takes init, seed, got the axes inits, seed: "),
        ({"init": ["random"]}, "trial takes init, seed, got the axes init: missing a required argument: 'seed'"),
        ({"init": ["random"], "seed": 3}, "axis seed must be a list or a mapping of values, got 3"),
        ({"init": "random", "seed": [0]}, "axis init must be a list or a mapping of values, got 'random'"),
    ],
)
def test_an_axis_that_does_not_fit_the_trial_is_one_line(axes, line):
    def trial(init, seed):
        raise AssertionError("not called")

    with pytest.raises(InputError, match=re.escape(line)) as caught:
        Sweep(name="s", claim="c").add(trial, **axes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "line"),
    [(-1, "Finetune.seed must be an integer of at least 0, got -1"), ("bad", "KeyError: 'bad' (test_grid.py, line ")],
)
def test_an_error_in_a_cell_is_one_line_that_names_the_cell(value, line):
    def trial(value, seed):
        if value == "bad":
            raise KeyError(value)
        return Finetune(task=downstream_tasks["python_ast"], init=RandomInit(T5_SMALL), seed=value)

    sweep = Sweep(name="s", claim="c")
    sweep.add(trial, value=[value], seed=[0])
    with pytest.raises(InputError) as caught:
        sweep.cells()
    assert str(caught.value).startswith(line)
    assert str(caught.value).endswith(f", in the cell value={value}, seed=0")


def test_an_axis_may_be_a_generator():
    sweep = Sweep(name="s", claim="c")
    sweep.add(finetuning, seed=(seed for seed in range(3)))
    assert len(sweep.cells()) == len(sweep.cells()) == 3


def test_the_arguments_of_a_table_are_its_fields():
    arguments = dict(inspect.signature(Sweep.table).parameters)
    del arguments["self"]
    hidden = ("rehearsal", "lacks_gap")  # `rehearsed` and `of_part` set them
    fields = {field.name: field for field in dataclasses.fields(Table) if field.name not in hidden}
    assert list(arguments) == list(fields)
    for name, argument in arguments.items():
        assert argument.kind is inspect.Parameter.KEYWORD_ONLY
        if name != "where":  # a mapping, whose default is an empty one
            required = fields[name].default is dataclasses.MISSING
            assert argument.default == (inspect.Parameter.empty if required else fields[name].default)
    layout = dict.fromkeys(fields, ("a",))
    sweep = Sweep(name="s", claim="c")
    sweep.table(**layout)
    sweep.table(title="t", rows=("a",))
    assert sweep.tables == [Table(**layout), Table(title="t", rows=("a",))]


def test_an_unknown_table_argument_is_named():
    with pytest.raises(TypeError, match="unexpected keyword argument 'ceilin'"):
        Sweep(name="s", claim="c").table(title="t", rows=("seed",), ceilin=("a",))


def test_labels_need_not_be_hashable():
    def trial(steps, seed):
        return Finetune(task=downstream_tasks["python_ast"], init=RandomInit(T5_SMALL), seed=seed)

    sweep = Sweep(name="s", claim="c")
    sweep.add(trial, steps=[[1], [2]], seed=[0])
    sweep.add(trial, seed=[0], steps=[[2], [3]])
    assert [cell.fields["steps"] for cell in sweep.cells()] == [[1], [2], [3]]


def test_a_point_of_two_grids_counts_once_and_cannot_be_two_fine_tunings():
    def trial(init, seed):
        return Finetune(task=downstream_tasks["python_ast"], init=RandomInit(T5_SMALL), seed=seed)

    def other(init, seed):
        return Finetune(task=downstream_tasks["mtop"], init=RandomInit(T5_SMALL), seed=seed)

    sweep = Sweep(name="s", claim="c")
    sweep.add(trial, init=["random"], seed=[0, 1])
    sweep.add(trial, init=["random"], seed=[1, 2])
    assert [cell.fields["seed"] for cell in sweep.cells()] == [0, 1, 2]
    sweep.add(other, init=["random"], seed=[2])
    with pytest.raises(InputError, match=r"^two different fine-tunings are the cell init=random, seed=2; give them"):
        sweep.cells()


def test_a_data_folder_that_does_not_exist_is_one_line(tmp_path, capsys):
    sweep = Sweep(name="s", claim="c")
    sweep.add(finetuning, seed=[0])
    nowhere = tmp_path / "nowhere"
    for option, line in {
        f"mtop={nowhere}": f"--data mtop: {nowhere} does not exist",
        "mtop": "--data takes TASK=PATH, got 'mtop'",
        f"mtpo={tmp_path}": "unknown task of --data 'mtpo' (did you mean 'mtop'?)",
    }.items():
        with pytest.raises(SystemExit) as ended:
            sweep.main(["run", "--store", str(tmp_path / "store"), "--data", option])
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert line in error
        assert error.count("\n") == 1


def test_a_report_of_nothing_writes_nothing(tmp_path, capsys):
    sweep = Sweep(name="s", claim="c")
    sweep.add(finetuning, seed=[0])
    sweep.table(title="t", rows=("seed",))
    with pytest.raises(SystemExit) as ended:
        sweep.main(["report", "--store", str(tmp_path / "store")])
    assert ended.value.code == 0
    assert "nothing of this sweep is in" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_a_label_with_neither_a_hash_nor_a_repr_is_one_line():
    class Odd:
        __hash__ = None

        def __repr__(self):
            raise RuntimeError("no text")

    with pytest.raises(InputError, match="a value of the class Odd cannot be a label"):
        hashable(Odd())


def test_a_number_of_threads_with_too_many_digits_is_one_line():
    with pytest.raises(InputError, match="NPROC must be a positive whole number"):
        check_environment({"NPROC": "9" * 5_000})
