"""What files of a store say is typed: any bytes and any JSON give a value of the right types, one line, or nothing."""

import dataclasses
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysynth import T5_SMALL, Dataset, InputError, Pretrain, synthetic_tasks
from raysynth.specs.identity import name
from raysynth.store import leases
from raysynth.store.leases import Lease
from raysynth.store.marks import here
from raysynth.store.records import Failure, Hosts, Mark, Outcome, Record, RunMark, Running, as_json
from raysynth.store.sealed import seal, unseal
from raysynth.store.store import State, Store
from tests.records import DATA_RESULT, provenance, weights_result

DATA = Dataset(task=synthetic_tasks["set"], num_examples=100)
ARTIFACT = Pretrain(data=DATA, model=T5_SMALL)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
VALUES = {
    Record: as_json(
        Record(
            artifact=name(ARTIFACT),
            description={"is": "Pretrain"},
            result=weights_result(evaluations={3: {"loss": 1.5}}, test={"exact_match": 0.5}, num_test=2),
            provenance=provenance(device="1 cpu"),
        )
    ),
    Failure: {"host": "h", "pid": 1, "time": 2.0, "error": "no", "log": "", "outcome": "failed", "step": 3},
    Running: as_json(Running(**vars(here()), step=1, num_steps=2, seconds_per_step=0.5)),
    Mark: vars(here()),
    RunMark: as_json(
        RunMark(**vars(here()), started=1.0, hosts=Hosts(up=1, starting=2, running=1, waiting=("a",), error="no"))
    ),
    Lease: {"driver": "0123abcd"},
}


@settings(deadline=None)
@given(value=JSON, kind=st.sampled_from(list(VALUES)))
def test_any_json_is_read_or_refused_in_one_line(value, kind):
    read_or_refused(kind, value)


def read_or_refused(kind, value):
    """The value that is read, or None for one that is refused in one line."""
    try:
        read = kind.read(value, "place")
    except InputError as error:
        line = str(error)
    else:
        assert isinstance(read, kind)
        return read
    assert line.startswith("place")
    assert len(line.splitlines()) == 1
    return None


@settings(deadline=None)
@given(data=st.data(), kind=st.sampled_from(list(VALUES)), value=JSON)
def test_any_json_for_a_field_is_read_or_refused_in_one_line(data, kind, value):
    """Also for the fields of objects in an object."""
    whole = json.loads(json.dumps(VALUES[kind]))
    place = whole
    while True:
        field = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[field], dict) or not place[field] or data.draw(st.booleans()):
            break
        place = place[field]
    place[field] = value
    read = read_or_refused(kind, whole)
    for number in numbers({} if read is None else dataclasses.asdict(read)):
        assert math.isfinite(number)


