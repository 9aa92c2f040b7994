"""A pre-training that keeps steps: one artifact, from which fine-tunings start at any of them."""

import dataclasses
import json

import pytest

from raysynth import (
    AtStep,
    ComposedInit,
    Dataset,
    Finetune,
    FullInit,
    InputError,
    NoisedInit,
    Pretrain,
    SourceAt,
    StatisticInit,
    T5Config,
    downstream_tasks,
    synthetic_tasks,
)
from raysynth.fields import replaced
from raysynth.specs.distinctions import distinctions
from raysynth.specs.identity import describe, fingerprint, in_order, name
from raysynth.specs.models import described_model
from raysynth.specs.parameters import touched, touched_by
from raysynth.specs.tiny import tiny

MODEL = T5Config(num_encoder_layers=2, num_decoder_layers=2)
PLAIN = Pretrain(data=Dataset(task=synthetic_tasks["set"]), model=MODEL, num_steps=40_000, eval_every=5_000)
KEPT = dataclasses.replace(PLAIN, keep_steps=(5_000, 20_000))
TASK = downstream_tasks["python_ast"]


def tuned(source):
    return Finetune(task=TASK, init=FullInit(source))


def test_a_pretraining_without_kept_steps_is_the_artifact_that_it_was():
    assert "keep_steps" not in describe(PLAIN)
    assert fingerprint(dataclasses.replace(KEPT, keep_steps=())) == fingerprint(PLAIN)


def test_all_steps_of_a_pretraining_share_one_artifact():
    runs = [tuned(SourceAt(KEPT, step=5_000)), tuned(SourceAt(KEPT, step=20_000)), tuned(KEPT)]
    assert [one for one in in_order(runs) if isinstance(one, Pretrain)] == [KEPT]
    assert len({name(run) for run in runs}) == 3
    assert [name(run).split("/")[1].rpartition("-")[0] for run in runs] == [
        "python_ast.set_step_5000.full.lr0.01.seed0",
        "python_ast.set_step_20000.full.lr0.01.seed0",
        "python_ast.set.full.lr0.01.seed0",
    ]
    both = ComposedInit(schemes=(FullInit(SourceAt(KEPT, step=5_000), where="mlp"), FullInit(KEPT, where="attention")))
    assert Finetune(task=TASK, init=both).inputs() == (TASK.data, KEPT)


def test_the_order_of_kept_steps_says_nothing():
    assert dataclasses.replace(PLAIN, keep_steps=(20_000, 5_000)) == KEPT
    uneven = dataclasses.replace(PLAIN, num_steps=12_000, keep_steps=(12_000, 5_000))
    assert uneven.keep_steps == (5_000, 12_000), "the last step is evaluated too"


@pytest.mark.parametrize("steps", [(0,), (5_001,), (45_000,), (5_000, 5_000), (5_000.0,), (True,), [5_000], 5_000, "x"])
def test_only_evaluated_steps_can_be_kept(steps):
    with pytest.raises(InputError, match=r"Pretrain.keep_steps must be a tuple of different multiples of eval_every"):
        dataclasses.replace(PLAIN, keep_steps=steps)


@pytest.mark.parametrize("step", [10_000, 0, 5_000.0, "5000", None])
def test_a_source_is_at_a_kept_step(step):
    with pytest.raises(InputError, match=r"SourceAt.step must be one of the .* keep_steps \(5000, 20000\), got "):
        SourceAt(KEPT, step=step)
    with pytest.raises(InputError, match=r"keep_steps \(none\), got 5000"):
        SourceAt(PLAIN, step=5_000)
    with pytest.raises(InputError, match=r"SourceAt.pretrain must be a Pretrain, got"):
        SourceAt("set", step=5_000)


@pytest.mark.parametrize(
    "scheme",
    [
        FullInit(SourceAt(KEPT, step=5_000)),
        FullInit(SourceAt(KEPT, step=5_000), onto=dataclasses.replace(MODEL, emb_dim=64)),
        NoisedInit(SourceAt(KEPT, step=5_000), scale=0.5, where="mlp"),
        StatisticInit(SourceAt(KEPT, step=20_000), group_by="type", statistic="mean_sd"),
    ],
)
def test_every_scheme_takes_a_source_at_a_step(scheme):
    description = json.loads(json.dumps(describe(scheme)))
    assert touched_by(description) == (scheme.model, touched(scheme))
    assert described_model(description) == scheme.model
    rehearsal = tiny(Finetune(task=TASK, init=scheme)).init
    assert isinstance(rehearsal.source, SourceAt)
    assert rehearsal.source.step == 1 + KEPT.keep_steps.index(scheme.source.step)


def test_rehearsals_keep_as_many_steps():
    many = dataclasses.replace(PLAIN, eval_every=1_000, keep_steps=tuple(range(1_000, 13_000, 1_000)))
    runs = [tiny(tuned(SourceAt(many, step=step))) for step in many.keep_steps]
    assert len(set(runs)) == 12
    assert len({run.init.source.pretrain for run in runs}) == 1
    assert runs[0].init.source.pretrain.num_steps == 12


def test_fields_below_a_source_at_a_step_can_be_replaced():
    changes = {"init.source.pretrain.keep_steps": "10000,5000", "init.source.step": "10000"}
    run = replaced(tuned(SourceAt(KEPT, step=5_000)), changes)
    assert run.init.source == SourceAt(dataclasses.replace(KEPT, keep_steps=(5_000, 10_000)), step=10_000)


def test_amounts_of_data_are_told_and_steps_only_once():
    fewer = dataclasses.replace(KEPT, data=dataclasses.replace(KEPT.data, num_examples=5_000))
    runs = [tuned(SourceAt(source, step=5_000)) for source in (KEPT, fewer)]
    told = distinctions(in_order(runs))
    assert [told[run] for run in runs] == ["on 1,000,000 examples", "on 5,000 examples"]


def test_training_may_end_once_the_last_kept_step_is_there():
    recipe = dataclasses.replace(KEPT, selection=AtStep(5_000))
    evaluations = {5_000: {"token_accuracy": 1.0, "loss": 0.0}}
    assert [recipe.finished(step, evaluations) for step in (5_000, 15_000, 20_000)] == [False, False, True]
    assert dataclasses.replace(recipe, keep_steps=()).finished(5_000, evaluations)
    assert not recipe.finished(20_000, {})
