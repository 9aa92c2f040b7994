"""Weights of T5s that others trained, and ours for them: T5X directories and Hugging Face directories.

A T5X directory holds `checkpoint`, a msgpack tree whose arrays lie in the file itself or, by reference, in zarr folders
beside it (version 3 of `t5x/checkpoints.py`). T5X names parameters as this package does. A Hugging Face directory
holds `config.json` and `model.safetensors`; its linear layers and relative biases are transposed.

Everything read becomes float32: what was stored as float32, bfloat16 or float16 keeps its value exactly.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tensorstore
from flax.serialization import msgpack_restore, msgpack_serialize
from flax.traverse_util import unflatten_dict

from raysynth.errors import InputError
from raysynth.model.t5 import Params
from raysynth.specs.models import T5Config
from raysynth.specs.parameters import paths
from raysynth.weights.checks import (
    Shapes,
    as_float32,
    check_shapes,
    checked_arrays,
    config_of,
    first_line,
    nested,
    new_directory,
    read_bytes,
)

# -------------------------------------------------------------------------------- T5X

T5X_VERSION = 3
CHUNK_BYTES = 64 * 2**20
"""T5X's own size of a zarr chunk."""
NETWORK = "raysynth_network"


def read_t5x(directory: Path) -> tuple[T5Config, Params]:
    """The shape and parameters of a T5X checkpoint.

    T5X's own directories tell sizes only: `max_distance` and the activations (relu, or gelu and linear where gated) are
    taken to be those of the public releases. Raises `InputError` for a directory that is no T5's or is damaged.
    """
    file = directory / "checkpoint"
    target, network = _trees(file)
    leaves = {
        path: leaf if isinstance(leaf, np.ndarray) else _open_zarr(directory, path, leaf)
        for path, leaf in _leaves(target)
    }
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
    config = _told_by_shapes(shapes, network, file)
    check_shapes(shapes, paths(config), file)
    arrays = {
        path: leaf if isinstance(leaf, np.ndarray) else _read_zarr(directory, leaf) for path, leaf in leaves.items()
    }
    return config, nested({path: as_float32(array, path, file) for path, array in arrays.items()})


def write_t5x(directory: Path, config: T5Config, params: Params, *, step: int = 0) -> None:
    """Write a new directory that T5X restores for evaluation, inference and, given fresh optimizer state, training.

    T5X takes the network from its gin files; what shapes do not tell of it is kept under a name that T5X never reads.
    """
    flat = checked_arrays(config, params)
    with new_directory(directory) as aside:
        target = {path: _write_zarr(aside, f"target.{path.replace('/', '.')}", array) for path, array in flat.items()}
        state = {"step": np.asarray(step, np.int32)}
        tree = {
            "version": T5X_VERSION,
            "optimizer": {"target": unflatten_dict(target, sep="/"), "state": state},
            NETWORK: {"max_distance": config.max_distance, "mlp_activations": list(config.mlp_activations)},
        }
        (aside / "checkpoint").write_bytes(msgpack_serialize(tree))


