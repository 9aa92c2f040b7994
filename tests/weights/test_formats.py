"""Reading and writing weights: transformers' logits and tokens, T5X's files, and the errors of damaged files."""

import contextlib
import dataclasses
import json
import shlex
import shutil
import struct

import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
import pytest
import ray
import tensorstore
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file

from raysynth import Finetune, FullInit, InputError, StatisticInit, Sweep, T5Config, pretrained
from raysynth.cli import main
from raysynth.data.text_pairs import generate_text
from raysynth.model.checkpoints import read_params
from raysynth.model.decode import generate
from raysynth.model.initialize import mean_and_sd
from raysynth.model.t5 import T5
from raysynth.run.make import make
from raysynth.specs import identity, tiny
from raysynth.specs.identity import name
from raysynth.specs.models import T5_BASE, T5_SMALL, T5_V1_1_SMALL, Dtype
from raysynth.specs.parameters import Kind, parse, paths
from raysynth.store.records import DataResult
from raysynth.store.store import State, Store
from raysynth.weights.formats import Format, detect, read
from raysynth.weights.hugging_face import write_hugging_face
from raysynth.weights.t5x import read_t5x, write_t5x
from tests.records import DATA_RESULT, provenance, weights_result
from tests.tiny import MODEL, TASK

ORIGINAL = T5Config(
    vocab_size=90,
    emb_dim=12,
    num_heads=3,
    head_dim=5,
    num_encoder_layers=2,
    num_decoder_layers=3,
    mlp_dim=20,
    num_buckets=10,
    max_distance=40,
)
GATED = dataclasses.replace(
    ORIGINAL,
    head_dim=7,
    num_heads=2,
    num_encoder_layers=3,
    num_decoder_layers=1,
    mlp_activations=("gelu", "linear"),
    logits_via_embedding=False,
)
GATED_TIED = dataclasses.replace(GATED, logits_via_embedding=True)
ORIGINAL_UNTIED = dataclasses.replace(ORIGINAL, logits_via_embedding=False)
SHAPES = {
    "1.0": ORIGINAL,
    "1.1": GATED,
    "gated, tied": GATED_TIED,
    "relu, untied": ORIGINAL_UNTIED,
}
OTHER_ACTIVATIONS = {
    "gelu": dataclasses.replace(ORIGINAL, mlp_activations=("gelu",)),
    "gated relu": dataclasses.replace(ORIGINAL, mlp_activations=("relu", "linear")),
}
"""Shapes that T5 has not been published in."""
WRITE = {Format.T5X: write_t5x, Format.HUGGING_FACE: write_hugging_face}


def arrays(model, seed=0):
    """Random parameters of a realistic size: norms near one, kernels that keep the scale of their inputs."""
    rng = np.random.default_rng(seed)
    flat = {
        path: rng.normal(len(shape) == 1, 0.1 if len(shape) == 1 else shape[0] ** -0.5, shape).astype(np.float32)
        for path, shape in paths(model).items()
    }
    return unflatten_dict(flat, sep="/")


def assert_same_bits(params, expected):
    params, expected = flatten_dict(params, sep="/"), flatten_dict(expected, sep="/")
    assert params.keys() == expected.keys()
    for path, leaf in params.items():
        assert (leaf.dtype, leaf.shape) == (expected[path].dtype, expected[path].shape), path
        assert leaf.tobytes() == np.asarray(expected[path]).tobytes(), path


def tokens(model, seed=0):
    """Three sources [3, 9] and targets [3, 7] of different lengths, padded on the right."""
    rng = np.random.default_rng(seed)
    source, target = (rng.integers(2, model.vocab_size, (3, length)).astype(np.int32) for length in (9, 7))
    for row, (source_length, target_length) in enumerate([(9, 4), (6, 7), (3, 5)]):
        source[row, source_length:] = target[row, target_length:] = 0
    return source, target


# -------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("model", (SHAPES | OTHER_ACTIVATIONS).values(), ids=SHAPES | OTHER_ACTIVATIONS)
def test_a_round_trip_keeps_every_bit(form, model, tmp_path):
    params = arrays(model)
    WRITE[form](tmp_path / "out", model, params)
    assert detect(tmp_path / "out") is form
    config, again = read(tmp_path / "out")
    assert config == model
    assert_same_bits(again, params)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", Format)
def test_an_existing_directory_is_not_overwritten(form, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="out exists already"):
        WRITE[form](tmp_path / "out", ORIGINAL, arrays(ORIGINAL))


