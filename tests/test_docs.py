"""README.md and docs/: their code blocks run, and the paths, links, commands and options that they name exist."""

import contextlib
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from raysynth import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGE_NAMES = [page.name for page in PAGES]

INFO = re.compile(r"(bash|python)( long| no-test: \S.*)?|python in: \S+|bibtex|text|yaml")
"""What may stand behind the opening fence of a code block; docs/development.md explains it."""

OPTIONS_OF_OTHERS = {
    *("--strict", "--optimized"),
    *("--port-forward", "--screen", "--tmux"),
    *("--seed", "--num", "--jobs", "--only", "--kinds"),
    *("--head", "--zone", "--accelerator-type", "--runtime-version", "--node-count", "--node-prefix", "--format"),
}
"""Options of the commands of Ray and Google Cloud, of twine, of these tests and of the campaign of faults."""


class Block(NamedTuple):
    line: int
    info: str
    text: str

    @property
    def language(self) -> str:
        return self.info.split()[0]

    @property
    def mode(self) -> str:
        """The word after the language: long, no-test or in; empty if every test run runs the block."""
        _, *mode = self.info.split()
        return mode[0].rstrip(":") if mode else ""


def blocks(page):
    """The code blocks of a page, in order."""
    found, opening = [], None
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        if line.startswith("```"):
            if opening is None:
                opening = number
            else:
                found.append(Block(opening, lines[opening - 1][3:], "\n".join(lines[opening : number - 1]) + "\n"))
                opening = None
    assert opening is None, f"{page.name}:{opening}: the code block does not end"
    return found


def prose(page):
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def inline_code(page):
    return re.findall(r"`([^`\n]+)`", prose(page))


@pytest.fixture
def checkout(tmp_path):
    """A working directory with the files that commands use, and the environment to run them in."""
    work, programs = tmp_path / "work", tmp_path / "bin"
    work.mkdir()
    programs.mkdir()
    shutil.copytree(ROOT / "sweeps", work / "sweeps", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "cluster.yaml", work)
    for program, call in {"python": "", "raysynth": "-m raysynth.cli "}.items():
        file = programs / program
        file.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call}"$@"\n')
        file.chmod(0o755)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("RAYSYNTH_") and name != "RAY_ADDRESS"
    }
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return work, environment


def run_block(page, block, checkout):
    work, environment = checkout
    if block.language == "bash":
        command = ["bash", "-euc", block.text]
    elif block.mode == "in":
        script = (
            "import runpy, sys\nscope = runpy.run_path(sys.argv[1])\nexec(sys.argv[2], scope)\nscope['sweep'].cells()\n"
        )
        command = ["python", "-c", script, block.info.split()[2], block.text]
    else:
        command = ["python", "-c", "__name__ = 'docs'\n" + block.text + "if 'sweep' in globals():\n    sweep.cells()\n"]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"{page.name}:{block.line}: {block.text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_every_block_says_whether_it_runs(page):
    for block in blocks(page):
        assert INFO.fullmatch(block.info), f"{page.name}:{block.line}: ```{block.info}"
        if block.language == "python":
            compile(block.text, f"{page.name}:{block.line}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_blocks_run(page, checkout):
    for block in blocks(page):
        if block.language in ("bash", "python") and block.mode in ("", "in"):
            run_block(page, block, checkout)


@pytest.mark.long
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.mode == "long" for block in blocks(page))], ids=lambda page: page.name
)
def test_long_blocks_run(page, checkout):
    for block in blocks(page):
        if block.mode == "long":
            run_block(page, block, checkout)


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_paths_exist(page):
    text = re.sub(r"\S+/\S*[*?]\S*", lambda glob: "" if list(ROOT.glob(glob[0])) else glob[0], page.read_text())
    paths = re.findall(r"(?<![\w/~.-])(?:(?:raysynth|sweeps|tests|docs|\.ci)/[\w./-]*\w/?)", text)
    files = [code for code in inline_code(page) if re.fullmatch(r"[\w.-]+\.(?:yaml|toml|cff|md)", code)]
    for path in {*paths, *files}:
        if "NAME" not in path:
            assert (ROOT / path).exists(), f"{page.name} names {path}"


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_named_tests_exist(page):
    for path, test in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text()):
        assert f"\ndef {test}(" in (ROOT / path).read_text(), f"{page.name} names {path}::{test}"


def anchors(page):
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            file = page.parent / path if path else page
            assert file.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


def help_of(main, *arguments):
    """What a command prints for `--help`."""
    with contextlib.redirect_stdout(io.StringIO()) as output, pytest.raises(SystemExit) as end:
        sys.exit(main([*arguments, "--help"]))
    assert not end.value.code
    return output.getvalue()


@pytest.fixture
def helps(monkeypatch):
    """The help of each verb of a sweep file and of each command of `raysynth`, by command."""
    monkeypatch.setenv("COLUMNS", "200")
    sweep = runpy.run_path(str(ROOT / "sweeps/quickstart.py"))["sweep"]
    commands = re.findall(r"^    (\w[\w-]*)", help_of(cli.main), flags=re.M)
    return {f"raysynth {command}": help_of(cli.main, command) for command in commands} | {
        f"sweep {verb}": help_of(sweep.main, verb) for verb in ("plan", "run", "status", "report")
    }


def test_commands_and_options_exist(helps):
    options = {option for text in helps.values() for option in re.findall(r"--[a-z][\w-]*", text)} | OPTIONS_OF_OTHERS
    for benchmark in (ROOT / "tests/benchmarks").glob("*.py"):
        options.update(re.findall(r'"(--[a-z][\w-]*)"', benchmark.read_text()))
    for page in PAGES:
        for code in [*inline_code(page), *(block.text for block in blocks(page) if block.language == "bash")]:
            for verb in re.findall(r"\braysynth ([a-z]\w*)", code):
                assert f"raysynth {verb}" in helps, f"{page.name} names the command raysynth {verb}"
            named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code))
            assert named <= options, f"{page.name} names {named - options}"


def test_every_command_and_option_is_documented(helps):
    text = (ROOT / "docs/commands.md").read_text()
    for command, page in helps.items():
        if command.startswith("raysynth"):
            assert command in text
        else:
            for option in set(re.findall(r"--[a-z][\w-]*", page)) - {"--help"}:
                assert f"`{option}" in text, option


def test_the_readme_names_every_package():
    named = re.findall(r"^\| `(raysynth/[\w.]+/?)` \|", (ROOT / "README.md").read_text(), flags=re.M)
    packages = [file.parent for file in ROOT.glob("raysynth/*/__init__.py")]
    modules = set(ROOT.glob("raysynth/*.py")) - {ROOT / "raysynth/__init__.py"}
    assert sorted(ROOT / name for name in named) == sorted([*packages, *modules])
