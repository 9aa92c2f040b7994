"""The bits of results belong to the description: no setting of JAX, NumPy or the process changes them."""

import dataclasses
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from raysynth.environment import check_environment, cpus_per_trial, trial_variables
from raysynth.errors import InputError
from raysynth.model.devices import named_key
from raysynth.model.settings import SETTINGS, settings
from raysynth.model.train import pretrain
from raysynth.observer import Silent
from raysynth.tokens.streams import Purpose
from tests.bits import CLEAN, ROOT, trained
from tests.model.tiny import PRETRAIN

HOSTILE = {
    "jax_enable_x64": True,
    "jax_explicit_x64_dtypes": "allow",
    "jax_default_matmul_precision": "bfloat16",
    "jax_softmax_custom_jvp": True,
    "jax_default_prng_impl": "unsafe_rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 3,
    "jax_high_dynamic_range_gumbel": True,
    "jax_legacy_prng_key": "error",
    "jax_enable_custom_prng": True,
    "jax_disable_jit": True,
    "jax_disable_most_optimizations": True,
    "jax_optimization_level": "O0",
    "jax_exec_time_optimization_effort": -1.0,
    "jax_memory_fitting_level": "O0",
    "jax_memory_fitting_effort": -1.0,
    "jax_compiler_enable_remat_pass": False,
    "jax_use_direct_linearize": False,
    "jax_use_shardy_partitioner": False,
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_debug_key_reuse": True,
    "jax_error_checking_behavior_nan": "raise",
    "jax_check_tracer_leaks": True,
    "jax_no_tracing": True,
    "jax_no_execution": True,
    "jax_allow_f16_reductions": False,
    "jax_transfer_guard_host_to_device": "disallow_explicit",
    "jax_transfer_guard_device_to_host": "disallow_explicit",
    "jax_transfer_guard_device_to_device": "disallow_explicit",
}
HOSTILE = {name: value for name, value in HOSTILE.items() if name in jax.config.values}
"""Settings of this version of JAX of which each would change results, or end a training."""

STRICT = {"jax_numpy_dtype_promotion": "strict", "jax_numpy_rank_promotion": "raise"}
"""Settings under which JAX refuses what it would compute otherwise; the tests run with them."""

IRRELEVANT = {
    *("jax_captured_constants_report_frames", "jax_captured_constants_warn_bytes", "jax_check_proxy_envs"),
    *("jax_compilation_cache_check_contents", "jax_compilation_cache_dir", "jax_compilation_cache_max_size"),
    *("jax_compilation_cache_include_metadata_in_key", "jax_enable_compilation_cache", "jax_explain_cache_misses"),
    *("jax_persistent_cache_enable_xla_caches", "jax_persistent_cache_min_compile_time_secs"),
    *("jax_persistent_cache_min_entry_size_bytes", "jax_raise_persistent_cache_errors"),
    *("jax_remove_custom_partitioning_ptr_from_cache_key", "jax_hlo_source_file_canonicalization_regex"),
    *("jax_compiler_detailed_logging_min_ops", "jax_log_checkpoint_residuals", "jax_log_compiles"),
    *("jax_logging_level", "jax_debug_log_modules", "jax_dump_ir_modes", "jax_dump_ir_to", "jax_pprint_use_color"),
    *("jax_include_debug_info_in_dumps", "jax_include_full_tracebacks_in_locations", "jax_source_url_schema"),
    *("jax_send_traceback_to_runtime", "jax_traceback_filtering", "jax_traceback_in_locations_limit"),
    *("jax_tracer_error_num_traceback_frames", "jax_enable_checks", "jax_check_static_indices", "check_vma"),
    *("jax_debug_leaked_clients_on_clear_backends", "jax_disable_bwd_checks", "jax_disable_vmap_shmap_error"),
    *("jax_disallow_mesh_context_manager", "jax_mutable_array_checks", "jax_auto_pcast", "jax_thread_guard"),
    *("jax_remove_size_one_mesh_axis_from_type", "jax_experimental_unsafe_xla_runtime_errors"),
    *("jax_cpu_enable_async_dispatch", "jax_pgle_aggregation_percentile", "jax_pgle_profiling_runs"),
    *("jax_use_cpp_shard_args", "jax_raise_on_ppermute_sort_diff"),
}
"""Logs, caches and checks."""

