"""`raysynth stats` and `raysynth figure6` on checkpoints in a local or remote store."""

import csv
import dataclasses
import io
import shutil
import subprocess
import sys

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from raysynth import pretrained, synthetic_tasks
from raysynth.cli import main
from raysynth.model.checkpoints import params_digest, write_params
from raysynth.specs.datasets import Dataset
from raysynth.specs.identity import name
from raysynth.specs.parameters import paths
from raysynth.store.checkpoint_files import LIST
from raysynth.store.store import Store
from raysynth.weights.selected import selected
from raysynth.weights.statistics import attention_norm_means
from tests.records import DATA_RESULT, provenance, weights_result
from tests.tiny import MODEL

SHALLOW = dataclasses.replace(MODEL, num_decoder_layers=2)
DEEP = dataclasses.replace(MODEL, num_encoder_layers=3)
ARTIFACTS = [pretrained("shallow", model=SHALLOW), pretrained("deep", model=DEEP)]
FIRST, SECOND = map(name, ARTIFACTS)
DATA = Dataset(task=synthetic_tasks["set"], num_examples=10)


def params_of(model):
    rng = np.random.default_rng(model.num_encoder_layers)
    return {path: rng.normal(1, 0.2, shape).astype(np.float32) for path, shape in paths(model).items()}


def fill(store):
    for artifact in ARTIFACTS:
        params = unflatten_dict(params_of(artifact.model), sep="/")
        with store.workspace(artifact) as workspace:
            write_params(workspace.path / "checkpoints", 7, params, artifact=name(artifact))
            workspace.push()
        result = weights_result(selected_step=7, params_sha256=params_digest(params))
        store.record(artifact, result=result, provenance=provenance())
    store.record(DATA, result=DATA_RESULT, provenance=provenance())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(str(tmp_path_factory.mktemp("weights") / "store"))
    fill(store)
    return store


@pytest.fixture
def copy(store, tmp_path):
    """A copy of the store to damage."""
    shutil.copytree(store.root, tmp_path / "copy")
    return Store(str(tmp_path / "copy"))


def read_csv(text):
    return {row[0]: [float(entry) for entry in row[1:]] for row in list(csv.reader(io.StringIO(text)))[1:]}


def test_statistics_of_an_artifact(store, capsys):
    assert main(["stats", FIRST, "--store", store.uri, "--by", "parameter", "--format", "csv"]) == 0
    rows = read_csv(capsys.readouterr().out)
    assert list(rows) == sorted(paths(SHALLOW))
    for path, array in params_of(SHALLOW).items():
        values = array.astype(np.float64)
        assert rows[path] == [values.size, values.mean(), values.std(), values.min(), values.max()]

    assert main(["stats", f"{FIRST}/", "--store", store.uri]) == 0
    title, empty, header, *lines = capsys.readouterr().out.splitlines()
    assert (title, empty, header.split()) == (f"{FIRST}, step 7", "", ["type", "values", "mean", "SD", "min", "max"])
    assert [line.split()[0] for line in lines] == [
        *("final_layer_norm", "key", "mlp", "out", "pre_attention_layer_norm", "pre_mlp_layer_norm"),
        *("query", "relative_biases", "token_embedder", "value"),
    ]


