"""The house: which package may import which, where JAX and Ray may stand, and what a light command loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "raysynth"

FLOORS = [
    {"errors", "observer"},
    {"command_line", "environment"},
    {"fields"},
    {"tokens", "downstream"},
    {"synthetic"},
    {"specs"},
    {"paper"},
    {"store"},
    {"data", "report"},
    {"verify"},
    {"model"},
    {"weights", "run"},
    {"sweep"},
    {"cli"},
]
"""A package imports packages of earlier floors and itself; those of one floor do not import each other."""


def package_of(module):
    """The package, or the module outside any, of a dotted name below `raysynth`."""
    return module.split(".")[0]


def imports(file):
    """Every module that a file imports, by dotted name, wherever in the file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "raysynth":
            yield from (f"raysynth.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]


def name_of(file):
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def test_every_module_stands_on_a_floor():
    assert {package_of(name_of(file)) for file in FILES} == set().union(*FLOORS)


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_packages_import_earlier_floors_only(floor):
    earlier = set().union(*FLOORS[:floor])
    for file in FILES:
        package = package_of(name_of(file))
        if package in FLOORS[floor]:
            ours = {
                package_of(name.removeprefix("raysynth.")) for name in imports(file) if name.startswith("raysynth.")
            }
            assert ours <= earlier | {package}, f"{name_of(file)} imports {ours - earlier - {package}}"


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("jax", {"model", "weights"}),
        ("flax", {"model", "weights"}),
        ("optax", {"model", "weights"}),
        ("orbax", {"model", "weights"}),
        ("ray", {"run"}),
        ("tensorstore", {"weights"}),
        ("safetensors", {"weights"}),
        ("torch", {"weights"}),
        ("numba", {"tokens"}),
        ("rdkit", {"downstream"}),
        ("rouge_score", {"downstream"}),
        ("matplotlib", {"report"}),
    ],
)
def test_heavy_libraries_stay_in_their_packages(library, allowed):
    for file in FILES:
        if package_of(name_of(file)) not in allowed:
            assert library not in {name.split(".")[0] for name in imports(file)}, f"{name_of(file)} imports {library}"


def imports_while_loaded(file):
    """Every module that a file imports outside its functions."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


LOADED = {f"raysynth.{name_of(file)}": set(imports_while_loaded(file)) for file in FILES}


def loaded_with(module):
    """A module of the package and all those that are loaded with it."""
    seen, left = set(), {module}
    while left:
        seen |= left
        left = {name for each in left for name in LOADED[each] if name in LOADED} - seen
    return seen


def test_ray_is_loaded_only_with_what_runs_on_it():
    with_ray = {module for module in LOADED if "ray" in {name.split(".")[0] for name in LOADED[module]}}
    assert with_ray == {f"raysynth.run.{name}" for name in ("execute", "searcher", "session", "trial", "watch")}
    for module in LOADED:
        if not module.startswith("raysynth.run."):
            assert not loaded_with(module) & with_ray, module
    for way_without in ("in_process", "make_data", "generate_command", "measure", "cluster", "address"):
        assert not loaded_with(f"raysynth.run.{way_without}") & with_ray, way_without


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
