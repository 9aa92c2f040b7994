"""Checks of a Ray cluster's description for Google Cloud, and TPU VMs that a cluster left behind.

`ray up` finds many mistakes only after machines run and cost money: Ray passes fields on to Google's API, which ignores
or rejects the unknown ones, and a trial that asks for more chips than any host has waits forever. The checks use the
API descriptions in google-api-python-client, so only `leftovers` and `delete` need a network.

Ray and Google's packages are imported in the functions that use them, which keeps light commands fast.
"""

import contextlib
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from raysynth.errors import InputError, first_line, unknown
from raysynth.fields import spec

LABEL = "ray-cluster-name"
"""The label that Ray puts on every machine of a cluster (ray.autoscaler.tags)."""

GONE = ("PREEMPTED", "STOPPED", "TERMINATED")
"""States of a TPU VM that Ray counts as gone but does not delete; VMs being deleted are in other states."""


@spec
class Host:
    """A TPU VM of an accelerator type whose chips are all on one host."""

    num_chips: int
    runtime: str
    """The runtime version for JAX, from Google's page "TPU software versions"."""


_BASE, _V5E, _V5P, _V6E = "tpu-ubuntu2204-base", "v2-alpha-tpuv5-lite", "v2-alpha-tpuv5", "v2-alpha-tpuv6e"

hosts: dict[str, Host] = {
    **{kind: Host(num_chips=4, runtime=_BASE) for kind in ("v2-8", "v3-8", "v4-8")},
    **{f"v5litepod-{chips}": Host(num_chips=chips, runtime=_V5E) for chips in (1, 4, 8)},
    "v5p-8": Host(num_chips=4, runtime=_V5P),
    **{f"v6e-{chips}": Host(num_chips=chips, runtime=_V6E) for chips in (1, 4, 8)},
}
"""Single-host accelerator types by Google's name.

The number in the name counts chips for v5litepod and v6e, and cores, two per chip, for the others.
"""

REACH = (
    f"Ray makes TPU VMs through the Cloud TPU API: {', '.join(hosts)}, but no TPU7x, which takes GKE. "
    "Where a zone has no free machine, the request fails at once and Ray tries again; docs/cluster.md says what else "
    "there is: other zones, queued resources, reservations"
)
"""What no check of a description can see, in one line."""

_RUNTIMES = {host.runtime for host in hosts.values()}


# -------------------------------------------------------------------------------- check


def read(path: Path) -> dict[str, Any]:
    """The cluster description in a YAML file; raises `InputError` if the file holds none."""
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict) or not isinstance(config.get("provider"), dict):
        raise InputError(f"{path} describes no cluster: it must be a mapping with a section `provider`")
    return config


def problems(config: dict[str, Any]) -> list[str]:
    """The mistakes in a description, a line each.

    For providers other than Google Cloud, only Ray's own checks and that of authentication apply.
    """
    lines = list(_ray_problems(config))
    try:
        lines += [*_token_problems(config), *_google_problems(config)]
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        lines.append(f"a section has a value of the wrong type: {error}")
    return lines


def _google_problems(config: dict[str, Any]) -> list[str]:
    """The mistakes that Ray's own checks do not find; fails for sections of a wrong type."""
    lines: list[str] = []
    if config["provider"].get("type") == "gcp":
        lines += [*_provider_problems(config), *_placeholders(config)]
        kinds = config.get("available_node_types")
        for name, kind in kinds.items() if isinstance(kinds, dict) else ():
            if isinstance(kind, dict) and isinstance(kind.get("node_config"), dict):
                field = f"available_node_types.{name}"
                lines += _head_problems(field, kind) if name == config.get("head_node_type") else ()
                lines += _node_problems(field, kind)
    return lines


