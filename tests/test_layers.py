"""Who imports whom, checked from the source text, and what `plan` may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "raysynth"

LAYERS = [
    {"errors"},
    {"spec", "ragged", "files", "chemistry"},
    {"compiled", "tokens"},
    {"vocabulary", "metrics", "corruption", "fetch"},
    {"recipes", "datasets"},
    {"schemes"},
    {"specs"},
    {"rehearsal"},
    {"parameters", "synthetic", "lime", "dyck", "nonsense", "mixture", "corpus", "python_ast", "sources"},
    {"tasks", "moments"},
    {"downstream"},
    {"paper", "examples"},
    {"batches", "t5", "optimizer"},
    {"decode", "initialize", "checkpoints", "interop"},
    {"train"},
    {"store", "cluster"},
    {"report", "figures", "display", "weights"},
    {"shards", "evidence"},
    {"trial", "dependencies"},
    {"session"},
    {"generation"},
    {"drawing"},
    {"execution"},
    {"outlook"},
    {"seeds"},
    {"page"},
    {"sweep"},
    {"cli"},
]
"""Each module imports modules of earlier layers only."""

JAX = {"batches", "t5", "optimizer", "decode", "initialize", "checkpoints", "interop", "train", "weights"}
RAY = {"trial", "dependencies", "session", "generation", "drawing", "execution", "outlook", "cluster"}


def imports(module):
    """(name, at the top level) of everything that a module imports."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    top = set(tree.body)
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
            if node.module == "raysynth":
                names = [f"raysynth.{alias.name}" for alias in node.names]
        yield from ((name, node in top) for name in names)


def test_every_module_has_a_layer():
    modules = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__"}
    assert modules == set().union(*LAYERS)


@pytest.mark.parametrize("depth", range(len(LAYERS)))
def test_modules_import_earlier_layers_only(depth):
    earlier = set().union(*LAYERS[:depth], set())
    for module in LAYERS[depth]:
        ours = {name.split(".")[1] for name, at_top in imports(module) if name.startswith("raysynth.") and at_top}
        assert ours <= earlier, f"{module} imports {ours - earlier}"


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("jax", JAX),
        ("flax", JAX),
        ("optax", JAX),
        ("orbax", JAX),
        ("tensorstore", {"interop"}),
        ("safetensors", {"interop"}),
        ("torch", {"interop"}),
        ("ray", RAY),
        ("rdkit", {"chemistry"}),
        ("numba", {"compiled"}),
        ("rouge_score", {"metrics"}),
    ],
)
def test_heavy_libraries_stay_in_their_layers(library, allowed):
    for module in set().union(*LAYERS) - allowed:
        for name, _ in imports(module):
            assert name.split(".")[0] != library, f"{module} imports {name}"


@pytest.mark.parametrize("verb", ["plan", "status", "report"])
def test_the_light_verbs_load_none_of_the_heavy_libraries(verb, tmp_path):
    script = (
        "import runpy, sys\n"
        "sys.argv = ['quickstart.py', sys.argv[1], '--store', sys.argv[2]]\n"
        "try:\n    runpy.run_path('sweeps/quickstart.py', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'jax', 'ray', 'flax', 'optax', 'orbax', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, verb, str(tmp_path)],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
