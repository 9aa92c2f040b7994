"""The paper's experiments by the paper's names: tasks, sources, init schemes, and the numbers that it printed."""

from collections.abc import Callable

from raysynth.errors import Named
from raysynth.specs.catalog import downstream_tasks, natural_source, text_corpora
from raysynth.specs.datasets import Dataset
from raysynth.specs.finetuning import DownstreamTask, Finetune
from raysynth.specs.init_schemes import ConstantInit, FullInit, InitScheme, RandomInit, StatisticInit
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

_TASK_OF = {
    "LIME": "lime",
    "Dyck": "dyck",
    "Nonsense Summary": "nonsense_summary",
    "Set": "set",
    "Identity": "identity",
}


def pretraining(source: str, *, seed: int = 0, model: T5Config = T5_SMALL) -> Pretrain:
    """The pre-training on a source, by its name in Table 6 or that of any synthetic task; new data for every seed.

    Numbers of examples are those of the paper's generators: a million, of LIME a million of each mode, of Nonsense
    Summary 100,000. Dyck trains for 300,000 steps at most (Appendix A), the others for the script's 80,000.
    """
    name = _TASK_OF.get(source, source)
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
    """What a row of Table 6 or 9 starts from: random, the public T5 (Appendix C), or full from a pre-training."""
    if row == "Random Init":
        return RandomInit(model)
    if row == "Pre-trained T5":
        # Appendix C tells of T5 v1.1 at the small size alone.
        return FullInit(pretrained("t5-base") if model == T5_BASE else natural_source(task))
    return FullInit(pretraining(row, seed=seed, model=model))


def _statistics(**fields: str) -> Callable[[Source], InitScheme]:
    return lambda source: StatisticInit(source, **fields)


SCHEMES: Named[Callable[[Source], InitScheme]] = Named(
    "init scheme of the paper",
    {
        "Full Init": FullInit,
        "Per Param Mean/SD": _statistics(group_by="parameter", statistic="mean_sd"),
        "Per Param Scale": _statistics(group_by="parameter", statistic="scale"),
        "Across Layers Scale": _statistics(group_by="type", statistic="scale"),
        "Per Layer Scale": _statistics(group_by="layer", statistic="scale"),
        "Whole Model Scale": _statistics(group_by="model", statistic="scale"),
        "Pre-attn LN Per Param Scale": _statistics(
            group_by="parameter", statistic="scale", where="pre_attention_layer_norm"
        ),
        "Attention Per Param Scale": _statistics(group_by="parameter", statistic="scale", where="attention"),
        "Pre-MLP LN Per Param Scale": _statistics(group_by="parameter", statistic="scale", where="pre_mlp_layer_norm"),
        "MLP Per Param Scale": _statistics(group_by="parameter", statistic="scale", where="mlp"),
    },
)
"""From a source to an init scheme, in the order of Table 5."""


MAIN_TASKS: dict[str, DownstreamTask] = {name: TASKS[name] for name in ("CNNDM-10K", "MTOP")}
"""The tasks of Tables 2, 3 and 5."""


def statistics_trial(init: str, source: str, task: DownstreamTask, seed: int) -> Finetune:
    """A cell of Tables 2, 5 and 7: a scheme on a source's pre-training, or a baseline where the source is "-"."""
    scheme = initialization(init, task, seed) if source == "-" else SCHEMES[init](pretraining(source, seed=seed))
    return Finetune(task=task, init=scheme, seed=seed)


def layer_norm_trial(value: float | str, task: DownstreamTask, seed: int) -> Finetune:
    """A cell of Tables 3 and 8: pre-attention layer norms at a value, the rest random, or a baseline by its name."""
    if isinstance(value, str):
        return Finetune(task=task, init=initialization(value, task, seed), seed=seed)
    return Finetune(task=task, init=ConstantInit(T5_SMALL, where="pre_attention_layer_norm", value=value), seed=seed)
