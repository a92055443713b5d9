"""Before anything runs: each node has the driver's versions, imports, reads and writes; models can be placed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import support
import torch
from ray import cloudpickle

from annotate import Corpus, Options
from annotate.engine import check_nodes, nodes, run
from annotate.engine.check_nodes import answer, gpu_problem
from annotate.engine.cluster import Resources
from annotate.engine.facts import Driver, Sent
from annotate.engine.model_actor import ModelActor, PreparedDocuments
from annotate.engine.versions import _version, versions
from annotate.engine.worker import told
from annotate.errors import ConfigError
from annotate.storage.store import Directory


@pytest.mark.slow
def test_what_is_amiss_on_another_node_is_named(tmp_path):
    """Real nodes, in a process of its own: they are started in a main thread, and with another PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["RAY_TMPDIR"] = os.environ.get("RAY_TMPDIR", "/tmp")
    script = Path(__file__).with_name("two_nodes.py")
    with (tmp_path / "said").open("w") as said:  # not in this folder: Ray would put it first on the path of workers
        options = {"stdout": said, "stderr": said, "env": environment, "cwd": tmp_path, "timeout": 300}
        subprocess.run([sys.executable, script, tmp_path], **options)
    lines = (tmp_path / "said").read_text().splitlines()
    found = json.loads(next((line for line in lines if line.startswith('{"nothing"')), '{"failed": true}'))
    assert "failed" not in found, lines[-20:]
    assert found["nothing"] is None
    assert "the node " in found["versions"] and "has tokenizers 0.0.1, not " in found["versions"]
    assert "annotate none that can be used" in found["annotate"]
    assert "can't import the pipeline" in found["module"] and "only_here" in found["module"]
    assert found["run"] == found["versions"] and set(found["left"]) <= {"leases", "events"}


def test_what_stages_hold_is_no_part_of_the_question(tmp_path, monkeypatch):
    """Ray limits the size of a function; a stage may hold a list of a million ids."""
    asked = []
    monkeypatch.setattr(check_nodes, "_with_workers", lambda *, here: {"a": "a"})
    monkeypatch.setattr(check_nodes.ray, "put", len)
    monkeypatch.setattr(nodes, "on_each_node", lambda ask, **options: asked.append(cloudpickle.dumps(ask)) or {})
    check_nodes.check_nodes([SimpleNamespace(ids=os.urandom(1_000_000))], Directory.at(tmp_path))
    assert len(asked) == 1 and len(asked[0]) < 10_000


