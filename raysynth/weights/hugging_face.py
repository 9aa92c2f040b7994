"""Hugging Face directories of T5 weights.

A directory holds `config.json` and the weights, usually in `model.safetensors`. Linear layers and relative biases are
transposed with respect to this package; the embedding is not.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from raysynth.errors import InputError, first_line
from raysynth.model.t5 import Params
from raysynth.specs.models import T5Config
from raysynth.specs.parameters import parse, paths
from raysynth.weights.checks import Array, as_float32, check_shapes, checked_arrays, config_of, nested
from raysynth.weights.files import new_directory, read_json

_SIZES = {
    "vocab_size": "vocab_size",
    "d_model": "emb_dim",
    "num_heads": "num_heads",
    "d_kv": "head_dim",
    "num_layers": "num_encoder_layers",
    "d_ff": "mlp_dim",
}
"""Required fields of `config.json`, with their names in `T5Config`."""

_LATER_SIZES = {
    "num_decoder_layers": "num_decoder_layers",
    "relative_attention_num_buckets": "num_buckets",
    "relative_attention_max_distance": "max_distance",
}
"""The same for fields that old files lack: the defaults are the number of encoder layers, 32 and 128."""

_ACTIVATIONS = {"relu": "relu", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "linear": "linear"}
"""Activations by Hugging Face's name. Ours named "gelu" is the tanh approximation, theirs is the exact function, except
that the projection "gated-gelu" of T5 1.1 means "gated-gelu_new"."""

_FIXED: dict[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (True,),
    "is_decoder": (False,),
    "layer_norm_epsilon": (1e-6,),
    "pad_token_id": (0,),
    "eos_token_id": (1,),
    "decoder_start_token_id": (0, None),
    "quantization_config": (None,),
}
"""Options whose value is fixed in this package's T5, with the allowed values; the first one is written."""

_EMBEDDING, _OUTPUT = "shared.weight", "lm_head.weight"
_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""Names under which some files repeat the embedding."""
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
"""Present in the first releases; no model reads it."""


def read_hugging_face(directory: Path) -> tuple[T5Config, Params]:
    """The configuration and parameters of a Hugging Face T5.

    Weights are read from `model.safetensors`, else from the files that `model.safetensors.index.json` lists, else from
    `pytorch_model.bin`. If the output layer shares the embedding but the logits are not scaled (transformers 5 does
    this to T5 1.1), the embedding is copied to a separate output layer, which computes the same. Raises `InputError`
    for a directory that is damaged, does not hold a T5 or has options that this package does not support.
    """
    options = read_json(directory / "config.json")
    config = _config_from_options(options, directory / "config.json")
    file, tensors = _tensors(directory)
    tensors.pop(_UNUSED, None)
    for copy in (*_COPIES, _OUTPUT) if config.logits_via_embedding else _COPIES:
        if copy in tensors:
            array = tensors.pop(copy)
            if not np.array_equal(tensors.setdefault(_EMBEDDING, array), array):
                raise InputError(f"{file}: {copy} differs from {_EMBEDDING}, but config.json ties them")
    if not config.logits_via_embedding and options.get("tie_word_embeddings") is True and _EMBEDDING in tensors:
        tensors.setdefault(_OUTPUT, tensors[_EMBEDDING])

    # Checked first because `paths` would list the parameters of every layer that a wrong number asks for.
    for stack, num_layers in (("encoder", config.num_encoder_layers), ("decoder", config.num_decoder_layers)):
        layers = {match[1] for name in tensors if (match := re.match(rf"{stack}\.block\.(\d+)\.", name))}
        if len(layers) != num_layers:
            raise InputError(f"{file} has {len(layers)} {stack} layers, but config.json has {num_layers}")
    names = {path: _hugging_face_name(path) for path in paths(config)}
    expected = {names[path]: _hugging_face_shape(path, shape) for path, shape in paths(config).items()}
    check_shapes({name: array.shape for name, array in tensors.items()}, expected, file)
    return config, nested(
        {path: _transposed(path, as_float32(tensors[name], name, file)) for path, name in names.items()},
    )


def write_hugging_face(
    directory: Path, config: T5Config, params: Params, more_files: Mapping[str, bytes] | None = None
) -> None:
    """Write a new directory that `T5ForConditionalGeneration.from_pretrained` reads, with further files by name.

    Raises `InputError` if the directory exists, the parameters do not fit `config`, or Hugging Face's T5 does not have
    the activations.
    """
    options = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        **{theirs: getattr(config, ours) for theirs, ours in (_SIZES | _LATER_SIZES).items()},
        **{option: values[0] for option, values in _FIXED.items() if values[0] is not None},
        **_activation_options(config.mlp_activations),
        "tie_word_embeddings": config.logits_via_embedding,
        "torch_dtype": "float32",
    }
    tensors = {
        _hugging_face_name(path): _transposed(path, array) for path, array in checked_arrays(config, params).items()
    }
    with new_directory(directory) as aside:
        save_file(tensors, aside / "model.safetensors", metadata={"format": "pt"})
        (aside / "config.json").write_text(json.dumps(options, indent=2) + "\n")
        for name, content in (more_files or {}).items():
            (aside / name).write_bytes(content)


def _config_from_options(options: dict[str, Any], file: Path) -> T5Config:
    if options.get("model_type") != "t5":
        raise InputError(f"{file}: model_type must be 't5', found {options.get('model_type')!r}")
    for option, allowed in _FIXED.items():
        if options.get(option, allowed[0]) not in allowed:
            raise InputError(f"{file}: {option} must be {allowed[0]!r}, found {options[option]!r}")
    activations = _activations(options, file)
    for option in _SIZES:
        if option not in options:
            raise InputError(f"{file} has no {option}")
    later = {ours: options[theirs] for theirs, ours in _LATER_SIZES.items() if options.get(theirs) is not None}
    return config_of(
        file,
        **{"num_decoder_layers": options["num_layers"], **later},
        **{ours: options[theirs] for theirs, ours in _SIZES.items()},
        mlp_activations=activations,
        # Up to transformers 4, untied logits are the unscaled ones. Version 5 ties all and has a field for the scaling.
        logits_via_embedding=bool(options.get("scale_decoder_outputs", options.get("tie_word_embeddings", True))),
    )


def _activations(options: dict[str, Any], file: Path) -> tuple[str, ...]:
    """The activations that `config.json` asks for.

    `dense_act_fn` and `is_gated_act` say it, as transformers reads them; if they are missing, `feed_forward_proj` does.
    Raises `InputError` if the two disagree, and for activations that this package does not have.
    """
    projection = options.get("feed_forward_proj", "relu")
    projections = (*_ACTIVATIONS, *(f"gated-{name}" for name in ("gelu", *_ACTIVATIONS)))
    if not isinstance(projection, str) or projection not in projections:
        raise InputError(f"{file}: feed_forward_proj must be {' or '.join(projections)}, found {projection!r}")
    implied = "gelu_new" if projection == "gated-gelu" else projection.removeprefix("gated-")
    is_implied_gated = projection.startswith("gated-")
    activation, is_gated = options.get("dense_act_fn"), options.get("is_gated_act")
    activation = implied if activation is None else activation
    is_gated = is_implied_gated if is_gated is None else is_gated
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise InputError(f"{file}: dense_act_fn must be {' or '.join(_ACTIVATIONS)}, found {activation!r}")
    if not isinstance(is_gated, bool):
        raise InputError(f"{file}: is_gated_act must be true or false, found {is_gated!r}")
    is_same = is_gated is is_implied_gated and _ACTIVATIONS[activation] == _ACTIVATIONS[implied]
    if "feed_forward_proj" in options and not is_same:
        raise InputError(
            f"{file}: feed_forward_proj {projection!r} contradicts dense_act_fn {activation!r} and is_gated_act "
            f"{is_gated}; remove the wrong one"
        )
    return (_ACTIVATIONS[activation], "linear") if is_gated else (_ACTIVATIONS[activation],)


def _activation_options(activations: tuple[str, ...]) -> dict[str, Any]:
    """The options of `config.json` for activations; raises `InputError` for those that Hugging Face's T5 lacks."""
    names = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    is_gated = activations[1:] == ("linear",)
    if activations[0] not in names or (len(activations) > 1 and not is_gated):
        raise InputError(
            f"Hugging Face's T5 has no mlp_activations {activations}; it has one of {', '.join(names)}, alone or "
            "followed by linear"
        )
    name = names[activations[0]]
    projection = f"gated-{'gelu' if name == 'gelu_new' else name}" if is_gated else name
    return {"feed_forward_proj": projection, "dense_act_fn": name, "is_gated_act": is_gated}


