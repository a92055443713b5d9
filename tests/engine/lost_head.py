"""Runs a pipeline by the command line on a cluster that is lost: `lost_head.py CORPUS OUT head|all`.

With `head` the head alone is killed. With `all` the cluster is taken away: first the node that has the workers, then
that of the command; by SIGKILL, since Ray aborts a driver whose raylet ends in order (docs/design.md). Prints the exit
code of the command, and what it said.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from ray.cluster_utils import Cluster

CORPUS, OUT, LOST = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
PIPELINE = """
import time
import numpy as np
import annotate
from annotate import Corpus, Pipeline, Place, PythonScorer, Render, Split, Tag, TagScheme, score

def slow(table):
    time.sleep({seconds})
    return np.array([len(text) for text in table["text"].to_pylist()], np.float32)

scorer = PythonScorer(function=slow, axes=("length",), version="1")
scores = score(Split(Corpus({corpus!r}, unit_bytes=1000)), [scorer])
pipeline = Pipeline(Render(Place(scores, TagScheme(tags=(Tag(name="long", rule="length >= q(0.5)"),)))))
if __name__ == "__main__":
    annotate.main(pipeline)
"""


def main() -> None:
    node = {"num_cpus": 2, "object_store_memory": 100 << 20}
    alone = LOST == "head"
    cluster = Cluster(initialize_head=True, head_node_args=node if alone else {**node, "num_cpus": 0})
    workers = None if alone else cluster.add_node(**node)
    file = OUT.with_suffix(".py")
    file.write_text(PIPELINE.format(corpus=str(CORPUS), seconds=0.5))
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    with OUT.with_suffix(".said").open("wb") as said:
        run = subprocess.Popen(
            [sys.executable, str(file), "--workdir", str(OUT)], env=environment, stdout=said, stderr=said
        )
        while len(list(OUT.glob("annotations-*/units/*"))) < 3 and run.poll() is None:
            time.sleep(0.1)
        assert run.poll() is None, OUT.with_suffix(".said").read_text()
        if alone:
            cluster.head_node.kill_gcs_server(check_alive=False)
        else:
            cluster.remove_node(workers, allow_graceful=False)
            cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
        print("exit code", run.wait(timeout=150), flush=True)
    print(OUT.with_suffix(".said").read_text())
    cluster.shutdown()


if __name__ == "__main__":
    main()
