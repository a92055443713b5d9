"""The job server of a Ray head: is it there, does it let us in, and which versions does it run."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import platform
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from annotate.errors import ConfigError

ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Where Ray looks for the address of the job server. It takes these before an address that it is given."""

_SECONDS = 15.0  # in which the server has to answer


@dataclass(frozen=True)
class Versions:
    """Versions on one side.

    Attributes:
        ray: of Ray.
        python: of Python; None if the cluster does not tell.
    """

    ray: str
    python: str | None

    def __str__(self) -> str:
        return f"Ray {self.ray}, Python {self.python or 'unknown'}"


def server_address(given: str) -> str:
    """The address of a job server as a URL.

    Raises:
        ConfigError: it is the address of something else.
    """
    address = given.strip().rstrip("/")
    if "://" not in address and ":" in address:
        address = f"http://{address}"
    place = urlsplit(address)
    if place.scheme not in ("http", "https") or not place.hostname:
        client = "ray:// is for Ray Client, which annotate does not use. " if place.scheme == "ray" else ""
        raise ConfigError(
            f"{given!r} is not the address of a job server",
            hint=f"{client}Name the head's dashboard, as in http://HEAD:8265. From outside of its network: "
            "`ssh -L 8265:localhost:8265 HEAD`, or `kubectl port-forward`, and http://localhost:8265.",
        )
    return address


def connect(address: str) -> Any:
    """Ray's client for a job server.

    Raises:
        ConfigError: nothing answers there, it is no job server of Ray, or it wants a token that we don't have.
    """
    url = server_address(address)
    _check_it_answers(url)
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("dashboard_sdk", "job.sdk"):  # they tell of each upload and of each log that ends
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
    try:
        with _without_variables():
            return JobSubmissionClient(url)
    except AuthenticationError as error:
        raise ConfigError(
            f"the job server at {shown(url)} wants a token, and refused ours or was given none",
            hint="Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the token of the cluster. "
            "`ray get-auth-token` prints it, on the head.",
        ) from error
    except Exception as error:
        raise ConfigError(
            f"the job server at {shown(url)} does not answer as one of Ray: {_first_line(error)}",
            hint="Check the address, and that the head runs `ray[default]`.",
        ) from error


def _check_it_answers(url: str) -> None:
    """Ask for the version. Ray's client has no time limit, and would wait for minutes."""
    request = urllib.request.Request(f"{url}/api/version", headers={"User-Agent": "annotate"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            json.loads(answer.read(1 << 16))["ray_version"]
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):  # of the token; the client sends it
            raise ConfigError(
                f"the server at {shown(url)} is no job server of Ray: it answers with status {error.code}",
                hint="Check the address: it is that of the head's dashboard, by default at port 8265.",
            ) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(
            f"nothing answers at {shown(url)}: {reason}",
            hint="Check the address, and that the head runs with its dashboard. It listens on loopback unless told "
            "otherwise: `ssh -L 8265:localhost:8265 HEAD`, or `kubectl port-forward`, and http://localhost:8265.",
        ) from error
    except (ValueError, KeyError, TypeError, http.client.HTTPException) as error:
        raise ConfigError(
            f"the server at {shown(url)} is no job server of Ray",
            hint="Check the address: it is that of the head's dashboard, by default at port 8265, not at 6379.",
        ) from error


@contextlib.contextmanager
def _without_variables() -> Iterator[None]:
    """Hide the variables with addresses, so that the given address is used."""
    hidden = {name: os.environ.pop(name) for name in ADDRESS_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def versions_here() -> Versions:
    """Versions on this machine."""
    import ray

    return Versions(str(ray.__version__), platform.python_version())


def versions_there(client: Any) -> Versions:
    """Versions of a cluster."""
    version = client._do_request("GET", "/api/version").json()["ray_version"]
    try:
        python = client._do_request("GET", "/api/v0/cluster_metadata").json()["data"]["pythonVersion"]
    except (KeyError, TypeError, ValueError):  # not said by this version of Ray
        python = None
    return Versions(str(version), None if python is None else str(python))


def check_versions(here: Versions, there: Versions) -> None:
    """Check that a pipeline which works here works on the cluster.

    Raises:
        ConfigError: Ray differs, or the first two numbers of Python's version.
    """
    differ = [] if here.ray == there.ray else ["Ray"]
    if here.python and there.python and here.python.split(".")[:2] != there.python.split(".")[:2]:
        differ.append("Python")
    if differ:
        raise ConfigError(
            f"the cluster has another {' and another '.join(differ)} than this machine. Here: {here}; there: {there}",
            hint="Submit from an environment with the cluster's versions. `ray job submit --working-dir FOLDER -- "
            "annotate run ...` does not check them.",
        )


def shown(address: str) -> str:
    """An address without the password that may be in it."""
    place = urlsplit(address)
    return address if place.username is None else address.replace(place.netloc, place.netloc.rpartition("@")[2], 1)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
