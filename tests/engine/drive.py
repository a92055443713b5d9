"""Runs the test pipeline in a process of its own, on the cluster of RAY_ADDRESS: `drive.py CORPUS CALLS WORKDIR N`."""

import os
import sys
from pathlib import Path

import ray
import support

from annotate import Options

if __name__ == "__main__":
    corpus, calls, workdir, workers = *map(Path, sys.argv[1:4]), int(sys.argv[4])
    hook = {name: os.environ[name] for name in ("ANNOTATE_FAULT_HOOK", "FAULT_PLAN")}
    ray.init(log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": hook})
    ray.cloudpickle.register_pickle_by_value(support)
    more = {"verify": "exact", "repeated_above": 2} if "--spans" in sys.argv else {}
    support.pipeline(corpus, calls, **more).run(str(workdir), Options(workers=workers, share="--share" in sys.argv))
