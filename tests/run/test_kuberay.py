"""kuberay.yaml has the shape that KubeRay and Kubernetes want, and the chips that a trial asks for.

KubeRay's own schema is in no package that the tests could install, so its rules are written out here, as far as the
manifest uses them.
"""

import math
import re
from pathlib import Path

import pytest
import yaml

from raysynth.run import cluster
from raysynth.run.execute import trial_resources

ROOT = Path(__file__).parents[2]
MANIFEST = yaml.safe_load((ROOT / "kuberay.yaml").read_text())
PAGE = (ROOT / "docs/cluster.md").read_text()

GROUP = {"rayStartParams": dict, "template": dict}
SPEC = {
    "rayVersion": str,
    "authOptions": dict,
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": dict,
    "headGroupSpec": dict,
    "workerGroupSpecs": list,
}
WORKERS = {"groupName": str, "numOfHosts": int, "replicas": int, "minReplicas": int, "maxReplicas": int}
POD = {"serviceAccountName": str, "restartPolicy": str, "nodeSelector": dict, "containers": list}
CONTAINER = {"name": str, "image": str, "env": list, "resources": dict}
"""Fields that the manifest may use, by their types in KubeRay's schema (ray.io/v1) and that of pods."""

TPUS = {"tpu-v5-lite-podslice": "v5litepod", "tpu-v6e-slice": "v6e"}
"""GKE's names of accelerators, and the Cloud TPU API's."""

HEAD = MANIFEST["spec"]["headGroupSpec"]
(WORKER,) = MANIFEST["spec"]["workerGroupSpecs"]


def container(group):
    (only,) = group["template"]["spec"]["containers"]
    return only


def check(fields, value):
    assert value.keys() <= fields.keys()
    for name, part in value.items():
        assert type(part) is fields[name], f"{name}: {part!r}"


def test_every_field_is_one_of_its_schemas_and_of_its_type():
    check({"apiVersion": str, "kind": str, "metadata": dict, "spec": dict}, MANIFEST)
    assert (MANIFEST["apiVersion"], MANIFEST["kind"]) == ("ray.io/v1", "RayCluster")
    check(SPEC, MANIFEST["spec"])
    check({"mode": str}, MANIFEST["spec"]["authOptions"])
    check({"version": str, "idleTimeoutSeconds": int}, MANIFEST["spec"]["autoscalerOptions"])
    assert MANIFEST["spec"]["autoscalerOptions"]["version"] in ("v1", "v2")
    check(GROUP, HEAD)
    check(GROUP | WORKERS, WORKER)
    for group in (HEAD, WORKER):
        check({"spec": dict}, group["template"])
        check(POD, group["template"]["spec"])
        check(CONTAINER, container(group))
        assert group["template"]["spec"]["restartPolicy"] in ("Always", "OnFailure", "Never")
        assert all(type(value) is str for value in group["rayStartParams"].values())
        check({"requests": dict, "limits": dict}, container(group)["resources"])
        for variable in container(group)["env"]:
            check({"name": str, "value": str}, variable)


@pytest.mark.parametrize("name", [MANIFEST["metadata"]["name"], WORKER["groupName"]])
def test_a_name_is_one_of_dns(name):
    assert re.fullmatch(r"[a-z]([a-z0-9-]{,48}[a-z0-9])?", name)


def test_a_pod_asks_for_what_it_may_use():
    """Kubernetes wants that for devices; Ray counts the limits."""
    for group in (HEAD, WORKER):
        resources = container(group)["resources"]
        assert resources["requests"] == resources["limits"]
        for quantity in resources["limits"].values():
            assert re.fullmatch(r"[1-9]\d*(Mi|Gi)?", quantity)


def test_a_worker_has_the_chips_of_one_host():
    node = WORKER["template"]["spec"]["nodeSelector"]
    topology = node["cloud.google.com/gke-tpu-topology"]
    num_chips = math.prod(map(int, topology.split("x")))
    generation = TPUS[node["cloud.google.com/gke-tpu-accelerator"]]
    assert cluster.hosts[f"{generation}-{num_chips}"].num_chips == num_chips
    limits = container(WORKER)["resources"]["limits"]
    assert int(limits["google.com/tpu"]) == num_chips
    assert WORKER["numOfHosts"] == 1
    assert 1 <= WORKER["minReplicas"] <= WORKER["replicas"] <= WORKER["maxReplicas"]
    running = [{"CPU": float(container(HEAD)["resources"]["limits"]["cpu"])}, {"CPU": float(limits["cpu"])}]
    running[1]["TPU"] = float(limits["google.com/tpu"])
    assert trial_resources([{"Alive": True, "Resources": host} for host in running]) == {"CPU": 1, "TPU": num_chips}


def test_the_cluster_wants_a_token_and_opens_no_dashboard():
    assert MANIFEST["spec"]["authOptions"] == {"mode": "token"}
    assert HEAD["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    assert "AUTH" not in str(container(HEAD)["env"]) + str(container(WORKER)["env"])


def test_the_image_of_the_docs_has_the_same_ray_and_is_that_of_every_pod():
    assert container(HEAD)["image"] == container(WORKER)["image"] == "YOUR-IMAGE"
    tag = re.search(r"FROM rayproject/ray:(\S+)-py3(\d+)", PAGE)
    assert tag[1] == MANIFEST["spec"]["rayVersion"]
    assert f"--python 3.{tag[2]}" in (ROOT / "cluster.yaml").read_text()
