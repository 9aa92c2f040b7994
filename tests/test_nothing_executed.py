"""Nothing that is read is executed: no pickle, no code in files of weights, data, checkpoints or configuration."""

import ast
import os
import pickle
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.errors import InputError
from raysynth.run.surroundings import compiled_programs, user_directory
from raysynth.weights.hugging_face import read_hugging_face
from raysynth.weights.t5x import read_t5x

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "raysynth"


class Executed:
    """Its pickle writes a file when it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


LOADERS = {
    *("eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "cloudpickle.load", "cloudpickle.loads"),
    *(
        "marshal.loads",
        "shelve.open",
        "joblib.load",
        "dill.loads",
        "torch.load",
        "np.load",
        "numpy.load",
        "runpy.run_path",
    ),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen"),
}


def calls(file):
    """The calls of a file that may execute what they read."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in LOADERS:
            yield ast.unparse(node)


def test_the_calls_that_could_execute_what_they_read_are_known():
    found = {f"{file.relative_to(PACKAGE)}: {call}" for file in PACKAGE.rglob("*.py") for call in calls(file)}
    assert found == {
        # Sweep files are programs that the user names.
        "cli/plans.py: runpy.run_path(str(file))",
        # Ray Data's blocks come from this run's own processes.
        "run/session.py: pickle.loads(items)",
        "run/session.py: pickle.loads(answer)",
        "weights/hugging_face.py: torch.load(file, map_location='cpu', weights_only=True)",
    }


def pickled_column(mark, nested):
    """A field and its values, which Python would unpickle: Ray Data registers that type of column."""
    values = pa.array([pickle.dumps(Executed(mark))], pa.large_binary())
    metadata = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}
    inner = pa.field("item", pa.large_binary(), metadata=metadata)
    if nested:
        kind = pa.list_(inner)
        return pa.field("references", kind), pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), values, type=kind)
    return pa.field("references", pa.large_binary(), metadata=metadata), values


@pytest.fixture
def run_with_ray_data(tmp_path):
    """Runs a script in which Ray Data's types are registered; the folder of its files is its argument."""

    def run(script):
        done = subprocess.run(
            [sys.executable, "-c", f"import ray.data\n{script}", str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("nested", [False, True])
def test_pickled_objects_in_files_of_others_are_not_loaded(nested, tmp_path, run_with_ray_data):
    field, values = pickled_column(tmp_path / "executed", nested)
    texts = [pa.field("article", pa.string()), pa.field("highlights", pa.string())]
    table = pa.Table.from_arrays([pa.array(["a ."]), pa.array(["b ."]), values], schema=pa.schema([*texts, field]))
    for split in ("train", "validation", "test"):
        pq.write_table(table, tmp_path / f"{split}-00000-of-00001.parquet")
    run_with_ray_data(
        "import sys\n"
        "from raysynth.downstream.cnn_dailymail import CNNDailyMail\n"
        "try:\n    CNNDailyMail().read(sys.argv[1])\n"
        "except ValueError as error:\n    print(error)\n"
    )
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("nested", [False, True])
def test_pickled_objects_in_a_data_set_are_not_loaded(nested, tmp_path, run_with_ray_data):
    field, values = pickled_column(tmp_path / "executed", nested)
    ids = pa.array([[1, 2]], pa.list_(pa.uint16()))
    columns = [pa.field("source", ids.type), pa.field("target", ids.type), field]
    pq.write_table(pa.Table.from_arrays([ids, ids, values], schema=pa.schema(columns)), tmp_path / "test.parquet")
    shown = run_with_ray_data(
        "import hashlib, pathlib, sys\n"
        "from raysynth.data.batches import StoredSplit\n"
        "from raysynth.data.manifest import Shard\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "sha256 = hashlib.sha256((folder / 'test.parquet').read_bytes()).hexdigest()\n"
        "shard = Shard(file='test.parquet', rows=1, sha256=sha256)\n"
        "try:\n    StoredSplit(directory=folder, shards=(shard,), prefix=()).read()\n"
        "except ValueError as error:\n    print(error)\n"
    )
    assert "test.parquet has columns of types that Parquet does not know" in shown
    assert not (tmp_path / "executed").exists()


def config_of_hugging_face(directory):
    (directory / "config.json").write_text(
        '{"model_type": "t5", "vocab_size": 8, "d_model": 4, "num_heads": 1, "d_kv": 4, "num_layers": 1, "d_ff": 4}'
    )


def test_an_old_pytorch_that_may_run_code_is_refused(tmp_path, monkeypatch):
    """Its loader of tensors only could be deceived (CVE-2025-32434)."""
    mark = tmp_path / "executed"
    config_of_hugging_face(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Executed(mark)))
    loaded = []
    old = types.SimpleNamespace(__version__="2.5.1+cu121", load=lambda *_, **__: loaded.append(1))
    monkeypatch.setitem(sys.modules, "torch", old)
    with pytest.raises(InputError, match=r"PyTorch 2\.5\.1\+cu121 may run code"):
        read_hugging_face(tmp_path)
    assert not loaded
    assert not mark.exists()


def test_a_pickle_among_weights_is_refused_and_not_loaded(tmp_path):
    mark = tmp_path / "executed"
    content = pickle.dumps(Executed(mark))
    config_of_hugging_face(tmp_path)
    for name in ("model.safetensors", "checkpoint"):
        (tmp_path / name).write_bytes(content)
    for read in (read_hugging_face, read_t5x):
        with pytest.raises(InputError):
            read(tmp_path)
    assert not mark.exists()


def test_compiled_programs_are_never_read_from_a_store():
    """JAX's cache holds machine code, and a store may come from someone else."""
    import jax

    with compiled_programs():
        directory = Path(jax.config.values["jax_compilation_cache_dir"])
    assert directory.parent == user_directory()
    assert user_directory().is_relative_to(tempfile.gettempdir())
    assert not user_directory().stat().st_mode & 0o077
    assert jax.config.values["jax_compilation_cache_dir"] != str(directory)