def numbers(value, path=()):
    """The numbers in the values of a record but its description, which is compared as a whole."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key != "description":
                yield from numbers(item, (*path, key))
    elif isinstance(value, int | float):
        yield value


@settings(deadline=None)
@given(content=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_bytes_that_are_not_sealed_are_refused_in_one_line(content):
    with pytest.raises(InputError) as caught:
        unseal(content, "place")
    assert str(caught.value).startswith("place is damaged: ")
    assert len(str(caught.value).splitlines()) == 1


@settings(deadline=None)
@given(value=st.dictionaries(st.text(), JSON))
def test_what_is_sealed_comes_back(value):
    value.pop("checksum", None)
    assert json.dumps(unseal(seal(value), "place"), sort_keys=True) == json.dumps(value, sort_keys=True)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a": ' * 5_000 + b"1" + b"}" * 5_000,
        b'{"a": 1' + b"0" * 5_000 + b"}",
        '{"a": 1}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b'{"checksum": {}}',
        seal({"a": "x"}).replace(b'"x"', b'"\\ud800"'),
        seal({"a": "\ud800"}),
    ],
)
def test_curious_json_is_damaged(content):
    with pytest.raises(InputError, match="place is damaged"):
        unseal(content, "place")


def test_one_changed_byte_is_noticed():
    content = seal(VALUES[Record])
    whole = unseal(content, "place")
    for index in range(len(content)):
        for bit in (1, 32):
            flipped = bytes([*content[:index], content[index] ^ bit, *content[index + 1 :]])
            try:
                assert unseal(flipped, "place") == whole, "only white space may change"
            except InputError:
                continue


@pytest.mark.parametrize(
    ("kind", "fields", "line"),
    [
        (Running, {"step": -1}, "place, step is damaged: it must be a whole number of at least 0, got -1"),
        (Running, {"step": 1.0}, "place, step is damaged: it must be a whole number of at least 0, got 1.0"),
        (Running, {"step": True}, "place, step is damaged: it must be a whole number of at least 0, got True"),
        (Running, {"pid": 2**70}, "place, pid is damaged"),
        (Running, {"time": float("nan")}, "place, time is damaged: it must be a finite number, got nan"),
        (Running, {"time": 10**400}, "place, time is damaged: it must be a finite number, got 1000"),
        (Mark, {"host": 3}, "place, host is damaged: it must be text, got 3"),
        (Failure, {"outcome": "succeeded"}, "outcome must be failed or diverged, got succeeded"),
        (Failure, {"outcome": []}, "place, outcome is damaged"),
        (Lease, {"driver": "../../../x"}, "no run is called"),
        (Record, {"artifact": None}, "lacks the field 'artifact'"),
        (Record, {"result": {"rows": {"train": "3"}, "sha256": ""}}, "place, result, rows, train is damaged"),
        (Record, {"result": VALUES[Record]["result"] | {"evaluations": {"03": {}}}}, "keys must be whole numbers"),
        (Record, {"result": VALUES[Record]["result"] | {"evaluations": {"3": {"loss": "x"}}}}, "loss is damaged"),
        (Record, {"provenance": VALUES[Record]["provenance"] | {"versions": {"jax": 1}}}, "versions, jax is damaged"),
    ],
)
def test_a_field_of_another_type_is_named(kind, fields, line):
    with pytest.raises(InputError) as caught:
        kind.read(VALUES[kind] | fields, "place")
    assert line in str(caught.value)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(str(tmp_path_factory.mktemp("records")))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(content=st.binary(max_size=100) | JSON.filter(lambda value: isinstance(value, dict)).map(seal))
def test_a_damaged_file_beside_an_artifact_counts_as_absent_and_is_replaced(store, content):
    where = name(ARTIFACT)
    for file in (f"{where}/running.json", f"{where}/failure.json", f"leases/{where}.json", "drivers/0123abcd.json"):
        store.write_bytes(file, content)
    assert store.status(ARTIFACT).state is State.NEW
    with leases.driver(store) as driver:
        assert not driver.others()
        assert driver.lease(ARTIFACT)
    store.progress(ARTIFACT, step=1, num_steps=2, seconds_per_step=None)
    assert store.status(ARTIFACT).progress.step == 1
    store.fail(ARTIFACT, outcome=Outcome.FAILED, error="no", log="")
    assert store.status(ARTIFACT).failure.step == 1
    store.forget_failure(ARTIFACT)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(content=st.binary(max_size=100) | JSON.filter(lambda value: isinstance(value, dict)).map(seal))
def test_a_damaged_record_is_one_line_that_names_the_remedy(store, content):
    store.write_bytes(f"{name(DATA)}/record.json", content)
    for read in (lambda: store.status(DATA), lambda: store.record_of(name(DATA))):
        with pytest.raises(InputError) as caught:
            read()
        assert f"raysynth verify --store {store.root} --repair" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_record_of_another_artifact_is_refused(tmp_path):
    store = Store(str(tmp_path))
    store.record(DATA, result=DATA_RESULT, provenance=provenance())
    content = store.read_bytes(f"{name(DATA)}/record.json")
    other = dataclasses.replace(DATA, seed=1)
    store.write_bytes(f"{name(other)}/record.json", content)
    with pytest.raises(InputError, match=r"disagrees with its description in seed"):
        store.status(other)
    with pytest.raises(InputError, match="is the record of another artifact"):
        store.record_of(name(other))
    value = unseal(content, "")
    store.write_json(f"{name(other)}/record.json", value | {"artifact": name(other)})
    with pytest.raises(InputError, match="has a description that does not belong to the artifact's name"):
        store.record_of(name(other))


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    store = Store(str(tmp_path))
    result = weights_result(test={"exact_match": float("nan")})
    with pytest.raises(InputError, match="exact_match is damaged: it must be a finite number"):
        store.record(ARTIFACT, result=result, provenance=provenance())
    assert store.status(ARTIFACT).state is State.NEW
