"""A Ray head with its job server on loopback, in a process of its own: `head()`.

It is a process of its own because a process has one Ray only, and because Ray and the workers take the token of the
cluster and the credentials of the store from the environment in which a head is started.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def head(environment: Mapping[str, str], cpus: int = 3) -> Iterator[dict[str, Any]]:
    """Run a head with this environment; gives Ray's `address_info`, of which `webui_url` is the job server."""
    command = [sys.executable, __file__, str(_free_port()), str(cpus)]
    path = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])  # jobs say `python`
    with subprocess.Popen(
        command, env={**environment, "PATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            assert line, "the head did not start"
            yield json.loads(line)
        finally:
            process.stdin.close()  # it ends by itself


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _run(port: int, cpus: int) -> None:
    from ray.cluster_utils import Cluster

    # Of what starts a Ray, only this lets the agent that starts jobs have another port than a Ray beside it.
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": cpus,
            "include_dashboard": True,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": port,
            "dashboard_agent_listen_port": _free_port(),
            "object_store_memory": 200 << 20,
        },
    )
    sys.stdout.write(f"{json.dumps(cluster.head_node.address_info)}\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    _run(int(sys.argv[1]), int(sys.argv[2]))
