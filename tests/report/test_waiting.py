"""What `status` says of artifacts that are ready and do not run: what they wait for, and for how long."""

import dataclasses
import time

import pytest

from raysynth.report.status import print_status
from raysynth.specs.identity import in_order, name
from raysynth.store.leases import Driver
from raysynth.store.marks import here
from raysynth.store.records import Hosts, RunMark, as_json
from tests.records import DATA_RESULT, provenance, weights_result
from tests.report.grids import TASK, pretrain, trial

RANDOM, SOURCE, FULL = trial("random", 0), pretrain(0), trial("full", 0)
ALL = in_order([RANDOM, FULL])


@pytest.fixture
def lines(store, capsys):
    """A function that returns the lines of the status that begin with "waiting"."""
    for data in (TASK.data, SOURCE.data):
        store.record(data, result=DATA_RESULT, provenance=provenance())

    def lines():
        print_status(store.statuses(ALL), store)
        return [line.removeprefix("waiting     ") for line in capsys.readouterr().out.splitlines() if "waiting" in line]

    return lines


def works(store, minutes, hosts=None):
    """A run of this process that began some minutes ago, with its sign of life in the store."""
    driver = Driver(store)
    driver.tell(hosts)
    driver.beat()
    mark = RunMark(**vars(here()), started=time.time() - 60 * minutes, hosts=hosts)
    store.write_json(driver.file, as_json(mark))
    return driver


def test_without_a_run_everything_waits_for_one(lines):
    assert lines() == [
        f"1 for {name(SOURCE)} (new)",
        f"2 for a run: none works on this store: {name(RANDOM)}, {name(SOURCE)}",
    ]


def test_trainings_wait_for_a_host_with_the_launchers_last_error(lines, store):
    hosts = Hosts(up=1, starting=2, running=1, waiting=(name(RANDOM),), error="tpu: no more capacity in the zone")
    driver = works(store, 300, hosts)
    driver.lease(RANDOM)
    driver.lease(SOURCE)
    assert lines() == [
        f"1 for {name(SOURCE)} (new), for 5 h",
        "1 for a free host (1 host up, 2 starting, 1 running a training; the launcher's last error: tpu: no more "
        f"capacity in the zone), for 5 h: {name(RANDOM)}",
        f"1 for process {here().pid} on {here().host}, which has begun with it, for 5 h: {name(SOURCE)}",
    ]


def test_the_wait_begins_when_the_last_input_is_made(lines, store):
    works(store, 60, Hosts(up=1, starting=0, running=1))
    store.record(SOURCE, result=weights_result(), provenance=provenance(started=time.time() - 1200, seconds=600))
    store.record(RANDOM, result=weights_result(), provenance=provenance())
    (line,) = lines()
    assert line == f"1 for a free host (1 host up, 0 starting, 1 running a training), for 10 min: {name(FULL)}"


def test_a_run_without_ray_makes_one_after_another_and_data_wait_for_their_turn(lines, store):
    works(store, 180)
    assert f"which makes others first, for 3 h: {name(RANDOM)}, {name(SOURCE)}" in lines()[-1]
    store.delete(f"{name(SOURCE.data)}/record.json")
    works(store, 120, Hosts(up=1, starting=0, running=1))
    assert any("which makes others first, for 3 h: " in line and name(SOURCE.data) in line for line in lines())


def test_a_run_that_is_gone_keeps_nobody_waiting(lines, store):
    driver = works(store, 300)
    driver.lease(RANDOM)
    store.write_json(driver.file, as_json(dataclasses.replace(RunMark(**vars(here())), birth="1")))
    assert "for a run: none works on this store" in lines()[-1]
