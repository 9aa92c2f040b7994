"""Downloads from a local server that supports ranges and versions, and that can break a connection."""

import hashlib
import http.server
import io
import re
import subprocess
import threading
import zipfile

import pytest

from raysynth import cli
from raysynth.cli import tasks
from raysynth.downstream.fetch import SUMS, Download, Publisher, fetch, publishers
from raysynth.errors import InputError, Named
from raysynth.specs.catalog import downstream_tasks

CONTENT = bytes(range(256)) * 2_000


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`, but closes each connection after `max_bytes` bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.version, self.max_bytes, self.supports_ranges = CONTENT, '"one"', None, True
        self.ranges = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/data.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        requested = self.headers.get("Range")
        server.ranges.append(requested)
        if self.path != "/data.bin":
            self.send_error(404)
            return
        same = self.headers.get("If-Range") in (None, server.version)
        start = int(re.fullmatch(r"bytes=(\d+)-", requested)[1]) if requested and same and server.supports_ranges else 0
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.version:
            self.send_header("ETag", server.version)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.max_bytes])
        self.close_connection = True

    def log_message(self, *_):
        """Stay silent."""


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def published(server, **changes):
    return Publisher(page="page", licence="none", downloads=(Download(url=server.url, file="data.bin", **changes),))


def test_a_file_is_fetched_once_and_its_digest_is_recorded(server, tmp_path):
    fetch(published(server), tmp_path / "new")
    assert (tmp_path / "new/data.bin").read_bytes() == CONTENT
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [SUMS, "data.bin"]
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=tmp_path / "new", check=True)
    fetch(published(server), tmp_path / "new")
    assert server.ranges == [None]


@pytest.mark.parametrize("version", ['"one"', None])
def test_a_broken_connection_is_resumed(server, tmp_path, version):
    server.max_bytes, server.version = 200_000, version
    fetch(published(server), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=200000-", "bytes=400000-"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [SUMS, "data.bin"]


def test_a_later_call_resumes_an_earlier_one(server, tmp_path):
    server.max_bytes = 50_000
    with pytest.raises(
        InputError, match=r"data\.bin: the connection ended early; 250,000 bytes are kept, run the same"
    ):
        fetch(published(server), tmp_path)
    assert not (tmp_path / "data.bin").exists()
    server.max_bytes = None
    fetch(published(server), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=250000-"


def test_a_file_that_changed_in_between_is_fetched_again(server, tmp_path):
    server.max_bytes = 50_000
    with pytest.raises(InputError):
        fetch(published(server), tmp_path)
    server.max_bytes, server.version, server.content = None, '"two"', CONTENT[::-1]
    fetch(published(server), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_sends_everything_again(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(b"something else")
    server.supports_ranges = False
    fetch(published(server), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [b"", b"x"])
def test_a_complete_part_is_renamed_and_a_longer_one_is_fetched_again(server, tmp_path, extra):
    (tmp_path / "data.bin.part").write_bytes(CONTENT + extra)
    fetch(published(server), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert len(server.ranges) == 1 + len(extra)


def test_a_download_is_verified_against_the_publishers_digest(server, tmp_path):
    digest = hashlib.sha256(CONTENT).hexdigest()
    fetch(published(server, sha256=digest), tmp_path / "right")
    with pytest.raises(InputError, match=rf"data\.bin: has SHA-256 {digest}, must have {'0' * 64}; nothing is kept$"):
        fetch(published(server, sha256="0" * 64), tmp_path / "wrong")
    assert not list((tmp_path / "wrong").iterdir())


@pytest.mark.parametrize("sha256", [None, hashlib.sha256(CONTENT).hexdigest()])
def test_a_local_change_of_a_file_is_one_line(server, tmp_path, sha256):
    fetch(published(server, sha256=sha256), tmp_path)
    (tmp_path / "data.bin").write_bytes(b"changed")
    with pytest.raises(
        InputError, match=r"data\.bin: has SHA-256 \w+, not \w+ (from the|in) .*; delete it to fetch it again$"
    ) as error:
        fetch(published(server, sha256=sha256), tmp_path)
    assert "\n" not in str(error.value)


def test_members_of_an_archive_are_extracted(server, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("set/en/train.txt", "a")
        archive.writestr("set/de/train.txt", "b")
    server.content = packed.getvalue()
    fetch(published(server, members=("set/en/train.txt",)), tmp_path)
    assert (tmp_path / "set/en/train.txt").read_text() == "a"
    assert not (tmp_path / "set/de").exists()
    with pytest.raises(InputError, match=r"data\.bin: not the expected archive: "):
        fetch(published(server, members=("set/en/test.txt",)), tmp_path)


def test_an_address_that_does_not_answer_is_one_line(server, tmp_path):
    missing = Publisher(page="", licence="", downloads=(Download(url=f"{server.url}.old", file="x"),))
    with pytest.raises(InputError, match=r"/data\.bin\.old: HTTP 404 Not Found$"):
        fetch(missing, tmp_path)
    nobody = Publisher(page="", licence="", downloads=(Download(url="http://127.0.0.1:9/x", file="x"),))
    with pytest.raises(InputError, match=r"^http://127\.0\.0\.1:9/x: .*refused; 0 bytes are kept, run"):
        fetch(nobody, tmp_path)


# ---------------------------------------------------------------------------------------------------------- the command


def test_the_command_says_what_comes_next(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tasks, "publishers", Named("data set to fetch", {"squad": published(server)}))
    assert cli.main(["fetch", "squad_10k", "--into", str(tmp_path / "here")]) == 0
    output = capsys.readouterr().out
    assert (
        output == f"page (licence: none)\nthen: --data squad={tmp_path}/here or RAYSYNTH_DATA_SQUAD={tmp_path}/here\n"
    )
    assert (tmp_path / "here/data.bin").read_bytes() == CONTENT


def test_data_that_a_person_must_fetch_come_with_instructions(tmp_path, capsys):
    assert cli.main(["fetch", "webqsp", "--into", str(tmp_path)]) == 1
    assert "by hand: WebQSP's official files have neither triples nor s-expressions." in capsys.readouterr().out


def test_an_unknown_task_is_one_line(tmp_path, capsys):
    assert cli.main(["fetch", "squat", "--into", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown data set to fetch 'squat' (did you mean 'squad'?); allowed: cnndm, ")


def test_every_task_with_files_has_a_publisher_with_whole_addresses():
    assert set(publishers) == {task.data.name for task in downstream_tasks.values()} - {"python_ast"}
    for publisher in publishers.values():
        assert publisher.downloads or publisher.by_hand
        for download in publisher.downloads:
            assert re.fullmatch(r"https://[\w.-]+/[\w./-]+", download.url)
            assert download.sha256 is None or re.fullmatch("[0-9a-f]{64}", download.sha256)


def test_the_digests_in_the_table_are_those_of_the_files_at_hand(shared):
    folders = {"code_translation": "code_translation", "retrosynthesis": "uspto50k"}
    for name, publisher in publishers.items():
        for download in publisher.downloads:
            if download.sha256 is not None:
                content = (shared / "data" / folders[name] / download.file).read_bytes()
                assert hashlib.sha256(content).hexdigest() == download.sha256
