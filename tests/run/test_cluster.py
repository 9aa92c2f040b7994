"""cluster.yaml passes Ray's checks and ours with each of its accelerators; each mistake is one line."""

import json
import re
from pathlib import Path

import pytest
import yaml

from raysynth.cli import main
from raysynth.cli.clusters import delete_leftovers, list_leftovers
from raysynth.errors import InputError
from raysynth.run import cluster
from raysynth.run.execute import trial_resources

pytest.importorskip("googleapiclient", reason="the extra gcp is not installed")

FILE = Path(__file__).parents[2] / "cluster.yaml"
TPU = "available_node_types.tpu"
LINES = [line for line in FILE.read_text().splitlines() if re.match(r"  (# )?tpu: \{", line)]


def filled(accelerator_line=LINES[0]):
    """The text of cluster.yaml with its placeholders filled in and one of its accelerator lines."""
    text = FILE.read_text()
    for line in LINES:
        text = text.replace(f"{line}\n", "")
    text = text.replace("available_node_types:\n", f"available_node_types:\n{accelerator_line.replace('# ', '', 1)}\n")
    return text.replace("project_id: null", "project_id: my-project").replace("YOUR-BUCKET", "my-bucket")


@pytest.fixture
def config():
    return yaml.safe_load(filled())


def test_the_file_in_the_repository_lacks_project_and_bucket(capsys):
    assert main(["cluster", "check", str(FILE)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "provider.project_id is missing" in lines[0]
    assert "RAYSYNTH_STORE=gs://YOUR-BUCKET/raysynth is still to be filled in" in lines[1]
    assert lines[2].startswith("note: Ray makes TPU VMs through the Cloud TPU API: v2-8, ")
    assert all(kind in lines[2] for kind in ("v5litepod-8, ", "v6e-8, ", "no TPU7x", "fails at once", "queued"))


def test_the_file_lists_four_accelerators():
    kinds = [re.search(r"acceleratorType: ([^,]+)", line)[1] for line in LINES]
    assert kinds == ["v5litepod-8", "v6e-8", "v4-8", "v3-8"]
    assert [line.startswith("  # ") for line in LINES] == [False, True, True, True]


@pytest.mark.parametrize("line", LINES, ids=[re.search(r"acceleratorType: ([^,]+)", line)[1] for line in LINES])
def test_every_accelerator_passes_ray_and_check(line, tmp_path, capsys):
    from ray.autoscaler._private.gcp.config import GCPNodeType, get_node_type
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(yaml.safe_load(filled(line)))
    validate_config(prepared)
    head, tpu = (prepared["available_node_types"][name] for name in ("head", "tpu"))
    assert get_node_type(head["node_config"]) is GCPNodeType.COMPUTE
    assert get_node_type(tpu["node_config"]) is GCPNodeType.TPU
    assert (tpu["min_workers"], tpu["max_workers"], prepared["max_workers"]) == (0, 5, 5)
    file = tmp_path / "cluster.yaml"
    file.write_text(filled(line))
    assert main(["cluster", "check", str(file)]) == 0, capsys.readouterr().out
    assert "no problems found" in capsys.readouterr().out


def test_ray_agrees_on_the_chips_of_a_host():
    from ray._private.accelerators.tpu import get_num_tpu_visible_chips_per_host
    from ray.autoscaler._private.gcp.config import _get_num_tpu_chips, _is_single_host_tpu

    for accelerator, host in cluster.hosts.items():
        node = {"acceleratorType": accelerator}
        assert _is_single_host_tpu(node)
        assert _get_num_tpu_chips(node) == host.num_chips <= get_num_tpu_visible_chips_per_host(accelerator)


def test_a_spot_worker_and_a_topology_are_fine(config):
    node = config["available_node_types"]["tpu"]["node_config"]
    node |= {"schedulingConfig": {"spot": True}, "networkConfig": {"enableExternalIps": False}}
    node |= {"serviceAccount": {"email": "a@b", "scope": ["https://www.googleapis.com/auth/cloud-platform"]}}
    del node["acceleratorType"]
    node |= {"acceleratorConfig": {"type": "V4", "topology": "2x2x1"}, "runtimeVersion": "tpu-ubuntu2204-base"}
    config["available_node_types"]["tpu"]["resources"]["TPU"] = 4
    assert cluster.problems(config) == []


def tpu(**fields):
    return lambda config: config["available_node_types"]["tpu"]["node_config"].update(fields)


def head(**fields):
    return lambda config: config["available_node_types"]["head"]["node_config"].update(fields)


def chips(number):
    return lambda config: config["available_node_types"]["tpu"]["resources"].update(TPU=number)


def provider(**fields):
    return lambda config: config["provider"].update(fields)


def whole(**fields):
    return lambda config: config.update(fields)


CASES = {
    "typo": (
        tpu(runtimeVersoin="x"),
        f"unknown field of {TPU}.node_config 'runtimeVersoin' (did you mean 'runtimeVersion'?); allowed: accelerator",
    ),
    "inner typo": (
        tpu(schedulingConfig={"preemptable": True}),
        f"unknown field of {TPU}.node_config.schedulingConfig 'preemptable' (did you mean 'preemptible'?); allowed: ",
    ),
    "output only": (tpu(state="READY"), f"unknown field of {TPU}.node_config 'state'"),
    "kind": (
        tpu(schedulingConfig={"spot": "yes"}),
        f"{TPU}.node_config.schedulingConfig.spot must be of type boolean, got 'yes'",
    ),
    "no runtime": (
        lambda config: config["available_node_types"]["tpu"]["node_config"].pop("runtimeVersion"),
        f"{TPU}.node_config.runtimeVersion is missing; for v5litepod-8 it is v2-alpha-tpuv5-lite",
    ),
    "other runtime": (
        tpu(runtimeVersion="v2-alpha-tpuv6e"),
        f"{TPU}.node_config.runtimeVersion for v5litepod-8 is v2-alpha-tpuv5-lite, got v2-alpha-tpuv6e",
    ),
    "cores for chips": (
        tpu(acceleratorType="v3-8", runtimeVersion="tpu-ubuntu2204-base"),
        f"{TPU}.resources.TPU must be 4, the chips of a v3-8, got 8",
    ),
    "one chip": (chips(1), f"{TPU}.resources.TPU must be 8, the chips of a v5litepod-8, got 1"),
    "several hosts": (
        tpu(acceleratorType="v4-32"),
        f"{TPU}.node_config.acceleratorType: v4-32 spans several hosts, and a trial runs on one; use v4-8 and a",
    ),
    "several hosts of v5e": (tpu(acceleratorType="v5litepod-16"), "use v5litepod-8 and a larger max_workers"),
    "not served": (
        tpu(acceleratorType="tpu7x-8"),
        "acceleratorType: the Cloud TPU API, through which Ray makes TPU VMs, does not serve tpu7x-8; use KubeRay on",
    ),
    "no mode of authentication": (
        lambda config: config.update(
            setup_commands=[command for command in config["setup_commands"] if "RAY_AUTH" not in command]
        ),
        "setup_commands: no command sets RAY_AUTH_MODE=token, so the head may want a token that workers lack",
    ),
    "no token for workers": (
        whole(cluster_synced_files=[]),
        "cluster_synced_files must hold ~/.raysynth-token: else no worker gets the token and none can join",
    ),
    "other name": (tpu(acceleratorType="v5e-8"), f"{TPU}.node_config.acceleratorType: v5e-8 is called v5litepod-8"),
    "no such accelerator": (tpu(acceleratorType="v3-9000x"), "unknown accelerator 'v3-9000x'"),
    "both": (tpu(machineType="n2-standard-8"), f"{TPU}.node_config must not have both a machineType and an accele"),
    "no project": (provider(project_id=None), "provider.project_id is missing"),
    "no zone": (
        provider(availability_zone=None),
        "provider needs a region and an availability_zone, got 'us-central1'",
    ),
    "other zone": (provider(region="europe-west4"), "provider.availability_zone 'us-central1-a' must lie in provider"),
    "credentials": (
        provider(gcp_credentials={"type": "service_account", "credentials": "{}"}),
        "provider.gcp_credentials must not be in a file",
    ),
    "tpu head": (whole(head_node_type="tpu"), f"{TPU}: a TPU VM cannot be the head"),
    "spot head": (
        head(scheduling=[{"preemptible": True}]),
        "available_node_types.head.node_config.scheduling: the head must not be preemptible",
    ),
    "head typo": (
        head(machinetype="n2"),
        "unknown field of available_node_types.head.node_config 'machinetype' (did you mean 'machineType'?)",
    ),
    "enum": (
        head(scheduling={"provisioningModel": "STANDART"}),
        "available_node_types.head.node_config.scheduling.provisioningModel 'STANDART' is not known; allowed: ",
    ),
    "tpu on a cpu": (
        lambda config: config["available_node_types"]["head"]["resources"].update(TPU=4),
        "available_node_types.head.resources.TPU must not be given",
    ),
    "open dashboard": (
        whole(head_start_ray_commands=["ray start --head --dashboard-host=0.0.0.0"]),
        "head_start_ray_commands: --dashboard-host must be 127.0.0.1",
    ),
    "top level": (whole(max_wokers=5), "max_wokers"),
    "no head type": (lambda config: config.pop("head_node_type"), "(Ray's own check)"),
    "workers": (whole(max_workers=-1), "max_workers"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line(case, config):
    change, line = CASES[case]
    change(config)
    lines = cluster.problems(config)
    assert any(line in problem for problem in lines), lines
    assert len(lines) <= 2, lines
    assert not any("\n" in problem for problem in lines)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [", "is not YAML: "),
        ("- a", "describes no cluster: it must be a mapping with a section `provider`"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_without_a_description_is_one_line(text, line, tmp_path, capsys):
    file = tmp_path / "cluster.yaml"
    if text is not None:
        file.write_text(text)
    assert main(["cluster", "check", str(file)]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


# -------------------------------------------------------------------------------- leftovers


def node(name, state, cluster_name="raysynth"):
    """A node in the form of the Cloud TPU API's answers."""
    return {
        "name": f"projects/my-project/locations/us-central1-a/nodes/{name}",
        "acceleratorType": "v3-8",
        "state": state,
        "runtimeVersion": "tpu-ubuntu2204-base",
        "createTime": "2026-11-20T08:00:00.000000Z",
        "schedulingConfig": {"spot": True},
        "labels": {"ray-cluster-name": cluster_name, "ray-node-type": "worker", "ray-user-node-type": "tpu"},
        "apiVersion": "V2_ALPHA1",
    }


PAGES = [
    {"nodes": [node("a", "READY"), node("b", "PREEMPTED"), node("c", "DELETING")], "nextPageToken": "2"},
    {
        "nodes": [
            node("d", "PREEMPTED", "somebody-else"),
            node("e", "TERMINATED"),
            {**node("f", "PREEMPTED"), "labels": {}},
        ]
    },
]


def service(*answers):
    """A client from Google's package that receives the answers [(status, body)], and the requests that it sends."""
    from googleapiclient import discovery
    from googleapiclient.http import HttpMockSequence

    http = HttpMockSequence([({"status": status}, json.dumps(body)) for status, body in answers])
    return discovery.build("tpu", "v2alpha1", http=http, static_discovery=True), http.request_sequence


def test_leftovers_are_the_machines_that_ray_does_not_delete(config, capsys):
    client, requests = service(*((200, page) for page in PAGES))
    list_leftovers(config, client)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["PREEMPTED", "TERMINATED"]
    assert [line.rsplit("/", 1)[1] for line in lines] == ["b", "e"]
    assert [request[1] for request in requests] == ["GET", "GET"]
    assert "v2alpha1/projects/my-project/locations/us-central1-a/nodes" in requests[0][0]
    assert "pageToken=2" in requests[1][0]


def test_every_leftover_is_deleted(config, capsys):
    operation = {"name": "projects/my-project/locations/us-central1-a/operations/1", "done": False}
    client, requests = service(*((200, page) for page in PAGES), (200, operation), (200, operation))
    delete_leftovers(config, client)
    assert [request[1] for request in requests] == ["GET", "GET", "DELETE", "DELETE"]
    assert [request[0].split("?")[0].rsplit("/", 1)[1] for request in requests[2:]] == ["b", "e"]
    assert capsys.readouterr().out.count("deleting ") == 2


def test_a_line_says_that_nothing_is_left(config, capsys):
    list_leftovers(config, service((200, {}))[0])
    assert capsys.readouterr().out == "nothing left behind by cluster 'raysynth'\n"


def test_a_rejected_request_is_one_line(config):
    body = {"error": {"code": 403, "message": "Cloud TPU API has not been used", "status": "PERMISSION_DENIED"}}
    with pytest.raises(InputError, match="the Cloud TPU API rejects the request: 403 Cloud TPU API has not been used"):
        list_leftovers(config, service((403, body))[0])


def test_leftovers_need_a_project(capsys):
    for verb in ("leftovers", "delete-leftovers"):
        assert main(["cluster", verb, str(FILE)]) == 2
        assert capsys.readouterr().err == (
            "error: provider must be of type gcp, with a project_id and an availability_zone\n"
        )


def test_a_local_cluster_gets_rays_checks_and_that_of_its_token(config):
    config["provider"] = {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]}
    del config["available_node_types"], config["head_node_type"]
    assert cluster.problems(config) == []
    config["setup_commands"] = [command for command in config["setup_commands"] if "RAY_AUTH" not in command]
    (line,) = cluster.problems(config)
    assert "no command sets RAY_AUTH_MODE=token" in line


# -------------------------------------------------------------------------------- on the head


def test_a_trial_requests_the_chips_of_a_worker_that_does_not_run_yet(config, tmp_path):
    from ray.autoscaler._private.util import prepare_config

    idle = [{"Alive": True, "Resources": {"CPU": 8.0}}]
    assert trial_resources([*idle, *cluster.promised(tmp_path / "absent")]) == {"CPU": 1}
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(json.dumps(prepare_config(config)))
    assert trial_resources([*idle, *cluster.promised(file)]) == {"CPU": 1, "TPU": 8}


@pytest.mark.parametrize("field", ["resources", "scheduling"])
def test_a_section_of_the_wrong_type_is_a_line(field):
    kind = {"node_config": {"machineType": "n2-standard-8"}, "resources": {"CPU": 8}}
    (kind if field == "resources" else kind["node_config"])[field] = "text"
    config = {"provider": {"type": "gcp"}, "head_node_type": "head", "available_node_types": {"head": kind}}
    assert any("a value of the wrong type" in line for line in cluster.problems(config))
