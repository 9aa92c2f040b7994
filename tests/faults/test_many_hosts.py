"""Sweeps on a cluster of several simulated TPU hosts: who runs where, and what is lost when hosts and runs are."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise

import pytest
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.long

MEMORY = 100 * 2**20

SWEEP = """
from raysynth import Dataset, Finetune, FullInit, Pretrain, RandomInit, Sweep, T5Config
from raysynth import downstream_tasks, synthetic_tasks, token_space
import dataclasses

MODEL = T5Config(vocab_size=512, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1,
                 mlp_dim=32)
TASK = dataclasses.replace(synthetic_tasks["set"], min_length=4, max_length=20, tokens=token_space(num_pieces=412))
SOURCE = Pretrain(data=Dataset(task=TASK, num_examples=2_000, num_validation=64), model=MODEL, num_steps=8,
                  eval_every=4, batch_size=32, input_length=24, target_length=24)

def trial(init, seed):
    scheme = RandomInit(MODEL) if init == "random" else FullInit(SOURCE)
    return Finetune(task=downstream_tasks["python_ast"], init=scheme, seed=seed)

sweep = Sweep(name="hosts", claim="every host is busy")
sweep.add(trial, init=["random"], seed=range(9))
sweep.add(trial, init=["full"], seed=range(3))
sweep.table(title="hosts", rows=("init",))
if __name__ == "__main__":
    sweep.main()
"""


def host(cluster):
    return cluster.add_node(num_cpus=2, resources={"TPU": 4}, object_store_memory=MEMORY)


@pytest.fixture
def cluster():
    """A CPU head and five hosts of four chips each."""
    head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": MEMORY}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.hosts = [host(cluster) for _ in range(5)]
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The records of the same sweep, run on this machine alone."""
    return run_whole(tmp_path_factory.mktemp("undisturbed"), None)


def start(folder, address, log, *options):
    script = folder / "hosts.py"
    script.write_text(SWEEP)
    command = [sys.executable, str(script), "run", "--tiny", "--store", str(folder / "store"), *options]
    if address is not None:
        command += ["--address", address]
    environment = {**os.environ, "XLA_FLAGS": "", "RAY_ADDRESS": ""}
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)


def run_whole(folder, address):
    log = folder / "log"
    with log.open("w") as stream:
        assert start(folder, address, stream).wait(timeout=900) == 0, log.read_text()
    return records(folder)


def records(folder):
    files = (folder / "store").glob("*/*/record.json")
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def test_five_hosts_are_busy_with_one_trial_each(cluster, undisturbed, tmp_path):
    made = run_whole(tmp_path, cluster.address)
    assert {label: record["result"] for label, record in made.items()} == {
        label: record["result"] for label, record in undisturbed.items()
    }
    turns = {}
    for record in made.values():
        told = record["provenance"]
        if "node" in told:
            turns.setdefault(told["node"], []).append((told["started"], told["started"] + told["seconds"]))
    assert len(turns) == 5
    for node in turns.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(sorted(node)))
    assert sum(map(len, turns.values())) == 13


@pytest.mark.parametrize(("num_kills", "num_hosts"), [(6, 3), pytest.param(20, 5, marks=pytest.mark.endurance)])
def test_hosts_workers_and_runs_killed_at_random_change_nothing(cluster, undisturbed, tmp_path, num_kills, num_hosts):
    draw = random.Random(num_kills)
    for node in cluster.hosts[num_hosts:]:
        cluster.remove_node(node)  # starting five hosts again and again takes two cores too long
    del cluster.hosts[num_hosts:]
    left = (["host", "worker", "run"] * num_kills)[:num_kills]
    draw.shuffle(left)
    kills = Counter()
    with (tmp_path / "log").open("w") as log:
        going = start(tmp_path, cluster.address, log)
        while left:
            time.sleep(draw.uniform(3, 12))
            if going.poll() is not None:
                break
            match left[-1]:
                case "host":
                    cluster.remove_node(cluster.hosts.pop(draw.randrange(num_hosts)), allow_graceful=False)
                    cluster.hosts.append(host(cluster))
                case "worker":
                    workers = subprocess.run(["pgrep", "-f", "ray::"], capture_output=True, text=True, check=False)
                    mine = [pid for pid in map(int, workers.stdout.split()) if ours(pid, cluster)]
                    if not mine:
                        continue  # one will come
                    os.kill(draw.choice(mine), signal.SIGKILL)
                case "run":
                    going.kill()
                    going.wait()
                    going = start(tmp_path, cluster.address, log)
            kills[left.pop()] += 1
        status = going.wait(timeout=900)
    assert status == 0, (tmp_path / "log").read_text()
    assert kills.total() > num_kills / 2, kills
    assert {label: record["result"] for label, record in records(tmp_path).items()} == {
        label: record["result"] for label, record in undisturbed.items()
    }
    assert not list((tmp_path / "store").rglob("failure.json"))
    assert not list((tmp_path / "store" / "leases").rglob("*.json"))
    print(dict(kills))


def test_a_training_that_costs_every_host_is_given_up_and_status_says_what_it_waits_for(tmp_path):
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": MEMORY}
    )
    part = ["--only", "init=random", "seed=0"]
    status = [sys.executable, str(tmp_path / "hosts.py"), "status", "--tiny", "--store", str(tmp_path / "store"), *part]
    environment = {**os.environ, "RAY_ADDRESS": ""}
    try:
        last, said = host(cluster), ""
        with (tmp_path / "log").open("w") as log:
            going = start(tmp_path, cluster.address, log, *part, "--max-preemptions", "1")
            lost = set()
            while len(lost) < 3 and going.poll() is None:  # a loss counts at the next one, if Ray knows of it by then
                running = [json.loads(file.read_text()) for file in tmp_path.glob("store/finetune/*/running.json")]
                new = {one["pid"] for one in running if "pid" in one} - lost
                if new:
                    cluster.remove_node(last, allow_graceful=False)
                    lost |= new
                    limit = time.monotonic() + 150
                    while len(lost) == 1 and "(0 hosts up" not in said and time.monotonic() < limit:
                        said = subprocess.run(
                            status, capture_output=True, text=True, check=False, env=environment
                        ).stdout
                        time.sleep(2)
                    cluster.wait_for_nodes(timeout=60)
                    last = host(cluster)
                time.sleep(0.2)
            assert going.wait(timeout=300) == 1, (tmp_path / "log").read_text()
    finally:
        cluster.shutdown()
    print(said)
    assert "for a free host (0 hosts up, 0 starting, 0 running a training)" in said
    written = (tmp_path / "log").read_text()
    assert "its host was lost 2 times (" in written
    assert "and --max-preemptions allows 1: see whether" in written
    assert len(list(tmp_path.glob("store/finetune/*/failure.json"))) == 1


def ours(pid, cluster):
    """Whether a worker belongs to a host of this cluster."""
    hosts = [process.process.pid for node in cluster.hosts for kind in node.all_processes.values() for process in kind]
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rsplit(")", 1)[1].split()[1]) in hosts
    except OSError:
        return False
