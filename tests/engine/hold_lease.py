"""Holds a lease in a process of its own: `hold_lease.py WORKDIR WHAT SECONDS`; says `held`, ends when told anything.

As it would be elsewhere: LEASE_KERNEL is that of another machine, LEASE_HOST and LEASE_PID are as in a container, and
LEASE_SKEW is by how many seconds the clock is wrong. With LEASE_REMOVES the holder confirms and removes a file when
told to; it says what came of it.
"""

import os
import socket
import sys
import time
from pathlib import Path

from annotate.engine import locks
from annotate.engine.lease import hold
from annotate.errors import StorageError
from annotate.storage.store import Directory

if __name__ == "__main__":
    workdir, what, seconds = Directory.at(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    if "LEASE_KERNEL" in os.environ:
        locks._BOOT = Path(os.environ["LEASE_KERNEL"])
    if "LEASE_HOST" in os.environ:
        host, pid = os.environ["LEASE_HOST"], int(os.environ["LEASE_PID"])
        socket.gethostname, os.getpid = lambda: host, lambda: pid
    skew, now = float(os.environ.get("LEASE_SKEW", "0")), time.time
    time.time = lambda: now() + skew
    try:
        with hold(workdir, f"{what}-{os.getpid()}", share=False, what=what, seconds=seconds) as lease:
            print("held", flush=True)
            sys.stdin.readline()
            if "LEASE_REMOVES" in os.environ:
                lease.confirm()
                Path(os.environ["LEASE_REMOVES"]).unlink()
            lease.check()
        print("ended", flush=True)
    except StorageError as error:
        print(error.message, flush=True)