def _tensors(directory: Path) -> tuple[Path, dict[str, Array]]:
    """The file to name in errors about the weights, and the weights by Hugging Face's names."""
    single, index, pickled = (
        directory / name for name in ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    )
    if single.exists():
        return single, _safetensors(single)
    if index.exists():
        file_names = read_json(index).get("weight_map")
        if not isinstance(file_names, dict) or not all(isinstance(name, str) for name in file_names.values()):
            raise InputError(f"{index} has no weight_map from parameters to files")
        tensors: dict[str, Array] = {}
        for name in sorted(set(file_names.values())):
            tensors |= _safetensors(directory / Path(name).name)
        return index, tensors
    if pickled.exists():
        return pickled, _pickled(pickled)
    raise InputError(f"{directory} has none of {single.name}, {index.name} and {pickled.name}")


def _safetensors(file: Path) -> dict[str, Array]:
    if not file.is_file():
        raise InputError(f"{file} is missing")
    try:
        tensors: dict[str, Array] = load_file(file)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{file} is damaged: {first_line(error)}") from None
    return tensors


def _pickled(file: Path) -> dict[str, Array]:
    """The tensors of a `torch.save` file, read by a loader that builds tensors and runs no other code."""
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{file} needs PyTorch (pip install 'raysynth[parity]'), or convert it to model.safetensors"
        ) from None
    if tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2]) < (2, 6):
        raise InputError(
            f"{file}: PyTorch {torch.__version__} may run code that such a file holds (CVE-2025-32434); install 2.6 or "
            "newer, or convert it to model.safetensors"
        )
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # from zipfile, pickle or PyTorch
        raise InputError(f"{file} is damaged or holds more than tensors: {first_line(error)}") from None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise InputError(f"{file} must hold tensors by name")
    halves = (torch.bfloat16, torch.float16)  # NumPy lacks the first
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
"""For each module of a layer, the index of its part in a Hugging Face block (-1: the last) and its name there."""
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


def _transposed(path: str, array: Array) -> Array:
    """A parameter in the other package's orientation; the embedding is the same in both."""
    return np.ascontiguousarray(array if parse(path).module == "token_embedder" else array.T)
