"""Where files are: options and environment variables, with `~` expanded, and every wrong option in one line."""

import pytest

from raysynth.cli import main
from raysynth.data.locations import corpus_location, location, location_of_one, locations
from raysynth.errors import InputError
from raysynth.tokens.vocabulary import t5_vocabulary_bytes


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with a folder `x`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x").mkdir()
    return tmp_path


def test_the_home_is_expanded_wherever_a_path_comes_from(home, monkeypatch):
    assert locations(["mtop=~/x"]) == {"mtop": f"{home}/x"}
    assert location_of_one("mtop", "~/x") == location_of_one("mtop", "mtop=~/x") == {"mtop": f"{home}/x"}
    monkeypatch.setenv("RAYSYNTH_DATA_MTOP", "~/x")
    assert location("mtop", {}) == f"{home}/x"
    monkeypatch.setenv("RAYSYNTH_DATA_WIKI_10K", "~/x")
    assert corpus_location("wiki_10k", {}) == f"{home}/x"
    monkeypatch.setenv("RAYSYNTH_T5_VOCABULARY", "~/x/spiece.model")
    with pytest.raises(InputError, match=rf"{home}/x/spiece\.model cannot be read: No such file"):
        t5_vocabulary_bytes()


def test_a_task_of_another_size_has_the_location_of_its_data_set(home):
    for option in ("cnndm=~/x", "cnndm_10k=~/x", "~/x"):
        assert location_of_one("cnndm_10k", option) == {"cnndm": f"{home}/x"}
    assert location_of_one("cnndm_10k", None) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mtop"], r"--data takes TASK=PATH, got 'mtop'$"),
        (["mtop="], r"--data takes TASK=PATH, got 'mtop='$"),
        (["mtop= "], r"--data takes TASK=PATH, got 'mtop= '$"),
        (["=x"], r"--data takes TASK=PATH, got '=x'$"),
        ([""], r"--data takes TASK=PATH, got ''$"),
        (["mtop=~/x", "mtop=y"], r"--data mtop is there twice: .*/x and y$"),
        (["mtpo=~/x"], r"unknown task of --data 'mtpo' \(did you mean 'mtop'\?\)"),
        (["mtop=/nowhere"], r"--data mtop: /nowhere does not exist$"),
        (["mtop=/etc/passwd"], r"--data mtop: /etc/passwd is not a directory$"),
        (["mtop=gs://bucket/x"], r"--data mtop: gs://bucket/x is a URI; copy the files to this machine"),
        (["mtop=file:///tmp"], r"--data mtop: file:///tmp is a URI"),
        (["mtop=" + "x" * 5_000], r"--data mtop: x+ cannot be read: File name too long$"),
        (["mtop=a\0b"], r"--data mtop: 'a\\x00b' cannot be read: embedded null byte$"),
        (["mtop=/etc/passwd/x"], r"--data mtop: /etc/passwd/x cannot be read: Not a directory$"),
    ],
)
def test_a_wrong_option_is_one_line(options, message, home):
    with pytest.raises(InputError, match=f"^{message}"):
        locations(options)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("", "--data takes a path, got ''"),
        ("mtop=", "--data takes TASK=PATH, got 'mtop='"),
        ("squad=/tmp", "--data has the files of squad, but mtop is to be read"),
        ("/nowhere", "--data mtop: /nowhere does not exist"),
    ],
)
def test_a_wrong_option_of_one_task_is_one_line(option, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        location_of_one("mtop", option)


@pytest.mark.parametrize("name", ["mtop", "wiki_10k"])
def test_a_data_set_whose_files_nobody_named_is_refused_before_anything_is_written(name, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(f"RAYSYNTH_DATA_{name.upper()}", raising=False)
    assert main(["generate", name, "--store", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name} needs its ")
    assert error.count("\n") == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("variable", ["RAYSYNTH_DATA_MTOP", "RAYSYNTH_DATA_MTOP_X"])
def test_a_uri_in_the_environment_is_one_line(variable, monkeypatch):
    monkeypatch.setenv(variable, "s3://bucket/x")
    if variable == "RAYSYNTH_DATA_MTOP":
        with pytest.raises(InputError, match=r"^RAYSYNTH_DATA_MTOP: s3://bucket/x is a URI"):
            location("mtop", {})
    else:
        assert location("mtop", {}) is None
