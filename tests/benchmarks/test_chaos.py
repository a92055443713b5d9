"""Schedules of faults end in the bytes of an undisturbed run: five, of which two have every fault of the benchmark."""

import importlib
import json
import sys

import pytest
from test_benchmarks import ROOT, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are looked for as on Linux")

SEEDS = (2021, 1305, 0, 1, 2)
"""Each of the first two has every fault of the cluster: of two runs at once on a disk, and of one on a store, where a
tenth of the requests are spoiled. No others of the first few thousand have so much so early."""


@pytest.mark.slow  # as each schedule starts a cluster
@pytest.mark.timeout(1500)
def test_chaos(tmp_path, monkeypatch):
    """Each schedule; and a shard with another byte is told from the others."""
    sizes = ("--seeds", "1", "--documents", "60", "--folder", str(tmp_path))
    results = []
    for seed in SEEDS:
        figures = run("chaos", tmp_path, "--first", str(seed), *sizes, seconds=1000)
        faults = sum(figures["raw"]["faults"].values())
        assert figures["ratios"] == {"schedules": 1, "faults": faults, "differing": 0, "ended_by_itself": 1}
        results += figures["raw"]["results"]
    assert [json.loads((tmp_path / f"seed-{seed}.json").read_text()) for seed in SEEDS] == results

    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    chaos = importlib.import_module("chaos")
    assert {name for result in results[:2] for name, n in result["faults"].items() if n} == set(chaos.FAULTS)
    assert [result["runs"] for result in results[:2]] == [2, 1]
    assert not results[0]["store_faults"] and len(results[1]["store_faults"]) > 5

    assert not chaos.differs(tmp_path, str(tmp_path / "undisturbed"))
    shard = next(path for path in (tmp_path / "undisturbed").rglob("*.parquet") if "text-shards" in str(path))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert chaos.differs(tmp_path, str(tmp_path / "undisturbed"))
