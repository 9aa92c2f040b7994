"""What `plan --measure` asks of Ray, and what it does where a process ends for lack of memory; Ray is replaced."""

import contextlib

import pytest
import ray

from raysynth.run import cluster, execute, session  # before Ray is replaced: parts of Ray use it as they are imported
from raysynth.run.measure import measure
from raysynth.store.store import Store
from tests.report.grids import trial

HEAD = {"NodeID": "n", "Alive": True, "Resources": {"CPU": 8}}
KILLED = "Killing worker. The host's memory was 3.9GB used / 4.0GB limit\n"


class Ray:
    """Takes requests and answers the second one; the process of the first one ends for lack of memory."""

    def __init__(self, logs):
        self.logs, self.requests, self.rows = logs, [], []

    def remote(self, **request):
        self.requests.append(request)

        class Remote:
            remote = lambda _, timed, shape, memory: self.rows.append(shape.rows) or len(self.rows)  # noqa: E731

        return lambda function: Remote()

    def wait(self, going, num_returns):
        if len(self.rows) == 1:
            (self.logs / "raylet.out").write_text(KILLED)
        return going[:1], going[1:]

    def get(self, reference):
        if reference == 1:
            raise ray.exceptions.WorkerCrashedError
        return {"seconds_per_step": 0.5, "device": "TPU", "threads": None}


@pytest.fixture
def asked(monkeypatch, tmp_path):
    fake = Ray(tmp_path)
    for name in ("remote", "wait", "get"):
        monkeypatch.setattr(ray, name, getattr(fake, name))
    assert execute.trial_resources([HEAD]) == {"CPU": 1}
    monkeypatch.setattr(session, "training_session", lambda *_, **__: contextlib.nullcontext(tmp_path))
    monkeypatch.setattr(session, "nodes", lambda: [HEAD])
    monkeypatch.setattr(session, "logs", lambda: tmp_path)
    store = Store(str(tmp_path / "store"))
    monkeypatch.setattr(cluster, "promised", lambda: [{"Alive": True, "Resources": {"CPU": 224, "TPU": 8}}])
    measure(store.statuses([trial("random", 0)]), store, None)
    return fake


def test_half_the_rows_are_timed_once_ray_has_ended_a_process_for_lack_of_memory(asked):
    assert len(asked.rows) == 2
    assert asked.rows[1] == asked.rows[0] // 2


def test_hosts_that_are_not_up_yet_count_as_those_that_will_train(asked):
    (request,) = asked.requests
    assert (request["num_cpus"], request["resources"]) == (1, {"TPU": 8})
