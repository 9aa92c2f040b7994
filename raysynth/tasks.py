"""Every task and text corpus of the paper by name."""

from raysynth.datasets import SyntheticTask, TextCorpus
from raysynth.dyck import Dyck
from raysynth.errors import Named
from raysynth.lime import LIME
from raysynth.nonsense import NonsenseSummary
from raysynth.synthetic import simple_tasks

synthetic_tasks: Named[SyntheticTask] = Named(
    "synthetic task", {**simple_tasks, **{task.name: task for task in (LIME(), Dyck(), NonsenseSummary())}}
)
"""The 18 tasks of Appendix G and those of Appendix E with their default values, by the paper's names in snake case."""

text_corpora: Named[TextCorpus] = Named("text corpus", {"wiki_10k": TextCorpus(name="wiki_10k", num_documents=10_000)})
"""The paper's natural baseline on little data: 10,000 articles of Wikipedia, wherever they lie."""