def test_parameters_must_be_those_of_the_model(tmp_path):
    with pytest.raises(InputError, match="the model to write lacks parameter decoder/layers_2"):
        write_t5x(tmp_path / "out", ORIGINAL, arrays(dataclasses.replace(ORIGINAL, num_decoder_layers=2)))
    double = dataclasses.replace(ORIGINAL, mlp_activations=("gelu", "relu"))
    with pytest.raises(InputError, match=r"no mlp_activations \('gelu', 'relu'\); it has one of linear, gelu, relu"):
        write_hugging_face(tmp_path / "out", double, arrays(double))
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------- transformers


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="needs the extra 'parity'")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="needs the extra 'parity'")


def their_model(transformers, torch, model, *, output):
    """A randomly initialized Hugging Face T5 whose every parameter matters."""
    torch.manual_seed(3)
    config = transformers.T5Config(
        vocab_size=model.vocab_size,
        d_model=model.emb_dim,
        d_kv=model.head_dim,
        d_ff=model.mlp_dim,
        num_heads=model.num_heads,
        num_layers=model.num_encoder_layers,
        num_decoder_layers=model.num_decoder_layers,
        relative_attention_num_buckets=model.num_buckets,
        relative_attention_max_distance=model.max_distance,
        feed_forward_proj="relu" if model.mlp_activations == ("relu",) else "gated-gelu",
        tie_word_embeddings=model.logits_via_embedding,
        decoder_start_token_id=0,
    )
    theirs = transformers.T5ForConditionalGeneration(config).eval()
    if output == "own":  # transformers 5 ties the two whatever the configuration says
        theirs.lm_head.weight = torch.nn.Parameter(torch.randn(model.vocab_size, model.emb_dim) * 0.3)
    with torch.no_grad():
        for key, parameter in theirs.named_parameters():
            if "norm" in key or "bias" in key:
                parameter += 0.2 * torch.randn(parameter.shape)
    return theirs


def save_whole(theirs, directory, torch):
    theirs.save_pretrained(directory)


def save_sharded(theirs, directory, torch):
    theirs.save_pretrained(directory, max_shard_size="8KB")
    assert len(list(directory.glob("*.safetensors"))) > 1


