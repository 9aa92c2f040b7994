"""Every task by name: tiny versions fit tiny models, and descriptions and data are stable."""

import zlib

import numpy as np
import pytest

from raysynth import (
    T5_SMALL,
    Dataset,
    Finetune,
    FullInit,
    InputError,
    Pretrain,
    downstream_tasks,
    synthetic_tasks,
    text_corpora,
)
from raysynth.data.duplicates import row_hashes
from raysynth.specs.identity import describe, name
from raysynth.specs.tiny import tiny
from raysynth.synthetic.contract import checked_draw
from raysynth.synthetic.dyck import Dyck
from raysynth.synthetic.iid_control import IIDControl
from raysynth.synthetic.lime import LIME
from raysynth.synthetic.nonsense_summary import NonsenseSummary, OneTokenPerWord
from raysynth.synthetic.simple import simple_tasks
from raysynth.synthetic.span_task import SpanTask

APPENDIX_E = {"lime": LIME(), "dyck": Dyck(), "nonsense_summary": NonsenseSummary(spelling=OneTokenPerWord())}
"""The tasks of Appendix E, in a form that does not need T5's vocabulary."""


LATER = ("shuffle_dyck", "stack", "random_rnn", "cellular_automaton", "iid_control")
"""The tasks that came after the paper."""


def test_names_are_the_papers_and_then_those_of_later_tasks():
    assert [*synthetic_tasks] == [*simple_tasks, *APPENDIX_E, *LATER]
    assert len(simple_tasks) == 18
    assert all(synthetic_tasks[task].name == task for task in synthetic_tasks)
    with pytest.raises(InputError, match=r"^unknown synthetic task 'lim' \(did you mean 'lime'"):
        synthetic_tasks["lim"]


@pytest.mark.parametrize("task", synthetic_tasks)
def test_descriptions_of_defaults_are_short(task):
    revision = {"revision": 2} if task in simple_tasks else {}
    assert describe(synthetic_tasks[task]) == {"is": task, **revision}
    assert name(Dataset(task=synthetic_tasks[task])).startswith(f"dataset/{task}.seed0-")


@pytest.mark.parametrize("task", [*synthetic_tasks, *text_corpora])
def test_tiny_sweeps_hold_tiny_tasks(task):
    whole = (synthetic_tasks if task in synthetic_tasks else text_corpora)[task]
    source = Pretrain(data=Dataset(task=whole), model=T5_SMALL, input_length=512, target_length=512)
    small = tiny(Finetune(task=downstream_tasks["python_ast"], init=FullInit(source))).init.source
    assert small.data.task == whole.tiny()
    if task in synthetic_tasks:
        sources, targets = small.data.task.draw(np.random.default_rng(0), 200)
        assert sources.lengths.max() + 1 <= small.input_length == 24
        assert targets.lengths.max() + 1 <= small.target_length or task == "duplicate"
        assert max(sources.values.max(), targets.values.max()) <= small.data.task.largest_id < T5_SMALL.vocab_size


CHECKSUMS = {
    "lime": 1_583_812_868,
    "dyck": 2_891_593_306,
    "nonsense_summary": 1_775_103_983,
    "shuffle_dyck": 1_555_201_293,
    "stack": 1_216_865_578,
    "random_rnn": 1_905_595_883,
    "cellular_automaton": 3_280_703_191,
    "iid_control": 1_946_685_464,
}
DRAWN = APPENDIX_E | {name_of_task: synthetic_tasks[name_of_task] for name_of_task in LATER}


def test_a_seed_still_gives_the_same_data():
    """If the change is intended, raise the class's `revision`; a new NumPy may also draw other numbers."""
    seen = {}
    for name_of_task, task in DRAWN.items():
        sources, targets = task.draw(np.random.default_rng(3), 50)
        parts = (sources.values, sources.offsets, targets.values, targets.offsets)
        seen[name_of_task] = zlib.crc32(b"".join(part.tobytes() for part in parts))
    assert seen == CHECKSUMS


@pytest.mark.parametrize("task", LATER)
def test_later_tasks_draw_no_input_twice(task):
    sources, _ = checked_draw(synthetic_tasks[task], np.random.default_rng(1), 500)
    assert len(np.unique(row_hashes(sources))) == 500


@pytest.mark.parametrize("task", DRAWN)
def test_rows_do_not_depend_on_how_many_follow(task):
    few, many = (DRAWN[task].draw(np.random.default_rng(5), count) for count in (20, 60))
    if not isinstance(DRAWN[task], SpanTask | IIDControl):  # which draw noise, or tokens, after all segments or lengths
        assert [row.tolist() for row in few[1]] == [row.tolist() for row in many[1].take(np.arange(20))]
    assert len(few[0]) == len(few[1]) == 20
