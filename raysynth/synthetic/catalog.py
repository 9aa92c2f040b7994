"""Every synthetic task of the paper by name."""

from raysynth.errors import Named
from raysynth.synthetic.base import SyntheticTask
from raysynth.synthetic.dyck import Dyck
from raysynth.synthetic.lime import LIME
from raysynth.synthetic.nonsense_summary import NonsenseSummary
from raysynth.synthetic.simple import simple_tasks

synthetic_tasks: Named[SyntheticTask] = Named(
    "synthetic task", {**simple_tasks, **{task.name: task for task in (LIME(), Dyck(), NonsenseSummary())}}
)
"""The tasks of Appendices G (18) and E (3) with their default values, by the paper's names in snake case."""
