"""Addresses of Ray clusters: what can be wrong with one is a line within seconds, before anything is written."""

import contextlib
import functools
import json
import logging
import os
import platform
import socket
from typing import Any

from raysynth.environment import check_ray
from raysynth.errors import InputError, first_line
from raysynth.run.quiet import environment, stderr_to

ANSWER_SECONDS = 4.0
"""A cluster that does not answer for this long is not there."""
_IMPATIENT = {
    "RAY_gcs_rpc_server_connect_timeout_s": "2",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "2",
    "RAY_py_gcs_connect_timeout_s": "2",
    "RAY_gcs_server_request_timeout_seconds": "3",
}
"""Settings of Ray that end its attempts to connect."""


def cluster(address: str | None) -> str | None:
    """HOST:PORT of the Ray cluster that an address names, or None for a session on this machine.

    Raises `InputError` if Ray is not installed, if the address is none, or if no cluster of this version of Ray and
    Python answers there.
    """
    check_ray()
    if not address or address == "local":
        return None
    return _checked(address)


@functools.cache
def _checked(address: str) -> str:
    name = repr(address)
    if address.startswith("ray://"):
        raise InputError(f"the Ray address {name} is one of Ray Client, which is not supported: give HOST:PORT")
    if address == "auto":
        address = _running_here()
    host, _, port = address.rpartition(":")
    if "/" in host or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 2**16:
        raise InputError(f"the Ray address must be HOST:PORT, auto or local, got {name}")
    _connect(host.strip("[]"), int(port))
    _ask(host, port)
    return address


def _running_here() -> str:
    """The address of the cluster that runs on this machine."""
    from ray._private import services

    _use_token()
    # Ray's own search would also find the sessions that other runs started for themselves.
    found = services.find_bootstrap_address(None)
    if found is None:
        raise InputError("the Ray address is auto, and no Ray cluster runs on this machine")
    return str(found)


def _use_token() -> None:
    """Do as Ray does for this machine's own cluster: use the user's token if there is one."""
    with contextlib.suppress(ImportError):  # older versions of Ray have no tokens
        from ray._private.authentication import authentication_token_setup

        logging.getLogger("ray").setLevel(logging.ERROR)
        authentication_token_setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _connect(host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except (OSError, UnicodeError) as error:
        why = "no answer" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"no Ray cluster answers at {host}:{port}: {why}") from None


def _ask(host: str, port: str) -> None:
    """Ask whatever listens there for its versions. Another server than Ray's would keep Ray waiting for a minute."""
    from ray import _raylet
    from ray._private import services, utils

    compiled: Any = _raylet
    here = f"{services.resolve_ip_for_localhost(host)}:{port}"
    try:
        with stderr_to(os.devnull), environment(_IMPATIENT):
            compiled.Config.initialize("")
            client = compiled.GcsClient(address=here)
            answer = client.internal_kv_get(b"CLUSTER_METADATA", namespace=b"cluster", timeout=ANSWER_SECONDS)
    except Exception as error:
        line = first_line(error)
        if "token" in line.lower() or "authenticat" in line.lower():
            raise InputError(
                f"the Ray cluster at {host}:{port} wants a token: set RAY_AUTH_MODE=token, with the token in "
                "~/.ray/auth_token or RAY_AUTH_TOKEN"
            ) from None
        raise InputError(f"what listens at {host}:{port} does not answer as a Ray cluster: {line}") from None
    finally:
        compiled.Config.initialize("")
    theirs = json.loads(answer or "{}")
    try:
        utils.check_version_info({**_versions(), **theirs}, "this process")
    except RuntimeError:
        ours = _versions()
        raise InputError(
            f"the Ray cluster at {host}:{port} has Ray {theirs['ray_version']} and Python {theirs['python_version']}, "
            f"this process Ray {ours['ray_version']} and Python {ours['python_version']}: they must be the same"
        ) from None


def _versions() -> dict[str, str]:
    """The versions that must be the same in a whole cluster."""
    import ray

    return {"ray_version": ray.__version__, "python_version": platform.python_version()}
