"""The devices of this host, and random keys by purpose."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from raysynth.data.layout import Block
from raysynth.errors import InputError
from raysynth.tokens.streams import Purpose

# -------------------------------------------------------------------------------- devices


def device() -> str:
    """What this host computes on, such as `8 TPU v3`."""
    return f"{jax.local_device_count()} {jax.local_devices()[0].device_kind}"


def mesh() -> Mesh:
    """All devices of this host on one axis, "data"."""
    return Mesh(np.array(jax.local_devices()), ("data",))


def replicated() -> NamedSharding:
    return NamedSharding(mesh(), PartitionSpec())


def place(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """Share the rows of each block out to the host's devices; raises `InputError` where they do not divide."""
    devices = mesh()
    for block in blocks:
        if len(block.encoder_input_tokens) % devices.size:
            raise InputError(
                f"batch_size must be a multiple of this host's {devices.size} devices, "
                f"got {len(block.encoder_input_tokens)}"
            )
    return jax.device_put(blocks, NamedSharding(devices, PartitionSpec("data")))


def named_key(seed: int, purpose: Purpose) -> jax.Array:
    """The random key of a purpose."""
    return jax.random.fold_in(jax.random.key(seed), np.uint32(purpose))
