"""Descriptions: equal ones are one artifact, wrong ones are one line, and the import loads nothing heavy."""

import dataclasses
import subprocess
import sys

import pytest

from raysynth import (
    T5_BASE,
    T5_SMALL,
    T5_V1_1_SMALL,
    AtStep,
    Best,
    ComposedInit,
    Constant,
    ConstantInit,
    Dataset,
    Finetune,
    FirstAbove,
    FullInit,
    InputError,
    Pretrain,
    RandomInit,
    StatisticInit,
    T5Config,
    TokenSpace,
    downstream_tasks,
    pretrained,
    synthetic_tasks,
    token_space,
)
from raysynth.specs.finetuning import in_one_order
from raysynth.specs.identity import describe, fingerprint, in_order, name
from raysynth.specs.tiny import tiny

SET = synthetic_tasks["set"]
MTOP_LIKE = downstream_tasks["code_translation"]


def pretrain(seed=0, model=T5_SMALL):
    return Pretrain(data=Dataset(task=SET, seed=seed), model=model, seed=seed)


def test_the_import_loads_no_heavy_library():
    script = (
        "import sys, raysynth\n"
        "heavy = {'jax', 'ray', 'flax', 'numba', 'scipy', 'matplotlib', 'rouge_score', 'pyarrow.parquet', 'rdkit'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -------------------------------------------------------------------------------- identity


def test_equal_descriptions_have_one_name_however_they_are_written():
    plain = Finetune(task=MTOP_LIKE, init=FullInit(pretrain()))
    spelled_out = Finetune(
        task=dataclasses.replace(MTOP_LIKE, learning_rate=MTOP_LIKE.learning_rate),
        init=FullInit(pretrain(), embeddings="random"),
        seed=0,
    )
    assert plain == spelled_out
    assert name(plain) == name(spelled_out)


def test_a_whole_number_and_its_float_are_the_same():
    whole = ConstantInit(T5_SMALL, where="mlp", value=1)
    decimal = ConstantInit(T5_SMALL, where="mlp", value=1.0)
    assert whole == decimal
    assert describe(whole) == describe(decimal)


def test_fields_with_their_default_are_left_out_so_that_new_fields_keep_old_names():
    assert describe(pretrain()) == {
        "is": "Pretrain",
        "revision": 3,
        "data": {"is": "Dataset", "revision": 2, "task": {"is": "set", "revision": 2}},
        "model": {"is": "T5Config"},
    }


@pytest.mark.parametrize(
    "other",
    [
        Finetune(task=MTOP_LIKE, init=FullInit(pretrain()), seed=1),
        Finetune(task=MTOP_LIKE, init=FullInit(pretrain(seed=1))),
        Finetune(task=MTOP_LIKE, init=FullInit(pretrain(model=T5_BASE))),
        Finetune(task=MTOP_LIKE, init=FullInit(pretrain(), embeddings="source")),
        Finetune(task=MTOP_LIKE, init=RandomInit(T5_SMALL)),
        Finetune(task=dataclasses.replace(MTOP_LIKE, learning_rate=0.1), init=FullInit(pretrain())),
        Finetune(task=MTOP_LIKE, init=StatisticInit(pretrain(), group_by="parameter", statistic="mean_sd")),
    ],
)
def test_any_difference_is_another_artifact(other):
    assert name(other) != name(Finetune(task=MTOP_LIKE, init=FullInit(pretrain())))


def test_a_changed_revision_is_another_artifact(monkeypatch):
    before = fingerprint(pretrain())
    monkeypatch.setattr(type(SET), "revision", 3)
    assert fingerprint(pretrain()) != before


def test_published_names_stay():
    """A change here orphans existing results; raise a `revision` only if the meaning of a class changed."""
    assert name(pretrain()) == "pretrain/set.seed0-565d4fd8"


def test_inputs_come_once_and_before_the_artifacts_that_need_them():
    shared = pretrain()
    runs = [Finetune(task=MTOP_LIKE, init=FullInit(shared), seed=seed) for seed in range(3)]
    ordered = in_order(runs)
    assert len(ordered) == len(set(ordered)) == 1 + 1 + 1 + 3
    for artifact in ordered:
        assert all(ordered.index(needed) < ordered.index(artifact) for needed in artifact.inputs())


def test_names_are_readable_and_fit_a_file_system():
    run = Finetune(
        task=MTOP_LIKE,
        init=StatisticInit(pretrain(), group_by="parameter", statistic="scale", where="pre_attention_layer_norm"),
    )
    assert name(run).startswith("finetune/code_translation.set.pre_attention_layer_norm_per_param_scale.lr0.003.seed0-")
    assert len(name(run).split("/")[1]) < 100


def test_tiny_is_another_artifact_of_the_same_kind():
    for init in (FullInit(pretrain()), RandomInit(T5_SMALL), ConstantInit(T5_SMALL, where="mlp", value=0.1)):
        run = Finetune(task=downstream_tasks["code_translation"], init=init)
        assert type(tiny(run).init) is type(init)
        assert fingerprint(tiny(run)) != fingerprint(run)
        assert tiny(run).task.num_steps < 100


# -------------------------------------------------------------------------------- schemes made of schemes


def statistics(**fields):
    return StatisticInit(pretrain(), **{"group_by": "parameter", "statistic": "mean_sd", **fields})


def layer_norms(model):
    return ConstantInit(model, where="pre_attention_layer_norm", value=0.2)


def test_composed_schemes_need_every_source_once():
    both = ComposedInit(schemes=(statistics(where="attention"), FullInit(pretrain(seed=1)), statistics(where="mlp")))
    run = Finetune(task=MTOP_LIKE, init=both)
    assert run.inputs() == (MTOP_LIKE.data, pretrain(), pretrain(seed=1))
    assert name(run).startswith("finetune/code_translation.set.set.3_schemes.lr0.003.seed0-")
    assert name(run) != name(Finetune(task=MTOP_LIKE, init=ComposedInit(schemes=both.schemes[::-1])))


def test_another_size_is_another_artifact_but_the_sources_own_size_is_not():
    assert statistics(onto=T5_SMALL) == statistics()
    run = Finetune(task=MTOP_LIKE, init=statistics(onto=T5_BASE))
    assert run.model == T5_BASE
    assert run.inputs() == (MTOP_LIKE.data, pretrain())
    assert name(run).startswith("finetune/code_translation.set.per_param_mean_sd_onto_768x12.lr0.003.seed0-")
    assert statistics(onto=T5_V1_1_SMALL, group_by="type").model == T5_V1_1_SMALL
    assert statistics(onto=T5_V1_1_SMALL, where="attention").model == T5_V1_1_SMALL


def test_tiny_keeps_composition_and_the_difference_of_sizes():
    onto = statistics(onto=T5_BASE)
    init = ComposedInit(schemes=(onto, layer_norms(T5_BASE), FullInit(pretrain(model=T5_BASE))))
    small = tiny(Finetune(task=MTOP_LIKE, init=init)).init
    assert [type(scheme) for scheme in small.schemes] == [type(scheme) for scheme in init.schemes]
    assert small.schemes[0].onto == small.model != small.schemes[0].source.model
    assert max(source.num_steps for source in small.sources) < 100
    public = ComposedInit(schemes=(FullInit(pretrained("t5-base")), onto))
    small = tiny(Finetune(task=MTOP_LIKE, init=public)).init
    assert small.schemes[0] == public.schemes[0]
    assert (small.model, small.schemes[1].source.num_steps) == (T5_BASE, 8)


# -------------------------------------------------------------------------------- selection

RISING = {step: {"token_accuracy": accuracy} for step, accuracy in [(10, 0.5), (20, 0.992), (30, 0.999), (40, 0.98)]}


@pytest.mark.parametrize(
    ("rule", "chosen", "settled"),
    [
        (Best("token_accuracy"), 30, False),
        (FirstAbove("token_accuracy", 0.99), 20, True),
        (FirstAbove("token_accuracy", 0.992), 20, True),
        (FirstAbove("token_accuracy", 0.9995), 30, False),
        (AtStep(40), 40, True),
        (AtStep(50), None, False),
    ],
)
def test_selection(rule, chosen, settled):
    assert rule.choose(RISING) == chosen
    assert rule.settled(RISING) == settled


def test_of_equal_evaluations_the_earlier_step_is_selected():
    assert Best("token_accuracy").choose({20: {"token_accuracy": 0.5}, 10: {"token_accuracy": 0.5}}) == 10


def test_nothing_evaluated_selects_nothing():
    assert Best("token_accuracy").choose({}) is None
    assert FirstAbove("token_accuracy", 0.9).choose({}) is None


# -------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (lambda: synthetic_tasks["st"], "unknown synthetic task 'st' (did you mean 'set'?)"),
        (lambda: downstream_tasks["code"], "unknown downstream task 'code'"),
        (lambda: Dataset(task="set"), "Dataset.task must be a SyntheticTask or TextCorpus, got 'set'"),
        (lambda: Pretrain(data=SET, model=T5_SMALL), "Pretrain.data must be a Dataset, got Set("),
        (
            lambda: Pretrain(data=Dataset(task=SET), model="t5-small"),
            "Pretrain.model must be a T5Config, got 't5-small'",
        ),
        (
            lambda: dataclasses.replace(pretrain(), learning_rate=0.01),
            "Pretrain.learning_rate must be a Constant or InverseSquareRoot, got 0.01",
        ),
        (lambda: FullInit("t5-small"), "FullInit.source must be a Pretrain or Pretrained or SourceAt, got 't5-small'"),
        (lambda: Finetune(task=MTOP_LIKE, init="random"), "Finetune.init must be a RandomInit or FullInit or"),
        (lambda: dataclasses.replace(MTOP_LIKE, selection="best"), "DownstreamTask.selection must be a Best or"),
        (lambda: Dataset(tsk=SET), "unknown field of Dataset 'tsk' (did you mean 'task'?)"),
        (lambda: Dataset(), "Dataset: missing a required argument: 'task'"),
        (lambda: Dataset(task=SET, num_examples=0), "Dataset.num_examples must be an integer of at least 1, got 0"),
        (
            lambda: Dataset(task=SET, num_examples=1e6),
            "Dataset.num_examples must be an integer of at least 1, got 1000000.0",
        ),
        (
            lambda: Dataset(task=SET, num_examples=10**9 + 1),
            "Dataset.num_examples must be at most 1000000000, 100000 shards of 10000 rows, got 1000000001",
        ),
        (
            lambda: Dataset(task=SET, num_validation=101, num_examples=1, shard_size=10**8),
            "Dataset.shard_size must be at most 10000000, got 100000000",
        ),
        (lambda: Dataset(task=SET, num_validation=0), "Dataset.num_validation must be an integer of at least 1, got 0"),
        (lambda: Dataset(task=SET, seed=-1), "Dataset.seed must be an integer of at least 0, got -1"),
        (
            lambda: dataclasses.replace(SET, min_length=30, max_length=20),
            "Set.min_length must not exceed max_length (20), got 30",
        ),
        (lambda: dataclasses.replace(SET, max_length=0), "Set.max_length must be an integer of at least 1, got 0"),
        (
            lambda: dataclasses.replace(MTOP_LIKE, learning_rate=0),
            "DownstreamTask.learning_rate must be a positive number, got 0",
        ),
        (
            lambda: dataclasses.replace(MTOP_LIKE, learning_rate=-1e-3),
            "DownstreamTask.learning_rate must be a positive number, got -0.001",
        ),
        (
            lambda: dataclasses.replace(MTOP_LIKE, learning_rate=float("nan")),
            "DownstreamTask.learning_rate must be a positive number, got nan",
        ),
        (lambda: dataclasses.replace(MTOP_LIKE, metrics=("blue",)), "unknown metric 'blue'"),
        (lambda: dataclasses.replace(MTOP_LIKE, selection=Best("loss")), "unknown selection metric 'loss'"),
        (
            lambda: dataclasses.replace(MTOP_LIKE, selection=AtStep(7)),
            "DownstreamTask.selection: AtStep must name a multiple",
        ),
        (
            lambda: dataclasses.replace(MTOP_LIKE, eval_every=10**9),
            "DownstreamTask.eval_every must be at most num_steps",
        ),
        (lambda: Constant(0), "Constant.learning_rate must be a positive number, got 0"),
        (lambda: FirstAbove("token_accuracy", 99), "FirstAbove.threshold must lie between 0 and 1, got 99"),
        (
            lambda: StatisticInit(pretrain(), group_by="layers", statistic="scale"),
            "unknown StatisticInit.group_by 'layers' (did you mean 'layer'?)",
        ),
        (lambda: StatisticInit(pretrain(), group_by="layer", statistic="sd"), "unknown StatisticInit.statistic 'sd'"),
        (lambda: ConstantInit(T5_SMALL, where="pre_attn", value=0.2), "unknown ConstantInit.where 'pre_attn'"),
        (
            lambda: ConstantInit(T5_SMALL, where="mlp", value=float("inf")),
            "ConstantInit.value must be a finite number, got inf",
        ),
        (
            lambda: statistics(onto="t5-base"),
            "StatisticInit.onto must be a T5Config, got 't5-base'",
        ),
        (
            lambda: statistics(onto=T5_V1_1_SMALL),
            "StatisticInit.onto must have as many mlp_activations as the source's model (1) if group_by is "
            "parameter, got 2",
        ),
        (
            lambda: ComposedInit(schemes=(FullInit(pretrain()),)),
            "ComposedInit.schemes must be a tuple of at least two schemes, got (FullInit(",
        ),
        (
            lambda: ComposedInit(schemes=(FullInit(pretrain()), RandomInit(T5_SMALL))),
            "ComposedInit.schemes must be FullInit, NoisedInit, StatisticInit or ConstantInit, got RandomInit(",
        ),
        (
            lambda: ComposedInit(schemes=(statistics(), layer_norms(T5_BASE))),
            "ComposedInit.schemes must have one model, got emb_dim 512 and 768, num_heads 8 and 12, ",
        ),
        (lambda: FullInit(pretrain(), embeddings="keep"), "unknown FullInit.embeddings 'keep'"),
        (lambda: T5Config(num_heads=0), "T5Config.num_heads must be an integer of at least 1, got 0"),
        (lambda: T5Config(mlp_activations=("silu",)), "unknown mlp_activations entry 'silu'"),
        (lambda: T5Config(dtype="float16"), "unknown T5Config.dtype 'float16'"),
        (
            lambda: pretrain(model=T5Config(vocab_size=1000)),
            "vocab_size must be above the task's largest id (32098), got 1000",
        ),
        (
            lambda: Finetune(task=MTOP_LIKE, init=RandomInit(T5Config(vocab_size=99))),
            "vocab_size must be at least that of the task's vocabulary (32100), got 99",
        ),
        (lambda: TokenSpace(first=5, last=5), "first must be at least 2 and below last (5), got 5"),
        (
            lambda: TokenSpace(last=70_000, separator=70_001, word_separator=70_002, empty=70_003),
            "token ids must lie between 0 and 65535, got 2..70003",
        ),
        (lambda: TokenSpace(digits=(3, 4)), "digits must be ten ids or none, got 2"),
        (lambda: TokenSpace(separator=100), "separator must lie outside the drawn ids 2..31999, got 100"),
    ],
)
def test_bad_input_is_one_line_that_names_field_value_and_what_is_allowed(build, line):
    with pytest.raises(InputError) as caught:
        build()
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_typo_in_a_script_without_a_sweep_is_one_line_too(tmp_path):
    file = tmp_path / "typo.py"
    file.write_text("import raysynth\n\nraysynth.synthetic_tasks['identty']\n")
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    line = f"{file}:3: error: unknown synthetic task 'identty' (did you mean 'identity'?)"
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_token_space_of_a_small_vocabulary():
    space = token_space(num_pieces=900)
    assert (space.first, space.last) == (2, 899)
    assert {space.separator, space.word_separator, space.empty} == {997, 998, 996}
    assert space.number(407) == (6, 2, 9)


def test_the_order_of_metrics_is_only_shown():
    task = downstream_tasks["mtop"]
    turned = dataclasses.replace(task, metrics=task.metrics[::-1])
    run, again = (Finetune(task=each, init=RandomInit(T5Config())) for each in (task, turned))
    assert list(turned.metrics) == list(task.metrics)[::-1]
    assert run == again
    assert hash(run) == hash(again)
    assert name(run) == name(again)
    assert describe(run) == describe(again)
    fewer = dataclasses.replace(task, metrics=task.metrics[:1])
    assert fewer != task
    assert name(Finetune(task=fewer, init=run.init)) != name(run)


@pytest.mark.parametrize("task", downstream_tasks.values(), ids=lambda task: task.name)
def test_tasks_of_the_catalog_list_their_metrics_in_the_order_of_descriptions(task):
    assert list(in_one_order(task.metrics)) == list(task.metrics)