def _ray_problems(config: dict[str, Any]) -> Iterator[str]:
    """The mistake that Ray itself reports, if any: against its schema, or across node types."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    logger = logging.getLogger("ray.autoscaler")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            validate_config(prepare_config(json.loads(json.dumps(config))))
    except Exception as error:  # of any type, from KeyError to jsonschema.ValidationError
        path = ".".join(map(str, getattr(error, "absolute_path", ())))
        line = getattr(error, "message", None) or first_line(error)
        yield f"{path or 'the file'}: {line} (Ray's own check)"
    finally:
        logger.setLevel(level)


def _provider_problems(config: dict[str, Any]) -> Iterator[str]:
    provider = config["provider"]
    if not provider.get("project_id"):
        yield "provider.project_id is missing: the id of your Google Cloud project"
    region, zone = provider.get("region"), provider.get("availability_zone")
    if not region or not zone:
        yield f"provider needs a region and an availability_zone, got {region!r} and {zone!r}"
    elif not str(zone).startswith(f"{region}-"):
        yield f"provider.availability_zone {zone!r} must lie in provider.region {region!r}"
    if provider.get("gcp_credentials"):
        yield "provider.gcp_credentials must not be in a file: use `gcloud auth application-default login`"
    commands = " ".join(map(str, config.get("head_start_ray_commands") or ()))
    if re.search(r"--dashboard-host[= ]+(0\.0\.0\.0|::)", commands):
        yield "head_start_ray_commands: --dashboard-host must be 127.0.0.1: whoever reaches the dashboard can run code"


def _token_problems(config: dict[str, Any]) -> Iterator[str]:
    """Without an explicit mode, `ray start --head` decides by what an earlier session left, and workers by nothing."""
    every = " ".join(map(str, config.get("setup_commands") or ()))
    if not re.search(r"RAY_AUTH_MODE=(token|disabled)\b", every):
        yield "setup_commands: no command sets RAY_AUTH_MODE=token, so the head may want a token that workers lack"
    path = re.search(r"RAY_AUTH_MODE=token\b.*RAY_AUTH_TOKEN_PATH=([^\s'\"]+)", every)
    if path and path[1] not in (config.get("cluster_synced_files") or ()):
        yield f"cluster_synced_files must hold {path[1]}: else no worker gets the token and none can join"


def _placeholders(config: dict[str, Any]) -> Iterator[str]:
    for field in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        for number, command in enumerate(config.get(field) or ()):
            if placeholder := re.search(r"\S*YOUR-\w+\S*", str(command)):
                yield f"{field}[{number}]: {placeholder[0].strip(chr(39))} is still to be filled in"


def _head_problems(field: str, kind: dict[str, Any]) -> Iterator[str]:
    node = kind["node_config"]
    if _is_tpu(node):
        yield f"{field}: a TPU VM cannot be the head; give head_node_type a node type with a machineType"
    scheduling = node.get("scheduling") or {}
    scheduling = scheduling[0] if isinstance(scheduling, list) else scheduling
    if scheduling.get("preemptible") or scheduling.get("provisioningModel") == "SPOT":
        yield f"{field}.node_config.scheduling: the head must not be preemptible: without it the cluster stops"


def _node_problems(field: str, kind: dict[str, Any]) -> Iterator[str]:
    node, tpus = kind["node_config"], (kind.get("resources") or {}).get("TPU")
    if not _is_tpu(node):
        yield from _fields(f"{field}.node_config", node, *_resource("compute", "v1", "Instance"))
        if "machineType" not in node:
            yield f"{field}.node_config needs a machineType, or an acceleratorType for a TPU VM"
        if tpus:
            yield f"{field}.resources.TPU must not be given without an acceleratorType in node_config, got {tpus}"
        return
    if "machineType" in node:
        yield f"{field}.node_config must not have both a machineType and an accelerator"
    # Ray renames `serviceAccounts`, which it sets itself on compute machines.
    checked = {key: value for key, value in node.items() if key not in ("machineType", "serviceAccounts")}
    yield from _fields(f"{field}.node_config", checked, *_resource("tpu", "v2alpha1", "Node"))
    accelerator_field, accelerator = _accelerator(node)
    host = hosts.get(accelerator)
    if host is None:
        yield _no_host(f"{field}.node_config.{accelerator_field}", accelerator)
        return
    if tpus != host.num_chips:
        yield (
            f"{field}.resources.TPU must be {host.num_chips}, the chips of a {accelerator}, got {tpus}; "
            "with more a trial would wait forever, with fewer several trials would share a host"
        )
    runtime = node.get("runtimeVersion")
    if not runtime:
        yield f"{field}.node_config.runtimeVersion is missing; for {accelerator} it is {host.runtime}"
    elif runtime in _RUNTIMES and runtime != host.runtime:
        yield f"{field}.node_config.runtimeVersion for {accelerator} is {host.runtime}, got {runtime}"


def _is_tpu(node: dict[str, Any]) -> bool:
    return "acceleratorType" in node or "acceleratorConfig" in node


def _accelerator(node: dict[str, Any]) -> tuple[str, str]:
    """The field that gives the accelerator, and the accelerator's type, derived from the topology if need be."""
    if "acceleratorType" in node:
        return "acceleratorType", str(node["acceleratorType"])
    config = node["acceleratorConfig"]
    kind, topology = (
        (str(config.get(key, "")) for key in ("type", "topology")) if isinstance(config, dict) else ("", "")
    )
    generation = kind.lower().replace("lite_pod", "litepod")
    chips = 1
    for length in re.findall(r"\d+", topology):
        chips *= int(length)
    units_per_chip = 1 if generation in ("v5litepod", "v6e") else 2
    return "acceleratorConfig", f"{generation}-{chips * units_per_chip}"


