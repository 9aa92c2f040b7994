"""The settings of JAX under which raysynth computes, whatever the environment or a notebook has set."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import jax

from raysynth.environment import check_environment
from raysynth.errors import InputError

SETTINGS: dict[str, Any] = {
    # Numbers and random numbers.
    "jax_enable_x64": False,
    "jax_explicit_x64_dtypes": "warn",
    "jax_default_matmul_precision": None,
    "jax_softmax_custom_jvp": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_threefry_gpu_kernel_lowering": False,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    "jax_legacy_prng_key": "allow",
    "jax_enable_custom_prng": False,
    # How programs are traced and compiled.
    "jax_disable_jit": False,
    "jax_disable_most_optimizations": False,
    "jax_optimization_level": "UNKNOWN",
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_level": "O2",
    "jax_memory_fitting_effort": 0.0,
    "jax_compiler_enable_remat_pass": True,
    "jax_use_direct_linearize": True,
    "jax_use_shardy_partitioner": True,
    "jax_use_simplified_jaxpr_constants": False,
    "jax_embedded_constants_max_bytes": 32,
    "jax_custom_jvp3": False,
    "jax_custom_vjp3": False,
    "jax_remat3": False,
    "jax_remat_barrier_no_cotangents": False,
    "jax_scan3": False,
    "jax_refs_to_pins": False,
    "jax_use_hlo_logistic_lowering": None,
    "jax_use_rgv3": True,
    "jax_enable_pgle": False,
    "jax_compilation_cache_expect_pgle": False,
    "jax_xla_profile_version": 0,
    "eager_constant_folding": False,
    # What would end a training that should go on, or that ends with "diverged".
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_debug_key_reuse": False,
    "jax_error_checking_behavior_nan": "ignore",
    "jax_error_checking_behavior_divide": "ignore",
    "jax_error_checking_behavior_oob": "ignore",
    "jax_check_tracer_leaks": False,
    "jax_no_tracing": False,
    "jax_no_execution": False,
    "jax_allow_f16_reductions": True,
    "jax_transfer_guard_host_to_device": "allow",
    "jax_transfer_guard_device_to_device": "allow",
    "jax_transfer_guard_device_to_host": "allow",
    "jax_array_garbage_collection_guard": "allow",
    # Where arrays are.
    "jax_default_device": None,
}
"""The values that raysynth needs: JAX's defaults. Those that this version of JAX does not have are skipped."""


@contextmanager
def settings() -> Iterator[None]:
    """Compute under `SETTINGS`, then put back what was set before; also a decorator.

    Raises `InputError` if an environment variable would change results, or if one of JAX's context managers, which
    nothing can override from within, holds another value.
    """
    check_environment(os.environ)
    changed = _others()
    try:
        for name in changed:
            _set(name, SETTINGS[name])
        for name, value in _others().items():
            del changed[name]  # what to put back is hidden by the context manager
            raise InputError(f"{name} must be {SETTINGS[name]!r}, but a context manager of JAX set it to {value!r}")
        yield
    finally:
        for name, value in changed.items():
            _set(name, value)


def _set(name: str, value: Any) -> None:
    jax.config.update(name, value)  # type: ignore[no-untyped-call]  # JAX does not annotate it


def _others() -> dict[str, Any]:
    """The settings that have another value in this thread than they should."""
    current = jax.config.values
    return {name: current[name] for name in SETTINGS if name in current and _plain(current[name]) != SETTINGS[name]}


def _plain(value: Any) -> Any:
    if not isinstance(value, Enum):
        return value
    return value.value if isinstance(value.value, str) else value.name.lower()