def test_figure_6_of_two_depths(store, tmp_path, capsys):
    out = tmp_path / "new" / "norms"
    assert main(["figure6", f"A=b={FIRST}", SECOND, "--store", store.uri, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}.png\n{out}.svg\n"
    svg = (tmp_path / "new/norms.svg").read_bytes()
    for label in (b"random init", b"A=b", b"deep"):
        assert svg.count(b"<!-- %s -->" % label) == 1
    assert main(["figure6", f"A=b={FIRST}", SECOND, "--store", store.uri, "--out", str(tmp_path / "again.svg")]) == 0
    assert (tmp_path / "again.svg").read_bytes() == svg
    assert not (tmp_path / "again.png").exists()


def test_a_remote_store_gives_the_same(store, bucket, tmp_path, capsys):
    remote = Store(bucket("weights"))
    fill(remote)
    for artifact in (FIRST, SECOND):
        means = [attention_norm_means(selected(artifact, place).flat) for place in (store, remote)]
        assert means[0] == means[1]
    assert main(["figure6", FIRST, "--store", remote.uri, "--out", str(tmp_path / "remote.svg")]) == 0
    remote.write_json(f"{FIRST}/files.json", {"files": {}})
    capsys.readouterr()
    assert main(["stats", FIRST, "--store", remote.uri]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"error: {FIRST} is damaged: {remote.place}/{FIRST}/checkpoints/7 is missing; "
        f"import it again: raysynth import DIR --name shallow --store '{remote.uri}'\n"
    )


@pytest.mark.parametrize("command", [["stats"], ["figure6", "--out", "never.png"]])
@pytest.mark.parametrize(
    ("artifact", "line"),
    [
        (f"{FIRST}0", f"unknown artifact of {{store}} '{FIRST}0' (did you mean {FIRST!r}?); allowed: "),
        (name(DATA), f"{name(DATA)} is a data set and has no weights"),
        ("pretrain/begun-12345678", "{store}: pretrain/begun-12345678 is not finished and has no selected checkpoint"),
    ],
)
def test_an_artifact_without_weights_is_one_line(command, artifact, line, copy, capsys):
    copy.write_json("pretrain/begun-12345678/running.json", {})
    assert main([*command, artifact, "--store", copy.uri]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {line.format(store=copy.uri)}")
    assert error.count("\n") == 1


def test_an_empty_store_is_one_line(tmp_path, capsys):
    assert main(["stats", FIRST, "--store", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {tmp_path}/none holds no trained or imported artifacts\n"


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda params: shutil.rmtree(params), "{where}/checkpoints/7/params/_METADATA is missing"),
        (lambda params: shutil.rmtree(params.parents[1]), "{where}/checkpoints/7 is missing"),
        (lambda params: (params.parent / LIST).unlink(), f"{{where}}/checkpoints/7/{LIST} is missing"),
        (
            lambda params: (params / "manifest.ocdbt").write_bytes(b"x"),
            "{where}/checkpoints/7/params/manifest.ocdbt has 1 bytes instead of ",
        ),
        (
            lambda params: write_params(params.parents[1], 7, unflatten_dict(params_of(DEEP), sep="/"), artifact=FIRST),
            "{where}/checkpoints/7 holds other parameters than the record says",
        ),
    ],
)
def test_a_damaged_checkpoint_is_one_line(damage, line, copy, tmp_path, capsys):
    damage(copy.local_root / FIRST / "checkpoints/7/params")
    for command in (["stats"], ["figure6", "--out", str(tmp_path / "never")]):
        assert main([*command, FIRST, "--store", copy.uri]) == 2
        error = capsys.readouterr().err
        line_of_copy = line.format(where=f"{copy.uri}/{FIRST}")
        assert error.startswith(f"error: {FIRST} is damaged: {line_of_copy}")
        assert error.endswith(f"; import it again: raysynth import DIR --name shallow --store {copy.uri}\n")
        assert error.count("\n") == 1
    assert not list(tmp_path.glob("never*"))


@pytest.mark.parametrize(
    ("artifacts", "out", "line"),
    [
        (
            [FIRST],
            "figure.pdf",
            "a figure's file must end in .png or .svg, or have no suffix for both, got 'figure.pdf'",
        ),
        ([f"a={FIRST}", f"a={SECOND}"], "x.png", "two lines would be called 'a'; write LABEL=ARTIFACT for one of them"),
        ([f"random init={FIRST}"], "x.png", "two lines would be called 'random init'; "),
        ([FIRST], "/proc/nowhere/x.png", "/proc/nowhere/x.png cannot be written: "),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_one_line(artifacts, out, line, store, capsys):
    assert main(["figure6", *artifacts, "--store", store.uri, "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {line}")
    assert error.count("\n") == 1


def test_a_shell_prints_one_line_for_a_damaged_checkpoint(copy):
    (copy.local_root / FIRST / "checkpoints/7/params/manifest.ocdbt").write_bytes(b"x")
    command = [sys.executable, "-m", "raysynth.cli", "stats", FIRST, "--store", copy.uri]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert process.stderr.startswith(
        f"error: {FIRST} is damaged: {copy.uri}/{FIRST}/checkpoints/7/params/manifest.ocdbt "
    )
    assert process.stderr.count("\n") == 1
