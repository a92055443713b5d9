"""Checks the nodes of clusters of two nodes, on whose second something is amiss: `two_nodes.py FOLDER`.

Prints a line of JSON: what was found for each fault, and for none; and what a refused run has left in its directory.
"""

import json
import os
import sys
from pathlib import Path

import ray
import support
from ray.cluster_utils import Cluster

from annotate import AnnotateError, Corpus, PythonScorer, Split, score
from annotate.engine.check_nodes import check_nodes
from annotate.storage.store import Directory

FOLDER = Path(sys.argv[1])
METADATA = "Metadata-Version: 2.1\nName: tokenizers\nVersion: 0.0.1\n"


def beside(name: str, path: str, text: str) -> Path:
    """A folder with one file."""
    file = FOLDER / name / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return FOLDER / name


def main() -> None:
    corpus = support.write_corpus(FOLDER / "corpus", shards=1, documents=8)
    pipeline = support.pipeline(corpus, FOLDER / "calls")
    sys.path.append(str(beside("driver", "only_here.py", "def lengths(table):\n    return table['text'].to_numpy()\n")))
    import only_here

    far = PythonScorer(function=only_here.lengths, axes=("niceness",), version="1")
    unknown = score(Split(Corpus(corpus)), [far])
    none, paths = FOLDER / "empty", os.environ["PYTHONPATH"]
    none.mkdir()
    cases = {
        "nothing": (none, pipeline.stages()),
        "versions": (beside("old", "tokenizers-0.0.1.dist-info/METADATA", METADATA), pipeline.stages()),
        "annotate": (beside("other", "annotate/__init__.py", ""), pipeline.stages()),
        "module": (none, [Corpus(corpus), *unknown]),
    }
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20})
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    workdir, found = Directory.at(FOLDER / "out"), {}
    workdir.create()
    for name, (path, stages) in cases.items():
        os.environ["PYTHONPATH"] = os.pathsep.join([str(path), paths])
        node = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        cluster.wait_for_nodes()
        try:
            check_nodes(stages, workdir)
            found[name] = None
        except AnnotateError as error:
            found[name] = error.message
        if name == "versions":
            try:
                pipeline.run(FOLDER / "run")
            except AnnotateError as error:
                found["run"] = error.message
        cluster.remove_node(node)
    found["left"] = [path.name for path in (FOLDER / "run").iterdir() if path.is_dir()]
    print(json.dumps(found), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    ray.cloudpickle.register_pickle_by_value(support)
    main()
