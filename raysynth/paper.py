"""The paper's experiments under the paper's names: tasks, sources, init schemes and the cells of its tables."""

from collections.abc import Callable

from raysynth.errors import Named
from raysynth.specs.catalog import downstream_tasks, natural_source, text_corpora
from raysynth.specs.datasets import Dataset
from raysynth.specs.finetuning import DownstreamTask, Finetune
from raysynth.specs.init_schemes import (
    ConstantInit,
    Family,
    FullInit,
    GroupBy,
    InitScheme,
    RandomInit,
    Statistic,
    StatisticInit,
)
from raysynth.specs.models import T5_BASE, T5_SMALL, T5Config
from raysynth.specs.pretraining import Pretrain, Source, pretrained
from raysynth.synthetic.catalog import synthetic_tasks

TASKS: dict[str, DownstreamTask] = {
    "CNNDM-10K": downstream_tasks["cnndm_10k"],
    "MTOP": downstream_tasks["mtop"],
    "WebQSP": downstream_tasks["webqsp"],
    "SQuAD": downstream_tasks["squad"],
    "Code Trans.": downstream_tasks["code_translation"],
    "Retrosyn.": downstream_tasks["retrosynthesis"],
}
"""The six downstream tasks in the order of Table 6."""

SIZES: dict[str, DownstreamTask] = {
    "Retrosyn-1K": downstream_tasks["retrosynthesis_1k"],
    "Retrosyn-10K": downstream_tasks["retrosynthesis_10k"],
    "Retrosyn-40K": downstream_tasks["retrosynthesis_40k"],
    "CNNDM-1K": downstream_tasks["cnndm_1k"],
    "CNNDM-10K": downstream_tasks["cnndm_10k"],
    "CNNDM-100K": downstream_tasks["cnndm_100k"],
    "SQuAD-1K": downstream_tasks["squad_1k"],
    "SQuAD-10K": downstream_tasks["squad_10k"],
    "SQuAD-87K": downstream_tasks["squad_87k"],
}
"""The tasks of the size ablation in the order of Table 4."""

_SYNTHETIC_TASKS = {
    "LIME": "lime",
    "Dyck": "dyck",
    "Nonsense Summary": "nonsense_summary",
    "Set": "set",
    "Identity": "identity",
}
"""The synthetic tasks of Table 6 by the paper's names."""


def pretraining(source: str, *, seed: int = 0, model: T5Config = T5_SMALL) -> Pretrain:
    """The pre-training on a source, named as in Table 6 or as any synthetic task; each seed has its own data.

    The numbers of examples are those of the paper's generators: one million, but one million for each of LIME's three
    modes and 100,000 for Nonsense Summary. Dyck trains for at most 300,000 steps (Appendix A), the others for at most
    the 80,000 of the paper's script. Raises `InputError` for an unknown source.
    """
    name = _SYNTHETIC_TASKS.get(source, source)
    if source == "Wiki 10K":
        data = Dataset(task=text_corpora["wiki_10k"], seed=seed)
    elif name == "lime":
        data = Dataset(task=synthetic_tasks[name], num_examples=3_000_000, seed=seed)
    elif name == "nonsense_summary":
        data = Dataset(task=synthetic_tasks[name], num_examples=100_000, num_validation=5_000, seed=seed)
    else:
        data = Dataset(task=synthetic_tasks[name], seed=seed)
    return Pretrain(data=data, model=model, seed=seed, num_steps=300_000 if name == "dyck" else 80_000)


def initialization(row: str, task: DownstreamTask, seed: int, *, model: T5Config = T5_SMALL) -> InitScheme:
    """The init scheme of a row of Table 6 or 9: random, the public T5 (Appendix C), or full from a pre-training."""
    if row == "Random Init":
        return RandomInit(model)
    if row == "Pre-trained T5":
        # Appendix C mentions T5 v1.1 only at the small size.
        return FullInit(pretrained("t5-base") if model == T5_BASE else natural_source(task))
    return FullInit(pretraining(row, seed=seed, model=model))


def _statistics(
    group_by: GroupBy, statistic: Statistic, where: Family = Family.ALL
) -> Callable[[Source], StatisticInit]:
    return lambda source: StatisticInit(source, group_by=group_by, statistic=statistic, where=where)


SCHEMES: Named[Callable[[Source], InitScheme]] = Named(
    "init scheme of the paper",
    {
        "Full Init": FullInit,
        "Per Param Mean/SD": _statistics(GroupBy.PARAMETER, Statistic.MEAN_SD),
        "Per Param Scale": _statistics(GroupBy.PARAMETER, Statistic.SCALE),
        "Across Layers Scale": _statistics(GroupBy.TYPE, Statistic.SCALE),
        "Per Layer Scale": _statistics(GroupBy.LAYER, Statistic.SCALE),
        "Whole Model Scale": _statistics(GroupBy.MODEL, Statistic.SCALE),
        "Pre-attn LN Per Param Scale": _statistics(GroupBy.PARAMETER, Statistic.SCALE, Family.PRE_ATTENTION_LAYER_NORM),
        "Attention Per Param Scale": _statistics(GroupBy.PARAMETER, Statistic.SCALE, Family.ATTENTION),
        "Pre-MLP LN Per Param Scale": _statistics(GroupBy.PARAMETER, Statistic.SCALE, Family.PRE_MLP_LAYER_NORM),
        "MLP Per Param Scale": _statistics(GroupBy.PARAMETER, Statistic.SCALE, Family.MLP),
    },
)
"""Functions from a source to an init scheme, in the order of Table 5."""

MAIN_TASKS: dict[str, DownstreamTask] = {name: TASKS[name] for name in ("CNNDM-10K", "MTOP")}
"""The tasks of Tables 2, 3 and 5."""


def statistics_trial(init: str, source: str, task: DownstreamTask, seed: int) -> Finetune:
    """A cell of Table 2, 5 or 7: a scheme on a source's pre-training, or a baseline if the source is "-"."""
    scheme = initialization(init, task, seed) if source == "-" else SCHEMES[init](pretraining(source, seed=seed))
    return Finetune(task=task, init=scheme, seed=seed)


def layer_norm_trial(value: float | str, task: DownstreamTask, seed: int) -> Finetune:
    """A cell of Table 3 or 8: pre-attention layer norms at a value and the rest random, or a baseline by its name."""
    if isinstance(value, str):
        return Finetune(task=task, init=initialization(value, task, seed), seed=seed)
    scheme = ConstantInit(T5_SMALL, where=Family.PRE_ATTENTION_LAYER_NORM, value=value)
    return Finetune(task=task, init=scheme, seed=seed)
