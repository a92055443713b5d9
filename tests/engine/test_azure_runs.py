"""A run on an Azure blob server over HTTP: the bytes of a local one, after a kill too, and read by a trainer's dataset.

Skipped without Azurite, which `make azure` installs from npm.
"""

from __future__ import annotations

from pathlib import Path

import azure_store
import here
import pytest
import support
from azure_store import CONTAINER
from tiny_tokenizer import byte_tokenizer

import annotate
from annotate import Corpus, Pipeline, Place, Split, Tag, TagScheme, TokenShards, score
from annotate.storage import connections, faults
from annotate.storage.store import Directory
from annotate.training import ShardDataset

pytestmark = [
    pytest.mark.slow,  # a server on Node.js
    pytest.mark.skipif(azure_store.command() is None, reason="there is no Azurite: `make azure` installs it from npm"),
]


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def pipeline(corpus: str, calls: Path, tokenizer: Path) -> Pipeline:
    scores = score(Split(Corpus(corpus, unit_bytes=2000)), [support.scorer(calls, "niceness")])
    placements = Place(scores, TagScheme(tags=[Tag(name="nice", rule="niceness >= q(0.7)")]))
    return Pipeline(TokenShards(placements, tokenizer=str(tokenizer), window=64, loss="mask"))


def test_a_run_that_was_killed_goes_on_and_leaves_the_bytes_of_a_local_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    support.write_corpus(tmp_path / "corpus", shards=2, documents=12)
    byte_tokenizer(tmp_path / "tokenizer")
    calls, place = tmp_path / "calls", f"az://{CONTAINER}/place"
    with azure_store.azure(tmp_path / "azurite") as environment, here.ray_here():
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        connections.forget()
        monkeypatch.setattr("annotate.engine.run.check_nodes", lambda stages, workdir: None)  # all is in this process
        for path in (tmp_path / "corpus").iterdir():
            Directory.at(f"{place}/corpus").put(path.name, path)
        pipeline(str(tmp_path / "corpus"), calls, tmp_path / "tokenizer").run(tmp_path / "out")
        there = pipeline(f"{place}/corpus", calls, tmp_path / "tokenizer")
        reached = 0

        def kill(point: str) -> None:
            nonlocal reached
            reached += point == "commit: part put"
            if reached == 4:
                raise Killed

        monkeypatch.setattr(faults, "_hook", kill)
        with pytest.raises(Killed):
            there.run(f"{place}/out")
        monkeypatch.setattr(faults, "_hook", None)
        there.run(f"{place}/out", annotate.Options(share=True))  # the lease of the one that was killed is still held
        out = Directory.at(f"{place}/out")
        made = [out.get(url.removeprefix(f"{out.url}/")) for url in annotate.shards(out.url)]
        assert made == list(support.shard_bytes(tmp_path / "out").values()) != []
        annotate.export(out.url, f"{place}/windows", format="huggingface")
        annotate.export(tmp_path / "out", tmp_path / "windows", format="huggingface")
        read = [list(ShardDataset(at, batch_size=1)) for at in (f"{place}/windows", str(tmp_path / "windows"))]
        assert len(read[0]) > 2
        assert all((a["input_ids"] == b["input_ids"]).all() for a, b in zip(*read, strict=True))
    connections.forget()
