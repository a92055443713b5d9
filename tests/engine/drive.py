"""The test pipeline, run by this process or, with `drive.py CORPUS CALLS WORKDIR ...`, by one of its own."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import ray
import support

from annotate import Options, Phase, Pipeline, Place, Render
from annotate.engine import shuffle


def run(corpus: Path, calls: Path, workdir: Path, *more: str) -> None:
    """Run the pipeline with two workers.

    More words: `--spans` for repeated spans, exact similarity and a training order with phases; `--small-units` for
    several ranges of units; `--two-levels` for shuffles as of a large corpus; `--share` for `Options.share`.
    """
    options: dict[str, Any] = {"verify": "exact", "repeated_above": 2} if "--spans" in more else {}
    if "--small-units" in more:
        options |= {"unit_bytes": 400}
    pipeline = support.pipeline(corpus, calls, groups=True, **options)
    if "--spans" in more:
        render = pipeline.outputs["shards"]
        assert isinstance(render, Render) and isinstance(render.placements, Place)
        place = render.placements
        phases = (Phase(name="a", share=0.3, tag_rate=(0, 1)), Phase(name="b"))
        thresholds = replace(place.thresholds, scheme=replace(place.scheme, phases=phases))
        pipeline = Pipeline(replace(render, placements=Place(thresholds)))
    reads = 0 if "--two-levels" in more else shuffle.SMALL_READS
    with mock.patch.object(shuffle, "SMALL_READS", reads):
        pipeline.run(str(workdir), Options(workers=2, share="--share" in more))


if __name__ == "__main__":
    ray.init(log_to_driver=False, logging_level="ERROR")
    ray.cloudpickle.register_pickle_by_value(support)
    run(*map(Path, sys.argv[1:4]), *sys.argv[4:])
