"""Downloads from a local server that supports ranges and versions, can break a connection and can send no length."""

import fcntl
import hashlib
import http.server
import io
import os
import re
import struct
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
        self.ranges, self.framing, self.redirect = [], "length", None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/data.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        requested = self.headers.get("Range")
        server.ranges.append(requested)
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
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
        self.close_connection = True
        sent = body[: server.max_bytes]
        if server.framing == "length":
            self.send_header("Content-Length", str(len(body)))
        elif server.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            sent = f"{len(body):x}\r\n".encode() + sent + (b"\r\n0\r\n\r\n" if len(sent) == len(body) else b"")
        self.end_headers()
        self.wfile.write(sent)

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


@pytest.mark.parametrize("framing", ["chunked", "none"])
@pytest.mark.parametrize("supports_ranges", [True, False])
def test_a_download_without_a_length_that_breaks_off_is_never_taken_for_whole(
    server, tmp_path, framing, supports_ranges
):
    server.framing, server.max_bytes, server.supports_ranges = framing, 40, supports_ranges
    with pytest.raises(InputError, match=r"data\.bin: .* bytes are kept, run the same command again to resume$"):
        fetch(published(server), tmp_path)
    assert not (tmp_path / "data.bin").exists()
    server.max_bytes = None
    if framing == "none" and not supports_ranges:
        with pytest.raises(InputError, match="does not say how long the file is, so nothing tells whether this is all"):
            fetch(published(server), tmp_path)
    else:
        fetch(published(server), tmp_path)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_digest_tells_whether_a_download_without_a_length_is_whole(server, tmp_path):
    server.framing, server.supports_ranges = "none", False
    digest = hashlib.sha256(CONTENT).hexdigest()
    fetch(published(server, sha256=digest), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/data.bin", "http://example.org/x"])
def test_a_redirect_to_anything_but_https_is_refused(server, tmp_path, target):
    server.redirect = target
    with pytest.raises(InputError, match=rf"redirects to {target}; only https addresses are fetched$"):
        fetch(published(server), tmp_path)


@pytest.mark.parametrize("url", ["http://example.org/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "x"])
def test_an_address_that_is_not_https_is_refused(tmp_path, url):
    publisher = Publisher(page="", licence="", downloads=(Download(url=url, file="x"),))
    with pytest.raises(InputError, match=rf"^{url}: only https addresses are fetched$"):
        fetch(publisher, tmp_path)


def test_a_file_that_no_call_has_recorded_is_refused(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT[:40])
    with pytest.raises(InputError, match=r"is not in .*SHA256SUMS, so it may be incomplete; delete it to fetch it"):
        fetch(published(server), tmp_path)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"abc", b"0" * 64 + b"  data.bin", b"0" * 63 + b"  data.bin\n", b"\n"]
)
def test_damaged_sums_are_one_line(server, tmp_path, content):
    fetch(published(server), tmp_path)
    (tmp_path / SUMS).write_bytes(content)
    with pytest.raises(InputError, match=r"SHA256SUMS is damaged; delete it and the files beside it to fetch them"):
        fetch(published(server), tmp_path)


def test_a_damaged_version_of_a_part_is_ignored(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:40])
    (tmp_path / "data.bin.part.version").write_bytes(b"\xff\r\nX: y")
    fetch(published(server), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_is_one_line(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/below cannot be written: Not a directory$"):
        fetch(published(server), tmp_path / "file" / "below")


def test_two_calls_at_once_are_one_line(server, tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(InputError, match=rf"^another process fetches to {tmp_path}$"):
        fetch(published(server), tmp_path)
    os.close(folder)
    fetch(published(server), tmp_path)


def archive(members, compression=zipfile.ZIP_STORED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return packed.getvalue()


def test_members_of_an_archive_are_extracted(server, tmp_path):
    server.content = archive({"set/en/train.txt": "a", "set/de/train.txt": "b"})
    fetch(published(server, members=("set/en/train.txt",)), tmp_path)
    assert (tmp_path / "set/en/train.txt").read_text() == "a"
    assert not (tmp_path / "set/de").exists()
    with pytest.raises(InputError, match=r"data\.bin: not the expected archive: "):
        fetch(published(server, members=("set/en/test.txt",)), tmp_path)


@pytest.mark.parametrize("left", [b"", b"te", b"other", b"texts and more"])
def test_a_member_that_was_cut_or_altered_is_extracted_again(server, tmp_path, left):
    server.content = archive({"set/train.txt": "texts"})
    publisher = published(server, members=("set/train.txt",))
    fetch(publisher, tmp_path)
    (tmp_path / "set/train.txt").write_bytes(left)
    fetch(publisher, tmp_path)
    assert (tmp_path / "set/train.txt").read_text() == "texts"
    assert server.ranges == [None]
    assert [file.name for file in (tmp_path / "set").iterdir()] == ["train.txt"]


def test_a_member_with_a_wrong_crc_is_one_line_and_not_kept(server, tmp_path):
    server.content = archive({"set/train.txt": "texts"}).replace(b"texts", b"tests")
    with pytest.raises(InputError, match=r"not the expected archive: Bad CRC-32 .*; delete it to fetch it again$"):
        fetch(published(server, members=("set/train.txt",)), tmp_path)
    assert not list((tmp_path / "set").iterdir())


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_cannot_be_decompressed_is_one_line_and_not_kept(server, tmp_path, compression):
    content = bytearray(archive({"set/train.txt": CONTENT[:5_000]}, compression))
    content[50:90] = bytes(40)
    server.content = bytes(content)
    with pytest.raises(InputError, match=r"data\.bin: not the expected archive: .*; delete it to fetch it again$"):
        fetch(published(server, members=("set/train.txt",)), tmp_path)
    assert not list((tmp_path / "set").iterdir())


def test_an_archive_without_a_length_is_whole_if_its_directory_is_there(server, tmp_path):
    server.content, server.framing, server.supports_ranges = archive({"a.txt": "texts" * 100}), "none", False
    fetch(published(server, members=("a.txt",)), tmp_path / "whole")
    assert (tmp_path / "whole/a.txt").read_text() == "texts" * 100
    server.max_bytes = 300
    with pytest.raises(InputError, match="nothing tells whether this is all of it"):
        fetch(published(server, members=("a.txt",)), tmp_path / "cut")


def special(name, mode):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (special("../out.txt", 0), "lies outside the folder"),
        (special("/tmp/out.txt", 0), "lies outside the folder"),
        (special("link.txt", 0o120777), "is not a file"),
        (special("device.txt", 0o020666), "is not a file"),
        (special("folder/", 0), "is not a file"),
    ],
    ids=lambda value: value.filename if isinstance(value, zipfile.ZipInfo) else "",
)
def test_a_member_stays_in_the_folder_and_is_a_file(server, tmp_path, info, message):
    server.content = archive({info: "/etc/passwd"})
    with pytest.raises(InputError, match=rf"not the expected archive: .*{message}"):
        fetch(published(server, members=(info.filename,)), tmp_path / "into")
    assert sorted(file.name for file in tmp_path.rglob("*.txt")) == []


def test_the_size_of_what_is_unpacked_is_bounded(server, tmp_path):
    content = archive({"a.txt": "x"})
    size = struct.pack("<L", 1)
    directory = content.index(b"PK\x01\x02")
    claimed = content[directory:].replace(size + size, size + struct.pack("<L", 0xFFFF_FFFE), 1)
    server.content = content[:directory] + claimed
    with pytest.raises(InputError, match=r"data\.bin: unpacks to more than 4,294,967,296 bytes$"):
        fetch(published(server, members=("a.txt", "a.txt")), tmp_path)


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
