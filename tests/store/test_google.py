"""A bucket on Google Cloud: what stands in the way is one line within seconds, from stand-ins on this machine."""

import http.server
import pickle
import socket
import threading

import pytest

from raysynth import InputError
from raysynth.cli import main
from raysynth.store import google
from raysynth.store.store import Store


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch, tmp_path):
    """A user without credentials, on a machine whose metadata server is a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    for variable in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_GCLOUD_ADC_PATH_OVERRIDE", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GCE_METADATA_ROOT", f"127.0.0.1:{closed}")
    monkeypatch.setattr(google, "RETRY_SECONDS", 1)


@pytest.fixture
def bucket():
    """A function from a status and an answer to the URI of a bucket that gives them to every request."""
    servers = []

    def serve(status, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"gs://anonymous@bucket/a?endpoint_override=127.0.0.1:{servers[-1].server_port}&scheme=http"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_missing_credentials_are_one_line_that_says_what_to_do(capsys):
    assert main(["list", "--store", "gs://bucket/a"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: store 'gs://bucket/a' needs Google credentials: run `gcloud auth")
    assert "GOOGLE_APPLICATION_CREDENTIALS" in line


def test_a_server_that_never_answers_is_one_line(monkeypatch):
    monkeypatch.setattr(google, "WAIT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"gs://anonymous@bucket/a?endpoint_override=127.0.0.1:{silent.getsockname()[1]}&scheme=http"
        with pytest.raises(InputError, match=r"does not answer within 0\.5 s; without Google credentials, run"):
            Store(uri)


def test_a_bucket_that_refuses_is_one_line(bucket):
    uri = bucket(403, b'{"error": {"code": 403, "message": "no access to bucket"}}')
    with pytest.raises(InputError, match=r"refuses these Google credentials: .*no access to bucket"):
        Store(uri)


def test_a_bucket_that_answers_is_a_store_and_is_looked_at_once(bucket):
    store = Store(bucket(404, b'{"error": {"code": 404, "message": "not found"}}'))
    assert store.filesystem.type_name == "gcs"
    unpickled = pickle.loads(pickle.dumps(store))
    assert (unpickled.uri, unpickled.root) == (store.uri, store.root)


def test_a_worker_that_is_handed_a_store_does_not_look_again():
    _, (uri,) = Store("gs://bucket/a?retry_limit_seconds=1").__reduce__()
    reopened = Store("gs://bucket/a?retry_limit_seconds=1").__reduce__()[0](uri.split("?")[0])
    assert reopened.uri == "gs://bucket/a"
