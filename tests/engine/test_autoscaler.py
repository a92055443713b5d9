"""Runs on a cluster that has a head alone, and gets nodes from Ray's autoscaler when work waits."""

import runpy
import subprocess
import sys

import pytest
from autoscaled import autoscaled
from support import shard_bytes, write_corpus

PIPELINE = """
import time
from pathlib import Path

import numpy as np
import ray

from annotate import Corpus, Pipeline, Place, PythonScorer, Render, Split, Tag, TagScheme, score
from annotate.engine.sharing import GPUS, runs


def pipeline(corpus: str = "", folder: str = "", models: int = 1):
    class Waiting:
        def __init__(self) -> None:
            context = ray.get_runtime_context()
            Path(folder).mkdir(exist_ok=True)
            (Path(folder) / f"{context.get_node_id()}-{len(runs(GPUS)[0])}-{context.get_worker_id()}").touch()

        def __call__(self, table):
            until = time.monotonic() + 60
            while len(list(Path(folder).iterdir())) < models and time.monotonic() < until:
                time.sleep(0.1)
            return np.array([[len(text)] for text in table["text"].to_pylist()], np.float32)

    scorer = PythonScorer(function=Waiting, axes=("niceness",), version="1")
    scores = score(Split(Corpus(corpus, unit_bytes=1000)), scorers=[scorer])
    scheme = TagScheme(tags=(Tag(name="nice", rule="niceness >= q(0.7)"),))
    return Pipeline(Render(Place(scores, scheme)))
"""

LEFT = """
import time
import ray

ray.init(log_to_driver=False, logging_level="ERROR")
until = time.monotonic() + 60
while len(left := [node["NodeID"] for node in ray.nodes() if node["Alive"]]) > 1 and time.monotonic() < until:
    time.sleep(0.2)
print(*left)
"""


def run(folder, out, environment, models, *words):
    """Run the pipeline from the command line; gives what it said, and for each model its node and the runs on GPUs."""
    made = folder / f"models-{out}"
    command = [sys.executable, "-m", "annotate", "run", str(folder / "pipe.py"), "--workdir", str(folder / out), *words]
    command += ["--set", f"corpus={folder / 'corpus'}", "--set", f"folder={made}", "--set", f"models={models}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr, [path.name.split("-")[:2] for path in made.iterdir()]


@pytest.mark.slow  # nodes take their time to come, and to go
def test_nodes_come_for_a_run_and_go_after_it(ray_cluster, tmp_path):
    (tmp_path / "pipe.py").write_text(PIPELINE)
    corpus = write_corpus(tmp_path / "corpus", shards=1, documents=24)
    with autoscaled({"cpu": {"CPU": 1}, "gpu": {"CPU": 1, "GPU": 1}}, most=2) as environment:
        said, models = run(tmp_path, "on a GPU", environment, 1, "--grow-to", "1", "--device", "cuda")
        assert "the cluster has no CPU yet: waits until its autoscaler adds a node" in said
        assert [on_gpus for _, on_gpus in models] == ["1"] and "(1 model, GPU)" in said
        _, models = run(tmp_path, "on CPUs", environment, 2, "--grow-to", "2", "--device", "cpu")
        assert {on_gpus for _, on_gpus in models} == {"0"}
        assert len({node for node, _ in models}) == len(models) >= 2, "a node has room for one model"
        left = subprocess.run([sys.executable, "-c", LEFT], env=environment, capture_output=True, text=True, check=True)
        assert len(left.stdout.splitlines()[-1].split()) == 1, "the head alone"
    local = runpy.run_path(str(tmp_path / "pipe.py"))["pipeline"](str(corpus), str(tmp_path / "models"))
    local.run(tmp_path / "local")
    assert shard_bytes(tmp_path / "on CPUs") == shard_bytes(tmp_path / "on a GPU") == shard_bytes(tmp_path / "local")
