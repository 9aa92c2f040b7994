"""The description of a Ray cluster on Google Cloud: what is wrong with it, and TPU VMs that it left behind.

`ray up` finds many mistakes only after machines run and cost money: Google's API ignores or refuses fields that Ray
hands on unread, and a trial that asks for more chips than any host has waits for ever. The fields are held against
the descriptions of Google's APIs that google-api-python-client brings along, so nothing here needs a network but
`leftovers` and `delete`.

Ray and Google's packages are imported where they are used, so that the light verbs of a sweep stay fast.
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

from raysynth.errors import InputError, unknown
from raysynth.fields import spec

LABEL = "ray-cluster-name"
"""The label that Ray gives to every machine of a cluster (ray.autoscaler.tags)."""

GONE = ("PREEMPTED", "STOPPED", "TERMINATED")
"""States of a TPU VM that Ray counts as gone and does not delete; those on the way out are not among them."""


@spec
class Host:
    """What a TPU VM of one accelerator type is, where one host has all of its chips."""

    num_chips: int
    runtime: str
    """The software version for JAX, from Google's "TPU software versions"."""


_BASE, _V5E, _V5P, _V6E = "tpu-ubuntu2204-base", "v2-alpha-tpuv5-lite", "v2-alpha-tpuv5", "v2-alpha-tpuv6e"

hosts: dict[str, Host] = {
    **{kind: Host(num_chips=4, runtime=_BASE) for kind in ("v2-8", "v3-8", "v4-8")},
    **{f"v5litepod-{chips}": Host(num_chips=chips, runtime=_V5E) for chips in (1, 4, 8)},
    "v5p-8": Host(num_chips=4, runtime=_V5P),
    **{f"v6e-{chips}": Host(num_chips=chips, runtime=_V6E) for chips in (1, 4, 8)},
}
"""Accelerator types of one host, by Google's name; up to v5p it counts cores, two to a chip, and else chips."""

_RUNTIMES = {host.runtime for host in hosts.values()}


# -------------------------------------------------------------------------------- check


def read(path: Path) -> dict[str, Any]:
    """The description in a file as it stands there; raises `InputError` where it is none."""
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
    """Everything that keeps a cluster from working as described, a line each.

    Of a provider other than Google Cloud, what Ray's own checks find.
    """
    found = list(_ray_problems(config))
    if config["provider"].get("type") == "gcp":
        found += [*_provider_problems(config), *_placeholders(config)]
        kinds = config.get("available_node_types")
        for name, kind in kinds.items() if isinstance(kinds, dict) else ():
            if isinstance(kind, dict) and isinstance(kind.get("node_config"), dict):
                where = f"available_node_types.{name}"
                found += _head_problems(where, kind) if name == config.get("head_node_type") else ()
                found += _node_problems(where, kind)
    return found


