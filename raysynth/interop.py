"""Weights of T5s that others trained, and ours for them: T5X directories and Hugging Face directories.

A T5X directory holds `checkpoint`, a msgpack tree whose arrays lie in the file itself or, by reference, in zarr folders
beside it (version 3 of `t5x/checkpoints.py`). T5X names parameters as this package does. A Hugging Face directory
holds `config.json` and `model.safetensors`; its linear layers and relative biases are transposed.

Everything read becomes float32: what was stored as float32, bfloat16 or float16 keeps its value exactly.
"""

import json
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tensorstore
from flax.serialization import msgpack_restore, msgpack_serialize
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from raysynth.errors import InputError
from raysynth.specs.models import T5Config
from raysynth.specs.parameters import parse, paths

Params = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]


class Format(StrEnum):
    """How weights lie in a directory."""

    T5X = "t5x"
    HUGGING_FACE = "hugging-face"


def detect(directory: Path) -> Format:
    """The format of a directory, told by its files; raises `InputError` where it has neither's."""
    if (directory / "config.json").is_file():
        return Format.HUGGING_FACE
    if (directory / "checkpoint").is_file():
        return Format.T5X
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory")
    steps = sorted(entry.name for entry in directory.glob("checkpoint_*") if entry.is_dir())
    hint = f"; pass one of its folders {', '.join(steps)}" if steps else ""
    raise InputError(f"{directory} has neither config.json (Hugging Face) nor checkpoint (T5X){hint}")


def read(directory: Path) -> tuple[T5Config, Params]:
    """The shape and parameters in a directory of either format."""
    return read_t5x(directory) if detect(directory) is Format.T5X else read_hugging_face(directory)


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
    _check_shapes(shapes, paths(config), file)
    arrays = {
        path: leaf if isinstance(leaf, np.ndarray) else _read_zarr(directory, leaf) for path, leaf in leaves.items()
    }
    return config, _nested({path: _float32(array, path, file) for path, array in arrays.items()})


def write_t5x(directory: Path, config: T5Config, params: Params, *, step: int = 0) -> None:
    """Write a new directory that T5X restores for evaluation, inference and, given fresh optimizer state, training.

    T5X takes the network from its gin files; what shapes do not tell of it is kept under a name that T5X never reads.
    """
    flat = _ours(config, params)
    with _aside(directory) as aside:
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
    content = _bytes(file)
    if content.startswith(b"model_checkpoint_path"):
        raise InputError(f"{file} belongs to a TensorFlow checkpoint; T5X's is a msgpack file")
    try:
        tree = msgpack_restore(content)
    except Exception as error:  # what a parser raises for broken bytes depends on the bytes
        raise InputError(f"{file} is damaged: {_line(error)}") from None
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
        raise InputError(f"{folder} is damaged: {_line(error)}") from None


