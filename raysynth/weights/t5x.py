"""T5X checkpoint directories.

A directory holds the file `checkpoint`, a msgpack tree. Its arrays are in the file itself or in zarr folders beside it,
to which the tree holds references (version 3 of `t5x/checkpoints.py`). Names and shapes of parameters are those of this
package.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tensorstore
from flax.serialization import msgpack_restore, msgpack_serialize

from raysynth.errors import InputError, first_line
from raysynth.model.t5 import Params
from raysynth.specs.models import T5Config
from raysynth.specs.parameters import paths
from raysynth.weights.checks import Array, Shapes, as_float32, check_shapes, checked_arrays, config_of, nested
from raysynth.weights.files import new_directory, read_bytes

_VERSION = 3
_CHUNK_BYTES = 64 * 2**20
"""The chunk size that T5X uses for zarr."""
_NETWORK = "raysynth_network"
"""The key for settings of the network that shapes do not show; T5X ignores it."""


def read_t5x(directory: Path) -> tuple[T5Config, Params]:
    """The configuration and parameters of a T5X checkpoint.

    The shapes of the parameters give all sizes. `max_distance` and the activations are read from directories that this
    package wrote; for others they are assumed to be those of the public releases: 128, and ReLU, or GELU and linear if
    the MLP is gated. Raises `InputError` for a directory that is damaged or does not hold a T5.
    """
    _check_path(directory)
    file = directory / "checkpoint"
    target, network = _trees(file)
    leaves = {
        path: leaf if isinstance(leaf, np.ndarray) else _open_zarr(directory, path, leaf)
        for path, leaf in _leaves(target)
    }
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
    config = _config_from_shapes(shapes, network, file)
    check_shapes(shapes, paths(config), file)
    arrays = {
        path: leaf if isinstance(leaf, np.ndarray) else _read_zarr(directory, leaf) for path, leaf in leaves.items()
    }
    return config, nested({path: as_float32(array, path, file) for path, array in arrays.items()})


def write_t5x(directory: Path, config: T5Config, params: Params, *, step: int = 0) -> None:
    """Write a new directory that T5X restores for evaluation, inference and, with a new optimizer state, training.

    T5X takes the network from gin files. For `read_t5x`, the settings that shapes do not show are stored under a key
    that T5X ignores. Raises `InputError` if the directory exists or the parameters do not fit `config`.
    """
    _check_path(directory)
    arrays = checked_arrays(config, params)
    with new_directory(directory) as aside:
        references = {
            path: _write_zarr(aside, f"target.{path.replace('/', '.')}", array) for path, array in arrays.items()
        }
        state = {"step": np.asarray(step, np.int32)}
        tree = {
            "version": _VERSION,
            "optimizer": {"target": nested(references), "state": state},
            _NETWORK: {"max_distance": config.max_distance, "mlp_activations": list(config.mlp_activations)},
        }
        (aside / "checkpoint").write_bytes(msgpack_serialize(tree))


def _check_path(directory: Path) -> None:
    """Raise `InputError` for a backslash in a path: TensorStore would take it for a slash."""
    if "\\" in str(directory.absolute()):
        raise InputError(f"a T5X directory must have no backslash in its path, got {str(directory.absolute())!r}")


def _trees(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tree of parameters and references in a `checkpoint` file, and the settings under `_NETWORK`."""
    content = read_bytes(file)
    if content.startswith(b"model_checkpoint_path"):
        raise InputError(f"{file} belongs to a TensorFlow checkpoint; T5X's is a msgpack file")
    try:
        tree = msgpack_restore(content)
    except Exception as error:  # broken bytes make the parser raise almost anything
        raise InputError(f"{file} is damaged: {first_line(error)}") from None
    version = tree.get("version") if isinstance(tree, dict) else None
    if version not in (2, _VERSION):
        raise InputError(f"{file} must be a T5X checkpoint of version 2 or {_VERSION}, found version {version!r}")
    optimizer = tree.get("optimizer")
    target = optimizer.get("target") if isinstance(optimizer, dict) else None
    if not isinstance(target, dict):
        raise InputError(f"{file} has no parameters under optimizer/target")
    network = tree.get(_NETWORK, {})
    if not isinstance(network, dict) or not isinstance(network.get("mlp_activations", []), list):
        raise InputError(f"{file}: {_NETWORK} must hold max_distance and mlp_activations, found {network!r:.80}")
    return target, network


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Arrays and references with their paths; a dict with a `kvstore` is a reference."""
    for key, value in tree.items():
        if isinstance(value, dict) and "kvstore" not in value:
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _folder(directory: Path, path: str, reference: Any) -> Path:
    """The zarr folder that a reference names.

    A reference is a TensorStore spec or Orbax's placeholder. Its path says where the checkpoint was first written, and
    may be relative, absolute or in a bucket; only its last part counts, the name of a folder beside `checkpoint`.
    """
    written_to = None
    if isinstance(reference, str) and reference.startswith("PLACEHOLDER://"):
        written_to = reference
    elif isinstance(reference, dict):
        kvstore = reference["kvstore"]
        written_to = reference.get("path") or (kvstore.get("path") if isinstance(kvstore, dict) else kvstore)
    folder = PurePosixPath(written_to).name if isinstance(written_to, str) else ""
    if folder in ("", ".."):
        raise InputError(f"{directory / 'checkpoint'}: {path} is neither an array nor the name of a zarr folder")
    return directory / folder


def _open_zarr(directory: Path, path: str, reference: Any) -> Any:
    """The TensorStore array that a reference names, opened but not read."""
    folder = _folder(directory, path, reference)
    if not (folder / ".zarray").is_file():
        raise InputError(f"{folder / '.zarray'} is missing; it should describe {path}")
    try:
        return tensorstore.open(
            {
                "driver": "zarr",
                "kvstore": {"driver": "file", "path": str(folder)},
                "fill_missing_data_reads": False,  # a missing chunk must not read as zeros
            },
            open=True,
            read=True,
        ).result()
    except Exception as error:  # TensorStore's error types follow its status codes
        raise InputError(f"{folder} is damaged: {_line_without_spec(error)}") from None


def _read_zarr(directory: Path, array: Any) -> Array:
    try:
        values: Array = array.read().result()
    except Exception as error:
        raise InputError(f"{directory} is damaged: {_line_without_spec(error)}") from None
    return values


def _line_without_spec(error: Exception) -> str:
    """The first line of a TensorStore error, without the spec in brackets that TensorStore appends."""
    return first_line(error).split(" [", maxsplit=1)[0].strip() or type(error).__name__


def _write_zarr(directory: Path, name: str, array: Array) -> dict[str, Any]:
    """Write an array to the zarr folder `name`, and return the reference that T5X would write for it."""
    row_bytes = max(1, array[:1].nbytes)
    reference = {
        "driver": "zarr",
        "dtype": "float32",
        "kvstore": {"driver": "file", "path": name},
        "metadata": {
            "compressor": {"id": "gzip"},
            "shape": list(array.shape),
            "chunks": [min(len(array), max(1, _CHUNK_BYTES // row_bytes)), *array.shape[1:]],
        },
    }
    spec = reference | {"kvstore": {"driver": "file", "path": str(directory / name)}}
    tensorstore.open(spec, create=True).result().write(array).result()
    return reference


def _config_from_shapes(shapes: Shapes, network: dict[str, Any], file: Path) -> T5Config:
    """The configuration with the sizes of the shapes, [in, out] for matrices, and the settings of `network`."""
    heads, buckets = _shape_of("encoder/relpos_bias/rel_embedding", shapes, file)
    vocab_size, emb_dim = _shape_of("token_embedder/embedding", shapes, file)
    _, inner = _shape_of("encoder/layers_0/attention/query/kernel", shapes, file)
    mlp_dim, _ = _shape_of("encoder/layers_0/mlp/wo/kernel", shapes, file)
    if not heads or inner % heads:
        raise InputError(f"{file}: encoder/layers_0/attention/query/kernel has {inner} columns for {heads} heads")
    layers = {
        stack: len({match[1] for path in shapes if (match := re.match(rf"{stack}/layers_(\d+)/", path))})
        for stack in ("encoder", "decoder")
    }
    activations = ("relu",) if "encoder/layers_0/mlp/wi/kernel" in shapes else ("gelu", "linear")
    return config_of(
        file,
        vocab_size=vocab_size,
        emb_dim=emb_dim,
        num_heads=heads,
        head_dim=inner // heads,
        num_encoder_layers=layers["encoder"],
        num_decoder_layers=layers["decoder"],
        mlp_dim=mlp_dim,
        mlp_activations=tuple(network.get("mlp_activations", activations)),
        logits_via_embedding="decoder/logits_dense/kernel" not in shapes,
        num_buckets=buckets,
        max_distance=network.get("max_distance", T5Config.max_distance),
    )


def _shape_of(path: str, shapes: Shapes, file: Path) -> tuple[int, int]:
    if path not in shapes:
        raise InputError(f"{file} lacks the parameter {path}")
    if len(shapes[path]) != 2:
        raise InputError(f"{file}: {path} must have two axes, found shape {shapes[path]}")
    num_rows, num_columns = shapes[path]
    return num_rows, num_columns