NOT_USED = {
    *("jax2tf_associative_scan_reductions", "jax2tf_default_native_serialization", "jax_serialization_version"),
    *("jax_export_calling_convention_version", "jax_export_ignore_forward_compatibility", "jax_use_magma"),
    *("jax_bcoo_cusparse_lowering", "jax_mosaic_allow_hlo", "jax_pallas_enable_debug_checks"),
    *("jax_pallas_poison_buffers", "jax_pallas_use_mosaic_gpu", "jax_pallas_verbose_errors"),
    *("jax_ragged_dot_use_gpu_pallas_triton_lowering", "jax_ragged_dot_use_ragged_dot_instruction"),
    *("jax_use_emit_pipeline_primitive", "jax_cpu_collectives_implementation", "jax_distributed_debug"),
    *("jax_cpu_get_global_topology_timeout_minutes", "jax_cpu_get_local_topology_timeout_minutes"),
    *("jax_cross_host_transfer_socket_address", "jax_cross_host_transfer_timeout_seconds"),
    *("jax_cross_host_transfer_transfer_size", "jax_cross_host_transport_addresses"),
    *("jax_enable_preemption_service", "jax_enable_recoverability", "jax_force_dcn_cross_host_transfers"),
    *("jax_share_binary_between_hosts", "jax_share_binary_between_hosts_timeout_ms", "jax_transfer_guard"),
    *("jax_sort_devices_by_process_index", "jax_distributed_verify_secure_credentials", "jax_mtls_ca_file"),
    *("jax_mtls_cert_file", "jax_mtls_key_file", "jax_mtls_peer_uri_prefix", "jax_export_deserialize_expired_versions"),
    *("jax_pallas_auto_assign_collective_ids", "jax_pallas_auto_assign_collective_ids_limit"),
}
"""Of parts of JAX that this package does not use, such as several processes, Pallas and export."""

RECORDED = {
    *("jax_platforms", "jax_platform_name", "jax_xla_backend", "jax_backend_target", "jax_num_cpu_devices"),
    *("jax_cuda_visible_devices", "jax_rocm_visible_devices", "jax_oneapi_visible_devices"),
    *("jax_mock_gpu_topology", "mock_num_gpu_processes", "jax_pjrt_client_create_options"),
}
"""They choose the devices, which each record has."""


@pytest.mark.skipif(jax.__version__ not in ("0.10.2", "0.11.2"), reason="the lists are those of other versions of JAX")
def test_every_setting_of_jax_has_been_thought_of():
    decided = [*SETTINGS, *STRICT, *IRRELEVANT, *NOT_USED, *RECORDED]
    assert len(decided) == len(set(decided))
    assert set(jax.config.values) <= set(decided)


@pytest.fixture(scope="module")
def digests(synthetic):
    """What this process computes without any setting of a user's, but with eight devices."""
    return trained(synthetic)


def configure(name, value):
    """Change a setting as a sweep file or a notebook does; returns the value before."""
    before = jax.config.values[name]
    jax.config.update(name, value)
    return before


def test_settings_that_a_notebook_changed_leave_the_bits_alone_and_come_back(synthetic, digests):
    before = {name: configure(name, value) for name, value in HOSTILE.items()}
    changed = dict(jax.config.values)
    try:
        assert trained(synthetic) == digests
        assert dict(jax.config.values) == changed
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.mark.long
@pytest.mark.parametrize("setting", HOSTILE)
def test_each_setting_that_a_notebook_changed_leaves_the_bits_alone(setting, synthetic, digests):
    before = configure(setting, HOSTILE[setting])
    try:
        assert trained(synthetic) == digests
    finally:
        jax.config.update(setting, before)


