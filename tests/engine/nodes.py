"""Runs a pipeline on a cluster of two nodes while its nodes change: `nodes.py CORPUS OUT WHAT`.

`WHAT` is `lost`: the second node is killed, and nothing comes in its place; `joins`: a third one comes; or `leaves`: it
is announced that the second will be taken away. This happens when some units are scored. Prints how many models scored,
and whether it happened; with `leaves`, whether all models left the node while there was work.
"""

import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import ray
import support
from ray._private import state
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from annotate import Corpus, Options, Pipeline, Place, PythonScorer, Render, Split, Tag, TagScheme, score
from annotate.engine import cluster_watch, pool

pool.LOOK_SECONDS = cluster_watch.LOOK_SECONDS = 0.5
CORPUS, OUT, WHAT = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]


MODELS = 4  # that two nodes of two CPUs have


def scored() -> int:
    """Number of units that are scored."""
    return len(list(OUT.glob("annotations-*/units/*")))


def leaves(cluster: Cluster, node: str, run: Future) -> bool:
    """Announce that a node will be taken away in ten minutes; whether all models leave it while a run goes on."""
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = int(1000 * (time.time() + 600))
    accepted, why = GcsClient(cluster.address).drain_node(node, reason, "preempted", deadline)
    assert accepted, why
    while not run.done():
        there = [actor for actor in state.actors().values() if actor["Address"]["NodeID"] == node]
        assert there
        if all(actor["State"] == "DEAD" for actor in there):
            (OUT.parent / "left").touch()
            return True
        time.sleep(0.1)
    return False


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 100 << 20})
    node = cluster.add_node(num_cpus=2, object_store_memory=100 << 20)
    (OUT.parent / "leaving").write_text(node.node_id)
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")

    class Slow:
        """Scores by the length of texts, and tells which process it is in."""

        def __init__(self) -> None:
            self.folder = processes
            self.folder.mkdir(exist_ok=True)

        def __call__(self, table):
            (self.folder / str(os.getpid())).touch()
            time.sleep(0.4)
            until = time.monotonic() + 60
            while WHAT == "lost" and scored() >= 6 and time.monotonic() < until:
                if len(list(self.folder.iterdir())) == MODELS:
                    break  # all models of the start have had a unit
                time.sleep(0.2)
            while WHAT == "joins" and scored() >= 6 and time.monotonic() < until:
                if len(list(self.folder.iterdir())) > MODELS:
                    break  # a model on the new node has a unit
                time.sleep(0.2)
            there = ray.get_runtime_context().get_node_id()
            while WHAT == "leaves" and scored() >= 6 and time.monotonic() < until:
                if (OUT.parent / "left").exists() or there == (OUT.parent / "leaving").read_text():
                    break  # no model is on the node that leaves
                time.sleep(0.2)
            return np.array([[len(text)] for text in table["text"].to_pylist()], np.float32)

    scorer = PythonScorer(function=Slow, axes=("niceness",), version="1")
    scores = score(Split(Corpus(CORPUS, unit_bytes=1000)), scorers=[scorer])
    scheme = TagScheme(tags=(Tag(name="nice", rule="niceness >= q(0.7)"),))
    pipeline = Pipeline(Render(Place(scores, scheme)))
    processes = OUT.parent / f"processes-{OUT.name}"
    with ThreadPoolExecutor(1) as beside:  # Ray starts nodes in the main thread alone
        run = beside.submit(pipeline.run, OUT, Options(stall_seconds=60))
        happened = False
        while not happened and not run.done():
            time.sleep(0.05)
            if happened := scored() >= 6 and (WHAT != "lost" or len(list(processes.iterdir())) == MODELS):
                if WHAT == "lost":
                    cluster.remove_node(node, allow_graceful=False)
                elif WHAT == "leaves":
                    happened = leaves(cluster, node.node_id, run)
                else:
                    cluster.add_node(num_cpus=2, object_store_memory=100 << 20)
        run.result()
    print(len(list(processes.iterdir())), happened)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    ray.cloudpickle.register_pickle_by_value(support)
    main()
