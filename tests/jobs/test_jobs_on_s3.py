"""Real jobs on a real head, from a machine that has no Ray running, with corpus and work directory on an S3 server.

The head asks for a token, and it alone has the credentials that its workers need. Slow, because each job loads the
models of the shipped pipeline.
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import head
import here
import object_store
import pytest
import support
import tiny_tokenizer

import annotate
from annotate import Options
from annotate.pipeline_files import load_pipeline
from annotate.storage.store import Directory
from annotate.training import ShardDataset

pytestmark = pytest.mark.slow
SECRET = f"marked-{secrets.token_hex(16)}"
SETTINGS = {"tokenizer": "tokenizer", "window": "64", "unit_mb": "0.005", "part_mb": "0.002"}
HELPER = """
import time

import numpy as np


def long(table):
    time.sleep(0.2)
    return np.array([len(text) for text in table["text"].to_pylist()], np.float32)
"""
MINE = """
import helper

from annotate import Corpus, Pipeline, Place, PythonScorer, Render, Split, Tag, TagScheme, score


def pipeline(corpus: str = "data") -> Pipeline:
    scores = score(Split(Corpus(corpus, unit_bytes=1000)), [PythonScorer(function=helper.long, axes=["length"])])
    scheme = TagScheme(tags=[Tag(name="long", rule="length > 60")])
    return Pipeline(Render(Place(scores, scheme)))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The shipped pipelines and one of a user, with what else lies in such a folder."""
    place = tmp_path_factory.mktemp("jobs") / "pipelines"
    shutil.copytree("pipelines", place, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "helper.py").write_text(HELPER)
    (place / "mine.py").write_text(MINE)
    (place / ".git").mkdir()
    (place / ".git" / "pack").write_bytes(os.urandom(1 << 20))
    tiny_tokenizer.byte_tokenizer(place / "tokenizer")
    support.write_corpus(place / "data", shards=2, documents=12)
    return place


@pytest.fixture(scope="module")
def store():
    """The S3 server."""
    with object_store.s3() as endpoint:
        yield object_store.environment(endpoint, SECRET)


@pytest.fixture(scope="module")
def cluster(store, folder, tmp_path_factory):
    """A head whose workers can read the store; the corpus is there. Gives its address information, with its token."""
    token = secrets.token_hex(32)
    tokens = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.items():
            patch.setenv(name, value)
        corpus = Directory.at("s3://bucket/corpus")
        for path in (folder / "data").iterdir():
            corpus.put(path.name, path)
        with head.head({**os.environ, **tokens}) as info:
            yield {**info, "tokens": tokens}


@pytest.fixture
def laptop(cluster, folder):
    """Run a command as a user does whose machine has the token, but no Ray; gives exit code and output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}

    def run(*words, **more):
        done = subprocess.run(
            [str(word) for word in words],
            env={**kept, "RAY_ADDRESS": f"http://{cluster['webui_url']}", **cluster["tokens"], **more},
            cwd=folder.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout

    return run


ANNOTATE = (sys.executable, "-m", "annotate")
SET = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]


def part_bytes(workdir):
    return {Path(path).name: _read(path) for path in annotate.shards(workdir)}


def _read(path):
    place, _, name = path.rpartition("/")
    return Directory.at(place).get(name)