def test_a_context_manager_of_jax_that_changes_results_is_refused_in_one_line(synthetic):
    before = dict(jax.config.values)
    with jax.enable_x64(True):
        within = dict(jax.config.values)
        with pytest.raises(InputError, match=r"^jax_enable_x64 must be False, but a context .* set it to True$"):
            trained(synthetic)
        assert dict(jax.config.values) == within
    assert dict(jax.config.values) == before


@settings()
def fails():
    assert jax.config.values["jax_random_seed_offset"] == 0
    raise ZeroDivisionError


def test_settings_come_back_after_an_error():
    before = configure("jax_random_seed_offset", 3)
    try:
        with pytest.raises(ZeroDivisionError):
            fails()
        assert jax.config.values["jax_random_seed_offset"] == 3
    finally:
        jax.config.update("jax_random_seed_offset", before)


# -------------------------------------------------------------------------------- environments


def computed(data, *, options=(), cwd=ROOT, **variables):
    """What a process with these variables prints as its digests."""
    done = subprocess.run(
        [sys.executable, *options, str(ROOT / "tests" / "bits.py"), str(data)],
        cwd=cwd,
        env=CLEAN | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def clean(synthetic):
    """The digests of a process without any setting of a user's."""
    return computed(synthetic)


def as_text(value):
    return value if isinstance(value, str) else str(value).lower()


VARIABLES = {name.upper(): as_text(value) for name, value in (HOSTILE | STRICT).items()}
"""JAX's settings as environment variables."""


@pytest.mark.long
def test_variables_of_jax_leave_the_bits_alone(synthetic, clean):
    assert computed(synthetic, **VARIABLES) == clean


SURROUNDINGS = {
    "hash seed": {"PYTHONHASHSEED": "123"},
    "-O": {"PYTHONOPTIMIZE": "2"},
    "time zone": {"TZ": "Pacific/Kiritimati"},
    "locale": {"LC_ALL": "tr_TR.ISO8859-9", "LANG": "de_DE.UTF-8", "PYTHONUTF8": "0"},
    "OpenMP": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
    "NumPy": {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX2 FMA3"},
    "C library": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F"},
    "TensorFlow": {"TF_XLA_FLAGS": "--tf_xla_auto_jit=2"},
}
"""What else a user's shell may hold."""


@pytest.mark.long
def test_the_surroundings_of_a_process_leave_the_bits_alone(synthetic, clean, tmp_path):
    together = {name: value for variables in SURROUNDINGS.values() for name, value in variables.items()}
    assert computed(synthetic, cwd=tmp_path, **together) == clean


@pytest.mark.long
@pytest.mark.parametrize(
    "surroundings",
    [*(pytest.param(each, marks=pytest.mark.endurance) for each in SURROUNDINGS.values()), {"NUMBA_DISABLE_JIT": "1"}],
    ids=str,
)
def test_each_of_the_surroundings_leaves_the_bits_alone(surroundings, synthetic, clean):
    assert computed(synthetic, **surroundings) == clean


@pytest.mark.parametrize(
    "variables",
    [
        {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"},
        {"XLA_FLAGS": "--xla_dump_to=/tmp/x --xla_cpu_max_isa=AVX2"},
        {"XLA_FLAGS": "--xla_no_such_flag=true"},
        {"XLA_FLAGS": "--xla_gpu_deterministic_ops=false"},
        {"XLA_FLAGS": "--noxla_gpu_deterministic_ops"},
        {"XLA_FLAGS": "'--xla_cpu_use_xnnpack=false'"},
        {"XLA_FLAGS": "flags.txt"},
        {"XLA_FLAGS": "'--xla_cpu_max_isa=AVX2"},
        {"NVIDIA_TF32_OVERRIDE": "1"},
        {"NVIDIA_TF32_OVERRIDE": "0"},
        {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"},
        {"NPROC": "0"},
        {"NPROC": "two"},
        {"NPROC": ""},
        {"NPROC": "-1"},
        {"NPROC": "²"},
        {"PJRT_NPROC": "1.5"},
    ],
    ids=str,
)
def test_variables_that_change_results_are_refused_in_one_line(variables):
    for function in (check_environment, trial_variables):
        with pytest.raises(InputError) as error:
            function(variables)
        assert next(iter(variables)) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("verb", [["run"], ["plan", "--measure"]], ids=str)
def test_a_sweep_refuses_them_before_anything_is_written(verb, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XLA_FLAGS", "--xla_no_such_flag=true")
    sweep = runpy.run_path(str(ROOT / "sweeps" / "quickstart.py"))["sweep"]
    with pytest.raises(SystemExit, match="2"):
        sweep.main([*verb, "--tiny", "--store", str(tmp_path / "new")])
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_training_in_a_notebook_refuses_them_too(synthetic, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    with pytest.raises(InputError, match=r"^XLA_FLAGS .* got '--xla_cpu_enable_fast_math=true'$"):
        trained(synthetic)


def test_a_trial_has_one_thread_unless_the_user_says_otherwise():
    assert trial_variables({}) == {
        "NPROC": "1",
        "PJRT_NPROC": "1",
        "XLA_FLAGS": "--xla_gpu_deterministic_ops=true",
    }
    assert trial_variables({"NPROC": "3", "XLA_FLAGS": "--xla_dump_to=x"}) == {
        "NPROC": "3",
        "PJRT_NPROC": "3",
        "XLA_FLAGS": "--xla_dump_to=x --xla_gpu_deterministic_ops=true",
    }
    assert trial_variables({}, 4) == trial_variables({"NPROC": "4"})


@pytest.mark.parametrize(
    ("option", "variables", "num_cpus"),
    [
        (None, {}, 1),
        (None, {"NPROC": "4"}, 4),
        (None, {"NPROC": "4", "PJRT_NPROC": "2"}, 2),
        (3, {}, 3),
        (3, {"NPROC": "3"}, 3),
    ],
)
def test_a_trial_reserves_as_many_cpus_as_it_has_threads(option, variables, num_cpus):
    assert cpus_per_trial(option, variables) == num_cpus


def test_an_option_and_a_variable_that_contradict_each_other_are_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NPROC", "1")
    sweep = runpy.run_path(str(ROOT / "sweeps" / "quickstart.py"))["sweep"]
    for verb in (["run"], ["plan", "--measure"]):
        with pytest.raises(SystemExit, match="2"):
            sweep.main([*verb, "--tiny", "--store", str(tmp_path / "new"), "--cpus-per-trial", "2"])
        assert capsys.readouterr().err == "error: --cpus-per-trial is 2, but NPROC is 1; unset NPROC\n"
    assert not (tmp_path / "new").exists()


# -------------------------------------------------------------------------------- seeds, order


@pytest.mark.parametrize("seed", [-1, 2**32, 2**63, 1.5, "0", True, None])
def test_a_key_of_another_seed_is_refused_in_one_line(seed):
    with pytest.raises(InputError, match=r"^a seed must be a whole number from 0 to 4294967295, got "):
        named_key(seed, Purpose.SCHEME)


def test_keys_differ_for_seeds_of_all_sizes():
    seeds = [0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
    keys = {tuple(jax.random.key_data(named_key(seed, Purpose.SCHEME)).tolist()) for seed in seeds}
    assert len(keys) == len(seeds)


# -------------------------------------------------------------------------------- what changes bits


@pytest.mark.skipif(not Path("/dev/nvidia0").exists(), reason="needs a GPU")
def test_two_processes_on_one_gpu_have_the_same_bits(synthetic):
    flags = trial_variables(os.environ)["XLA_FLAGS"]
    first, second = (computed(synthetic, JAX_PLATFORMS="cuda", XLA_FLAGS=flags) for _ in range(2))
    assert first == second


def test_trials_of_one_process_do_not_depend_on_their_order(synthetic, digests, tmp_path):
    pretrain(dataclasses.replace(PRETRAIN, seed=1), data=synthetic, directory=tmp_path, observer=Silent())
    assert trained(synthetic) == digests
