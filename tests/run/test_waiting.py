"""What a run knows of its hosts: those that are up and starting, and why others do not come."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.experimental.internal_kv import _internal_kv_get

from raysynth.run import launcher as module
from raysynth.run.cluster import problems, read
from raysynth.run.hosts import HOST_SECONDS, THE_CLUSTER, HostWatch
from raysynth.run.launcher import Launcher, launcher, of_newer, of_older
from raysynth.run.surroundings import Run
from raysynth.store.leases import BEAT_SECONDS, driver, living_runs
from raysynth.store.store import Store

OLDER = {
    "autoscaler_report": {
        "active_nodes": {"head": 1},
        "pending_nodes": [["10.0.0.2", "tpu", "setting-up"]],
        "pending_launches": {"tpu": 2},
        "failed_nodes": [],
        "node_availability_summary": {
            "node_availabilities": {
                "tpu": {
                    "node_type": "tpu",
                    "is_available": False,
                    "last_checked_timestamp": 2.0,
                    "unavailable_node_information": {"category": "Quota", "description": "no more\n capacity"},
                },
                "cpu": {
                    "node_type": "cpu",
                    "is_available": True,
                    "last_checked_timestamp": 3.0,
                    "unavailable_node_information": None,
                },
            }
        },
    }
}
"""As Ray 2.60's `monitor.py` writes it."""


def test_the_older_launchers_report_is_read():
    assert of_older(OLDER) == Launcher(starting=3, error="Quota: no more capacity")
    assert of_older({"load_metrics_report": {}}) == Launcher()


def test_the_newer_launchers_answer_is_read():
    from ray.autoscaler.v2.schema import ClusterStatus, LaunchRequest, NodeInfo

    def launch(count, state, **more):
        return LaunchRequest("v3-8", "tpu", count, LaunchRequest.Status[state], request_ts_s=1, **more)

    status = ClusterStatus(
        pending_launches=[launch(2, "PENDING")],
        pending_nodes=[NodeInfo("v3-8", "tpu", "i-1", "10.0.0.2")],
        failed_launches=[
            launch(1, "FAILED", failed_ts_s=9, details="There is no\nmore capacity"),
            launch(1, "FAILED", failed_ts_s=5, details="Quota"),
        ],
    )
    assert of_newer(status) == Launcher(starting=3, error="tpu: There is no more capacity")


def test_what_has_moved_in_ray_counts_as_nothing_said(monkeypatch):
    monkeypatch.setattr(module, "of_older", lambda status: 1 / 0)
    monkeypatch.setattr(module, "_newer", lambda address: 1 / 0)
    assert launcher("10.0.0.1:6379") == Launcher()


def written():
    return _internal_kv_get("__autoscaling_status")


@pytest.mark.long
def test_ray_still_has_the_interface_of_its_launchers():
    """If this fails, Ray has moved what `ray status` prints: see `status` in `ray/scripts/scripts.py` for where.

    Then adapt `raysynth/run/launcher.py`, the only module to use it.
    """
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        address = ray.get_runtime_context().gcs_address
        limit = time.monotonic() + 60
        while not written() and time.monotonic() < limit:  # by a process that starts beside the session
            time.sleep(0.2)
        assert of_newer(get_cluster_status(address, timeout=4)) == Launcher()
        assert "load_metrics_report" in json.loads(written())
        assert launcher(address) == Launcher()
    finally:
        ray.shutdown()


def test_ray_still_has_the_checks_of_descriptions_of_clusters():
    """If this fails, Ray has moved the checks of `ray up`: see its `commands.py` for where.

    Then adapt `_ray_problems` in `raysynth/run/cluster.py`, the only function to use them.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    assert callable(prepare_config)
    assert callable(validate_config)
    config = read(Path(__file__).parents[2] / "cluster.yaml") | {"no_such_key": 1}
    assert any("no_such_key" in line and line.endswith("(Ray's own check)") for line in problems(config))


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """A watch over trials that need a host with four chips, on a clock that is moved by hand."""
    now, notes = [time.monotonic()], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    store = Store(str(tmp_path))
    observer = SimpleNamespace(noted=lambda artifact, note: notes.append(f"{artifact}: {note}"))
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0}}, {"Alive": False, "Resources": {"CPU": 96.0, "TPU": 4.0}}]
    with driver(store) as this_run:
        hosts = HostWatch(
            Run(store=store, driver=this_run, observer=observer),
            {"CPU": 1, "TPU": 4},
            nodes=lambda: nodes,
            launcher=lambda: Launcher(starting=1, error="Quota: no more capacity"),
        )

        def look(seconds, **trials):
            now[0] += seconds
            hosts.look(**trials)
            this_run.beat()
            (mark,) = living_runs(store).values()
            return mark.hosts

        yield SimpleNamespace(look=look, notes=notes, nodes=nodes)


def test_a_run_without_a_host_says_so_once(watch):
    hosts = watch.look(0, running=0, waiting=["pretrain/a"])
    assert watch.notes == []
    for _ in range(3):
        hosts = watch.look(HOST_SECONDS, running=0, waiting=["pretrain/a"])
    assert watch.notes == [
        f"{THE_CLUSTER}: no training could start for 5 min: 0 hosts up, 1 starting, 0 running a training; "
        "the launcher's last error: Quota: no more capacity"
    ]
    assert (hosts.up, hosts.starting, hosts.waiting) == (0, 1, ("pretrain/a",))


def test_a_run_with_a_host_is_silent_and_tells_the_store(watch):
    watch.nodes[1]["Alive"] = True
    for _ in range(3):
        hosts = watch.look(HOST_SECONDS, running=1, waiting=["pretrain/a"])
    assert (hosts.up, hosts.running) == (1, 1)
    watch.look(HOST_SECONDS, running=0, waiting=["pretrain/a"])
    assert watch.notes == []
    watch.look(HOST_SECONDS + BEAT_SECONDS, running=0, waiting=["pretrain/a"])
    assert len(watch.notes) == 1
