"""JAX in this process: whether it runs already, and on what."""

import jax
from jax._src import xla_bridge


def has_started() -> bool:
    """Whether JAX runs in this process, so that variables such as NPROC and XLA_FLAGS come too late."""
    return bool(xla_bridge.backends_are_initialized())


def uses_cpu() -> bool:
    """Whether JAX computes on a CPU."""
    return jax.default_backend() == "cpu"
