"""JAX in this process: whether it runs already, and where it keeps compiled programs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax._src import xla_bridge
from jax.experimental.compilation_cache import compilation_cache


def has_started() -> bool:
    """Whether JAX runs in this process, so that variables such as NPROC and XLA_FLAGS come too late."""
    return bool(xla_bridge.backends_are_initialized())


def uses_cpu() -> bool:
    """Whether JAX computes on a CPU."""
    return jax.default_backend() == "cpu"


@contextmanager
def compiled_programs_in(directory: Path) -> Iterator[None]:
    """Keep every compiled program in a directory for later processes, then put back what was set before."""
    wanted = {
        "jax_compilation_cache_dir": str(directory),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in wanted}
    _configure(wanted)
    try:
        yield
    finally:
        _configure(before)


def _configure(values: dict[str, object]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]  # JAX does not annotate it
    compilation_cache.reset_cache()  # JAX opens its directory once
