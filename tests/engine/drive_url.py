"""Runs the test pipeline on the cluster of RAY_ADDRESS: `drive_url.py CORPUS CALLS WORKDIR`; each may be a URL."""

import sys

import ray
import support

from annotate import AnnotateError, Options

if __name__ == "__main__":
    corpus, calls, workdir = sys.argv[1:4]
    ray.init(log_to_driver=False, logging_level="ERROR")
    ray.cloudpickle.register_pickle_by_value(support)
    try:
        support.pipeline(corpus, calls, **support.SMALL_UNITS).run(workdir, Options(workers=3))
    except AnnotateError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
