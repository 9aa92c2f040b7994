"""Compiled programs on disk, for later processes."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import jax
from jax._src import compilation_cache
from jax._src.compilation_cache_interface import CacheInterface

from raysynth.store.files import write_whole


@contextmanager
def compiled_programs_in(directory: Path) -> Iterator[None]:
    """Keep every compiled program in a directory for later processes, then put back what was set before.

    A program that is not as it was written is compiled again.
    """
    wanted = {
        "jax_compilation_cache_dir": str(directory),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in wanted}
    with mock.patch.object(compilation_cache, "get_file_cache", lambda path: (_Verified(Path(path)), path)):
        _configure(wanted)
        try:
            yield
        finally:
            _configure(before)


def _configure(values: dict[str, object]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]  # JAX does not annotate it
    compilation_cache.reset_cache()  # JAX opens its directory once


class _Verified(CacheInterface):
    """Programs in files that start with the SHA-256 of the rest and appear whole or not at all.

    JAX's own files carry no checksum where the package `zstandard` is installed. Half a file, which a killed process
    leaves, stays there for good, and every later process compiles its program.
    """

    def __init__(self, directory: Path):
        self._path = directory

    def get(self, key: str) -> bytes | None:
        try:
            content = self._file(key).read_bytes()
        except FileNotFoundError:
            return None
        digest, program = content[:32], content[32:]
        return program if hashlib.sha256(program).digest() == digest else None

    def put(self, key: str, value: bytes) -> None:
        write_whole(self._file(key), hashlib.sha256(value).digest() + value)

    def _file(self, key: str) -> Path:
        return self._path / f"{key}.program"
