"""Schedules of faults end in the bytes of an undisturbed run; five of the hundred that `benchmarks/chaos.py` runs."""

import importlib
import json
import sys

import pytest
from test_benchmarks import ROOT, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are looked for as on Linux")


@pytest.mark.slow  # as each schedule starts a cluster
@pytest.mark.timeout(1500)
def test_chaos(tmp_path, monkeypatch):
    """Five schedules, some of them on an object store; and a shard with another byte is told from the others."""
    figures = run("chaos", tmp_path, "--seeds", "5", "--documents", "60", "--folder", str(tmp_path), seconds=1400)
    raw = figures["raw"]
    faults = sum(raw["faults"].values())
    assert figures["ratios"] == {"schedules": 5, "faults": faults, "differing": 0, "ended_by_itself": 5}
    assert faults > 0 and any(result["store_faults"] for result in raw["results"])
    assert [json.loads((tmp_path / f"seed-{seed}.json").read_text()) for seed in range(5)] == raw["results"]

    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    chaos = importlib.import_module("chaos")
    assert not chaos.differs(tmp_path, str(tmp_path / "undisturbed"))
    shard = next(path for path in (tmp_path / "undisturbed").rglob("*.parquet") if "text-shards" in str(path))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert chaos.differs(tmp_path, str(tmp_path / "undisturbed"))