def test_a_local_ray_is_not_asked(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(nodes, "on_each_node", lambda *question, **options: pytest.fail("a node was asked"))
    check_nodes.check_nodes([], Directory.at(tmp_path))
    check_nodes.check_gpus()


def test_what_a_node_answers(tmp_path):
    corpus = support.write_corpus(tmp_path / "corpus", shards=1)
    (corpus / "_cannot_be_read.txt").touch(mode=0)  # none of the corpus's: nobody has to read it

    first = Corpus(corpus).first_file()

    def ask(pickled=b"N.", file=first, out=tmp_path / "out"):
        return answer(pickled, [file], str(out))[1]

    assert ask() is None and not list((tmp_path / "out").iterdir())
    assert "can't import the pipeline" in ask(pickled=b"cnowhere\nnothing\n.")
    assert "can't read /nowhere/s0.parquet" in ask(file=("/nowhere", "s0.parquet", 100))
    (tmp_path / "file").touch()
    assert "can't write the work directory" in ask(out=tmp_path / "file")


def test_versions_name_all_packages_and_builds_for_cpus_and_gpus_are_equal(monkeypatch):
    found = versions()
    assert list(found) == ["annotate", "torch", "transformers", "tokenizers", "pyarrow"]
    assert "+" not in found["torch"] and "with source" in found["annotate"]
    assert _version("annotate-nowhere") == "none"


def test_a_worker_of_another_node_compares_versions_before_it_works():
    """So a node that joins later is refused too."""
    driver = Driver("10.0.0.9 (abcdef)", versions())
    assert told(Sent("a", "b", "c", 1.0, driver), lambda: 5).result == 5
    older = Driver(driver.node, versions() | {"torch": "2.0.1"})
    with pytest.raises(ConfigError, match=r"the node .* has torch .*, not 2\.0\.1 as the driver has"):
        told(Sent("a", "b", "c", 1.0, older), pytest.fail, "it was called")
    assert told(Sent("a", "b", "c", 1.0, Driver(Driver.this().node, older.versions)), lambda: 5).result == 5


@pytest.mark.parametrize(
    ("said", "code", "problem"),
    [
        ("12.8 True", 0, None),
        ("None False", 0, "built for CPUs alone"),
        ("12.8 False", 0, "finds no GPU"),
        ("", 1, "Boom"),
    ],
)
def test_gpus_that_workers_cant_use_are_named_by_their_node(monkeypatch, said, code, problem):
    done = SimpleNamespace(returncode=code, stdout=said, stderr="trace\nBoom")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    seen = {}
    monkeypatch.setattr(check_nodes.subprocess, "run", lambda *words, **options: seen.update(options) or done)
    found = gpu_problem()
    assert (found is None) if problem is None else (problem in found)
    assert "CUDA_VISIBLE_DEVICES" not in seen["env"]
    there = {"NodeID": "ab" * 20, "NodeManagerAddress": "10.0.0.3", "Alive": True, "Resources": {"GPU": 1}}
    monkeypatch.setattr(check_nodes.ray, "nodes", lambda: [there])
    monkeypatch.setattr(nodes, "on_each_node", lambda ask, *rest, **options: {there["NodeID"]: ask()})
    if problem is None:
        check_nodes.check_gpus()
        return
    with pytest.raises(ConfigError, match=r"the node 10\.0\.0\.3 \(ababab\) can't use theirs: .*" + problem):
        check_nodes.check_gpus()


@pytest.mark.parametrize(
    ("built", "available", "gpu", "problem"),
    [("12.8", False, True, "finds no GPU"), (None, False, True, "built for CPUs alone"), (None, False, False, None)],
)
def test_a_model_on_a_node_that_joined_later_checks_its_gpu(monkeypatch, built, available, gpu, problem):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.version, "cuda", built)
    stage = SimpleNamespace(
        gpu=gpu,
        unit_seconds=None,
        load=lambda stages, device: device,
        forward=lambda model, *rest: [model()],
        tokens=lambda data: 0,
        device_kind=str,
    )
    actor = ModelActor([stage], "cuda")
    prepared = [PreparedDocuments((0,), None)]
    if problem is None:
        assert actor._forward(prepared).results == [["cuda"]], "a function that need not use torch"
        return
    with pytest.raises(ConfigError, match=f"workers on the node .* can't use theirs: .*{problem}"):
        actor._forward(prepared)


def test_models_that_cant_be_placed_are_refused_before_anything_is_made(ray_cluster, tmp_path):
    corpus = support.write_corpus(tmp_path / "corpus", shards=1)
    pipeline = support.pipeline(corpus, tmp_path / "calls")
    with pytest.raises(ConfigError, match="has no GPU"):
        pipeline.run(tmp_path / "out", Options(device="cuda"))
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name not in ("leases", "events")]


def test_where_models_go_on_gpus_these_are_tried_before_anything_is_made(ray_cluster, tmp_path, monkeypatch):
    def refuse():
        raise ConfigError("tried")

    corpus = support.write_corpus(tmp_path / "corpus", shards=1)
    monkeypatch.setattr(run, "check_gpus", refuse)
    found = Resources(workers=1, gpus=1, model_cpus=1.0, feeder_cpus=0.1)
    monkeypatch.setattr(Resources, "of_models", staticmethod(lambda *asked: found))
    with pytest.raises(ConfigError, match="tried"):
        support.pipeline(corpus, tmp_path / "calls").run(tmp_path / "out")
    assert not [path for path in (tmp_path / "out").glob("spans-*") if list(path.glob("units/*"))]
