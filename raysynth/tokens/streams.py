"""Random streams by name: every use of randomness has a purpose, and no two purposes share a stream.

NumPy pads seeds with zeros, so `default_rng([5])`, `default_rng([5, 0])` and `default_rng([5, 0, 0])` are one stream.
The spawn keys used here are not padded away.
"""

import operator
from enum import IntEnum, unique
from typing import SupportsIndex

import numpy as np

from raysynth.errors import InputError


@unique
class Purpose(IntEnum):
    """What random numbers are for; each member is used in exactly one place. Changing a number changes results."""

    SHARD = 1
    """The examples of a synthetic data set's shard; place: the shard."""
    CORPUS_DOCUMENTS = 2
    """Which documents of a corpus are taken, and which of them are for validation."""
    CORPUS_ORDER = 3
    """The order in which a corpus's documents are joined; places: split, epoch."""
    CORPUS_NOISE = 4
    """The spans that are corrupted in a shard of a corpus; places: split, shard."""
    HELD_OUT_PAIRS = 5
    """Which training pairs of a downstream data set are its validation split."""
    PAIR_SUBSET = 6
    """The order of a split's pairs, whose first n are the subset of n; place: the split."""
    SHOWN_EXAMPLES = 7
    """The examples of a synthetic task that are printed."""
    SHOWN_PAIRS = 8
    """Which pairs of a downstream data set are printed."""
    COMPILATION = 9
    """An example that is drawn only to compile the task's functions."""
    PRETRAIN_ORDER = 10
    """The order of examples in a pre-training; places: those of `Order`."""
    FINETUNE_ORDER = 11
    """The order of examples in a fine-tuning; places: those of `Order`."""
    PRETRAIN_INIT = 12
    """The initial parameters of a pre-training."""
    FINETUNE_INIT = 13
    """The random initial parameters of a fine-tuning, which the init scheme replaces in part."""
    SCHEME = 14
    """The draws of an init scheme."""
    PRETRAIN_DROPOUT = 15
    """Dropout in a pre-training."""
    FINETUNE_DROPOUT = 16
    """Dropout in a fine-tuning."""
    TIMED_BATCH = 17
    """The batch of a step that is timed."""
    TIMED_INIT = 18
    """The parameters of a step that is timed."""
    TIMED_DROPOUT = 19
    """Dropout in a step that is timed."""
    LAYOUT = 20
    """The batches that the shape of a packed block is fitted to."""
    LENGTHS = 21
    """Examples that show the lengths of a data set that is not made yet."""
    BOOTSTRAP = 30
    """The seeds that are drawn again for a bootstrap interval."""
    SHUFFLED_ENTRIES = 31
    """The order of a parameter's entries in an init scheme; the seed is drawn from the scheme's key and the path."""


def stream(purpose: Purpose, seed: int, *places: int) -> np.random.Generator:
    """The random stream of a purpose and a seed, at some places such as an epoch or a shard.

    Streams differ if their purpose, seed, places or number of places do. Raises `InputError` for a seed or a place that
    is not a whole number from 0 to 2**32 - 1.
    """
    key = (purpose, *(uint32("place", place) for place in places))
    return np.random.default_rng(np.random.SeedSequence(uint32("seed", seed), spawn_key=key))


def uint32(what: str, value: SupportsIndex) -> int:
    """A whole number from 0 to 2**32 - 1 of any integer type, as Python's; raises `InputError` for anything else.

    NumPy would take larger numbers for several, and JAX would drop their upper bits.
    """
    try:
        number = -1 if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < 2**32:
        raise InputError(f"a {what} must be a whole number from 0 to {2**32 - 1}, got {value!r:.80}")
    return number
