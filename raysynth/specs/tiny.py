"""Tiny versions of fine-tunings, for rehearsals and tests."""

import dataclasses

from raysynth.downstream.rows import Split
from raysynth.specs.datasets import TrainedVocabulary
from raysynth.specs.finetuning import Finetune
from raysynth.specs.init_schemes import (
    ComposedInit,
    ConstantInit,
    FullInit,
    InitScheme,
    NoisedInit,
    RandomInit,
    StatisticInit,
)
from raysynth.specs.models import T5Config
from raysynth.specs.pretraining import Pretrain, Pretrained, Source, SourceAt
from raysynth.specs.recipes import AtStep, Best


def tiny(artifact: Finetune) -> Finetune:
    """The same fine-tuning with a tiny model, few steps and little data; it runs in seconds.

    A model that starts from a `Pretrained` keeps its size, because there are no weights for a smaller one.
    """
    task = artifact.task
    vocabulary = task.data.vocabulary
    data = dataclasses.replace(
        task.data,
        num_train=256 if isinstance(vocabulary, TrainedVocabulary) else 64,
        num_validation=32,
        num_test=32 if task.data.scored is Split.TEST else None,
        vocabulary=dataclasses.replace(vocabulary, num_pieces=min(vocabulary.num_pieces, 192))
        if isinstance(vocabulary, TrainedVocabulary)
        else vocabulary,
    )
    task = dataclasses.replace(
        task,
        data=data,
        batch_size=8,
        input_length=24,
        target_length=24,
        decode_length=24,
        num_beams=1,
        num_steps=_NUM_STEPS,
        eval_every=_NUM_STEPS // 2,
        selection=AtStep(_NUM_STEPS) if isinstance(task.selection, AtStep) else task.selection,
    )
    return Finetune(task=task, init=_tiny_init(artifact.init), seed=artifact.seed)


_NUM_STEPS = 8


def _tiny_init(init: InitScheme) -> InitScheme:
    schemes = init.schemes if isinstance(init, ComposedInit) else (init,)
    if any(isinstance(source, Pretrained) for source in init.sources):
        model = init.model
    elif any(isinstance(scheme, FullInit | StatisticInit) and scheme.onto is not None for scheme in schemes):
        model = dataclasses.replace(_tiny_model(init.model), num_encoder_layers=2, num_decoder_layers=2)
    else:
        model = _tiny_model(init.model)
    if isinstance(init, ComposedInit):
        return ComposedInit(schemes=tuple(_tiny_scheme(scheme, model) for scheme in init.schemes))
    return dataclasses.replace(init, model=model) if isinstance(init, RandomInit) else _tiny_scheme(init, model)


def _tiny_scheme(
    scheme: FullInit | NoisedInit | StatisticInit | ConstantInit, model: T5Config
) -> FullInit | NoisedInit | StatisticInit | ConstantInit:
    """The scheme for `model`, with a tiny source unless that is a `Pretrained`."""
    match scheme:
        case ConstantInit():
            return dataclasses.replace(scheme, model=model)
        case StatisticInit() if scheme.onto is not None:
            source = _tiny_source(scheme.source, _tiny_model(scheme.source.model))
            return dataclasses.replace(scheme, source=source, onto=model)
        case FullInit() if scheme.onto is not None:
            shape = scheme.source.model if model == scheme.onto else _larger(model)
            return dataclasses.replace(scheme, source=_tiny_source(scheme.source, shape), onto=model)
        case _:
            return dataclasses.replace(scheme, source=_tiny_source(scheme.source, model))


def _tiny_source(source: Source, model: T5Config) -> Source:
    if isinstance(source, Pretrained):
        return source
    if isinstance(source, SourceAt):
        step = 1 + source.pretrain.keep_steps.index(source.step)
        return SourceAt(_tiny_pretrain(source.pretrain, model), step=step)
    return _tiny_pretrain(source, model)


def _tiny_pretrain(source: Pretrain, model: T5Config) -> Pretrain:
    """The pre-training with few steps; the first of them stand for the steps to keep."""
    data = dataclasses.replace(
        source.data, task=source.data.task.tiny(), num_examples=512, num_validation=64, shard_size=256
    )
    return dataclasses.replace(
        source,
        data=data,
        model=model,
        batch_size=8,
        input_length=24,
        target_length=24,
        num_eval_examples=64,
        num_steps=max(_NUM_STEPS, len(source.keep_steps)),
        eval_every=1 if source.keep_steps else _NUM_STEPS // 2,
        keep_steps=tuple(range(1, 1 + len(source.keep_steps))),
        selection=Best("token_accuracy"),
    )


def _larger(model: T5Config) -> T5Config:
    """A model from which `model` is selected, with unequal ratios of sizes."""
    return dataclasses.replace(model, emb_dim=24, num_heads=3, num_encoder_layers=3, num_decoder_layers=3, mlp_dim=64)


def _tiny_model(model: T5Config) -> T5Config:
    return dataclasses.replace(
        model, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1, mlp_dim=32
    )
