"""What Ray's cluster launcher says of the hosts that it starts. The only use of that interface, which is not public."""

import json
from dataclasses import dataclass
from typing import Any

ANSWER_SECONDS = 4
"""The launcher's state is left out if Ray does not tell it within this time."""


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """What a launcher is doing."""

    starting: int = 0
    """Hosts that were asked for and are not up yet."""
    error: str = ""
    """Why a host could not be started, the last time, in one line; empty if none failed."""


def launcher(address: str) -> Launcher:
    """What the launcher of the session's cluster at HOST:PORT is doing; all zero where there is none.

    Ray has two launchers. The older one leaves JSON in the key-value store of the cluster, the newer one answers
    `ray.autoscaler.v2.sdk.get_cluster_status`. Both are what `ray status` prints. Only counts and an error come from
    here, so what cannot be read counts as nothing said.
    """
    try:
        from ray.experimental.internal_kv import _internal_kv_get

        older = json.loads(_internal_kv_get("__autoscaling_status") or "{}")
        return of_older(older) if older.get("autoscaler_report") else _newer(address)
    except Exception:  # of any type, since the interface may change
        return Launcher()


def of_older(status: dict[str, Any]) -> Launcher:
    """The state in the older launcher's report."""
    report = status.get("autoscaler_report") or {}
    summary = (report.get("node_availability_summary") or {}).get("node_availabilities") or {}
    failures = [kind for kind in summary.values() if kind.get("unavailable_node_information")]
    last = max(failures, key=lambda kind: float(kind["last_checked_timestamp"]), default=None)
    error: dict[str, str] | None = None if last is None else last["unavailable_node_information"]
    return Launcher(
        starting=sum((report.get("pending_launches") or {}).values()) + len(report.get("pending_nodes") or ()),
        error="" if error is None else _line(error["category"], error["description"]),
    )


def _newer(address: str) -> Launcher:
    from ray.autoscaler.v2.sdk import get_cluster_status

    return of_newer(get_cluster_status(address, timeout=ANSWER_SECONDS))


def of_newer(status: Any) -> Launcher:
    """The state in the newer launcher's answer, a `ray.autoscaler.v2.schema.ClusterStatus`."""
    last = max(status.failed_launches, key=lambda launch: launch.failed_ts_s or launch.request_ts_s, default=None)
    return Launcher(
        starting=sum(launch.count for launch in status.pending_launches) + len(status.pending_nodes),
        error="" if last is None else _line(last.ray_node_type_name, last.details or "the launch failed"),
    )


def _line(kind: str, text: str) -> str:
    return f"{kind}: {' '.join(text.split())}"[:_MAX_CHARACTERS]


_MAX_CHARACTERS = 300
"""A longer error is cut: Google answers with whole JSON objects."""