def _read_zarr(directory: Path, array: Any) -> np.ndarray:
    try:
        return array.read().result()
    except Exception as error:
        raise InputError(f"{directory} is damaged: {_line(error)}") from None


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
    return _config(
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


# -------------------------------------------------------------------------------- Hugging Face

_SIZES = {
    "vocab_size": "vocab_size",
    "d_model": "emb_dim",
    "num_heads": "num_heads",
    "d_kv": "head_dim",
    "num_layers": "num_encoder_layers",
    "d_ff": "mlp_dim",
}
"""Fields of `config.json` with their `T5Config` names; all must be there."""

_LATER_SIZES = {
    "num_decoder_layers": "num_decoder_layers",
    "relative_attention_num_buckets": "num_buckets",
    "relative_attention_max_distance": "max_distance",
}
"""The same for fields that old files leave out: then as many decoder layers as encoder layers, 32 and 128."""

_ACTIVATIONS = {"relu": ("relu",), "gated-gelu": ("gelu", "linear")}
"""By `feed_forward_proj`; this "gelu" is the tanh approximation, as Hugging Face's T5 takes it."""

_FIXED: dict[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (True,),
    "is_decoder": (False,),
    "layer_norm_epsilon": (1e-6,),
    "pad_token_id": (0,),
    "eos_token_id": (1,),
    "decoder_start_token_id": (0, None),
    "quantization_config": (None,),
}
"""Options that this package's T5 has one value for."""

_EMBEDDING, _OUTPUT = "shared.weight", "lm_head.weight"
_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""Under these names some files hold the embedding again."""
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
"""Stands in the first releases; no model reads it."""


def read_hugging_face(directory: Path) -> tuple[T5Config, Params]:
    """The shape and parameters of a Hugging Face T5.

    Weights are those of `model.safetensors`, of the files that `model.safetensors.index.json` lists, or of
    `pytorch_model.bin`. Where the output layer shares the embedding but the logits are not scaled (transformers 5 makes
    such models of T5 1.1), the embedding becomes an output layer of its own, which computes the same. Raises
    `InputError` for what is no T5, has options that this package lacks, or is damaged.
    """
    told = _json(directory / "config.json")
    config = _told_by_options(told, directory / "config.json")
    file, tensors = _tensors(directory)
    tensors.pop(_UNUSED, None)
    for copy in (*_COPIES, _OUTPUT) if config.logits_via_embedding else _COPIES:
        if copy in tensors:
            array = tensors.pop(copy)
            if not np.array_equal(tensors.setdefault(_EMBEDDING, array), array):
                raise InputError(f"{file}: {copy} differs from {_EMBEDDING}, although config.json makes them one")
    if not config.logits_via_embedding and told.get("tie_word_embeddings") is True and _EMBEDDING in tensors:
        tensors.setdefault(_OUTPUT, tensors[_EMBEDDING])

    for stack, stated in (("encoder", config.num_encoder_layers), ("decoder", config.num_decoder_layers)):
        found = {match[1] for name in tensors if (match := re.match(rf"{stack}\.block\.(\d+)\.", name))}
        if len(found) != stated:
            raise InputError(f"{file} has {len(found)} {stack} layers, expected {stated} by config.json")
    names = {path: _hugging_face_name(path) for path in paths(config)}
    expected = {names[path]: _hugging_face_shape(path, shape) for path, shape in paths(config).items()}
    _check_shapes({name: array.shape for name, array in tensors.items()}, expected, file)
    return config, _nested(
        {path: _turned(path, _float32(tensors[name], name, file)) for path, name in names.items()},
    )


def write_hugging_face(directory: Path, config: T5Config, params: Params) -> None:
    """Write a new directory that `T5ForConditionalGeneration.from_pretrained` reads.

    Raises `InputError` for activations that Hugging Face's T5 has no name for.
    """
    projections = {activations: name for name, activations in _ACTIVATIONS.items()}
    if config.mlp_activations not in projections:
        raise InputError(
            f"Hugging Face's T5 has no mlp_activations {config.mlp_activations}; "
            f"it has {' and '.join(map(str, projections))}"
        )
    told = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        **{theirs: getattr(config, ours) for theirs, ours in (_SIZES | _LATER_SIZES).items()},
        **{option: values[0] for option, values in _FIXED.items() if values[0] is not None},
        "feed_forward_proj": projections[config.mlp_activations],
        "tie_word_embeddings": config.logits_via_embedding,
        "torch_dtype": "float32",
    }
    tensors = {_hugging_face_name(path): _turned(path, array) for path, array in _ours(config, params).items()}
    with _aside(directory) as aside:
        save_file(tensors, aside / "model.safetensors", metadata={"format": "pt"})
        (aside / "config.json").write_text(json.dumps(told, indent=2) + "\n")


def _told_by_options(told: dict[str, Any], file: Path) -> T5Config:
    if told.get("model_type") != "t5":
        raise InputError(f"{file}: model_type must be 't5', found {told.get('model_type')!r}")
    for option, allowed in _FIXED.items():
        if told.get(option, allowed[0]) not in allowed:
            raise InputError(f"{file}: {option} must be {allowed[0]!r}, found {told[option]!r}")
    projection = told.get("feed_forward_proj", "relu")
    if projection not in tuple(_ACTIVATIONS):
        raise InputError(f"{file}: feed_forward_proj must be {' or '.join(_ACTIVATIONS)}, found {projection!r}")
    for option in _SIZES:
        if option not in told:
            raise InputError(f"{file} has no {option}")
    later = {ours: told[theirs] for theirs, ours in _LATER_SIZES.items() if told.get(theirs) is not None}
    return _config(
        file,
        **{"num_decoder_layers": told["num_layers"], **later},
        **{ours: told[theirs] for theirs, ours in _SIZES.items()},
        mlp_activations=_ACTIVATIONS[projection],
        # Up to transformers 4 untied logits are the unscaled ones; 5 calls all tied and tells the scaling apart.
        logits_via_embedding=bool(told.get("scale_decoder_outputs", told.get("tie_word_embeddings", True))),
    )


def _tensors(directory: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """The weights under their own names, and the file to name in errors about them."""
    whole, index, pickled = (
        directory / name for name in ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    )
    if whole.exists():
        return whole, _safetensors(whole)
    if index.exists():
        listed = _json(index).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            raise InputError(f"{index} has no weight_map from parameters to files")
        tensors: dict[str, np.ndarray] = {}
        for name in sorted(set(listed.values())):
            tensors |= _safetensors(directory / Path(name).name)
        return index, tensors
    if pickled.exists():
        return pickled, _pickled(pickled)
    raise InputError(f"{directory} has none of {whole.name}, {index.name} and {pickled.name}")


def _safetensors(file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise InputError(f"{file} is missing")
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{file} is damaged: {_line(error)}") from None


def _pickled(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a `torch.save` file, read by the loader that builds tensors and runs nothing else."""
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{file} needs PyTorch (pip install 'raysynth[parity]'), or convert it to model.safetensors"
        ) from None
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a zip's, a pickle's or PyTorch's own
        raise InputError(f"{file} is damaged or holds more than tensors: {_line(error)}") from None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise InputError(f"{file} must hold tensors by name")
    halves = (torch.bfloat16, torch.float16)
    return {
        name: (tensor.float() if tensor.dtype in halves else tensor).detach().numpy()
        for name, tensor in tensors.items()
    }


