import json
import shutil

import pyarrow.parquet as pq
import pytest
import support
from here import ray_here
from rich.console import Console

from annotate import Options
from annotate.amounts import counted
from annotate.cli.run import ready_to_run
from annotate.engine.plan import plan
from annotate.errors import ConfigError


def of(pipeline, workdir, limit=None):
    return {
        s.label: s for s in plan(pipeline.outputs, str(workdir), Options(limit=limit), 0, checks=pipeline.checks).stages
    }


@pytest.fixture
def limited(ray_in_process, pipeline, tmp_path):
    pipeline.run(str(tmp_path / "limited"), Options(workers=1, limit=8))
    return tmp_path / "limited"


def test_another_limit_is_not_told_as_a_change_of_the_corpus(pipeline, corpus, limited, finished):
    assert of(pipeline, limited, 8)["corpus"].why == of(pipeline, finished)["corpus"].why == ""
    reached = of(pipeline, limited, 8)["corpus"].rows
    assert reached < 32
    assert of(pipeline, limited)["corpus"].why == f"the limit changed: the last run reached {reached} of 32 documents"
    assert of(pipeline, finished, 8)["corpus"].why == "the limit changed: the last run reached 32 of 32 documents"
    assert of(pipeline, limited)["spans"].why == "input changed: corpus"


def test_another_shard_is_told_with_and_without_a_limit(pipeline, corpus, limited, finished, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path in corpus.glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.slice(0, 13) if path.stem == "s0" else table, other / path.name)
    changed = support.pipeline(other, tmp_path / "calls", **support.SMALL_UNITS)
    for workdir, limit in ((finished, None), (limited, None), (finished, 8)):
        assert of(changed, workdir, limit)["corpus"].why == "shards were added, removed or changed"


def test_shards_are_planned_in_documents(corpus, finished, tmp_path):
    changed = support.pipeline(corpus, tmp_path / "calls", **support.SMALL_UNITS | {"part_bytes": 5000})
    shards = of(changed, finished)["text-shards"]
    assert (shards.state, shards.rows) == ("stale", 32)
    assert "part_bytes: 4000 -> 5000" in shards.why


def test_another_version_of_a_stage_is_told(pipeline, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    left = json.loads((tmp_path / "out" / "latest.json").read_text())
    shutil.rmtree(tmp_path / "out" / left["text-shards"]["dataset"])
    left["text-shards"] |= {
        "recipe": "0" * 32,
        "fingerprint": "0" * 32,
    }  # as another version leaves it: equal settings
    (tmp_path / "out" / "latest.json").write_text(json.dumps(left))
    shards = of(pipeline, tmp_path / "out")["text-shards"]
    assert shards.why == "recipe changed: annotate has another version of this stage"


def test_one_thing_is_singular():
    assert [counted(n, "unit") for n in (0, 1, 2000)] == ["0 units", "1 unit", "2,000 units"]


def test_a_gpu_that_is_asked_for_and_not_there_is_told(pipeline, finished, tmp_path, monkeypatch):
    cuda = Options(device="cuda")
    with ray_here():
        with pytest.raises(ConfigError, match="the Ray cluster has no GPU"):
            plan(pipeline.outputs, str(tmp_path / "new"), cuda, 0)
        assert all(stage.state == "done" for stage in plan(pipeline.outputs, str(finished), cuda, 0).stages)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="torch finds no GPU on this machine"):
        plan(pipeline.outputs, str(tmp_path / "new"), cuda, 0)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert plan(pipeline.outputs, str(tmp_path / "new"), cuda, 0).stages


def test_a_run_that_would_be_here_and_asks_for_a_gpu_is_refused_before_ray_starts(
    pipeline, finished, tmp_path, monkeypatch
):
    """Also where all is committed: an option is not passed over."""
    from annotate.cli import local_ray

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(local_ray, "ray_running", None)
    for workdir in (finished, tmp_path / "new"):
        with (
            pytest.raises(ConfigError, match="torch finds no GPU on this machine"),
            ready_to_run(pipeline, str(workdir), Options(device="cuda"), Console()),
        ):
            pass
