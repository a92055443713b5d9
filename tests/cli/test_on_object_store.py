"""The commands of the README with all paths at an S3 server over HTTP: they work, and leave the bytes of local ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import commands
import numpy as np
import object_store
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from object_store import BUCKET
from ray_cluster import cluster
from support import sentences, write_corpus
from tiny_models import save_tiny_model
from tiny_tokenizer import byte_tokenizer

import annotate
from annotate.proof import material
from annotate.storage import connections
from annotate.storage.store import Directory
from annotate.training import ShardDataset

pytestmark = pytest.mark.slow  # runs with the embedded encoder at each place

FORMATS = ("huggingface", "olmo", "megatron", "mds", "datatrove")
ALONE = "--workers 1"  # each model process loads all again; several at S3: tests/engine/test_object_store_runs.py
WITH = f"{ALONE} --set corpus=AT/corpus/*.parquet"
TOKENS = (
    f"{WITH} --set tokenizer=AT/tokenizer --set scheme=AT/my.toml --set niceness=AT/kindness.safetensors "
    "--set exclude=AT/exclude.txt --set window=64 --set span_ids=true"
)
CHECK = "model check AT/model --text hello"
TUNE = "tune mine.py --set corpus=AT/corpus/*.parquet --seconds 0.05"
STEPS = (
    "probe train AT/labelled.parquet --axis niceness --out AT/kindness.safetensors",
    "probe train AT/labelled.parquet --axis other --out AT/other.safetensors --encoder AT/encoder --prefix query "
    "--feature 1:mean --words AT/words.csv",
    "probe show AT/kindness.safetensors",
    CHECK,
    TUNE,
    "scheme new AT/korbak.toml --preset korbak",
    "scheme new AT/my.toml --preset default",
    "scheme check AT/my.toml",
    "duplicates AT/corpus/*.parquet --workdir AT/dup",
    f"run mine.py --workdir AT/out {WITH} --plan --sample 0",
    f"run mine.py --workdir AT/out {WITH} --limit 5",
    f"run mine.py --workdir AT/out {WITH} --budget 100",
    "show AT/out -n 2",
    "show AT/out --doc doc-0-3 --output shards",
    f"run mine.py --workdir AT/out {TOKENS} --rescore",
    *(f"export AT/out AT/exported-{form} --format {form}" for form in FORMATS),
    "show AT/out --scores -n 2",
    "status AT/out --timeline",
    "status AT/out --stages",
    "clean AT/out --dry-run",
    "clean AT/out --old-units --yes",
    "clean AT/out --refused --dry-run",
    f"run mine.py --workdir AT/lines {ALONE} --set corpus=AT/lines.jsonl",
    "run mine.py --workdir AT/lines --grow-to 1 --set corpus=AT/lines.jsonl --plan --sample 0",
)
"""What is run at each place, in this order; AT is the place."""
TIMED = ("run", "status", "duplicates", "model", "tune")
"""Commands whose output has times, but for a plan."""
ELSEWHERE = {"submit", "jobs"}
"""Commands of the README that need the job server of a cluster: `tests/jobs/test_jobs_on_s3.py` runs them on S3."""
READS = {"prove"}
"""Commands of the README that only read a work directory: a test below reads one at each place as they do."""
OF_OTHERS = {"--extra-index-url", "--address", "--follow", "--env", "--working-dir"}
"""Options of the README that are pip's, those of the commands above, and Ray's."""


@dataclass(frozen=True)
class Place:
    """Where everything lies: a folder or a URL; and what each step printed there, with AT for the place."""

    url: str
    printed: dict[str, str] = field(default_factory=dict)
    kept: dict[str, list[bytes]] = field(default_factory=dict)

    def at(self, path: str) -> str:
        return f"{self.url}/{path}"

    def files(self, path: str) -> dict[str, bytes]:
        found = Directory.at(self.at(path))
        return {name: found.get(name) for name, _ in found.sizes("")}

    def shards(self, workdir: str) -> list[bytes]:
        out = Directory.at(self.at(workdir))
        return [out.get(url.removeprefix(f"{out.url}/")) for url in annotate.shards(out.url)]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    """All steps, run at a local folder and in a bucket that had the same files."""
    folder, home = tmp_path_factory.mktemp("local"), tmp_path_factory.mktemp("home")
    write_corpus(folder / "corpus", shards=2, documents=12)
    byte_tokenizer(folder / "tokenizer")
    save_tiny_model("bert", folder / "model")
    save_tiny_model("bert-encoder", folder / "encoder")
    texts = [f"{'Thank you, how kind. ' if n % 2 else 'Go away. '}{sentences(n, 1)}" for n in range(60)]
    pq.write_table(pa.table({"text": texts, "label": [n % 2 for n in range(60)]}), folder / "labelled.parquet")
    (folder / "words.csv").write_text("text,group,severity\nthank,polite,0\nidiot,rude,2\n")
    (folder / "exclude.txt").write_text("doc-0-3\ndoc-1-4\n")
    lines = (f'{{"id": "line-{n}", "text": "A line {n}. It has two sentences."}}\n' for n in range(9))
    (folder / "lines.jsonl").write_text("".join(lines))
    with object_store.s3() as endpoint, pytest.MonkeyPatch.context() as patch:
        there = {**object_store.environment(endpoint), "ANNOTATE_CACHE": str(home / "cache")}
        for name, value in there.items():
            patch.setenv(name, value)
        connections.forget()
        bucket = Directory.at(f"s3://{BUCKET}/place")
        for path in folder.rglob("*"):
            if path.is_file():
                bucket.put(path.relative_to(folder).as_posix(), path)
        found = {"local": Place(str(folder)), "s3": Place(bucket.url)}
        with cluster(there) as running, commands.commands(running.environment, home) as run:
            assert run("new", "mine")[0] == 0
            for place in found.values():
                for step in STEPS:
                    code, out, err = run(*step.replace("AT/", f"{place.url}/").split())
                    assert code == 0, f"{step}: {out[-2000:]}{err[-3000:]}"
                    place.printed[step] = out.replace(place.url, "AT")
                    if step.startswith("run") and "--plan" not in step:
                        workdir = step.partition("AT/")[2].split()[0]
                        place.kept[step] = place.shards(workdir)
        yield found
    connections.forget()


def test_each_command_and_option_of_the_readme_is_run_here() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    code = re.findall(r"^```sh\n(.*?)^```|`([^`\n]+)`", text, re.MULTILINE | re.DOTALL)
    pieces = [block or span for block, span in code]
    named = {
        tuple(found.split()) for piece in pieces for found in re.findall(r"\bannotate ([a-z]+(?: [a-z]+)?)\b", piece)
    }
    groups = {"probe", "scheme", "model"}
    wanted = {words[:2] if words[0] in groups else words[:1] for words in named}
    ran = {tuple(step.split()[: 2 if step.split()[0] in groups else 1]) for step in STEPS} | {("new",)}
    assert {("run",), ("export",), ("scheme", "check"), ("submit",)} <= wanted
    assert wanted - ran == {(name,) for name in ELSEWHERE | READS}
    options = {option for piece in pieces for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", piece)} - OF_OTHERS
    assert {"--limit", "--rescore", "--plan"} <= options
    assert options - {word for step in STEPS for word in step.split()} == set()


def test_a_proof_reads_a_bucket_as_it_reads_a_folder(places: dict[str, Place], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "HELD_OUT", 0.5)  # of few documents
    monkeypatch.setattr(material, "LEAST", 1)
    monkeypatch.setattr(material, "SHARED", 1.0)  # whose sentences are of few words
    local, there = (material.read_material(place.at("out")) for place in places.values())
    assert local.text.n_windows == there.text.n_windows > 0 and len(local.measured.tokens) > 0
    for name in ("tokens", "spans", "segments", "documents"):
        for part in ("text", "measured"):
            assert np.array_equal(getattr(getattr(local, part), name), getattr(getattr(there, part), name))


def test_text_shards_token_shards_and_scores_anew_have_the_bytes_of_a_local_run(places: dict[str, Place]) -> None:
    local, there = places["local"].kept, places["s3"].kept
    assert len(local) == 4 and all(local.values())
    for step, parts in local.items():
        if "lines.jsonl" not in step:
            assert there[step] == parts, step
    # Shards of JSON lines name the file, by a checksum that its entity tag is in: the rows are the same.
    local, there = ([pl.read_parquet(url) for url in annotate.shards(place.at("lines"))] for place in places.values())
    assert len(local) == len(there) > 0 and all(a.equals(b) for a, b in zip(local, there, strict=True))
    rescored = next(step for step in STEPS if "--rescore" in step)
    assert all("scores dropped" in place.printed[rescored] for place in places.values())


def test_probes_schemes_and_exports_have_the_bytes_of_local_ones(places: dict[str, Place]) -> None:
    local, there = (Directory.at(place.url) for place in places.values())
    for name in ("kindness.safetensors", "korbak.toml", "my.toml"):
        assert there.get(name) == local.get(name), name
    # A probe's file names its encoder, here by its place: so the header has another length, and is filled up otherwise.
    probes = [Directory.at(place.url).get("other.safetensors")[8:] for place in places.values()]
    urls = [place.url.encode() for place in places.values()]
    first, second = (data.replace(url, b"AT").replace(b" ", b"") for data, url in zip(probes, urls, strict=True))
    assert first == second and b"AT/encoder" in first
    for form in FORMATS:
        assert places["s3"].files(f"exported-{form}") == places["local"].files(f"exported-{form}") != {}, form


def test_the_filter_alone_finds_what_it_finds_locally(places: dict[str, Place]) -> None:
    def made(place: Place) -> dict[str, bytes]:
        parts = place.files("dup")
        return {name: data for name, data in parts.items() if "/parts/" in name or "/manifests/" in name}

    assert made(places["s3"]) == made(places["local"]) != {}


def test_a_trainer_reads_the_windows_from_s3(places: dict[str, Place]) -> None:
    def windows(place: Place, workers: int) -> list[torch.Tensor]:
        data = ShardDataset(place.at("exported-huggingface"), batch_size=1, shuffle=True)
        return [batch["input_ids"] for batch in data.loader(num_workers=workers)]

    local, there = windows(places["local"], 0), windows(places["s3"], 0)
    assert len(local) > 2 and all(torch.equal(a, b) for a, b in zip(local, there, strict=True))


def test_the_commands_say_of_s3_what_they_say_of_a_local_disk(places: dict[str, Place]) -> None:
    def said(place: Place, step: str) -> list[str]:
        lines = place.printed[step].splitlines()
        return lines[1:] if step.startswith("probe show") else lines  # its first line is the path of the copy

    assert all('Classifier("AT/model", axis="toxic"' in place.printed[CHECK] for place in places.values())
    for step in STEPS:
        if step.split()[0] not in TIMED or "--plan" in step:
            assert said(places["s3"], step) == said(places["local"], step) != [], step