def _ray_problems(config: dict[str, Any]) -> Iterator[str]:
    """What Ray itself refuses: its schema, and its checks across node types."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    quiet = logging.getLogger("ray.autoscaler")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            validate_config(prepare_config(json.loads(json.dumps(config))))
    except Exception as error:  # Ray raises what its parts happen to raise, from KeyError to jsonschema's
        path = ".".join(map(str, getattr(error, "absolute_path", ())))
        line = getattr(error, "message", None) or str(error).strip().split("\n")[0] or type(error).__name__
        yield f"{path or 'the file'}: {line} (Ray's own check)"
    finally:
        quiet.setLevel(level)


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
        yield "head_start_ray_commands: --dashboard-host must be 127.0.0.1: whoever reaches the dashboard runs code"


def _placeholders(config: dict[str, Any]) -> Iterator[str]:
    for field in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        for number, command in enumerate(config.get(field) or ()):
            if found := re.search(r"\S*YOUR-\w+\S*", str(command)):
                yield f"{field}[{number}]: {found[0].strip(chr(39))} is still to be filled in"


def _head_problems(where: str, kind: dict[str, Any]) -> Iterator[str]:
    node = kind["node_config"]
    if _is_tpu(node):
        yield f"{where}: a TPU VM cannot be the head; give head_node_type a node type with a machineType"
    scheduling = node.get("scheduling") or {}
    scheduling = scheduling[0] if isinstance(scheduling, list) else scheduling
    if scheduling.get("preemptible") or scheduling.get("provisioningModel") == "SPOT":
        yield f"{where}.node_config.scheduling: the head must not be preemptible: it holds the cluster together"


def _node_problems(where: str, kind: dict[str, Any]) -> Iterator[str]:
    node, tpus = kind["node_config"], (kind.get("resources") or {}).get("TPU")
    if not _is_tpu(node):
        yield from _fields(f"{where}.node_config", node, *_resource("compute", "v1", "Instance"))
        if "machineType" not in node:
            yield f"{where}.node_config needs a machineType, or an acceleratorType where it is a TPU VM"
        if tpus:
            yield f"{where}.resources.TPU must not be given where node_config has no acceleratorType, got {tpus}"
        return
    if "machineType" in node:
        yield f"{where}.node_config must not have both a machineType and an accelerator"
    # Ray renames `serviceAccounts`, which it sets itself on compute machines.
    told = {field: value for field, value in node.items() if field not in ("machineType", "serviceAccounts")}
    yield from _fields(f"{where}.node_config", told, *_resource("tpu", "v2alpha1", "Node"))
    field, accelerator = _accelerator(node)
    host = hosts.get(accelerator)
    if host is None:
        yield _no_host(f"{where}.node_config.{field}", accelerator)
        return
    if tpus != host.num_chips:
        yield (
            f"{where}.resources.TPU must be {host.num_chips}, the chips of a {accelerator}, got {tpus}; "
            "more would wait for ever, fewer would put several trials on a host"
        )
    runtime = node.get("runtimeVersion")
    if not runtime:
        yield f"{where}.node_config.runtimeVersion is missing; for {accelerator} it is {host.runtime}"
    elif runtime in _RUNTIMES and runtime != host.runtime:
        yield f"{where}.node_config.runtimeVersion for {accelerator} is {host.runtime}, got {runtime}"


def _is_tpu(node: dict[str, Any]) -> bool:
    return "acceleratorType" in node or "acceleratorConfig" in node


def _accelerator(node: dict[str, Any]) -> tuple[str, str]:
    """The field that tells the accelerator, and its type by name, also where the field tells a topology."""
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
    per_chip = 1 if generation in ("v5litepod", "v6e") else 2
    return "acceleratorConfig", f"{generation}-{chips * per_chip}"


def _no_host(field: str, accelerator: str) -> str:
    """Why no accelerator of that name is one host, with what to use instead."""
    generation, _, size = accelerator.replace("v5e-", "v5litepod-").partition("-")
    ours = [kind for kind in hosts if kind.startswith(f"{generation}-")]
    if ours and size.isdigit() and int(size) > max(int(kind.split("-")[1]) for kind in ours):
        return (
            f"{field}: {accelerator} spans several hosts, and a trial runs on one; "
            f"use {ours[-1]} and a larger max_workers"
        )
    if f"{generation}-{size}" in hosts:
        return f"{field}: {accelerator} is called {generation}-{size} here"
    return f"{field}: {unknown('accelerator', accelerator, hosts)}"


# -------------------------------------------------------------------------------- Google's descriptions of its fields


def _resource(service: str, version: str, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of a kind of resource, and the schemas that it refers to; output-only fields are no part of it."""
    try:
        from googleapiclient.discovery_cache import get_static_doc
    except ImportError:
        raise _extra() from None
    schemas = json.loads(get_static_doc(service, version))["schemas"]
    return schemas[kind], schemas


def _extra() -> InputError:
    return InputError("the cluster launcher needs Google's packages: pip install 'raysynth[gcp]'")


_KINDS = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "object": dict, "array": list}


