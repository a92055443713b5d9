"""Runs a pipeline that takes all the memory there is for one document, on a Ray in a control group of its own."""

import os
import sys
from pathlib import Path

import ray

GROUP, CORPUS, WORKDIR = map(Path, sys.argv[1:])

if __name__ == "__main__":
    import deadly

    from annotate import Options

    (GROUP / "cgroup.procs").write_text(str(os.getpid()))
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    deadly.pipeline(CORPUS, split=deadly.Hungry).run(str(WORKDIR), Options(workers=1, by_value=("deadly",)))
