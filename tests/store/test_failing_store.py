"""An object store that fails at set times: each failure is one line, nothing wrong is read, and a second try heals."""

import contextlib
import errno
import io
import itertools

import pytest
from pyarrow import fs

from raysynth import T5_SMALL, Dataset, InputError, Pretrain, synthetic_tasks
from raysynth.errors import StoreError
from raysynth.specs.identity import name
from raysynth.store.store import State, Store
from tests.records import provenance, weights_result

ARTIFACT = Pretrain(data=Dataset(task=synthetic_tasks["set"], num_examples=100), model=T5_SMALL)
WHERE = name(ARTIFACT)
BEFORE = {"checkpoints/1/a": "one" * 500, "evaluations/1.json": "1", "events": "1"}
AFTER = {"checkpoints/2/a": "two" * 500, "evaluations/1.json": "1", "evaluations/2.json": "2", "events": "12"}


class FailingBucket:
    """A bucket in memory of which one request fails; it behaves as object stores do under pyarrow.

    A request is refused, or done although its answer is lost. A download may break in the middle. An object appears
    whole when its stream is closed, also after an exception, with what was written until then.
    """

    type_name = "s3"
    lost = OSError(errno.ECONNRESET, "AWS Error NETWORK_CONNECTION: the connection was reset")

    def __init__(self):
        self.inner, _ = fs.FileSystem.from_uri("mock:///")
        self.inner.create_dir("bucket")
        self.heal()

    def heal(self):
        """No request fails from now on."""
        self.countdown, self.mode = -1, ""

    def fail(self, number, mode):
        """The request of that number from now on fails."""
        self.countdown, self.mode = number, mode

    @contextlib.contextmanager
    def request(self):
        self.countdown -= 1
        fails = self.countdown == -1 and bool(self.mode)
        if fails and self.mode == "refused":
            raise self.lost
        yield
        if fails and self.mode == "answer lost":
            raise self.lost

    def get_file_info(self, where):
        with self.request():
            return self.inner.get_file_info(where)

    def delete_file(self, path):
        with self.request():
            self.inner.delete_file(path)

    def delete_dir(self, path):
        with self.request():
            self.inner.delete_dir(path)

    def move(self, source, target):
        with self.request():
            self.inner.move(source, target)

    def open_input_stream(self, path):
        with self.request():
            content = self.inner.open_input_stream(path).read()
        breaks = self.countdown == -1 and self.mode == "download broken"
        return BrokenDownload(content[: len(content) // 2]) if breaks else io.BytesIO(content)

    def open_output_stream(self, path):
        return Upload(self, path)


class BrokenDownload(io.BytesIO):
    """A stream that breaks after its content."""

    def read(self, size=-1):
        content = super().read(size)
        if size < 0 or not content:
            raise FailingBucket.lost
        return content


class Upload(io.BytesIO):
    """An object that appears when the stream is closed."""

    def __init__(self, bucket, path):
        super().__init__()
        self.bucket, self.path = bucket, path

    def __exit__(self, *error):
        with self.bucket.request():
            self.bucket.inner.create_dir(self.path.rsplit("/", 1)[0], recursive=True)
            with self.bucket.inner.open_output_stream(self.path) as stream:
                stream.write(self.getvalue())


@pytest.fixture
def bucket():
    return FailingBucket()


@pytest.fixture
def store(bucket):
    store = Store("mock:///bucket/store")
    store.filesystem = bucket
    return store


def fill(directory, files):
    for old in [path for path in directory.rglob("*") if path.is_file()]:
        if old.relative_to(directory).as_posix() not in files:
            old.unlink()
    for file, text in files.items():
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        if not (directory / file).exists() or (directory / file).read_text() != text:
            (directory / file).write_text(text)


def contents(directory):
    return {file.relative_to(directory).as_posix(): file.read_text() for file in directory.rglob("*") if file.is_file()}


def train(store):
    """What a trial does in a store: two checkpoints, then the record."""
    with store.workspace(ARTIFACT) as work:
        seen = contents(work.path)
        for files in (BEFORE, AFTER):
            fill(work.path, files)
            work.push()
    store.record(ARTIFACT, result=weights_result(), provenance=provenance())
    return seen


def failure_of(work, kind):
    """The error of that kind that ends some work, or None."""
    try:
        work()
    except kind as error:
        return error
    return None


def is_one_line(error, part):
    return len(str(error).splitlines()) == 1 and part in str(error)


MODES = ("refused", "answer lost", "download broken")


@pytest.mark.parametrize("mode", MODES)
def test_any_request_of_a_training_may_fail(mode, bucket, store, tmp_path):
    num_failed = 0
    for number in itertools.count():
        store.delete(WHERE)
        with store.workspace(ARTIFACT) as work:
            fill(work.path, BEFORE)
            work.push()
        bucket.fail(number, mode)
        failure = failure_of(lambda: train(store), StoreError)
        assert failure is None or is_one_line(failure, "reset")
        is_over = bucket.countdown >= 0
        bucket.heal()
        with store.workspace(ARTIFACT) as work:
            assert contents(work.path) in (BEFORE, BEFORE | {"events": "12"}, AFTER), "an event file may be ahead"
        if store.status(ARTIFACT).state is State.DONE:
            assert contents(store.fetch(ARTIFACT, tmp_path / "cache")) == AFTER
        assert train(store) in (BEFORE, BEFORE | {"events": "12"}, AFTER)
        assert store.status(ARTIFACT).record.result == weights_result()
        assert contents(store.fetch(ARTIFACT, tmp_path / "cache")) == AFTER
        num_failed += failure is not None
        if is_over:
            break
    assert num_failed >= (3 if mode == "download broken" else 15)


@pytest.mark.parametrize("mode", MODES)
def test_any_request_of_a_copy_may_fail(mode, bucket, store, tmp_path):
    train(store)
    for number in itertools.count():
        bucket.fail(number, mode)
        cache = tmp_path / f"{mode}-{number}"
        with contextlib.suppress(StoreError):
            assert contents(store.fetch(ARTIFACT, cache)) == AFTER
        is_over = bucket.countdown >= 0
        bucket.heal()
        assert contents(store.fetch(ARTIFACT, cache)) == AFTER
        if is_over:
            break
    assert number > 4


def test_a_download_that_ends_early_without_a_word_is_refused_and_healed(bucket, store, tmp_path, monkeypatch):
    train(store)
    monkeypatch.setattr(BrokenDownload, "read", io.BytesIO.read)
    refused = 0
    for number in range(8):
        bucket.fail(number, "download broken")
        cache = tmp_path / str(number)
        failure = failure_of(lambda cache=cache: store.fetch(ARTIFACT, cache), InputError)
        assert failure is None or is_one_line(failure, "to heal it")
        refused += failure is not None
        bucket.heal()
        assert contents(store.fetch(ARTIFACT, cache)) == AFTER
    assert refused >= 4
