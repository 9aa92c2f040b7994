"""The script for one GPU needs neither Ray nor anything else that a machine with JAX alone lacks."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests/benchmarks/on_device.py"
ABSENT = ("ray", "tensorboardX", "tensorboard", "rouge_score", "matplotlib", "scipy")


@pytest.fixture
def bare(tmp_path):
    """The variables of a process that cannot import what is absent there."""
    for module in ABSENT:
        (tmp_path / f"absent/{module}").mkdir(parents=True)
        (tmp_path / f"absent/{module}/__init__.py").write_text(f"raise ModuleNotFoundError('no {module}')")
    variables = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PYTHONPATH")}
    return variables | {"PYTHONPATH": str(tmp_path / "absent"), "JAX_PLATFORMS": "cpu"}


def test_all_that_the_script_imports_is_there_without_ray(bare):
    tree = ast.parse(SCRIPT.read_text())
    imports = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "raysynth" in (node.module or "")
    ]
    code = "\n".join([f"import sys; sys.path.insert(0, {str(ROOT)!r})", *map(ast.unparse, imports)])
    assert len(imports) > 20
    subprocess.run([sys.executable, "-c", code], env=bare, check=True, timeout=300)
    for module in ABSENT:
        refused = subprocess.run([sys.executable, "-c", f"import {module}"], env=bare, capture_output=True, timeout=60)
        assert f"no {module}" in refused.stderr.decode()


@pytest.mark.long
@pytest.mark.endurance
def test_a_tiny_run_goes_through_all_parts(bare, tmp_path):
    mtop = tmp_path / "data/mtop"
    mtop.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        names = ["".join(letters) for letters in np.random.default_rng(0).choice(list("aeioulmnrst"), (300, 6))]
        texts = [f"call {name} {split}\t[IN:CREATE_CALL [SL:CONTACT {name} ] ]\n" for name in names]
        (mtop / f"{split}.tsv").write_text("".join(texts))
    out = tmp_path / "out"
    command = [
        sys.executable,
        str(SCRIPT),
        "--tiny",
        "--minutes",
        "40",
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(out),
    ]
    ended = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads((out / "on_device.json").read_text())
    assert report["notes"] == []
    rows = {
        table: [row for row in report["rows"] if row["table"] == table]
        for table in {row["table"] for row in report["rows"]}
    }
    assert len(rows["golden numbers"]) == 24
    assert {row["verdict"] for row in rows["golden numbers"]} == {"ok"}
    assert len(rows["training steps"]) == 12
    refused = [row for row in rows["training steps"] if "remark" in row]
    assert {row["attention"] for row in refused} == {"dot_product_attention, cudnn"}
    assert all(row["lowest cosine of a gradient"] > 0.9 for row in rows["training steps"] if "xla" in row["attention"])
    assert [row["beams"] for row in rows["decoding, T5 Small in bfloat16"]] == [1, 4]
    assert len(rows["pre-training on Set"]) == 4
    random, from_set = rows["cell of Table 6: MTOP"]
    assert random["steps"] == from_set["steps"] == 8
    assert random["pre-training steps"] == 0 < from_set["pre-training steps"]
    assert (random["printed exact match % (100,000 steps)"], from_set["printed exact match % (100,000 steps)"]) == (
        38.6,
        71.7,
    )
    assert sum(file.stat().st_size for file in out.iterdir()) < 16 * 2**20
    assert (out / "on_device.md").read_text() in ended.stdout
