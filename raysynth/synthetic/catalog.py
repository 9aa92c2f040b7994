"""Every synthetic task by name: those of the paper, and those that came after it."""

from raysynth.errors import Named
from raysynth.synthetic.base import SyntheticTask
from raysynth.synthetic.cellular_automaton import CellularAutomaton
from raysynth.synthetic.dyck import Dyck
from raysynth.synthetic.iid_control import IIDControl
from raysynth.synthetic.lime import LIME
from raysynth.synthetic.nonsense_summary import NonsenseSummary
from raysynth.synthetic.random_rnn import RandomRNN
from raysynth.synthetic.shuffle_dyck import ShuffleDyck
from raysynth.synthetic.simple import simple_tasks
from raysynth.synthetic.stack import Stack

_OTHER_TASKS = (
    LIME(),
    Dyck(),
    NonsenseSummary(),
    ShuffleDyck(),
    Stack(),
    RandomRNN(),
    CellularAutomaton(),
    IIDControl(),
)

synthetic_tasks: Named[SyntheticTask] = Named(
    "synthetic task", {**simple_tasks, **{task.name: task for task in _OTHER_TASKS}}
)
"""The tasks of Appendices G (18) and E (3) by the paper's names in snake case, then later papers' tasks.

All have their default values.
"""
