"""Kills before each request of a commit and at each fault point: nothing is lost, and nothing is twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import object_store
import pytest

pytestmark = pytest.mark.slow  # some 50 kills in each kind of store

SCRIPT = Path(__file__).with_name("kill_commits.py")
LEFT = ".writable-"


def killed_at_each_step(url: str, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), url],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return killed_at_each_step(str(tmp_path_factory.mktemp("kills")))


@pytest.fixture(scope="module")
def remote() -> Iterator[dict[str, Any]]:
    with object_store.s3() as endpoint:
        yield killed_at_each_step(f"s3://{object_store.BUCKET}/kills", **object_store.environment(endpoint))


@pytest.mark.parametrize("where", ["local", "remote"])
def test_after_a_kill_at_any_step_the_next_run_leaves_what_an_undisturbed_one_leaves(
    where: str, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(where)
    names = [name for name, _ in found["steps"]]
    for kind in ("put parts", "put quarantine", "put units"):
        assert sum(name.startswith(kind) for name in names) >= 4, names
    assert {"commit: before part", "commit: part put", "commit: entry created", "driver: manifest created"} <= set(
        names
    )
    for name, files in found["steps"]:
        probes = [path for path in files if path.startswith(LEFT)]
        assert len(probes) <= 1
        assert {path: digest for path, digest in files.items() if path not in probes} == found["undisturbed"], name


def test_an_object_store_ends_with_the_bytes_of_a_local_disk(local: dict[str, Any], remote: dict[str, Any]) -> None:
    assert remote["undisturbed"] == local["undisturbed"]
    assert [name for name, _ in remote["steps"]] == [name for name, _ in local["steps"]]