def _fields(where: str, value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    """The places at which a value is not what the schema of a Google API allows."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    kind = schema.get("type", "any")
    if kind == "object" and isinstance(value, list) and len(value) == 1:
        value = value[0]  # Ray's examples write `scheduling` so, and the API takes it
    if kind == "string" and schema.get("format") in ("int64", "uint64") and type(value) is int:
        return  # JSON has such numbers as text; both are taken
    expected = _KINDS.get(kind, object)
    if not isinstance(value, expected) or (kind != "boolean" and expected is not object and isinstance(value, bool)):
        yield f"{where} must be of type {kind}, got {value!r}"
    elif "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(name for name in schema["enum"] if not name.endswith("_UNSPECIFIED"))
        yield f"{where} {value!r} is not known; allowed: {allowed}"
    elif kind == "array":
        for number, item in enumerate(value):
            yield from _fields(f"{where}[{number}]", item, schema["items"], schemas)
    elif kind == "object":
        inner, other = schema.get("properties", {}), schema.get("additionalProperties")
        known = {name: field for name, field in inner.items() if not field.get("readOnly")}
        for name, item in value.items():
            if name in known:
                yield from _fields(f"{where}.{name}", item, known[name], schemas)
            elif other is None:
                yield str(unknown(f"field of {where}", name, known))


# -------------------------------------------------------------------------------- leftovers


@spec
class Leftover:
    """A TPU VM of a cluster that no longer runs and was not deleted."""

    name: str
    """`projects/PROJECT/locations/ZONE/nodes/ID`."""
    state: str
    accelerator: str
    created: str


def connect() -> Any:
    """The Cloud TPU API, with the credentials that Google's tools find on this machine."""
    try:
        from google.auth import exceptions
        from googleapiclient import discovery
    except ImportError:
        raise _extra() from None
    try:
        return discovery.build("tpu", "v2alpha1", cache_discovery=False, static_discovery=True)
    except exceptions.DefaultCredentialsError:
        raise InputError("no Google credentials on this machine: run `gcloud auth application-default login`") from None


def location(config: dict[str, Any]) -> str:
    """Where the cluster's TPU VMs are, as Google's API names it; raises `InputError` where the file does not tell."""
    provider = config["provider"]
    if provider.get("type") != "gcp" or not provider.get("project_id") or not provider.get("availability_zone"):
        raise InputError("provider must be of type gcp, with a project_id and an availability_zone")
    return f"projects/{provider['project_id']}/locations/{provider['availability_zone']}"


def leftovers(config: dict[str, Any], service: Any) -> list[Leftover]:
    """The cluster's TPU VMs that were preempted, stopped or terminated and still exist.

    Ray counts them as gone and launches others in their place (ray.autoscaler._private.gcp.node).
    """
    nodes = service.projects().locations().nodes()
    request = nodes.list(parent=location(config))
    found: list[Leftover] = []
    while request is not None:
        answer = _answer(request)
        found += [
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
    return found


def delete(leftover: Leftover, service: Any) -> None:
    """Ask Google to delete a TPU VM; it is gone some minutes later."""
    _answer(service.projects().locations().nodes().delete(name=leftover.name))


def _answer(request: Any) -> dict[str, Any]:
    from google.auth import exceptions
    from googleapiclient.errors import HttpError

    try:
        return request.execute()
    except HttpError as error:
        raise InputError(f"the Cloud TPU API refuses: {error.status_code} {error.reason}") from None
    except (exceptions.GoogleAuthError, OSError) as error:
        raise InputError(f"the Cloud TPU API cannot be reached: {str(error).splitlines()[0]}") from None


# -------------------------------------------------------------------------------- on the head


BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` leaves the description on the head."""


def promised(bootstrap: Path = BOOTSTRAP) -> list[dict[str, Any]]:
    """The workers that the autoscaler may still launch, one of each type, as `ray.nodes()` tells of those that run.

    Where every worker was idle for long enough there are none, and the first trial must ask for what they will have.
    Empty anywhere but on the head of a cluster.
    """
    path = bootstrap.expanduser()
    if not path.exists():
        return []
    config = yaml.safe_load(path.read_text())
    kinds = (config.get("available_node_types") or {}).values()
    return [{"Alive": True, "Resources": kind["resources"]} for kind in kinds if kind.get("max_workers")]
