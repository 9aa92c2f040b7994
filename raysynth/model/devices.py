"""The devices of this host, and random keys by purpose."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from raysynth.data.layout import Block
from raysynth.errors import InputError
from raysynth.tokens.streams import Purpose, uint32

# -------------------------------------------------------------------------------- devices


def device() -> str:
    """What this host computes on, such as `8 TPU v3`."""
    return f"{jax.local_device_count()} {jax.local_devices()[0].device_kind}"


def backend() -> str:
    """What JAX says of the devices' driver and compiler, such as versions of CUDA, in one line."""
    return " ".join(jax.local_devices()[0].client.platform_version.split())


def mesh() -> Mesh:
    """All devices of this host on one axis, "data"."""
    return Mesh(np.array(jax.local_devices()), ("data",))


def replicated() -> NamedSharding:
    """The placement of arrays of which every device holds a copy."""
    return NamedSharding(mesh(), PartitionSpec())  # type: ignore[no-untyped-call]  # JAX does not annotate it


class DeviceBlock(NamedTuple):
    """A `Block` whose arrays are on the devices."""

    encoder_input_tokens: jax.Array
    """[rows, input_length] int32, 0 where padded."""
    decoder_target_tokens: jax.Array
    """[rows, target_length] int32, 0 where padded."""
    encoder_segment_ids: jax.Array | None = None
    """[rows, input_length] int32: 1, 2, ... for the examples in a row; None for one example a row."""
    decoder_segment_ids: jax.Array | None = None
    """[rows, target_length] int32, the same for the targets."""


def place(blocks: tuple[Block, ...]) -> tuple[DeviceBlock, ...]:
    """Divide the rows of each block among the host's devices; raises `InputError` if they do not divide evenly."""
    return _divided(blocks, axis=0)


def place_steps(batches: Sequence[tuple[Block, ...]], most: int = 1) -> tuple[DeviceBlock, ...]:
    """The blocks of at most `most` steps on the devices, of whose arrays [most, rows, length] those left are zeros.

    Rows are divided as by `place`, and the blocks of all steps must have the same shapes.
    """
    unused = jax.tree.map(np.zeros_like, batches[0])
    steps = [*batches, *[unused] * (most - len(batches))]
    return _divided(jax.tree.map(lambda *arrays: np.stack(arrays), *steps), axis=1)


def _divided(blocks: tuple[Block, ...], axis: int) -> tuple[DeviceBlock, ...]:
    devices = mesh()
    for block in blocks:
        num_rows = block.encoder_input_tokens.shape[axis]
        if num_rows % devices.size:
            raise InputError(f"batch_size must be a multiple of this host's {devices.size} devices, got {num_rows}")
    rows = NamedSharding(devices, PartitionSpec(*[None] * axis, "data"))  # type: ignore[no-untyped-call]  # JAX does not annotate it
    return tuple(DeviceBlock(*jax.device_put(tuple(block), rows)) for block in blocks)


def named_key(seed: int, purpose: Purpose) -> jax.Array:
    """The random key of a purpose; raises `InputError` for a seed that is not a whole number from 0 to 2**32 - 1."""
    return jax.random.fold_in(jax.random.key(uint32("seed", seed), impl="threefry2x32"), np.uint32(purpose))
