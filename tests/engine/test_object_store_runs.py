"""Whole runs on an S3 server over HTTP, through a proxy that injects faults: equal bytes, and no secret anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import object_store
import pytest
from loopback_server import Handler, LoopbackServer
from object_store import BUCKET, FaultProxy, mixed
from ray_cluster import Cluster, cluster
from support import shard_bytes, write_corpus

from annotate import shards
from annotate.storage import connections
from annotate.storage.store import Directory

pytestmark = pytest.mark.slow  # a Ray of its own, whose workers have the environment of the store

DRIVE = str(Path(__file__).with_name("drive_url.py"))
SECRET = "marked-secret-4f1d7c"  # pragma: allowlist secret
IN_URL = f"https://me:{SECRET}@host/feed?sig={SECRET}"
MINE = f"""
import support

FEED = "{IN_URL}"
api_key = "{SECRET}"


def pipeline(corpus: str = "", calls: str = "", feed: str = FEED, hf_token: str = api_key) -> support.Pipeline:
    return support.pipeline(corpus, calls, **support.SMALL_UNITS)
"""


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with object_store.s3() as endpoint, FaultProxy(endpoint, seed=7) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def on_s3(proxy: FaultProxy) -> Iterator[Cluster]:
    there = object_store.environment(proxy.address, SECRET)
    with cluster({**there, "AWS_READ_TIMEOUT": "2s"}) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in there.items():
            patch.setenv(name, value)
        connections.forget()
        yield running
    connections.forget()


@pytest.fixture(scope="module")
def runs(on_s3: Cluster, proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A run on local disk, the same one on S3 while a tenth of all requests are spoiled, and one that fails."""
    folder = tmp_path_factory.mktemp("runs")
    write_corpus(folder / "corpus", shards=2, documents=16)
    corpus = Directory.at(f"s3://{BUCKET}/corpus")
    for path in (folder / "corpus").iterdir():
        corpus.put(path.name, path)
    local = on_s3.run(DRIVE, str(folder / "corpus"), str(folder / "calls"), str(folder / "out"))
    assert local.returncode == 0, local.stderr[-3000:]
    # The last two meet writes alone, which are a part of the requests: more often, so that none stays away by chance.
    proxy.shares = {**mixed(0.1), "lies": 0.04, "lost": 0.04}
    (folder / "mine.py").write_text(MINE)
    given = {"corpus": corpus.url, "calls": folder / "calls", "feed": IN_URL, "hf_token": SECRET}
    settings = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    command = ("-m", "annotate", "run", str(folder / "mine.py"), "--workdir", f"s3://{BUCKET}/out", "--workers", "3")
    there = on_s3.run(*command, *settings)
    proxy.shares = {}
    assert there.returncode == 0, there.stderr[-3000:]
    failed = on_s3.run(DRIVE, corpus.url, str(folder / "calls"), "s3://no-such-bucket/failed")
    assert failed.returncode == 4, failed.stderr[-3000:]
    said = "".join((local.stdout, local.stderr, there.stdout, there.stderr, failed.stdout, failed.stderr))
    yield {"local": str(folder / "out"), "said": said, "failed": failed.stderr}


def test_through_mixed_faults_the_shards_are_those_of_a_local_run(runs: dict[str, str], proxy: FaultProxy) -> None:
    expected = list(shard_bytes(Path(runs["local"])).values())
    out = Directory.at(f"s3://{BUCKET}/out")
    assert [out.get(url.removeprefix(f"{out.url}/")) for url in shards(out.url)] == expected
    assert set(object_store.MIXED) <= set(proxy.done), proxy.done


def test_a_driver_that_has_credentials_where_workers_have_none_is_told_so_with_the_node(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    """The cluster has no variables of a store, and no machine's role: what it asks for one answers with status 501."""
    with LoopbackServer(Handler) as nothing:
        ours = object_store.environment(proxy.address, SECRET)
        theirs = {**dict.fromkeys(ours), "AWS_METADATA_ENDPOINT": nothing.address}
        write_corpus(tmp_path / "corpus", shards=1, documents=4)
        with cluster(theirs) as bare:
            done = bare.run(DRIVE, str(tmp_path / "corpus"), str(tmp_path / "calls"), f"s3://{BUCKET}/bare", **ours)
    assert done.returncode == 2, done.stderr[-3000:]
    assert "workers on the node " in done.stderr and "no credentials were found" in done.stderr
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in done.stderr and SECRET not in done.stderr


def test_status_says_what_was_tried_again(runs: dict[str, str], on_s3: Cluster) -> None:
    said = on_s3.run("-m", "annotate", "status", f"s3://{BUCKET}/out", "--timeline").stdout
    [line] = [line for line in said.splitlines() if line.startswith("Tried again")]
    assert all(kind in line for kind in ("throttled", "server error", "connection", "body cut off"))


def test_no_file_or_message_of_a_run_holds_the_secret(runs: dict[str, str], on_s3: Cluster) -> None:
    """It is in the environment; in the pipeline's file, in a URL and by a name; and in parameters."""
    bucket = Directory.at(f"s3://{BUCKET}")
    objects = {path: bucket.get(path) for path, _ in bucket.sizes("")}
    assert any(path.startswith("out/events/") for path in objects)
    [told] = [json.loads(data) for path, data in objects.items() if path.startswith("out/provenance/")]
    assert told["parameters"]["feed"] == "https://***@host/feed?sig=***" and told["parameters"]["hf_token"] == "***"
    assert told["pipeline"]["source"] == MINE.replace(f"me:{SECRET}", "***").replace(SECRET, "***")
    logs = {
        str(path): path.read_bytes() for path in on_s3.session.rglob("*") if path.is_file() and not path.is_socket()
    }
    assert len(logs) > 10
    holding = {name for name, data in {**objects, **logs}.items() if SECRET.encode() in data}
    assert holding == set()
    assert SECRET not in runs["said"]
    assert "NoSuchBucket" in runs["failed"]
