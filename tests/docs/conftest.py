"""What the pages name, made small: a corpus, models, tokenizers, files, and two runs that all blocks read."""

import os
import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import support
import torch
from length_scorer import length_scorer
from pages import REPOSITORY
from tiny_models import save_tiny_model
from tiny_tokenizer import byte_tokenizer

from annotate import (
    Corpus,
    NearDuplicates,
    Options,
    Pipeline,
    Place,
    Render,
    Split,
    Tag,
    TagScheme,
    TokenShards,
    score,
)
from annotate.cli.app import app, guarded
from annotate.pipeline_files import write_pipeline

MODELS = {
    "unitary/toxic-bert": "bert",
    "Skywork/Skywork-Reward-V2-Qwen3-0.6B": "reward",
    "gpt2": "gpt2",
    "HuggingFaceTB/SmolLM2-135M": "llama-long",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "llama-long",  # pragma: allowlist secret
}
"""Hub models that pages name, and the tiny one that stands in a folder of that name: a folder comes before the hub."""
TOKENIZERS = ("path/to/model", "T")
PIPELINES = ("pipeline", "my", "mine")
"""Pipeline files that pages name: copies of the shipped one, as `annotate new` writes them."""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A corpus with the columns that pages name."""
    folder = support.write_corpus(tmp_path_factory.mktemp("pages") / "data", shards=1, documents=20)
    path = folder / "s0.parquet"
    frame = pl.read_parquet(path).with_columns(source=pl.Series(["wiki", "web"] * 10), year=2000, reward=0.5)
    frame.write_parquet(path)
    return folder


@pytest.fixture(scope="session")
def runs(ray_cluster, corpus, tmp_path_factory):
    """Work directories of a run to text shards, and of one to token shards, by kind."""
    folder = tmp_path_factory.mktemp("runs")
    documents = Corpus(str(corpus))
    verdicts = NearDuplicates(documents)
    scores = score(Split(documents), skip=verdicts, scorers=[length_scorer("niceness")])
    scheme = TagScheme(tags=(Tag(name="nice", rule="niceness >= q(0.5)"),))
    placed = Place(scores, scheme)
    tokenizer = byte_tokenizer(folder / "tokenizer")
    tokens = TokenShards(placed, tokenizer=tokenizer, window=64, loss="mask")
    Pipeline(Render(placed)).run(str(folder / "text"), Options(workers=1))
    shutil.copytree(folder / "text", folder / "tokens")
    Pipeline(tokens).run(str(folder / "tokens"), Options(workers=1))
    return {"text": folder / "text", "tokens": folder / "tokens"}


@pytest.fixture(scope="session")
def world(corpus, tmp_path_factory):
    """A folder in which all is there that pages name, but for work directories."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "data").symlink_to(corpus)
    for name, kind in MODELS.items():
        save_tiny_model(kind, folder / name)
    for name in TOKENIZERS:
        byte_tokenizer(folder / name)
    for name in PIPELINES:
        write_pipeline(name, folder=folder)
    for name in ("pipelines", "benchmarks", "examples"):
        (folder / name).symlink_to(REPOSITORY / name)
    heads = {"fc1.weight": torch.ones(4, 8), "fc2.weight": torch.ones(1, 4)}
    torch.save({"state_dict": heads}, folder / "edu-gemma-snowflake-balanced.ckpt")
    (folder / "profanity_en.csv").write_text("text,category_1,severity_rating\nidiot,other,1.2\n")
    (folder / "takedowns.txt").write_text("doc-0-3\n")
    texts = {"text": [f"text {i}" for i in range(8)], "niceness": [i % 2 for i in range(8)]}
    pq.write_table(pa.table(texts), folder / "labelled.parquet")
    return folder


@pytest.fixture
def place(world, runs, page, tmp_path, monkeypatch):
    """A copy of the world to run a page in, with `out` and `dup`.

    `out` is of tokens, with an export, where the page is about these.
    """
    folder = shutil.copytree(world, tmp_path / "page", symlinks=True)
    kind = "tokens" if page in ("docs/token-shards.md", "docs/python.md") else "text"
    shutil.copytree(runs[kind], folder / "out")
    (folder / "dup").symlink_to("out")
    monkeypatch.chdir(folder)
    if kind == "tokens":
        assert guarded(app, ["export", "out", "exported-hf", "--format", "huggingface"]) == 0
    return Path(os.fspath(folder))