def save_as_version_4(theirs, directory, torch):
    """Write the files that releases up to transformers 4 have: a pickle with every alias, and fewer options."""
    theirs.save_pretrained(directory)
    (directory / "model.safetensors").unlink()
    options = json.loads((directory / "config.json").read_text())
    options["tie_word_embeddings"] = options.pop("scale_decoder_outputs")
    for option in ("dense_act_fn", "is_gated_act", "is_decoder"):
        del options[option]
    (directory / "config.json").write_text(json.dumps(options))
    tensors = theirs.state_dict()
    assert {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"} <= tensors.keys()
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(10, 3)
    torch.save(tensors, directory / "pytorch_model.bin")


@pytest.mark.parametrize("save", [save_whole, save_sharded, save_as_version_4])
@pytest.mark.parametrize(
    ("model", "output"),
    [
        (ORIGINAL, "shared"),
        (GATED, "own"),
        (GATED, "shared"),
        (GATED_TIED, "shared"),
        (ORIGINAL_UNTIED, "own"),
    ],
    ids=["1.0", "1.1", "1.1 as transformers 5 makes it", "gated, tied", "relu, untied"],
)
def test_an_imported_model_gives_transformers_logits(model, output, save, transformers, torch, tmp_path):
    theirs = their_model(transformers, torch, model, output=output)
    save(theirs, tmp_path, torch)
    config, params = read(tmp_path)
    assert config == model

    source, target = tokens(model)
    decoder_input = np.pad(target[:, :-1], ((0, 0), (1, 0)))
    with torch.no_grad():
        expected = theirs(
            input_ids=torch.tensor(source).long(),
            attention_mask=torch.tensor(source > 0),
            decoder_input_ids=torch.tensor(decoder_input).long(),
        ).logits.numpy()
    float32 = dataclasses.replace(config, dtype=Dtype.FLOAT32)
    logits = np.asarray(T5(float32).apply({"params": params}, jnp.asarray(source), jnp.asarray(target)))
    assert np.ptp(expected[target > 0]) > 1
    np.testing.assert_allclose(logits[target > 0], expected[target > 0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("is_gated", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu_new", "gelu_pytorch_tanh", "linear", "gelu"])
def test_activations_are_those_of_transformers_or_refused(activation, is_gated, transformers, torch, tmp_path):
    """With the field that transformers reads, `dense_act_fn`, and no `feed_forward_proj` beside it."""
    theirs = their_model(transformers, torch, ORIGINAL, output="shared").config
    options = theirs.to_dict() | {"dense_act_fn": activation, "is_gated_act": is_gated}
    del options["feed_forward_proj"]
    torch.manual_seed(4)
    theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**options)).eval()
    theirs.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert (saved["dense_act_fn"], saved["is_gated_act"]) == (activation, is_gated)
    if saved.pop("feed_forward_proj", "relu") != activation or is_gated:
        (tmp_path / "config.json").write_text(json.dumps(saved))
    if activation == "gelu":
        with pytest.raises(InputError, match="dense_act_fn must be relu or gelu_new or gelu_pytorch_tanh or linear, "):
            read(tmp_path)
        return
    config, params = read(tmp_path)
    source, target = tokens(ORIGINAL)
    with torch.no_grad():
        expected = theirs(
            input_ids=torch.tensor(source).long(),
            attention_mask=torch.tensor(source > 0),
            decoder_input_ids=torch.tensor(np.pad(target[:, :-1], ((0, 0), (1, 0)))).long(),
        ).logits.numpy()
    float32 = dataclasses.replace(config, dtype=Dtype.FLOAT32)
    logits = np.asarray(T5(float32).apply({"params": params}, jnp.asarray(source), jnp.asarray(target)))
    np.testing.assert_allclose(logits[target > 0], expected[target > 0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", SHAPES.values(), ids=SHAPES)
def test_an_exported_model_generates_the_same_tokens(model, transformers, torch, tmp_path):
    params = arrays(model, seed=5)
    write_hugging_face(tmp_path / "out", model, params)
    theirs, loading = transformers.T5ForConditionalGeneration.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(loading[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.scale_decoder_outputs == model.logits_via_embedding
    assert theirs.dtype == torch.float32

    source, _ = tokens(model)
    expected = theirs.generate(
        torch.tensor(source).long(),
        attention_mask=torch.tensor(source > 0),
        max_new_tokens=16,
        do_sample=False,
        num_beams=1,
        use_cache=False,  # its cache has a place for each layer of the encoder
    ).numpy()[:, 1:]  # without the start token
    float32 = dataclasses.replace(model, dtype=Dtype.FLOAT32)
    ours = np.asarray(generate(T5(float32), params, jnp.asarray(source), decode_length=16)[0])
    assert len({tuple(row) for row in ours}) == 3
    np.testing.assert_array_equal(ours, np.pad(expected, ((0, 0), (0, 16 - expected.shape[1]))))


def test_a_pickle_that_would_run_code_is_rejected(transformers, torch, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "was_here"), "w"))

    write_hugging_face(tmp_path / "out", ORIGINAL, arrays(ORIGINAL))
    (tmp_path / "out/model.safetensors").unlink()
    torch.save({"shared.weight": Evil()}, tmp_path / "out/pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin is damaged or holds more than tensors"):
        read(tmp_path / "out")
    assert not (tmp_path / "was_here").exists()


def test_halves_are_widened_exactly(tmp_path):
    write_hugging_face(tmp_path / "out", ORIGINAL, arrays(ORIGINAL))
    file = tmp_path / "out/model.safetensors"
    halves = {
        key: array.astype(ml_dtypes.bfloat16 if "decoder" in key else np.float16)
        for key, array in load_file(file).items()
    }
    save_file(halves, file)
    write_hugging_face(tmp_path / "wide", *read(tmp_path / "out"))
    for key, array in load_file(tmp_path / "wide/model.safetensors").items():
        np.testing.assert_array_equal(array, halves[key].astype(np.float32))


# -------------------------------------------------------------------------------- T5X


def inline(array):
    """An array as flax writes it into a msgpack file."""
    return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))


def public_release(directory, model, params):
    """Write a T5X directory like the public releases, from the description of the format and without our code.

    The releases were written to a bucket, so references name one; small arrays are in the file itself.
    """
    directory.mkdir()
    target = {}
    references = {
        "bucket": lambda folder: {"kvstore": {"driver": "gcs", "bucket": "t5x-dummy-bucket"}, "path": folder},
        "gfile": lambda folder: {"kvstore": {"driver": "gfile", "path": f"/cns/somewhere/tmp.123/{folder}/"}},
        "relative": lambda folder: {"kvstore": {"driver": "file", "path": folder}},
    }
    for number, (path, leaf) in enumerate(sorted(flatten_dict(params, sep="/").items())):
        *modules, last = path.split("/")
        node = target
        for module in modules:
            node = node.setdefault(module, {})
        if leaf.ndim == 1 and number % 2:
            node[last] = inline(leaf)
            continue
        folder = f"target.{'.'.join([*modules, last])}"
        chunks = [-(-leaf.shape[0] // 2), *leaf.shape[1:]]
        metadata = {"compressor": {"id": "gzip"}, "shape": list(leaf.shape), "chunks": chunks}
        tensorstore.open(
            {
                "driver": "zarr",
                "kvstore": {"driver": "file", "path": str(directory / folder)},
                "metadata": {**metadata, "dtype": "bfloat16" if "mlp" in path else "<f4"},
            },
            create=True,
        ).result().write(leaf.astype(ml_dtypes.bfloat16) if "mlp" in path else leaf).result()
        kind = list(references)[number % 3]
        node[last] = {"driver": "zarr", "dtype": "float32", "metadata": metadata, **references[kind](folder)}
    state = {"step": inline(np.array(1_000_000, np.int32)), "param_states": {"anything": {"v": inline(np.zeros(1))}}}
    (directory / "checkpoint").write_bytes(
        msgpack.packb({"version": 3, "optimizer": {"state": state, "target": target}})
    )


@pytest.mark.parametrize("model", SHAPES.values(), ids=SHAPES)
def test_a_public_release_is_read(model, tmp_path):
    params = flatten_dict(arrays(model), sep="/")
    for path in params:
        if "mlp" in path:
            params[path] = params[path].astype(ml_dtypes.bfloat16).astype(np.float32)
    public_release(tmp_path / "checkpoint_1000000", model, unflatten_dict(params, sep="/"))
    config, again = read(tmp_path / "checkpoint_1000000")
    assert config == dataclasses.replace(model, max_distance=128)  # such a directory does not hold it
    assert_same_bits(again, unflatten_dict(params, sep="/"))


def test_what_we_write_has_the_names_and_references_that_t5x_reads(tmp_path):
    """T5X opens each reference with the checkpoint's directory before its path, and needs these fields."""
    params = arrays(GATED)
    write_t5x(tmp_path / "out", GATED, params, step=700)
    tree = msgpack.unpackb((tmp_path / "out/checkpoint").read_bytes(), ext_hook=lambda code, data: (code, data))
    assert tree["version"] == 3
    code, data = tree["optimizer"]["state"]["step"]
    assert (code, msgpack.unpackb(data)) == (1, [[], "int32", struct.pack("<i", 700)])
    for path, leaf in flatten_dict(params, sep="/").items():
        reference = tree["optimizer"]["target"]
        for key in path.split("/"):
            reference = reference[key]
        assert set(reference) >= {"driver", "kvstore", "metadata"}
        assert reference["kvstore"]["path"] == f"target.{path.replace('/', '.')}"
        assert tuple(reference["metadata"]["shape"]) == leaf.shape
        del reference["metadata"]["chunks"], reference["metadata"]["compressor"]
        reference["kvstore"]["path"] = str(tmp_path / "out" / reference["kvstore"]["path"])
        np.testing.assert_array_equal(tensorstore.open(reference).result().read().result(), leaf)


# -------------------------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound directory of each format, with the same model."""
    root = tmp_path_factory.mktemp("sound")
    for form, write in WRITE.items():
        write(root / form, ORIGINAL, arrays(ORIGINAL))
    return root


KERNEL = "target.encoder.layers_1.mlp.wi.kernel"


def options(**changes):
    def damage(directory):
        changed = json.loads((directory / "config.json").read_text()) | changes
        changed = {option: value for option, value in changed.items() if value is not None}
        (directory / "config.json").write_text(json.dumps(changed))

    return damage


def tensors(change):
    def damage(directory):
        data = load_file(directory / "model.safetensors")
        change(data)
        save_file(data, directory / "model.safetensors")

    return damage


def tree(change):
    def damage(directory):
        file = directory / "checkpoint"
        data = msgpack.unpackb(file.read_bytes(), ext_hook=msgpack.ExtType)
        change(data)
        file.write_bytes(msgpack.packb(data))

    return damage


def content(name, new):
    return lambda directory: (directory / name).write_bytes(new)


def removed(name):
    def damage(directory):
        path = directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def put(key, array):
    return lambda data: data.update({key: array})


def dense(data):
    return data["optimizer"]["target"]["encoder"]["layers_1"]["mlp"]["wi"]


HUGGING_FACE_DAMAGE = [
    (options(model_type="bert"), r"config\.json: model_type must be 't5', found 'bert'"),
    (options(model_type=None), r"config\.json: model_type must be 't5', found None"),
    (
        options(feed_forward_proj="gated-silu"),
        r"feed_forward_proj must be relu or .*, found 'gated-silu'",
    ),
    (options(feed_forward_proj="gelu"), r"feed_forward_proj must be relu or .*, found 'gelu'"),
    (options(feed_forward_proj=["relu"]), r"feed_forward_proj must be relu or .*, found \['relu'\]"),
    (options(dense_act_fn="silu"), r"dense_act_fn must be relu or gelu_new or .*, found 'silu'"),
    (options(dense_act_fn=["relu"]), r"dense_act_fn must be relu or gelu_new or .*, found \['relu'\]"),
    (
        options(dense_act_fn="gelu_new"),
        r"feed_forward_proj 'relu' contradicts dense_act_fn 'gelu_new' and",
    ),
    (options(is_gated_act=True), r"feed_forward_proj 'relu' contradicts dense_act_fn 'relu' and is_gated_act True"),
    (options(is_gated_act="no"), r"is_gated_act must be true or false, found 'no'"),
    (options(feed_forward_proj="gated-gelu"), r"feed_forward_proj 'gated-gelu' contradicts dense_act_fn 'relu'"),
    (options(layer_norm_epsilon=1e-5), r"layer_norm_epsilon must be 1e-06, found 1e-05"),
    (options(is_encoder_decoder=False), r"is_encoder_decoder must be True, found False"),
    (options(pad_token_id=3), r"pad_token_id must be 0, found 3"),
    (options(quantization_config={"bits": 4}), r"quantization_config must be None"),
    (options(d_kv=None), r"config\.json has no d_kv"),
    (options(d_kv="five"), r"config\.json: T5Config\.head_dim must be an integer of at least 1, got 'five'"),
    (options(vocab_size=91), r"shared\.weight must have shape \(91, 12\), found \(90, 12\)"),
    (options(d_kv=6), r"Attention\.\w\.weight must have shape \(18, 12\), found \(15, 12\)"),
    (options(num_layers=10**9), r"model\.safetensors has 2 encoder layers, but config\.json has 1000000000"),
    (options(num_decoder_layers=2), r"model\.safetensors has 3 decoder layers, but config\.json has 2"),
    (
        options(feed_forward_proj="gated-gelu", dense_act_fn=None, is_gated_act=None),
        r"lacks parameter .*DenseReluDense\.wi_0\.weight and 9 more",
    ),
    (options(tie_word_embeddings=False), r"lacks parameter lm_head\.weight$"),
    (content("config.json", b'{"model_type": "t5", '), r"config\.json is not JSON"),
    (content("config.json", b"\xff\xfe"), r"config\.json is not JSON"),
    (content("config.json", b"[]"), r"config\.json must be a JSON object, found list"),
    (tensors(lambda data: data.pop("shared.weight")), r"lacks parameter shared\.weight$"),
    (tensors(put("classifier.weight", np.zeros(2, np.float32))), r"has unknown parameter classifier\.weight$"),
    (tensors(put("shared.weight", np.zeros((90, 13), np.float32))), r"shape \(90, 12\), found \(90, 13\)"),
    (tensors(put("shared.weight", np.zeros((90, 12), np.int8))), r"shared\.weight must be float32.*found int8"),
    (tensors(put("shared.weight", np.full((90, 12), np.nan, np.float32))), r"shared\.weight holds values that are not"),
    (tensors(put("lm_head.weight", np.ones((90, 12), np.float32))), r"lm_head\.weight differs from shared\.weight"),
    (removed("model.safetensors"), r"has none of model\.safetensors, .* and pytorch_model\.bin"),
    (content("model.safetensors", b""), r"model\.safetensors is damaged"),
]

T5X_DAMAGE = [
    (removed("checkpoint"), r"has neither config\.json \(Hugging Face\) nor checkpoint \(T5X\)"),
    (content("checkpoint", b""), r"checkpoint is damaged"),
    (content("checkpoint", b'model_checkpoint_path: "model.ckpt-1"'), r"checkpoint belongs to a TensorFlow checkpoint"),
    (content("checkpoint", msgpack.packb([1])), r"must be a T5X checkpoint of version 2 or 3, found version None"),
    (tree(put("version", 1)), r"must be a T5X checkpoint of version 2 or 3, found version 1"),
    (tree(put("optimizer", {})), r"has no parameters under optimizer/target"),
    (
        tree(lambda data: data["optimizer"]["target"].pop("token_embedder")),
        r"lacks the parameter token_embedder/emb",
    ),
    (
        tree(lambda data: data["optimizer"]["target"]["encoder"].pop("layers_0")),
        r"lacks the parameter encoder/layers_0",
    ),
    (tree(lambda data: data["optimizer"]["target"]["encoder"].pop("encoder_norm")), r"encoder/encoder_norm/scale$"),
    (tree(lambda data: dense(data).update(bias=inline(np.zeros(20)))), r"unknown parameter .*mlp/wi/bias$"),
    (tree(lambda data: dense(data).update(kernel=inline(np.zeros((2, 3))))), r"shape \(12, 20\), found \(2, 3\)"),
    (
        tree(lambda data: dense(data).update(kernel=inline(np.zeros((12, 20))))),
        r"mlp/wi/kernel must be float32.*float64",
    ),
    (tree(lambda data: dense(data).update(kernel=7)), r"mlp/wi/kernel is neither an array nor the name of a zarr"),
    (
        tree(lambda data: dense(data).update(kernel={"kvstore": {"path": "x/.."}})),
        r"mlp/wi/kernel is neither an array",
    ),
    (
        tree(lambda data: dense(data).update(kernel={"kvstore": {"path": "nowhere"}})),
        r"nowhere/\.zarray is missing",
    ),
    (tree(put("raysynth_network", 3)), r"raysynth_network must hold max_distance and mlp_activations, found 3"),
    (tree(put("raysynth_network", {"max_distance": -1})), r"T5Config\.max_distance must be an integer"),
    (removed(KERNEL), rf"{KERNEL}/\.zarray is missing"),
    (removed(f"{KERNEL}/.zarray"), rf"{KERNEL}/\.zarray is missing"),
    (removed(f"{KERNEL}/0.0"), rf"is damaged: .*{KERNEL}/0\.0.* is missing"),
    (content(f"{KERNEL}/.zarray", b"{"), rf"{KERNEL} is damaged"),
    (content(f"{KERNEL}/0.0", b"\x1f\x8b"), rf"is damaged: .*{KERNEL}/0\.0"),
]


@pytest.mark.parametrize(
    ("form", "damage", "line"),
    [
        *((Format.HUGGING_FACE, *case) for case in HUGGING_FACE_DAMAGE),
        *((Format.T5X, *case) for case in T5X_DAMAGE),
    ],
)
def test_a_damaged_directory_is_one_line_that_names_the_file(form, damage, line, sound, tmp_path):
    directory = tmp_path / "damaged"
    shutil.copytree(sound / form, directory)
    damage(directory)
    with pytest.raises(InputError, match=line) as caught:
        read(directory)
    assert str(caught.value).startswith(str(directory))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("form", "file", "shares"),
    [
        (Format.HUGGING_FACE, "config.json", np.linspace(0, 0.98, 30)),
        (Format.HUGGING_FACE, "model.safetensors", np.linspace(0, 0.9999, 30)),
        (Format.T5X, "checkpoint", np.linspace(0, 0.9999, 30)),
        (Format.T5X, f"{KERNEL}/.zarray", np.linspace(0, 0.98, 10)),
        # A chunk's last eight bytes are gzip's checksum, without which the values are still whole.
        (Format.T5X, f"{KERNEL}/0.0", np.linspace(0, 0.98, 10)),
    ],
)
def test_every_truncation_is_an_error(form, file, shares, sound, tmp_path):
    shutil.copytree(sound / form, tmp_path / "cut")
    whole = (sound / form / file).read_bytes()
    for share in shares:
        (tmp_path / "cut" / file).write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError) as caught:
            read(tmp_path / "cut")
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_no_wrong_byte_raises_anything_but_an_input_error(sound, tmp_path):
    rng = np.random.default_rng(0)
    for form, file in ((Format.T5X, "checkpoint"), (Format.T5X, f"{KERNEL}/.zarray"), (Format.HUGGING_FACE, None)):
        directory = tmp_path / f"{form}-{(file or '').partition('/')[0]}"
        shutil.copytree(sound / form, directory)
        where = directory / (file or "model.safetensors")
        whole = where.read_bytes()
        for place in rng.integers(0, min(len(whole), 8_000), 60):
            where.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.integers(8))]) + whole[place + 1 :])
            with contextlib.suppress(InputError):
                read(directory)


