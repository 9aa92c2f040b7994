"""Addresses of Ray clusters: what is wrong with one is a line, before anything starts."""

import socket

import pytest

from raysynth import InputError
from raysynth.run import address


@pytest.mark.parametrize("nothing", [None, "", "local"])
def test_without_an_address_the_session_is_on_this_machine(nothing):
    assert address.cluster(nothing) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("http://127.0.0.1:8265", r"must be HOST:PORT, auto or local, got 'http://127.0.0.1:8265'$"),
        ("ray://127.0.0.1:10001", "Ray Client, which is not supported"),
        ("127.0.0.1", "must be HOST:PORT"),
        (":6379", "must be HOST:PORT"),
        ("127.0.0.1:0", "must be HOST:PORT"),
        ("127.0.0.1:99999", "must be HOST:PORT"),
        ("127.0.0.1:6379/x", "must be HOST:PORT"),
        ("127.0.0.1:²", "must be HOST:PORT"),
        ("a b:6379", "no Ray cluster answers at a b:6379: "),
        ("..:6379", "no Ray cluster answers at ..:6379: "),
    ],
)
def test_a_text_that_is_no_address_is_one_line(text, line):
    with pytest.raises(InputError, match=line) as caught:
        address.cluster(text)
    assert "\n" not in str(caught.value)


def test_an_address_where_nothing_listens_is_one_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=f"^no Ray cluster answers at 127.0.0.1:{port}: Connection refused$"):
        address.cluster(f"127.0.0.1:{port}")


def test_auto_without_a_cluster_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(InputError, match=r"^the Ray address is auto, and no Ray cluster runs on this machine$"):
        address.cluster("auto")
