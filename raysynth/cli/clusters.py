"""Verbs on Ray clusters on Google Cloud: cluster check, cluster leftovers, cluster delete-leftovers."""

import argparse
from pathlib import Path
from typing import Any

from raysynth.command_line import Verbs, add_verb, path
from raysynth.environment import check_ray
from raysynth.run import cluster


def add_verbs(verbs: Verbs) -> None:
    """Add `cluster` and its verbs."""
    summary = "check the description of a cluster, or find TPU VMs that it left behind"
    parser = verbs.add_parser("cluster", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    parser.set_defaults(parser=parser)
    cluster_verbs = parser.add_subparsers(metavar="VERB", required=True)
    for add in (_add_check, _add_leftovers, _add_delete_leftovers):
        add(cluster_verbs)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=path, help="the description, such as cluster.yaml")


def _add_check(verbs: Verbs) -> None:
    _add_file(add_verb(verbs, "check", _check, "print what is wrong with a description; status 1 if anything is"))


def _check(options: argparse.Namespace) -> int:
    check_ray()  # whose own checks are used too
    config = cluster.read(options.file)
    problems = cluster.problems(config)
    for line in problems or ["no problems found"]:
        print(f"{options.file}: {line}")
    if config["provider"].get("type") == "gcp":
        print(f"note: {cluster.REACH}")
    return 1 if problems else 0


def _add_leftovers(verbs: Verbs) -> None:
    _add_file(add_verb(verbs, "leftovers", _leftovers, "list TPU VMs that were preempted or stopped and still exist"))


def _leftovers(options: argparse.Namespace) -> int:
    list_leftovers(*_connected(options.file))
    return 0


def list_leftovers(config: dict[str, Any], service: Any) -> None:
    """Print the TPU VMs of a cluster that no longer run and still exist; `service` is that of `cluster.connect`."""
    leftovers = cluster.leftovers(config, service)
    for node in leftovers:
        print(f"{node.state:10} {node.accelerator:12} created {node.created}  {node.name}")
    if not leftovers:
        _print_nothing_left(config)


def _add_delete_leftovers(verbs: Verbs) -> None:
    _add_file(add_verb(verbs, "delete-leftovers", _delete_leftovers, "delete the TPU VMs that `leftovers` lists"))


def _delete_leftovers(options: argparse.Namespace) -> int:
    delete_leftovers(*_connected(options.file))
    return 0


def delete_leftovers(config: dict[str, Any], service: Any) -> None:
    """Delete the TPU VMs of a cluster that no longer run; `service` is that of `cluster.connect`."""
    leftovers = cluster.leftovers(config, service)
    for node in leftovers:
        cluster.delete(node, service)
        print(f"deleting {node.name}")
    if not leftovers:
        _print_nothing_left(config)


def _print_nothing_left(config: dict[str, Any]) -> None:
    print(f"nothing left behind by cluster {config.get('cluster_name')!r}")


def _connected(file: Path) -> tuple[dict[str, Any], Any]:
    """The description in a file, and the Cloud TPU API."""
    config = cluster.read(file)
    cluster.location(config)  # reports an unfinished file before missing credentials
    return config, cluster.connect()
