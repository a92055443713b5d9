"""The commands of the README with all paths at an S3 server over HTTP: they work, and leave the bytes of local ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import object_store
import polars as pl
import pytest
import torch
from object_store import BUCKET
from ray_cluster import Cluster, cluster
from support import write_corpus
from tiny_tokenizer import byte_tokenizer

import annotate
from annotate.scorers.probe import SHIPPED
from annotate.storage import connections
from annotate.storage.store import Directory
from annotate.training import ShardDataset

pytestmark = pytest.mark.slow  # two runs with the embedded encoder at each place

PIPELINE = str(Path(__file__).parents[2] / "pipelines" / "conditional_pretraining.py")
FORMATS = ("huggingface", "olmo", "megatron", "mds", "datatrove")


@dataclass(frozen=True)
class Place:
    """Where everything lies: a folder or a URL, and how a command is run there."""

    url: str
    run: Callable[..., str]

    def at(self, path: str) -> str:
        return f"{self.url}/{path}"

    def files(self, path: str) -> dict[str, bytes]:
        found = Directory.at(self.at(path))
        return {name: found.get(name) for name, _ in found.sizes("")}

    def shards(self) -> list[bytes]:
        out = Directory.at(self.at("out"))
        return [out.get(url.removeprefix(f"{out.url}/")) for url in annotate.shards(out.url)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with object_store.s3() as endpoint:
        there = object_store.environment(endpoint)
        cache = {"ANNOTATE_CACHE": str(tmp_path_factory.mktemp("cache"))}
        with cluster({**there, **cache}) as running, pytest.MonkeyPatch.context() as patch:
            for name, value in {**there, **cache}.items():
                patch.setenv(name, value)
            connections.forget()
            yield running
        connections.forget()


@pytest.fixture(scope="module")
def places(running: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    """The same files on a local disk and in a bucket."""
    folder = tmp_path_factory.mktemp("local")
    write_corpus(folder / "corpus", shards=2, documents=12)
    byte_tokenizer(folder / "tokenizer")
    (folder / "my.toml").write_text(annotate.tags.presets()["default"])
    (folder / "niceness.safetensors").write_bytes((SHIPPED / "niceness.safetensors").read_bytes())
    (folder / "exclude.txt").write_text("doc-0-3\ndoc-1-4\n")
    lines = "\n".join(json.dumps({"id": f"line-{n}", "text": f"A line {n}. It has two sentences."}) for n in range(9))
    (folder / "lines.jsonl").write_text(lines)
    bucket = Directory.at(f"s3://{BUCKET}/place")
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put(path.relative_to(folder).as_posix(), path)

    def run(*arguments: str, code: int = 0) -> str:
        done = running.run("-m", "annotate", *arguments)
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    return {"local": Place(str(folder), run), "s3": Place(bucket.url, run)}


def run_pipeline(place: Place, *more: str, corpus: str = "corpus/*.parquet", workdir: str = "out") -> str:
    return place.run("run", PIPELINE, "--workdir", place.at(workdir), "--set", f"corpus={place.at(corpus)}", *more)


@pytest.fixture(scope="module")
def texts(places: dict[str, Place]) -> dict[str, list[bytes]]:
    """Text shards of both places."""
    planned = [run_pipeline(place, "--plan", "--sample", "0").replace(place.url, "PLACE") for place in places.values()]
    assert planned[0] == planned[1]
    for place in places.values():
        run_pipeline(place)
    return {name: place.shards() for name, place in places.items()}


@pytest.fixture(scope="module")
def tokens(texts: dict[str, list[bytes]], places: dict[str, Place]) -> dict[str, list[bytes]]:
    """Token shards of both places, with tokenizer, scheme, probe and list of ids where the rest lies; and exports."""
    for place in places.values():
        named = {
            "tokenizer": "tokenizer",
            "scheme": "my.toml",
            "niceness": "niceness.safetensors",
            "exclude": "exclude.txt",
        }
        settings = [f"{name}={place.at(path)}" for name, path in named.items()]
        run_pipeline(place, *(word for each in [*settings, "window=64"] for word in ("--set", each)))
        for form in FORMATS:
            place.run("export", place.at("out"), place.at(f"exported-{form}"), "--format", form)
    return {name: place.shards() for name, place in places.items()}


def test_text_shards_have_the_bytes_of_a_local_run(texts: dict[str, list[bytes]], places: dict[str, Place]) -> None:
    assert texts["s3"] == texts["local"] != []
    frames = [pl.read_parquet(annotate.shards(place.at("out"))) for place in places.values()]
    assert frames[0].equals(frames[1])


def test_token_shards_and_exports_have_the_bytes_of_a_local_run(
    tokens: dict[str, list[bytes]], places: dict[str, Place]
) -> None:
    assert tokens["s3"] == tokens["local"] != []
    for form in FORMATS:
        assert places["s3"].files(f"exported-{form}") == places["local"].files(f"exported-{form}") != {}, form


def test_a_trainer_reads_the_windows_from_s3(tokens: dict[str, list[bytes]], places: dict[str, Place]) -> None:
    def windows(place: Place, workers: int) -> list[torch.Tensor]:
        data = ShardDataset(place.at("exported-huggingface"), batch_size=1, shuffle=True)
        return [batch["input_ids"] for batch in data.loader(num_workers=workers)]

    local, there = windows(places["local"], 0), windows(places["s3"], 0)
    assert len(local) > 2 and all(torch.equal(a, b) for a, b in zip(local, there, strict=True))


def test_the_other_commands_say_of_s3_what_they_say_of_a_local_disk(
    tokens: dict[str, list[bytes]], places: dict[str, Place]
) -> None:
    def said(place: Place, *words: str) -> str:
        return place.run(*words).replace(place.url, "PLACE")

    for words in (
        ("status", "out"),
        ("show", "out", "--scores", "-n", "2"),
        ("clean", "out", "--dry-run"),
        ("clean", "out", "--yes"),
    ):
        command, workdir, *more = words
        local, there = (said(place, command, place.at(workdir), *more) for place in places.values())
        if command != "status":  # which has times
            assert there == local, words
    for words in (("scheme", "check", "my.toml"), ("probe", "show", "niceness.safetensors")):
        local, there = (said(place, *words[:2], place.at(words[2])) for place in places.values())
        assert there.splitlines()[1:] == local.splitlines()[1:], words  # the first line may name the file


def test_the_filter_alone_and_json_lines_work_at_s3(places: dict[str, Place]) -> None:
    there = places["s3"]
    assert "near-duplicate" in there.run(
        "duplicates", there.at("corpus/*.parquet"), "--workdir", there.at("duplicates")
    )
    for place in places.values():
        run_pipeline(place, corpus="lines.jsonl", workdir="lines")
    local, there = ([pl.read_parquet(url) for url in annotate.shards(place.at("lines"))] for place in places.values())
    assert len(local) == len(there) > 0 and all(a.equals(b) for a, b in zip(local, there, strict=True))
