"""Runs a Ray head with its job server on loopback until standard input ends; prints the job server's address.

A process of its own, because a process can be connected to one Ray only, and because credentials and the token mode of
Ray are read from the environment with which a head is started.
"""

import json
import sys

import ray

if __name__ == "__main__":
    context = ray.init(
        address="local",
        num_cpus=3,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        dashboard_port=int(sys.argv[1]),
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 << 20,
    )
    sys.stdout.write(f"{json.dumps(context.address_info)}\n")
    sys.stdout.flush()
    sys.stdin.read()
    ray.shutdown()
