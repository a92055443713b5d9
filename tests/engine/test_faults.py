"""Exactly once: SIGKILL at every named fault point, then at seeded random ones.

The final shards are byte for byte those of an undisturbed run.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import shard_bytes, write_corpus

from annotate.engine.lease import hold
from annotate.storage.faults import POINTS
from annotate.storage.store import Directory

DRIVE = Path(__file__).with_name("drive.py")
SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1,2").split(",")]


@pytest.fixture(scope="module")
def folder(ray_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    write_corpus(folder / "corpus", shards=2, documents=16)
    plan(folder, point="none")
    assert drive(folder, "undisturbed").returncode == 0
    return folder


def plan(folder, **fault):
    """Write the fault plan that the hook reads; returns the folder of faults that were injected."""
    spent = folder / "spent" / "-".join(str(v).replace(" ", "-") for v in fault.values())
    spent.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps({**fault, "spent": str(spent)}))
    return spent


def start(folder, name, *more):
    command = [
        sys.executable,
        str(DRIVE),
        str(folder / "corpus"),
        str(folder / "calls"),
        str(folder / name),
        "2",
        *more,
    ]
    environment = {
        **os.environ,
        "RAY_ADDRESS": os.environ["TEST_RAY_ADDRESS"],
        "FAULT_PLAN": str(folder / "plan.json"),
        "ANNOTATE_FAULT_HOOK": "faults:kill",
    }
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def drive(folder, name, *more):
    process = start(folder, name, *more)
    output, _ = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def until_done(folder, name, *more, most):
    """Run the same command until it succeeds; each failure must be a driver that was killed."""
    for _ in range(most):
        done = drive(folder, name, *more)
        if done.returncode == 0:
            return
        assert done.returncode == -signal.SIGKILL, done.stdout[-3000:]
    pytest.fail(f"not done after {most} runs")


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_each_fault_point(folder, point):
    spent = plan(folder, point=point)
    name = point.replace(" ", "-").replace(":", "")
    until_done(folder, name, most=2)
    assert list(spent.iterdir()), f"no process came to {point!r}"
    assert shard_bytes(folder / name) == shard_bytes(folder / "undisturbed")


PASSES = {
    "signatures",
    "fingerprints",
    "shared-spans",
    "candidates",
    "signed-pairs",
    "similarity",
    "components",
    "members",
    "keepers",
    "kept-fingerprints",
    "groups",
    "document-groups",
}


@pytest.mark.slow
def test_a_killed_worker_in_every_stage(folder):
    spent = plan(folder, each_stage="unit: computed")
    until_done(folder, "each-stage", most=1)
    killed = {path.name.rpartition("-")[0] for path in spent.iterdir()}
    for name in PASSES - {"signatures", "fingerprints", "kept-fingerprints"}:
        assert {path.suffix for path in spent.glob(f"{name}-*")} == {".send", ".receive"}
    assert killed >= PASSES | {"spans", "verdicts", "placements", "training-shards"}
    assert shard_bytes(folder / "each-stage") == shard_bytes(folder / "undisturbed")


SPANS = {"span-hashes", "span-counts", "unit-counts", "repeated-spans", "signed-pairs", "similarity", "schedule"}


@pytest.mark.slow
def test_a_killed_worker_in_every_stage_of_repeated_spans_exact_similarity_and_a_schedule(folder):
    plan(folder, point="none again")
    assert drive(folder, "undisturbed-spans", "--spans").returncode == 0
    spent = plan(folder, each_stage="unit: computed", of="spans")
    until_done(folder, "each-stage-spans", "--spans", most=1)
    assert {path.name.rpartition("-")[0] for path in spent.iterdir()} >= SPANS
    assert {path.suffix for path in spent.glob("training-shards-*")} == {".send", ".receive"}
    assert shard_bytes(folder / "each-stage-spans") == shard_bytes(folder / "undisturbed-spans")


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_kills_at_random_points_that_a_seed_replays(folder, seed):
    spent = plan(folder, seed=seed, rate=0.08, most=6)
    until_done(folder, f"seed-{seed}", most=8)
    assert list(spent.glob("kill-*"))
    assert shard_bytes(folder / f"seed-{seed}") == shard_bytes(folder / "undisturbed")


def test_two_drivers_at_once_on_one_work_directory(folder):
    plan(folder, point="none")
    both = [start(folder, "both", "--share") for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert shard_bytes(folder / "both") == shard_bytes(folder / "undisturbed")


def test_a_second_driver_is_told_of_the_first(folder):
    plan(folder, point="none")
    with hold(Directory.at(folder / "held"), "r", share=False):
        done = drive(folder, "held")
    assert done.returncode == 1
    assert "another run works in" in done.stdout