def test_a_submitted_run_ends_in_shards_that_a_trainer_reads_from_the_store(cluster, store, laptop, folder, tmp_path):
    address = f"http://{cluster['webui_url']}"
    code, out = laptop(
        *ANNOTATE, "submit", "pipelines/conditional_pretraining.py", "--address", address, "--workdir",
        "s3://bucket/out", "--set", "corpus=s3://bucket/corpus/*.parquet", *SET, "--follow", COLUMNS="80",
    )  # fmt: skip
    assert code == 0, out
    assert "left here: data (files of a corpus)" in out and ".git" not in out
    assert re.search(r"conditional-pretraining-\w+: succeeded", out)
    assert max(len(line) for line in out.splitlines() if line[:1] in "┏┃┡│└┌╭╰") <= 80, "a frame would break"
    # What was scored there is what is scored here, byte for byte.
    local = load_pipeline(
        folder / "conditional_pretraining.py", corpus=str(folder / "data"), tokenizer=str(folder / "tokenizer"),
        window=64, unit_mb=0.005, part_mb=0.002,
    )  # fmt: skip
    with here.ray_here():
        local.run(tmp_path / "out")
    submitted = part_bytes("s3://bucket/out")
    assert submitted == part_bytes(tmp_path / "out") and len(submitted) > 1
    annotate.export("s3://bucket/out", "s3://bucket/shards", format="huggingface")
    windows = list(ShardDataset("s3://bucket/shards", batch_size=1))
    assert len(windows) == annotate.status("s3://bucket/out").stages[-1].rows > 10
    assert set(windows[0]) == {"input_ids", "labels", "position_ids"}

    # Ray's own command does the same; with one model, as each process loads all again.
    code, out = laptop(
        sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", address, "--working-dir",
        "pipelines", "--", "python", "-m", "annotate", "run", "conditional_pretraining.py", "--workdir",
        "s3://bucket/plain", "--set", "corpus=s3://bucket/corpus/*.parquet", *SET, "--workers", "1",
    )  # fmt: skip
    assert code == 0, out
    assert part_bytes("s3://bucket/plain") == submitted


def test_a_job_can_be_watched_and_cancelled_and_goes_on_when_submitted_again(cluster, store, laptop, folder, tmp_path):
    submit = (*ANNOTATE, "submit", "pipelines/mine.py", "--workdir", "s3://bucket/mine")
    corpus = ("--set", "corpus=s3://bucket/corpus", "--workers", "1")
    code, out = laptop(*submit, *corpus)
    assert code == 0, out
    [job] = re.findall(r"submitted: (\S+)", out)
    deadline = time.monotonic() + 120
    while not _scored("s3://bucket/mine"):
        assert time.monotonic() < deadline, laptop(*ANNOTATE, "jobs", "log", job)[1]
        time.sleep(0.5)
    assert f"{job}: running" in laptop(*ANNOTATE, "jobs", "status", job)[1]
    assert f"{job}: stopped" in laptop(*ANNOTATE, "jobs", "cancel", job)[1]
    before = _scored("s3://bucket/mine")
    code, log = laptop(*ANNOTATE, "jobs", "log", job)
    assert code == 0 and "annotations (length): started" in log
    code, out = laptop(*submit, *corpus, "--follow")
    assert code == 0, out
    listed = laptop(*ANNOTATE, "jobs", "list")[1]
    assert "stopped" in listed and "succeeded" in listed and listed.count("s3://bucket/mine") == 2
    with here.ray_here():
        load_pipeline(folder / "mine.py", corpus=str(folder / "data")).run(tmp_path / "out", Options(workers=1))
    assert part_bytes("s3://bucket/mine") == part_bytes(tmp_path / "out")
    assert before <= _scored("s3://bucket/mine"), "work that was committed is kept"


def _scored(workdir):
    """The units of scores that are committed."""
    directory = Directory.at(workdir)
    return {
        path
        for name in directory.folders()
        if name.startswith("annotations-")
        for path, _ in directory.child(name).sizes("units")
    }


def test_a_run_that_fails_gives_its_exit_code_and_its_message(cluster, store, laptop):
    code, out = laptop(
        *ANNOTATE, "submit", "pipelines/conditional_pretraining.py", "--workdir", "s3://bucket/none",
        "--set", "corpus=s3://bucket/nothing/*.parquet", "--follow",
    )  # fmt: skip
    assert code == 3 and "error:" in out and "s3://bucket/nothing" in out and "failed, exit code 3" in out


def test_without_the_token_nothing_is_told(cluster, laptop):
    code, out = laptop(*ANNOTATE, "jobs", "list", RAY_AUTH_TOKEN="another")
    assert code == 2 and "wants a token" in out


def test_no_credential_is_in_what_ray_keeps_of_all_this(cluster, laptop):
    """The last test of this file: after all jobs."""
    script = "from ray.job_submission import JobSubmissionClient; print(JobSubmissionClient().list_jobs())"
    code, kept = laptop(sys.executable, "-c", script)
    assert code == 0 and "s3://bucket/out" in kept and SECRET not in kept
    session = Path(cluster["session_dir"])
    files = [path for path in session.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [str(path) for path in files if SECRET.encode() in path.read_bytes()] == []
