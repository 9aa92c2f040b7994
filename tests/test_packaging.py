"""What a release says of itself: one version everywhere, and a source distribution with everything to run and test."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from raysynth.cli import main

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_version_is_the_same_everywhere():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == VERSION
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == VERSION


def test_the_command_tells_its_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"raysynth (\d+\.\d+\.\d+\S*|\(not installed\))\n", capsys.readouterr().out)


def test_a_source_distribution_has_the_files_that_the_readme_names():
    manifest = (ROOT / "MANIFEST.in").read_text().split()
    for name in ("sweeps", "tests", "docs", "cluster.yaml", "kuberay.yaml", "CHANGELOG.md", "CITATION.cff"):
        assert name in manifest
        assert (ROOT / name).exists()