def _no_host(field: str, accelerator: str) -> str:
    """The line for an accelerator type that is not in `hosts`, with the type to use instead."""
    if re.match(r"(tpu-?|v)?7", accelerator.lower()):
        return (
            f"{field}: the Cloud TPU API, through which Ray makes TPU VMs, does not serve {accelerator}; "
            f"use KubeRay on GKE (docs/cluster.md), or one of {', '.join(hosts)}"
        )
    generation, _, size = accelerator.replace("v5e-", "v5litepod-").partition("-")
    known = [kind for kind in hosts if kind.startswith(f"{generation}-")]
    if known and size.isdigit() and int(size) > max(int(kind.split("-")[1]) for kind in known):
        return (
            f"{field}: {accelerator} spans several hosts, and a trial runs on one; "
            f"use {known[-1]} and a larger max_workers"
        )
    if f"{generation}-{size}" in hosts:
        return f"{field}: {accelerator} is called {generation}-{size} here"
    return f"{field}: {unknown('accelerator', accelerator, hosts)}"


# -------------------------------------------------------------------------------- Google's descriptions of its fields


def _resource(service: str, version: str, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of a kind of resource, and all schemas of the service by name, for references."""
    try:
        from googleapiclient.discovery_cache import get_static_doc
    except ImportError:
        raise _missing_packages() from None
    schemas = json.loads(get_static_doc(service, version))["schemas"]
    return schemas[kind], schemas


def _missing_packages() -> InputError:
    return InputError("the cluster launcher needs Google's packages: pip install 'raysynth[gcp]'")


_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
}
"""Python's types by the names in Google's schemas."""


def _fields(field: str, value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    """A line for each part of a value that the schema of a Google API does not allow, output-only fields included."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    kind = schema.get("type", "any")
    if kind == "object" and isinstance(value, list) and len(value) == 1:
        value = value[0]  # as `scheduling` in Ray's examples; the API accepts it
    if kind == "string" and schema.get("format") in ("int64", "uint64") and type(value) is int:
        return  # JSON has such numbers as strings; the API accepts both
    has_type = isinstance(value, _TYPES.get(kind, object))
    if isinstance(value, bool) and kind != "boolean" and kind in _TYPES:
        has_type = False  # Python's booleans are integers
    if not has_type:
        yield f"{field} must be of type {kind}, got {value!r}"
    elif "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(name for name in schema["enum"] if not name.endswith("_UNSPECIFIED"))
        yield f"{field} {value!r} is not known; allowed: {allowed}"
    elif kind == "array":
        for number, item in enumerate(value):
            yield from _fields(f"{field}[{number}]", item, schema["items"], schemas)
    elif kind == "object":
        known = {name: part for name, part in schema.get("properties", {}).items() if not part.get("readOnly")}
        for name, item in value.items():
            if name in known:
                yield from _fields(f"{field}.{name}", item, known[name], schemas)
            elif schema.get("additionalProperties") is None:
                yield str(unknown(f"field of {field}", name, known))


# -------------------------------------------------------------------------------- leftovers


@spec
class Leftover:
    """A TPU VM of a cluster that no longer runs but still exists."""

    name: str
    """`projects/PROJECT/locations/ZONE/nodes/ID`."""
    state: str
    accelerator: str
    created: str


def connect() -> Any:
    """A client of the Cloud TPU API with this machine's Google credentials; raises `InputError` if there are none."""
    try:
        from google.auth import exceptions
        from googleapiclient import discovery
    except ImportError:
        raise _missing_packages() from None
    try:
        return discovery.build("tpu", "v2alpha1", cache_discovery=False, static_discovery=True)
    except exceptions.DefaultCredentialsError:
        raise InputError("no Google credentials on this machine: run `gcloud auth application-default login`") from None


def location(config: dict[str, Any]) -> str:
    """The API's name for the location of the TPU VMs; raises `InputError` if the description lacks a part of it."""
    provider = config["provider"]
    if provider.get("type") != "gcp" or not provider.get("project_id") or not provider.get("availability_zone"):
        raise InputError("provider must be of type gcp, with a project_id and an availability_zone")
    return f"projects/{provider['project_id']}/locations/{provider['availability_zone']}"


def leftovers(config: dict[str, Any], service: Any) -> list[Leftover]:
    """The cluster's TPU VMs that were preempted, stopped or terminated but still exist.

    Ray counts them as gone and launches others instead (ray.autoscaler._private.gcp.node). Raises `InputError` if the
    API cannot be reached or rejects the request.
    """
    nodes = service.projects().locations().nodes()
    request = nodes.list(parent=location(config))
    vms: list[Leftover] = []
    while request is not None:
        answer = _answer(request)
        vms += [
            Leftover(
                name=node["name"],
                state=node["state"],
                accelerator=node.get("acceleratorType", "?"),
                created=node.get("createTime", "?"),
            )
            for node in answer.get("nodes", ())
            if node.get("labels", {}).get(LABEL) == config.get("cluster_name") and node.get("state") in GONE
        ]
        request = nodes.list_next(request, answer)
    return vms


def delete(leftover: Leftover, service: Any) -> None:
    """Ask Google to delete a TPU VM, which takes some minutes; raises `InputError` as `leftovers` does."""
    _answer(service.projects().locations().nodes().delete(name=leftover.name))


def _answer(request: Any) -> dict[str, Any]:
    from google.auth import exceptions
    from googleapiclient.errors import HttpError

    try:
        answer: dict[str, Any] = request.execute()
    except HttpError as error:
        raise InputError(f"the Cloud TPU API rejects the request: {error.status_code} {error.reason}") from None
    except (exceptions.GoogleAuthError, OSError) as error:
        raise InputError(f"the Cloud TPU API cannot be reached: {first_line(error)}") from None
    return answer


# -------------------------------------------------------------------------------- on the head


BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""The copy of the description that `ray up` puts on the head."""


def promised(bootstrap: Path = BOOTSTRAP) -> list[dict[str, Any]]:
    """One entry in the format of `ray.nodes()` for each type of worker that the autoscaler may launch.

    The autoscaler stops idle workers, so there may be none from which the first trial could learn their resources.
    Empty unless this machine is the head of a cluster.
    """
    path = bootstrap.expanduser()
    if not path.exists():
        return []
    config = yaml.safe_load(path.read_text())
    kinds = (config.get("available_node_types") or {}).values()
    return [{"Alive": True, "Resources": kind["resources"]} for kind in kinds if kind.get("max_workers")]
