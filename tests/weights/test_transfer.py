"""Weights into a store and out of it: the model of an artifact is read from its description."""

from raysynth import (
    T5_BASE,
    T5_SMALL,
    ComposedInit,
    ConstantInit,
    Dataset,
    Finetune,
    FullInit,
    Pretrain,
    RandomInit,
    StatisticInit,
    downstream_tasks,
    synthetic_tasks,
)
from raysynth.specs.identity import describe
from raysynth.specs.models import described_model


def test_the_model_of_a_described_fine_tuning_is_the_one_that_was_trained():
    source = Pretrain(data=Dataset(task=synthetic_tasks["set"]), model=T5_SMALL)
    across = StatisticInit(source, group_by="type", statistic="scale", onto=T5_BASE)
    norms = ConstantInit(T5_BASE, where="pre_attention_layer_norm", value=0.2)
    for init in (RandomInit(T5_BASE), FullInit(source), across, ComposedInit(schemes=(across, norms))):
        run = Finetune(task=downstream_tasks["code_translation"], init=init)
        assert described_model(describe(run)) == run.model
