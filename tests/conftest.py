"""Settings that all tests share: eight CPU devices, strict JAX types, the golden numbers and a stand-in for S3."""

import json
import os
from pathlib import Path
from typing import NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("NPROC", "1")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()

import jax
import numpy as np
import pytest
from pyarrow import fs

from raysynth.run.surroundings import compiled_directory, user_directory
from raysynth.specs.models import T5Config

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

SHARED = Path(__file__).parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--optimized", action="store_true", help="compile as users' processes do, which takes longer")


def pytest_configure(config: pytest.Config) -> None:
    """Have XLA leave out what makes tiny programs compile slowly.

    It reads its flags once, when JAX starts. The processes that tests start do not inherit these: they compile as those
    of users do.
    """
    if not config.getoption("--optimized"):
        flags = os.environ["XLA_FLAGS"]
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        jax.devices()
        os.environ["XLA_FLAGS"] = flags
    # Many tests compile what others have compiled.
    room = user_directory() / ("tests-optimized" if config.getoption("--optimized") else "tests")
    jax.config.update("jax_compilation_cache_dir", str(compiled_directory(room, 1)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data sets and papers beside the repository; tests that need it are skipped without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"{SHARED / 'data'} is absent")
    return SHARED


@pytest.fixture(scope="session", params=["repository", pytest.param("larger", marks=pytest.mark.long)])
def golden_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of golden numbers (see tests/golden/README.md).

    Every run reads the set in the repository. Long runs repeat the tests on the larger set beside the repository, where
    it exists.
    """
    folder = Path(__file__).parent / "golden" if request.param == "repository" else SHARED / "golden"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


class Reference(NamedTuple):
    """A tiny model that T5X ran."""

    name: str
    config: T5Config
    params: dict[str, np.ndarray]
    """By path."""
    arrays: dict[str, np.ndarray]
    """Inputs and outputs of the model; tests/golden/README.md lists the keys."""


@pytest.fixture(scope="session", params=["t5_1_0", "t5_1_1"])
def reference(request: pytest.FixtureRequest, golden_folder: Path) -> Reference:
    """Each of the two tiny models."""
    folder = golden_folder / "model"
    config = json.loads((folder / f"model_{request.param}.json").read_text())["config"]
    assert config.pop("dropout_rate") == 0
    config["mlp_activations"] = tuple(config["mlp_activations"])
    with np.load(folder / f"model_{request.param}.npz") as file:
        arrays = dict(file)
    params = {name.removeprefix("params/"): value for name, value in arrays.items() if name.startswith("params/")}
    return Reference(name=request.param, config=T5Config(**config), params=params, arrays=arrays)


@pytest.fixture(scope="session")
def bucket():
    """A function from a path to its URI in a bucket of a local stand-in for S3."""
    server = pytest.importorskip("moto.server", reason="moto stands in for S3").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    server.start()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    _, port = server.get_host_and_port()
    filesystem, _ = fs.FileSystem.from_uri(
        f"s3://tests?endpoint_override=127.0.0.1:{port}&scheme=http&allow_bucket_creation=true"
    )
    filesystem.create_dir("tests")
    yield lambda path: f"s3://tests/{path}?endpoint_override=127.0.0.1:{port}&scheme=http"
    server.stop()
