"""A Ray head whose autoscaler adds and removes nodes on this machine: Ray's own provider of fake nodes, and its v2.

Ray's `AutoscalingCluster` can't be used: it needs a file that Ray's wheel lacks, and stops every Ray of the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider

HEAD = "ray.head.default"
"""The provider knows the head by this name."""


@contextlib.contextmanager
def autoscaled(workers: Mapping[str, Mapping[str, float]], most: int, cpus: int = 0) -> Iterator[Mapping[str, str]]:
    """Run a head with `cpus` CPUs, and no other node yet.

    Args:
        workers: the resources of each type of node that can be added.
        most: most nodes of a type.
        cpus: of the head.

    Yields:
        The environment in which a process connects to it.
    """
    folder = Path(tempfile.mkdtemp(prefix="grow-", dir="/tmp"))  # the paths of sockets have to be short
    with socket.socket() as free, socket.socket() as agent:
        free.bind(("", 0))
        agent.bind(("", 0))
        port, agent_port = free.getsockname()[1], agent.getsockname()[1]
    address = f"{_own_ip()}:{port}"
    (folder / "autoscaling.json").write_text(json.dumps(_settings(address, workers, most, cpus)))
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own |= {"RAY_AUTH_MODE": "disabled", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    fake = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--disable-usage-stats"]
    command += ["--port", str(port), "--temp-dir", str(folder), "--include-dashboard=false", "--num-cpus", str(cpus)]
    command += ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port", str(agent_port)]
    command += ["--autoscaling-config", str(folder / "autoscaling.json"), "--object-store-memory", str(100 << 20)]
    try:
        with (folder / "said").open("wb") as said:  # no pipe: what Ray starts would hold it open
            done = subprocess.run(command, env={**own, **fake}, stdout=said, stderr=said, timeout=120, check=False)
        assert done.returncode == 0, (folder / "said").read_text()
        yield {**own, "RAY_ADDRESS": address}
    finally:
        _end(str(folder))
        shutil.rmtree(folder)


def _settings(address: str, workers: Mapping[str, Mapping[str, float]], most: int, cpus: int) -> Mapping[str, Any]:
    own = {"object_store_memory": 100 << 20}
    types = {
        name: {"resources": {**has, **own}, "node_config": {}, "min_workers": 0, "max_workers": most}
        for name, has in workers.items()
    }
    lists = ("setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands")
    return {
        "cluster_name": "grow",
        "max_workers": most * len(workers),
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "external",  # its own type, "fake_multinode", has defaults in the file that is missing
            "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
            "gcs_address": address,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,  # all nodes have the address of this machine
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "head_node_type": HEAD,
        "available_node_types": {HEAD: {"resources": {"CPU": cpus}, "node_config": {}, "max_workers": 0}, **types},
        **{name: [] for name in lists},
    }


def _own_ip() -> str:
    from ray.util import get_node_ip_address

    return get_node_ip_address()


def _end(folder: str) -> None:
    """End the processes of the cluster: their commands have its folder. Workers end with their node."""
    processes: Sequence[psutil.Process] = [
        process for process in psutil.process_iter() if any(folder in word for word in _command(process))
    ]
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []
