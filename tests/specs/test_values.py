"""Any value in any field of a description is either refused in one line or has a stable identity of its own."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth import (
    T5_SMALL,
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
    Mixture,
    Pretrain,
    RandomInit,
    StatisticInit,
    T5Config,
    TokenSpace,
    downstream_tasks,
    pretrained,
    synthetic_tasks,
)
from raysynth.specs.datasets import TrainedVocabulary
from raysynth.specs.identity import describe, fingerprint, name
from raysynth.specs.recipes import InverseSquareRoot
from raysynth.store.store import differences
from raysynth.tokens.span_corruption import SpanCorruption

TASK = downstream_tasks["python_ast"]
MODEL = T5Config(vocab_size=512, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1)
PRETRAIN = Pretrain(data=Dataset(task=synthetic_tasks["set"]), model=T5_SMALL)
LAYER_NORMS = ConstantInit(T5_SMALL, where="mlp", value=0.1)
DESCRIPTIONS = [
    *(
        MODEL,
        PRETRAIN,
        PRETRAIN.data,
        TASK,
        TASK.data,
        TrainedVocabulary(num_pieces=99),
        SpanCorruption(),
        TokenSpace(),
    ),
    *(Constant(0.1), InverseSquareRoot(), Best("token_accuracy"), FirstAbove("token_accuracy", 0.9), AtStep(5)),
    *(RandomInit(MODEL), FullInit(PRETRAIN), StatisticInit(PRETRAIN, group_by="layer", statistic="scale"), LAYER_NORMS),
    *(ComposedInit(schemes=(FullInit(PRETRAIN), LAYER_NORMS)), Finetune(task=TASK, init=RandomInit(MODEL))),
    *(pretrained("t5-small"), *synthetic_tasks.values()),
    Mixture(tasks=(synthetic_tasks["set"], synthetic_tasks["identity"])),
]
FIELDS = [(each, field.name) for each in DESCRIPTIONS for field in dataclasses.fields(each) if field.init]

NUMBERS = st.integers() | st.integers(-2, 4) | st.floats() | st.sampled_from([2**31, 2**32, 2**63, 10**400])
ODD = [np.int64(3), np.float64(0.5), np.array([1, 2]), int, T5Config, MODEL, PRETRAIN, 1j, object(), set()]
PLAIN = st.none() | st.booleans() | NUMBERS | st.text(max_size=20) | st.binary(max_size=5) | st.sampled_from(ODD)
VALUES = st.recursive(
    PLAIN,
    lambda values: st.tuples(values) | st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values),
    max_leaves=3,
)


def described(description, field, value):
    """The description with a value in a field, and its JSON form."""
    changed = dataclasses.replace(description, **{field: value})
    if hasattr(changed, "kind"):
        name(changed)
    return changed, describe(changed)


def assert_refused_or_described(description, field, value):
    try:
        changed, json = described(description, field, value)
    except InputError as error:
        line = str(error)
    else:
        line = ""
        assert hash(changed) == hash(dataclasses.replace(description, **{field: value}))
        assert (json == describe(description)) == (changed == description)
    assert line.isprintable()
    assert len(line) < 3_000


@pytest.mark.parametrize(
    "value",
    [None, True, -1, 2**31, 2**32, float("nan"), 10**5000, "", (), [], np.int64(3), T5Config],
    ids=lambda value: type(value).__name__,
)
def test_a_wrong_value_in_any_field_is_one_line(value):
    for description, field in FIELDS:
        assert_refused_or_described(description, field, value)


@given(st.sampled_from(FIELDS), VALUES)
@settings(max_examples=400, deadline=None)
def test_any_value_in_any_field_is_refused_in_one_line_or_part_of_the_identity(place, value):
    assert_refused_or_described(*place, value)


SEEDS = st.integers(0, 2**32 - 1)
RUNS = st.builds(
    lambda seed, value, where, steps: Finetune(
        task=dataclasses.replace(TASK, num_steps=steps, eval_every=1),
        init=ConstantInit(MODEL, where=where, value=value),
        seed=seed,
    ),
    seed=st.integers(0, 3) | SEEDS,
    value=st.sampled_from([0, 0.0, -0.0, 1, 1.0, 0.1]) | st.floats(allow_nan=False, allow_infinity=False),
    where=st.sampled_from(["mlp", "attention", "all"]),
    steps=st.integers(1, 3),
)


@given(RUNS, RUNS)
@settings(deadline=None)
def test_descriptions_are_equal_just_when_the_artifacts_are(one, other):
    assert (describe(one) == describe(other)) == (one == other)
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
    assert (differences(describe(one), describe(other)) == []) == (one == other)


@given(st.permutations([field.name for field in dataclasses.fields(TASK)]))
def test_the_order_of_fields_does_not_matter(order):
    again = type(TASK)(**{field: getattr(TASK, field) for field in order})
    assert fingerprint(Finetune(task=again, init=RandomInit(MODEL))) == fingerprint(
        Finetune(task=TASK, init=RandomInit(MODEL))
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda values: st.dictionaries(st.text(max_size=2), values, max_size=3),
)


@given(st.dictionaries(st.text(max_size=2), JSON, max_size=3), st.dictionaries(st.text(max_size=2), JSON, max_size=3))
def test_differences_are_none_just_between_equals(one, other):
    assert (differences(one, other) == []) == (one == other)


@pytest.mark.parametrize("seed", [2**32, 2**63, 10**30])
def test_seeds_beyond_32_bits_are_refused(seed):
    for build in (
        lambda: Finetune(task=TASK, init=RandomInit(MODEL), seed=seed),
        lambda: dataclasses.replace(PRETRAIN, seed=seed),
        lambda: dataclasses.replace(PRETRAIN.data, seed=seed),
        lambda: dataclasses.replace(TASK.data, seed=seed),
    ):
        with pytest.raises(InputError, match=r"\.seed must be an integer of at most 4294967295, got "):
            build()


def test_a_name_too_long_for_a_file_is_one_line():
    long = dataclasses.replace(TASK, name="x" * 80)
    sources = [pretrained(f"{index}{'y' * 59}", MODEL) for index in range(3)]
    run = Finetune(task=long, init=ComposedInit(schemes=tuple(map(FullInit, sources))))
    with pytest.raises(InputError, match="its name in a store must have at most 180 characters"):
        name(run)
