"""Random streams: no two purposes, seeds or places share one, and nothing else in the package seeds a generator."""

import ast
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from raysynth.errors import InputError
from raysynth.tokens.streams import Purpose, stream, uint32

PACKAGE = Path(__file__).parents[2] / "raysynth"
FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_purpose_has_a_number_of_its_own():
    assert len({int(purpose) for purpose in Purpose.__members__.values()}) == len(Purpose.__members__)


def numbers(purpose, seed, *places):
    return tuple(stream(purpose, seed, *places).integers(0, 2**63, 2).tolist())


def test_a_stream_depends_on_purpose_seed_and_places_alone():
    assert numbers(Purpose.SHARD, 5, 3) == numbers(Purpose.SHARD, 5, 3)
    places = [(), (0,), (0, 0), (0, 0, 0), (1,), (0, 1), (1, 0), (5,), (5, 0), (5, 0, 0)]
    streams = Counter(numbers(*key, *at) for *key, at in product(Purpose, (0, 1, 5, 2**32 - 1), places))
    assert len(streams) == len(Purpose) * 4 * len(places)


@pytest.mark.parametrize("kind", [np.int64, np.uint32, np.uint64, np.array])
def test_equal_whole_numbers_of_any_type_are_one_seed_and_one_place(kind):
    assert numbers(Purpose.SHARD, kind(7), kind(3)) == numbers(Purpose.SHARD, 7, 3)
    assert uint32("seed", kind(7)) == 7


BAD = [-1, 2**32, 2**63, 2**64, np.int64(-1), np.uint64(2**63), 1.0, np.float64(1), "1", None, True, np.True_, [1]]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_other_seeds_and_places_are_refused_in_one_line(bad):
    for arguments in ((bad,), (0, bad)):
        with pytest.raises(InputError, match=r"^a (seed|place) must be a whole number from 0 to 4294967295, got .+$"):
            stream(Purpose.SHARD, *arguments)


SEEDERS = {"default_rng", "SeedSequence", "PRNGKey", "random.key"}


def seeded(file):
    """The calls that seed a generator, each as the innermost function it stands in and the name it calls."""

    def visit(node, function):
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            for seeder in SEEDERS:
                if called == seeder or called.endswith(f".{seeder}"):
                    yield function, seeder
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function)

    return set(visit(ast.parse(file.read_text()), None))


@pytest.mark.parametrize(
    "line", ["np.random.default_rng(0)", "default_rng()", "jax.random.key(1)", "jax.random.PRNGKey(1)"]
)
def test_a_call_that_seeds_is_noticed(tmp_path, line):
    file = tmp_path / "module.py"
    file.write_text(f"def draw():\n    return {line}\n")
    assert [function for function, _ in seeded(file)] == ["draw"]


def test_nothing_else_seeds_a_generator():
    calls = {str(file.relative_to(PACKAGE)): seeded(file) for file in FILES}
    assert {file: found for file, found in calls.items() if found} == {
        "tokens/streams.py": {("stream", "default_rng"), ("stream", "SeedSequence")},
        "model/devices.py": {("named_key", "random.key")},
    }


def test_every_purpose_is_used_in_exactly_one_place():
    uses = Counter(
        node.attr
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Purpose"
    )
    assert uses == dict.fromkeys(Purpose.__members__, 1)
