"""Grids: what does not fit is one line that names the axis or the cell."""

import re

import pytest

from raysynth import T5_SMALL, Finetune, InputError, RandomInit, Sweep, downstream_tasks


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


@pytest.mark.parametrize(("value", "error"), [(-1, InputError), ("bad", KeyError)])
def test_an_error_in_a_cell_names_the_cell(value, error):
    def trial(value, seed):
        if value == "bad":
            raise KeyError(value)
        return Finetune(task=downstream_tasks["python_ast"], init=RandomInit(T5_SMALL), seed=value)

    sweep = Sweep(name="s", claim="c")
    sweep.add(trial, value=[value], seed=[0])
    with pytest.raises(error) as caught:
        sweep.cells()
    assert f"in the cell value={value}, seed=0" in [str(caught.value), *getattr(caught.value, "__notes__", [])][-1]


def test_an_axis_may_be_a_generator():
    sweep = Sweep(name="s", claim="c")
    sweep.add(
        lambda seed: Finetune(task=downstream_tasks["python_ast"], init=RandomInit(T5_SMALL), seed=seed),
        seed=(seed for seed in range(3)),
    )
    assert len(sweep.cells()) == len(sweep.cells()) == 3


def test_an_unknown_table_argument_is_one_line():
    with pytest.raises(InputError, match=r"unknown table argument 'ceilin' \(did you mean 'ceiling'\?\); allowed: "):
        Sweep(name="s", claim="c").table(title="t", rows=("seed",), ceilin=("a",))