def _trees(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tree of parameters and references in a `checkpoint` file, and what it tells under `NETWORK`."""
    content = read_bytes(file)
    if content.startswith(b"model_checkpoint_path"):
        raise InputError(f"{file} belongs to a TensorFlow checkpoint; T5X's is a msgpack file")
    try:
        tree = msgpack_restore(content)
    except Exception as error:  # what a parser raises for broken bytes depends on the bytes
        raise InputError(f"{file} is damaged: {first_line(error)}") from None
    version = tree.get("version") if isinstance(tree, dict) else None
    if version not in (2, T5X_VERSION):
        raise InputError(f"{file} must be a T5X checkpoint of version 2 or {T5X_VERSION}, found version {version!r}")
    optimizer = tree.get("optimizer")
    target = optimizer.get("target") if isinstance(optimizer, dict) else None
    if not isinstance(target, dict):
        raise InputError(f"{file} has no parameters under optimizer/target")
    network = tree.get(NETWORK, {})
    if not isinstance(network, dict) or not isinstance(network.get("mlp_activations", []), list):
        raise InputError(f"{file}: {NETWORK} must hold max_distance and mlp_activations, found {network!r:.80}")
    return target, network


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and "kvstore" not in value:
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _folder(directory: Path, path: str, reference: Any) -> Path:
    """Where a reference's array lies: beside the `checkpoint` file, wherever the release was first written.

    A reference is a TensorStore spec, whose path is relative, absolute or a bucket's, or Orbax's placeholder.
    """
    place = None
    if isinstance(reference, str) and reference.startswith("PLACEHOLDER://"):
        place = reference
    elif isinstance(reference, dict):
        store = reference["kvstore"]
        place = reference.get("path") or (store.get("path") if isinstance(store, dict) else store)
    last = PurePosixPath(place).name if isinstance(place, str) else ""
    if last in ("", ".."):
        raise InputError(f"{directory / 'checkpoint'}: {path} is neither an array nor the name of a zarr folder")
    return directory / last


def _open_zarr(directory: Path, path: str, reference: Any) -> Any:
    """The array that a reference names, opened but not read."""
    folder = _folder(directory, path, reference)
    if not (folder / ".zarray").is_file():
        raise InputError(f"{folder / '.zarray'} is missing; it should describe {path}")
    try:
        return tensorstore.open(
            {
                "driver": "zarr",
                "kvstore": {"driver": "file", "path": str(folder)},
                "fill_missing_data_reads": False,  # a lost file must not read as zeros
            },
            open=True,
            read=True,
        ).result()
    except Exception as error:  # TensorStore's kinds of errors follow its status codes
        raise InputError(f"{folder} is damaged: {first_line(error)}") from None


def _read_zarr(directory: Path, array: Any) -> np.ndarray:
    try:
        return array.read().result()
    except Exception as error:
        raise InputError(f"{directory} is damaged: {first_line(error)}") from None


def _write_zarr(directory: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    """Write an array to the zarr folder `name`; returns the reference to it, as T5X writes it."""
    row_bytes = max(1, array[:1].nbytes)
    reference = {
        "driver": "zarr",
        "dtype": "float32",
        "kvstore": {"driver": "file", "path": name},
        "metadata": {
            "compressor": {"id": "gzip"},
            "shape": list(array.shape),
            "chunks": [min(len(array), max(1, CHUNK_BYTES // row_bytes)), *array.shape[1:]],
        },
    }
    placed = reference | {"kvstore": {"driver": "file", "path": str(directory / name)}}
    tensorstore.open(placed, create=True).result().write(array).result()
    return reference


def _told_by_shapes(shapes: Shapes, network: dict[str, Any], where: Path) -> T5Config:
    """The config that parameters' shapes tell, [in, out] for matrices, with what `network` adds."""
    heads, buckets = _shape_of("encoder/relpos_bias/rel_embedding", shapes, where)
    vocab_size, emb_dim = _shape_of("token_embedder/embedding", shapes, where)
    _, inner = _shape_of("encoder/layers_0/attention/query/kernel", shapes, where)
    mlp_dim, _ = _shape_of("encoder/layers_0/mlp/wo/kernel", shapes, where)
    if not heads or inner % heads:
        raise InputError(f"{where}: encoder/layers_0/attention/query/kernel has {inner} columns for {heads} heads")
    layers = {
        stack: len({match[1] for path in shapes if (match := re.match(rf"{stack}/layers_(\d+)/", path))})
        for stack in ("encoder", "decoder")
    }
    activations = ("relu",) if "encoder/layers_0/mlp/wi/kernel" in shapes else ("gelu", "linear")
    return config_of(
        where,
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


def _shape_of(path: str, shapes: Shapes, where: Path) -> tuple[int, int]:
    if path not in shapes:
        raise InputError(f"{where} lacks the parameter {path}")
    if len(shapes[path]) != 2:
        raise InputError(f"{where}: {path} must have two axes, found shape {shapes[path]}")
    return shapes[path]  # type: ignore[return-value]
