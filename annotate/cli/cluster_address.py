"""The address of the Ray cluster that a command runs on, as RAY_ADDRESS has it."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from annotate.errors import ConfigError
from annotate.jobs.server import shown

VARIABLE = "RAY_ADDRESS"
_ON_A_NODE = (
    f"On a node of the cluster, set {VARIABLE}=auto, or to HOST:PORT of its head, by default port 6379; unset it to "
    "run on this machine."
)


def cluster_address() -> str | None:
    """What RAY_ADDRESS says; None if it is not set, and Ray is to be started here.

    Raises:
        ConfigError: it is a URL. Those are of Ray Client or of a job server, where no run can be a driver.
    """
    address = os.environ.get(VARIABLE)
    if not address or "://" not in address:
        return address or None
    scheme = urlsplit(address).scheme
    if scheme == "ray":
        raise ConfigError(
            f"{VARIABLE}={shown(address)} is the address of Ray Client, which annotate does not use: a run is a driver "
            "on a node of the cluster",
            hint=f"{_ON_A_NODE} From another machine, `annotate submit --address http://HEAD:8265` starts a run there.",
        )
    if scheme in ("http", "https"):
        raise ConfigError(
            f"{VARIABLE}={shown(address)} is the address of a job server, for `annotate submit`, `annotate jobs` and "
            "`ray job submit`; a run does not connect to it",
            hint=f"`annotate submit --address {shown(address)}` starts a run there. {_ON_A_NODE}",
        )
    raise ConfigError(f"{VARIABLE}={shown(address)} is not the address of a Ray cluster", hint=_ON_A_NODE)