def test_a_directory_above_the_checkpoints_names_them(tmp_path):
    write_t5x(tmp_path / "t5/checkpoint_300", ORIGINAL, arrays(ORIGINAL))
    with pytest.raises(InputError, match=r"pass one of its folders checkpoint_300$"):
        read(tmp_path / "t5")
    with pytest.raises(InputError, match="nowhere is not a directory"):
        read(tmp_path / "nowhere")


# -------------------------------------------------------------------------------- as a source


def test_embeddings_come_from_a_natural_source_by_default():
    source = pretrained("t5-small")
    assert FullInit(source) == FullInit(source, embeddings="source") != FullInit(source, embeddings="random")
    assert identity.describe(FullInit(source)) != identity.describe(FullInit(source, embeddings="random"))
    run = Finetune(task=TASK, init=FullInit(source))
    assert name(source).startswith("pretrained/t5-small-")
    assert run.label.startswith("python_ast.t5-small.")
    assert run.inputs() == (TASK.data, source)


def test_published_shapes_are_known_by_name():
    assert pretrained("t5-small").model == T5_SMALL
    assert pretrained("t5-base").model == T5_BASE
    assert pretrained("t5-v1_1-small").model == T5_V1_1_SMALL
    assert pretrained("my-own", model=MODEL).model == MODEL
    with pytest.raises(InputError, match=r"unknown pretrained model 't5-smal' \(did you mean 't5-small'\?\)"):
        pretrained("t5-smal")
    with pytest.raises(InputError, match=r"Pretrained\.name must be .*, got '\.\./x'"):
        pretrained("../x", model=MODEL)


