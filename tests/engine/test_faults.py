"""Exactly once: SIGKILL at every named fault point, of a task of each kind of stage, then at seeded random ones.

The final shards are byte for byte those of an undisturbed run.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import drive
import pytest
from support import shard_bytes, write_corpus

from annotate.engine.lease import hold
from annotate.storage.faults import POINTS
from annotate.storage.store import Directory

SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1,2").split(",")]


@pytest.fixture(scope="module")
def folder(ray_cluster, fault_plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    write_corpus(folder / "corpus", shards=2, documents=16)
    plan(folder, "none")
    here(folder, "undisturbed")
    return folder


def plan(folder, name, **faults):
    """Write the fault plan that the hook reads; returns the folder of faults that were injected under a name."""
    spent = folder / "spent" / name
    spent.mkdir(parents=True, exist_ok=True)
    Path(os.environ["FAULT_PLAN"]).write_text(json.dumps({**faults, "spent": str(spent)}))
    return spent


def here(folder, name, *more):
    """Run the pipeline with this process as its driver, if that is not to be killed: its workers stay for the next."""
    drive.run(folder / "corpus", folder / "calls", folder / name, *more)


def start(folder, name, *more):
    command = [sys.executable, drive.__file__, *(str(folder / part) for part in ("corpus", "calls", name)), *more]
    environment = {
        **os.environ,
        "RAY_ADDRESS": os.environ["TEST_RAY_ADDRESS"],
        "ANNOTATE_FAULT_HOOK": "faults:kill",
    }
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def driven(folder, name, *more):
    process = start(folder, name, *more)
    output, _ = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def until_done(folder, name, *, most):
    """Run the same command until it succeeds; each failure must be a driver that was killed."""
    for _ in range(most):
        done = driven(folder, name)
        if done.returncode == 0:
            return
        assert done.returncode == -signal.SIGKILL, done.stdout[-3000:]
    pytest.fail(f"not done after {most} runs")


DRIVERS = [point for point in POINTS if point.startswith("driver")]
MODELS = [point for point in POINTS if point.startswith("actor")]
TASKS = [point for point in POINTS if point not in DRIVERS + MODELS and not point.startswith("refusal")]
KINDS = ("map", "reduce", "shuffle", "model")
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
SPANS = {"span-hashes", "span-counts", "unit-counts", "repeated-spans", "signed-pairs", "similarity", "schedule"}


def killed(spent):
    """In which stages a task was killed, each with the functions."""
    found = {}
    for path in spent.glob("killed *"):
        dataset, _, function = path.name.partition(" ")[2].partition(".")
        found.setdefault(dataset.rpartition("-")[0], set()).add(function)
    return found


def test_the_driver_is_killed_at_each_of_its_points_one_run_after_the_other(folder):
    spent = plan(folder, "drivers", points=DRIVERS)
    until_done(folder, "drivers", most=len(DRIVERS) + 1)
    assert {path.name for path in spent.iterdir()} == set(DRIVERS)
    assert shard_bytes(folder / "drivers") == shard_bytes(folder / "undisturbed")


def test_a_worker_is_killed_at_each_point_in_each_kind_of_stage_and_in_every_stage(folder):
    """In one run, as the driver lives; then in the stages that only another pipeline has, in the same directory."""
    spent = plan(folder, "workers", points=[*TASKS, *MODELS], each_stage=True)
    here(folder, "workers")
    points = {f"{point}, {kind}" for point in TASKS for kind in KINDS} | set(MODELS)
    assert {path.name for path in spent.iterdir()} >= points
    found = killed(spent)
    assert found.keys() >= PASSES | {"spans", "verdicts", "placements", "text-shards"}
    for name in PASSES - {"signatures", "fingerprints", "kept-fingerprints"}:
        assert found[name] == {"send", "receive"}
    assert shard_bytes(folder / "workers") == shard_bytes(folder / "undisturbed")

    # Repeated spans, exact similarity and a schedule.
    plan(folder, "none")
    shutil.copytree(folder / "undisturbed", folder / "undisturbed-spans")
    here(folder, "undisturbed-spans", "--spans")
    spent = plan(folder, "workers-spans", each_stage=True, only=[*SPANS, "text-shards"])
    shutil.copytree(folder / "workers", folder / "workers-spans")
    here(folder, "workers-spans", "--spans")
    assert killed(spent).keys() >= SPANS
    assert killed(spent)["text-shards"] == {"send", "receive"}
    assert shard_bytes(folder / "workers-spans") == shard_bytes(folder / "undisturbed-spans")


@pytest.mark.slow  # as it runs all stages twice
def test_a_worker_is_killed_in_each_level_of_shuffles_of_two(folder):
    """Partitions are ranges of a hash, ranges of documents, in one round or several, and parts in training order."""
    plan(folder, "none")
    options = ("--spans", "--small-units")
    here(folder, "one-level", *options)
    shuffles = ("candidates", "signed-pairs", "components", "text-shards")
    spent = plan(folder, "levels", each_stage=True, only=shuffles)
    here(folder, "levels", *options, "--two-levels")
    assert killed(spent) == {name: {"send", "regroup", "receive"} for name in shuffles}
    made, undisturbed = (list(shard_bytes(folder / name).values()) for name in ("levels", "one-level"))
    assert made == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_kills_at_random_points_that_a_seed_replays(folder, seed):
    spent = plan(folder, f"seed-{seed}", seed=seed, rate=0.08, most=6)
    until_done(folder, f"seed-{seed}", most=8)
    assert list(spent.glob("kill-*"))
    assert shard_bytes(folder / f"seed-{seed}") == shard_bytes(folder / "undisturbed")


def test_two_drivers_at_once_on_one_work_directory(folder):
    plan(folder, "none")
    both = [start(folder, "both", "--share") for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert shard_bytes(folder / "both") == shard_bytes(folder / "undisturbed")


def test_a_second_driver_is_told_of_the_first(folder):
    plan(folder, "none")
    with hold(Directory.at(folder / "held"), "r", share=False):
        done = driven(folder, "held")
    assert done.returncode == 1
    assert "another run works in" in done.stdout
