"""A work directory that would be lost with a job, or that only one node sees, is refused before anything runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import pipeline, write_corpus

from annotate.engine import nodes
from annotate.engine.check_workdir import check_place, check_shared
from annotate.errors import ConfigError
from annotate.storage.store import Directory

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def test_in_a_job_a_relative_work_directory_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "ray" / "session_1" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    check_place("out")
    monkeypatch.setenv(JOB, "{}")
    for place in ("out", "./out", "../out", str(folder / "out")):
        with pytest.raises(ConfigError, match=r"of this Ray job would be .*out, a temporary folder of Ray") as error:
            check_place(place)
        assert "s3://bucket/out, or an absolute path on a disk that all nodes share" in str(error.value.hint)
    for place in (str(tmp_path / "out"), "s3://bucket/out", f"file://{tmp_path}/out"):
        check_place(place)


def test_a_run_in_a_job_refuses_it_before_anything_is_written(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "corpus", shards=1, documents=4)
    monkeypatch.setenv(JOB, "{}")
    with pytest.raises(ConfigError, match="temporary folder of Ray"):
        pipeline(tmp_path / "corpus", tmp_path / "calls").run("out")
    assert not (tmp_path / "out").exists()


def test_what_each_node_answers(ray_cluster):
    assert nodes.on_each_node(lambda: os.getpid()).keys() == nodes.alive().keys()

    def fails():
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        nodes.on_each_node(fails)


def test_a_work_directory_that_a_node_does_not_see_is_refused_by_its_address(tmp_path, monkeypatch):
    workdir = Directory.at(tmp_path / "out")
    workdir.create()
    asked = []

    def answers(question):
        asked.append(question())
        return {"a": True, "b": False}

    monkeypatch.setattr(nodes, "alive", lambda: {"a": "10.0.0.1", "b": "10.0.0.2"})
    monkeypatch.setattr(nodes, "on_each_node", answers)
    with pytest.raises(ConfigError, match=r"on the disk of one node: 1 of 2 nodes do not see .*, such as 10\.0\.0\.2"):
        check_shared(workdir)
    assert asked == [True]  # this process does see it
    assert list(Path(tmp_path / "out").iterdir()) == []
    check_shared(Directory.at("s3://bucket/out"))
    monkeypatch.setattr(nodes, "alive", lambda: {"a": "10.0.0.1"})
    check_shared(workdir)


@pytest.mark.slow
def test_nodes_that_share_a_disk_share_a_work_directory(tmp_path):
    """Two nodes of one machine; in a process of its own, as this one has a cluster already."""
    script = """
import sys, ray
from ray.cluster_utils import Cluster
from annotate.engine import nodes
from annotate.engine.check_workdir import check_shared
from annotate.storage.store import Directory
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
workdir = Directory.at(sys.argv[1])
workdir.create()
check_shared(workdir)
assert len(nodes.alive()) == len(nodes.on_each_node(lambda: 1)) == 2
ray.shutdown()
cluster.shutdown()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out")], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-2000:]