def test_the_tiny_sweep_keeps_a_pretrained_model_whole():
    source = pretrained("my-own", model=MODEL)
    init = StatisticInit(source, group_by="parameter", statistic="scale")
    assert tiny.tiny(Finetune(task=TASK, init=init)).init == init


def sweep_of(*inits):
    sweep = Sweep(name="natural", claim="text helps")
    sweep.add(
        lambda init: Finetune(task=TASK, init=init), init={str(number): init for number, init in enumerate(inits)}
    )
    return sweep


def exit_code(sweep, *arguments):
    with pytest.raises(SystemExit) as ended:
        sweep.main(list(map(str, arguments)))
    return ended.value.code


def test_the_import_command_that_a_sweep_prints_works(tmp_path, capsys):
    source = pretrained("my-own", model=dataclasses.replace(MODEL, dtype="float32"))
    sweep = sweep_of(FullInit(source))
    store = Store(str(tmp_path / "store"))
    assert exit_code(sweep, "run", "--store", store.uri) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name(source)} is not in {store.uri}; import it: raysynth import DIR ")
    assert error.count("\n") == 1
    assert not ray.is_initialized()

    assert exit_code(sweep, "plan", "--store", store.uri) == 0
    (line,) = (
        line for line in capsys.readouterr().out.splitlines() if "pretrained/my-own" in line and "import" in line
    )
    command = line.partition("import it: ")[2]
    assert command == error.strip().partition("import it: ")[2]

    write_t5x(tmp_path / "release", MODEL, arrays(MODEL))
    program, *arguments = shlex.split(command.replace("DIR", str(tmp_path / "release")))
    assert program == "raysynth"
    assert main(arguments) == 0
    assert store.status(source).state is State.DONE
    assert eval(capsys.readouterr().out.splitlines()[-1].partition(": ")[2]) == source
    assert exit_code(sweep, "plan", "--store", store.uri) == 0
    assert f"{State.DONE:11} {name(source)}" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_finished_sweep_needs_no_pretrained_model(tmp_path, capsys):
    run = Finetune(task=TASK, init=FullInit(pretrained("my-own", model=MODEL)))
    store = Store(str(tmp_path))
    evaluation = {"token_accuracy": 0.5, "loss": 1.0}
    result = weights_result(selected_step=3, validation=evaluation, evaluations={3: evaluation}, test=evaluation)
    store.record(run.task.data, result=DATA_RESULT, provenance=provenance())
    store.record(run, result=result, provenance=provenance())
    assert exit_code(sweep_of(run.init), "run", "--store", tmp_path) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--name", "t5-small"], "t5-small has vocab_size 32128, found 256"),
        (["--name", "t5-smal"], "unknown pretrained model 't5-smal' (did you mean 't5-small'?)"),
        (["--name", "a/b", "--model", "found"], "Pretrained.name must be at most 60 letters"),
    ],
)
def test_a_wrong_import_is_one_line_and_leaves_nothing(arguments, line, tmp_path, capsys):
    write_hugging_face(tmp_path / "release", MODEL, arrays(MODEL))
    assert main(["import", str(tmp_path / "release"), *arguments, "--store", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_other_weights_under_the_same_name_are_refused(tmp_path, capsys):
    for seed in (0, 1):
        write_t5x(tmp_path / str(seed), MODEL, arrays(MODEL, seed=seed))
    arguments = ["--name", "mine", "--model", "found", "--store", str(tmp_path / "store")]
    assert main(["import", str(tmp_path / "0"), *arguments]) == 0
    assert main(["import", str(tmp_path / "1"), *arguments]) == 2
    assert "holds other weights than" in capsys.readouterr().err


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A store with an imported model, a task's data, and that model's name and parameters."""
    root = tmp_path_factory.mktemp("imported")
    store = Store(str(root / "store"))
    params = arrays(MODEL)
    write_hugging_face(root / "release", MODEL, params)
    assert main(f"import {root}/release --name my-own --model found --store {store.uri}".split()) == 0
    manifest = generate_text(TASK.data, store, {})
    result = DataResult(rows=manifest.num_rows, sha256=manifest.digest)
    store.record(TASK.data, result=result, provenance=provenance())
    return store, pretrained("my-own", model=MODEL), params


BARELY = dataclasses.replace(
    TASK, learning_rate=1e-30, num_steps=1, eval_every=1, input_length=8, target_length=8, decode_length=8
)
"""Fine-tuning with a single step that is too small to change a float32."""


def finetuned(store, init, cache):
    """The parameters at the end of a fine-tuning, and its name."""
    run = Finetune(task=BARELY, init=init)
    make(run, store=store, cache=cache, report=lambda result: None, node="here")
    record = store.status(run).record
    return read_params(store.local_root / name(run) / "checkpoints", record.weights.selected_step), name(run)


def test_full_init_starts_from_the_imported_weights(imported, tmp_path):
    store, source, params = imported
    final, where = finetuned(store, FullInit(source), tmp_path)
    assert_same_bits(final, params)
    assert list((store.local_root / where).glob("events.*"))


def test_statistic_init_draws_from_the_imported_weights(imported, tmp_path):
    store, source, params = imported
    init = StatisticInit(source, group_by="parameter", statistic="scale")
    final, params = (flatten_dict(tree, sep="/") for tree in (finetuned(store, init, tmp_path)[0], params))
    for path, leaf in params.items():
        if parse(path).kind is Kind.LAYER_NORM:
            np.testing.assert_allclose(final[path], leaf.mean(), rtol=1e-6)
        elif parse(path).kind is Kind.KERNEL:
            assert not np.array_equal(final[path], leaf)
            assert mean_and_sd([final[path]])[1] == pytest.approx(mean_and_sd([leaf])[1], rel=0.3)


@pytest.mark.parametrize("form", Format)
def test_any_trained_artifact_can_be_exported(form, imported, tmp_path, capsys):
    store, source, _ = imported
    params, where = finetuned(store, FullInit(source, embeddings="random"), tmp_path)
    arguments = ["--store", store.uri, "--format", str(form), str(tmp_path / "out")]
    assert main(["export", where[:-1], *arguments]) == 0
    config, again = read(tmp_path / "out")
    assert config == MODEL
    assert_same_bits(again, params)
    for wrong, line in (
        (where, "exists already"),
        (f"{where}0", f"did you mean {where!r}?"),
        (name(TASK.data), "is a data set and has no weights"),
    ):
        capsys.readouterr()
        assert main(["export", wrong, *arguments]) == 2
        error = capsys.readouterr().err
        assert line in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("lost", ["manifest.ocdbt", "_METADATA", "d/*", "ocdbt.process_0/d/*"])
def test_a_damaged_checkpoint_in_the_store_is_one_line(lost, tmp_path, capsys):
    write_t5x(tmp_path / "release", MODEL, arrays(MODEL))
    arguments = ["--name", "mine", "--model", "found", "--store", str(tmp_path / "store")]
    assert main(["import", str(tmp_path / "release"), *arguments]) == 0
    where = name(pretrained("mine", model=MODEL))
    for file in (tmp_path / "store" / where / "checkpoints/0/params").glob(lost):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    capsys.readouterr()
    assert main(["export", where, "--store", str(tmp_path / "store"), "--format", "t5x", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {where} is damaged: {tmp_path}/store/{where}/checkpoints/0/params/")
    assert f"; import it again: raysynth import {tmp_path}/release --name mine " in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_backslash_in_the_path_of_a_t5x_directory_is_one_line(tmp_path):
    directory = tmp_path / "a\\b"
    with pytest.raises(InputError, match="a T5X directory must have no backslash in its path"):
        write_t5x(directory, MODEL, arrays(MODEL))
    with pytest.raises(InputError, match="a T5X directory must have no backslash in its path"):
        read_t5x(directory)
    assert not list(tmp_path.iterdir())
