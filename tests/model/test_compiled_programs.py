"""Compiled programs on disk: a later process finds them, and takes none that is not as it was written."""

import os

import jax
import jax.numpy as jnp
import pytest
from jax._src import compilation_cache

from raysynth.model.compiled_programs import compiled_programs_in


def computed(directory):
    """What a program gives that this process has forgotten, and the number of programs that were read from disk."""
    read = []

    def listener(event, **_):
        if event == "/jax/compilation_cache/cache_hits":
            read.append(event)

    jax.clear_caches()
    jax.monitoring.register_event_listener(listener)
    try:
        with compiled_programs_in(directory):
            return jax.jit(lambda x: jnp.sin(x) * 41.25)(jnp.float32(3)).item(), len(read)
    finally:
        jax.monitoring.unregister_event_listener(listener)


@pytest.fixture
def program(tmp_path):
    """The file of a compiled program, what that computes, and how many programs are there."""
    value, read = computed(tmp_path / "programs")
    assert read == 0
    files = list((tmp_path / "programs").iterdir())
    assert computed(tmp_path / "programs") == (value, len(files))
    (file,) = [file for file in files if file.name.startswith("jit__lambda")]
    return file, value, len(files)


def flip_bit(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[: len(content) // 2],
        lambda content: content + b"0",
        lambda content: flip_bit(content, 0),
        lambda content: flip_bit(content, 32),
        lambda content: flip_bit(content, len(content) - 1),
    ],
    ids=["empty", "in the checksum", "half", "longer", "bit of the checksum", "first bit", "last bit"],
)
def test_a_damaged_program_is_compiled_again_and_healed(program, change):
    file, value, number = program
    whole = file.read_bytes()
    file.write_bytes(change(whole))
    assert computed(file.parent) == (value, number - 1)
    assert computed(file.parent) == (value, number)


def test_a_write_that_fails_leaves_nothing_that_could_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.warns(UserWarning, match="full"):
        computed(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_was_set_before_is_there_again(tmp_path):
    directory, opened = jax.config.values["jax_compilation_cache_dir"], compilation_cache.get_file_cache
    computed(tmp_path)
    assert jax.config.values["jax_compilation_cache_dir"] == directory
    assert compilation_cache.get_file_cache is opened
