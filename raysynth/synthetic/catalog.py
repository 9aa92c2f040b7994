"""Every task and text corpus of the paper by name."""

from raysynth.errors import Named
from raysynth.synthetic.base import SyntheticTask
from raysynth.synthetic.dyck import Dyck
from raysynth.synthetic.lime import LIME
from raysynth.synthetic.nonsense_summary import NonsenseSummary
from raysynth.synthetic.simple import simple_tasks

synthetic_tasks: Named[SyntheticTask] = Named(
    "synthetic task", {**simple_tasks, **{task.name: task for task in (LIME(), Dyck(), NonsenseSummary())}}
)
"""The 18 tasks of Appendix G and those of Appendix E with their default values, by the paper's names in snake case."""
