"""The contract of tasks: names, fields, prefixes and draws that break it are one line each."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysynth import (
    Dataset,
    InputError,
    Mixture,
    Pretrain,
    Ragged,
    SyntheticTask,
    T5Config,
    synthetic_tasks,
    token_space,
)
from raysynth.fields import check_name
from raysynth.synthetic.contract import checked_draw, has_own_code
from raysynth.synthetic.simple import UniformTask


@dataclass(frozen=True, kw_only=True)
class Own(SyntheticTask):
    name: ClassVar[str] = "own_contract"
    extra: Any = None

    def draw(self, rng, count):
        return self.extra(rng, count)


TOKENS = token_space(num_pieces=28)
IDS = Ragged.of([[2, 3]] * 10)


def exits(rng, count):
    raise SystemExit("bye")


@pytest.mark.parametrize(
    ("draw", "line"),
    [
        (exits, "own_contract.draw must return examples, but it raised SystemExit"),
        (lambda rng, count: None, "own_contract.draw must return a pair of inputs and targets, got NoneType"),
        (lambda rng, count: (Ragged.of([[2.7]] * 10), IDS), "token ids must be whole numbers from 0 to 65535, got 2.7"),
        (lambda rng, count: (Ragged.of([[3.0]] * 10), IDS), "token ids must be whole numbers from 0 to 65535, got 3.0"),
        (
            lambda rng, count: (Ragged.of([[True]] * 10), IDS),
            "token ids must be whole numbers from 0 to 65535, got True",
        ),
        (lambda rng, count: (Ragged.of([["2"]] * 10), IDS), "token ids must be whole numbers from 0 to 65535, got '2'"),
        (
            lambda rng, count: (Ragged.of([[2**80]] * 10), IDS),
            f"token ids must be whole numbers from 0 to 65535, got {2**80}",
        ),
        (
            lambda rng, count: (Ragged.of([[float("nan")]] * 10), IDS),
            "token ids must be whole numbers from 0 to 65535, got nan",
        ),
        (
            lambda rng, count: (Ragged.of([[[2], [3]]] * 10), IDS),
            "a row must be a flat sequence of token ids, got [[2], [3]]",
        ),
        (
            lambda rng, count: (Ragged.of([[[2], [3, 4]]] * 10), IDS),
            "a row must be a flat sequence of token ids, got [[2], [3, 4]]",
        ),
        (lambda rng, count: (Ragged.of(range(10)), IDS), "a row must be a flat sequence of token ids, got 0"),
        (
            lambda rng, count: (Ragged(np.full(10, 2.5), np.arange(11)), IDS),
            "own_contract.draw: values of the inputs must be a flat array of uint16, got 1-dimensional float64",
        ),
        (
            lambda rng, count: (IDS, Ragged(np.full(9, 2, np.uint16), np.arange(11))),
            "own_contract.draw: offsets of the targets must rise from 0 to the number of ids (9)",
        ),
        (
            lambda rng, count: (IDS, Ragged(np.full(10, 2, np.uint16), np.array([0, 5, 4, *range(3, 11)]))),
            "own_contract.draw: offsets of the targets must rise from 0 to the number of ids (10)",
        ),
    ],
)
def test_a_draw_that_breaks_the_contract_is_one_line(draw, line):
    with pytest.raises(InputError) as caught:
        checked_draw(Own(tokens=TOKENS, extra=draw), np.random.default_rng(0), 10)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_whole_numbers_of_any_width_are_fine():
    for row in ([2, np.int64(3)], np.array([2, 3], np.uint8), (2, np.uint64(3)), []):
        assert Ragged.of([row]).values.tolist() == [int(id) for id in row]


@given(st.lists(st.lists(st.one_of(st.integers(-9, 2**17), st.floats(), st.booleans(), st.none(), st.text()))))
def test_rows_are_whole_numbers_of_16_bits_or_one_line(rows):
    if all(type(id) is int and 0 <= id < 2**16 for row in rows for id in row):
        assert [row.tolist() for row in Ragged.of(rows)] == rows
        return
    # A list of integers and truth values has integers in NumPy; the truth values become 0 and 1, which are reserved.
    mixed = [[int(id) if type(id) is bool else id for id in row] for row in rows]
    if all(type(id) is int and 0 <= id < 2**16 for row in mixed for id in row):
        return
    with pytest.raises(InputError) as caught:
        Ragged.of(rows)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "prefix", [(-5,), (0,), (1,), (65_536,), (2.5,), (3.0,), (True,), ("2",), [5], 5, None, "ab", (5, -5)], ids=repr
)
def test_a_prefix_with_ids_that_do_not_exist_is_one_line(prefix):
    def task():
        return dataclasses.replace(synthetic_tasks["set"], prefix=prefix)

    for make in (lambda: Dataset(task=task()), lambda: Mixture(tasks=(task(), synthetic_tasks["sort"]))):
        with pytest.raises(InputError, match=r"^Set.prefix must ") as caught:
            make()
        assert "\n" not in str(caught.value)


def test_a_prefix_above_the_models_vocabulary_is_one_line():
    task = dataclasses.replace(synthetic_tasks["set"], tokens=TOKENS, prefix=(127,))
    Pretrain(data=Dataset(task=task), model=T5Config(vocab_size=128))
    task = dataclasses.replace(task, prefix=(128,))
    with pytest.raises(InputError, match=r"^vocab_size must be above the task's largest id \(128\), got 128$"):
        Pretrain(data=Dataset(task=task), model=T5Config(vocab_size=128))


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, np.zeros(2), (1, [2]), float("nan")], ids=repr)
def test_a_field_that_cannot_be_compared_is_one_line(value):
    with pytest.raises(InputError, match=r"^Own.extra must ") as caught:
        Dataset(task=Own(extra=value))
    assert "\n" not in str(caught.value)


NAMES = ["", "a/b", "../a", "..", "a..b", "/a", "A", "a b", "a\n", "a\\b", "-a", ".a", "_a", "é", "a" * 81, 5, None]


@pytest.mark.parametrize("value", NAMES, ids=repr)
def test_a_name_that_could_be_a_path_is_one_line(value):
    with pytest.raises(InputError, match=r"^Task.name must be at most 80 lower-case letters") as caught:
        check_name("Task.name", value)
    assert "\n" not in str(caught.value)


def test_every_kind_of_name_is_checked():
    from raysynth import TextCorpus, downstream_tasks

    class Elsewhere(UniformTask):
        name: ClassVar[str] = "../elsewhere"

    class Computed(UniformTask):
        @property
        def name(self):
            return "../computed"

    squad = downstream_tasks["squad"]
    for make, what in (
        (lambda: Dataset(task=Elsewhere()), "Elsewhere.name"),
        (lambda: Dataset(task=Computed()), "Computed.name"),
        (lambda: Mixture(tasks=(Elsewhere(), synthetic_tasks["set"])), "Elsewhere.name"),
        (lambda: TextCorpus(name="../x"), "TextCorpus.name"),
        (lambda: dataclasses.replace(squad.data, name="a/b"), "TextDataset.name"),
        (lambda: dataclasses.replace(squad, name="a/b"), "DownstreamTask.name"),
    ):
        with pytest.raises(InputError, match=rf"^{what} must be at most 80 lower-case letters"):
            make()


def test_only_tasks_with_code_of_ones_own_are_tried():
    assert has_own_code(Own())
    assert has_own_code(Mixture(tasks=(Own(), synthetic_tasks["set"])))
    assert not any(map(has_own_code, synthetic_tasks.values()))
    assert not has_own_code(Mixture(tasks=(synthetic_tasks["sort"], synthetic_tasks["set"])))
