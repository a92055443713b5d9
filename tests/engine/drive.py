"""Runs the test pipeline in a process of its own, on the cluster of RAY_ADDRESS: `drive.py CORPUS CALLS WORKDIR N`."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import support

from annotate import Options, Phase, Pipeline, Place, Render
from annotate.engine import shuffle

if __name__ == "__main__":
    corpus, calls, workdir, workers = *map(Path, sys.argv[1:4]), int(sys.argv[4])
    hook = {name: os.environ[name] for name in ("ANNOTATE_FAULT_HOOK", "FAULT_PLAN")}
    ray.init(log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": hook})
    ray.cloudpickle.register_pickle_by_value(support)
    more: dict[str, Any] = {"verify": "exact", "repeated_above": 2} if "--spans" in sys.argv else {}
    if "--small-units" in sys.argv:  # several ranges of units
        more |= {"unit_bytes": 400}
    pipeline = support.pipeline(corpus, calls, groups=True, **more)
    if "--spans" in sys.argv:  # in training order, with phases
        render = pipeline.outputs["shards"]
        assert isinstance(render, Render) and isinstance(render.placements, Place)
        place = render.placements
        phases = (Phase(name="a", share=0.3, tag_rate=(0, 1)), Phase(name="b"))
        thresholds = replace(place.thresholds, scheme=replace(place.scheme, phases=phases))
        pipeline = Pipeline(replace(render, placements=Place(thresholds)))
    if "--two-levels" in sys.argv:  # as in the shuffles of a large corpus
        shuffle.SMALL_READS = 0
    pipeline.run(str(workdir), Options(workers=workers, share="--share" in sys.argv))