_MODULES = {
    "attention": (0, "SelfAttention"),
    "self_attention": (0, "SelfAttention"),
    "encoder_decoder_attention": (1, "EncDecAttention"),
    "mlp": (-1, "DenseReluDense"),
    "pre_attention_layer_norm": (0, "layer_norm"),
    "pre_self_attention_layer_norm": (0, "layer_norm"),
    "pre_cross_attention_layer_norm": (1, "layer_norm"),
    "pre_mlp_layer_norm": (-1, "layer_norm"),
}
"""The part of a Hugging Face block that a module is, counted from its ends, and its name there."""
_MATRICES = {"query": "q", "key": "k", "value": "v", "out": "o"}


def _hugging_face_name(path: str) -> str:
    parameter = parse(path)
    if parameter.layer is None:
        return {
            "token_embedder": _EMBEDDING,
            "logits_dense": _OUTPUT,
            "relpos_bias": f"{parameter.stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        }.get(parameter.module, f"{parameter.stack}.final_layer_norm.weight")
    part, module = _MODULES[parameter.module]
    part %= 2 if parameter.stack == "encoder" else 3
    matrix = "" if parameter.matrix is None else f".{_MATRICES.get(parameter.matrix, parameter.matrix)}"
    return f"{parameter.stack}.block.{parameter.layer}.layer.{part}.{module}{matrix}.weight"


def _hugging_face_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if parse(path).module == "token_embedder" else shape[::-1]


def _turned(path: str, array: np.ndarray) -> np.ndarray:
    """The array of a parameter from one package's orientation to the other's."""
    return np.ascontiguousarray(array if parse(path).module == "token_embedder" else array.T)


# -------------------------------------------------------------------------------- both


def _ours(config: T5Config, params: Params) -> dict[str, np.ndarray]:
    """Parameters by path, checked against the shape that they are said to have."""
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(params, sep="/").items()}
    _check_shapes({path: leaf.shape for path, leaf in flat.items()}, paths(config), "the model to write")
    return {path: np.ascontiguousarray(_float32(leaf, path, "the model to write")) for path, leaf in flat.items()}


def _nested(flat: dict[str, np.ndarray]) -> Params:
    return unflatten_dict(flat, sep="/")


def _config(where: Path, **fields: Any) -> T5Config:
    try:
        return T5Config(**fields)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _check_shapes(found: Shapes, expected: Shapes, where: Path | str) -> None:
    """Raise `InputError` unless both have the same parameters with the same shapes."""
    for verb, names in (("lacks", expected.keys() - found.keys()), ("has unknown", found.keys() - expected.keys())):
        if names:
            first, *others = sorted(names)
            more = f" and {len(others)} more" if others else ""
            raise InputError(f"{where} {verb} parameter {first}{more}")
    for name, shape in expected.items():
        if tuple(found[name]) != shape:
            raise InputError(f"{where}: {name} must have shape {shape}, found {tuple(found[name])}")


def _float32(array: np.ndarray, name: str, where: Path | str) -> np.ndarray:
    if array.dtype.name not in ("float32", "bfloat16", "float16"):
        raise InputError(f"{where}: {name} must be float32, bfloat16 or float16, found {array.dtype.name}")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{where}: {name} holds values that are not finite")
    return array


def _json(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(_bytes(file))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {_line(error)}") from None
    if not isinstance(told, dict):
        raise InputError(f"{file} must be a JSON object, found {type(told).__name__}")
    return told


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None


@contextmanager
def _aside(directory: Path) -> Iterator[Path]:
    """A directory to fill that takes its place when whole; raises `InputError` where something is there already."""
    if directory.exists():
        raise InputError(f"{directory} exists already")
    aside = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}.aside")
    try:
        aside.mkdir(parents=True)
        yield aside
        aside.rename(directory)
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _line(error: BaseException) -> str:
    """The first line of a message, without the specification that TensorStore appends."""
    text = str(error).split(" [", maxsplit=1)[0].strip()
    return text.splitlines()[0] if text else type(error).__name__
