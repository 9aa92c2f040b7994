"""Which runs live and what they hold: numbers of processes are reused, clocks are wrong, files are damaged."""

import dataclasses
import os
import subprocess
import sys
import threading
import time

import pytest

from raysynth import T5_SMALL, Dataset, Pretrain, synthetic_tasks
from raysynth.errors import StoreError
from raysynth.specs.identity import name
from raysynth.store import leases
from raysynth.store.marks import ALIVE_SECONDS, Watch, here, runs
from raysynth.store.records import Running, as_json
from raysynth.store.store import State, Store

ARTIFACT = Pretrain(data=Dataset(task=synthetic_tasks["set"], num_examples=100), model=T5_SMALL)
OTHER = "0123abcd"
DAY = 86_400.0


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


@pytest.fixture
def clock(monkeypatch):
    """The monotonic time of this process, to be moved by hand."""
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def sleeper():
    """A process that lives until the end of the test."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def elsewhere(**fields):
    return dataclasses.replace(here(), machine="another", host="elsewhere", **fields)


def leave_lease(store, mark):
    store.write_json(f"drivers/{OTHER}.json", vars(mark))
    store.write_json(f"leases/{name(ARTIFACT)}.json", {"driver": OTHER})


def test_a_process_is_known_by_its_number_and_its_start(sleeper):
    assert runs(here())
    assert not runs(dataclasses.replace(here(), birth="1"))
    assert not runs(dataclasses.replace(here(), pid=sleeper.pid)), "another process has that number"
    assert not runs(dataclasses.replace(here(), pid=2**62))
    assert runs(elsewhere()) is None


def test_a_process_that_has_ended_and_was_not_asked_about_is_gone():
    process = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    process.stdout.read()
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT) is None:
        pass
    mark = dataclasses.replace(here(), pid=process.pid, birth="")
    assert runs(mark) is False
    process.wait()


@pytest.mark.parametrize("days", [-1, 0, 1, 400])
def test_the_lease_of_a_dead_run_whose_number_is_taken_is_taken_over_at_once(store, sleeper, days):
    leave_lease(store, dataclasses.replace(here(), pid=sleeper.pid, time=time.time() + days * DAY))
    with leases.driver(store) as driver:
        assert not driver.others()
        assert driver.lease(ARTIFACT)


@pytest.mark.parametrize("days", [-1, 0, 1, 400])
def test_a_run_elsewhere_lives_while_its_mark_changes_whatever_its_clock_says(store, clock, days, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    then = time.time() + days * DAY
    leave_lease(store, elsewhere(time=then))
    driver = leases.Driver(store)
    driver.beat()
    for beat in range(5):
        assert not driver.lease(ARTIFACT)
        assert len(driver.others()) == 1
        clock[0] += ALIVE_SECONDS - 1
        leave_lease(store, elsewhere(time=then + beat + 1))
    assert not driver.lease(ARTIFACT)
    clock[0] += ALIVE_SECONDS + 1
    assert driver.lease(ARTIFACT)
    assert not driver.others()


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_jumps_changes_nothing(store, clock, days, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    leave_lease(store, elsewhere())
    driver = leases.Driver(store)
    assert not driver.lease(ARTIFACT)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + days * DAY)
    assert not driver.lease(ARTIFACT)
    clock[0] += ALIVE_SECONDS + 1
    assert driver.lease(ARTIFACT)


def test_one_look_at_what_runs_elsewhere_trusts_clocks_and_the_next_look_does_not(store, clock):
    def mark(time):
        running = Running(**vars(elsewhere(time=time)), step=1, num_steps=2)
        store.write_json(f"{name(ARTIFACT)}/running.json", as_json(running))

    mark(time.time())
    assert store.status(ARTIFACT).state is State.RUNNING
    clock[0] += ALIVE_SECONDS + 1
    assert store.status(ARTIFACT).state is State.INTERRUPTED
    mark(time.time() + DAY)
    assert store.status(ARTIFACT).state is State.RUNNING, "it changed"
    assert Store(store.uri).status(ARTIFACT).state is State.INTERRUPTED, "a day ahead, at first sight"
    mark(time.time() - DAY)
    assert store.status(ARTIFACT).state is State.RUNNING
    clock[0] += ALIVE_SECONDS + 1
    assert store.status(ARTIFACT).state is State.INTERRUPTED


def test_what_a_process_of_this_machine_makes_is_told_by_the_process(store, sleeper):
    running = Running(**vars(here()), step=1, num_steps=2)
    for birth, state in ((running.birth, State.RUNNING), ("1", State.INTERRUPTED)):
        mark = dataclasses.replace(running, birth=birth, time=time.time() + DAY)
        store.write_json(f"{name(ARTIFACT)}/running.json", as_json(mark))
        assert store.status(ARTIFACT).state is state


def test_a_run_releases_only_what_it_holds(store):
    with leases.driver(store) as driver:
        assert driver.lease(ARTIFACT)
        leave_lease(store, elsewhere())  # another run thought this one dead
        assert leases.is_taken(store, ARTIFACT, driver.name)
        driver.release(ARTIFACT)
        assert store.read_json(f"leases/{name(ARTIFACT)}.json") == {"driver": OTHER}
    assert store.read_json(f"leases/{name(ARTIFACT)}.json") == {"driver": OTHER}


@pytest.mark.parametrize("damage", [None, b"", b"{}", b"\xff"])
def test_a_lease_that_is_lost_or_damaged_is_not_taken(store, damage):
    with leases.driver(store) as driver:
        assert driver.lease(ARTIFACT)
        if damage is None:
            store.delete(f"leases/{name(ARTIFACT)}.json")
        else:
            store.write_bytes(f"leases/{name(ARTIFACT)}.json", damage)
        assert not leases.is_taken(store, ARTIFACT, driver.name)


def test_the_holder_of_a_lease_is_named(store):
    leave_lease(store, elsewhere(pid=77))
    with leases.driver(store) as driver:
        assert "another run, process 77 on elsewhere, whose last sign of life is " in driver.holder(ARTIFACT)
        store.delete(f"drivers/{OTHER}.json")
        assert driver.holder(ARTIFACT) == "another run"


def test_signs_of_life_may_fail_for_a_while(store, clock, monkeypatch):
    driver = leases.Driver(store)
    driver.beat()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", no_space)
        for _ in range(10):
            clock[0] += ALIVE_SECONDS / 11
            driver.beat()
        clock[0] += ALIVE_SECONDS / 2
        with pytest.raises(StoreError, match=r"cannot write drivers/.*: No space left on device"):
            driver.beat()
    clock[0] += ALIVE_SECONDS
    driver.beat()


@pytest.mark.parametrize("error", [StoreError("no space"), KeyError("no such key")])
def test_an_error_in_the_thread_of_signs_of_life_is_raised_by_the_run_until_one_succeeds(
    store, clock, monkeypatch, error
):
    def fail_to_write(*_):
        failed.set()
        raise error

    failed, driver = threading.Event(), leases.Driver(store)
    driver.beat()
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    thread = threading.Thread(target=driver.keep_beating)
    with monkeypatch.context() as patch:
        patch.setattr(store.__class__, "write_json", fail_to_write)
        clock[0] += ALIVE_SECONDS + 1
        thread.start()
        assert failed.wait(10)
        with pytest.raises(type(error)):
            driver.beat()  # which does not try again, because no time has passed
    clock[0] += 1
    driver.beat()
    driver.leave()
    thread.join()


def no_space(*_):
    raise OSError(28, "No space left on device")


def test_the_first_sign_of_life_must_not_fail(store, monkeypatch):
    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(StoreError), leases.driver(store):
        raise AssertionError


def test_a_storage_error_at_the_end_does_not_hide_what_ended_the_run(store, monkeypatch):
    with pytest.raises(KeyError), leases.driver(store) as driver:  # noqa: PT012
        assert driver.lease(ARTIFACT)
        monkeypatch.setattr(store.__class__, "delete", fail)
        raise KeyError


def fail(*_):
    raise StoreError("the network is gone")


def test_a_watch_forgets_nothing_between_files():
    watch = Watch()
    assert watch.is_new("a")
    assert watch.alive("a", elsewhere())
    assert not watch.is_new("a")
    assert watch.is_new("b")
