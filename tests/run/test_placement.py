"""Where the tasks that draw data run, on a cluster of hosts with and without accelerators."""

import time

import pytest
import ray
from ray.cluster_utils import Cluster

from raysynth.run import session

pytestmark = pytest.mark.long

MEMORY = 100 * 2**20


@pytest.fixture(scope="module")
def cluster():
    """A head and another host without chips, and two hosts with chips."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": MEMORY},
    )
    cluster.plain = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    for _ in range(2):
        cluster.add_node(num_cpus=2, resources={"TPU": 4}, object_store_memory=MEMORY)
    ray.init(address=cluster.address, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def nodes_of(num_items, tick=lambda done, of: None):
    """The nodes on which the items were worked on."""

    def work(item):
        time.sleep(0.3)
        return ray.get_runtime_context().get_node_id()

    return session.spread(work, range(num_items), tick=tick)


def with_chips():
    return {node["NodeID"] for node in session.nodes() if "TPU" in node["Resources"]}


def test_data_are_drawn_on_plain_hosts_alone_even_while_those_are_busy(cluster):
    assert set(nodes_of(20)) == {cluster.head_node.node_id, cluster.plain.node_id}


def test_data_are_drawn_elsewhere_once_no_plain_host_lives(cluster, monkeypatch):
    def lose_the_plain_host(done, of):
        if done >= 10 and cluster.plain in cluster.list_all_nodes():
            cluster.remove_node(cluster.plain, allow_graceful=False)

    every = session.nodes
    # As if the head had no CPUs.
    monkeypatch.setattr(
        session, "nodes", lambda: [node for node in every() if node["NodeID"] != cluster.head_node.node_id]
    )
    nodes = nodes_of(40, lose_the_plain_host)
    assert cluster.plain.node_id in nodes
    assert set(nodes) & with_chips()
