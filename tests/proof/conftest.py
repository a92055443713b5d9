"""A work directory, as far as a proof reads it: two outputs of token shards, without a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pytest
from proof_shards import card_and_tables, tokenizer

from annotate.credentials import redacted
from annotate.scorers.base import Scorer
from annotate.storage import layout
from annotate.storage.latest import Latest, Role, write_latest
from annotate.storage.store import Directory


class Made:
    """Writes outputs to a work directory; their tables stay in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tables, self.latest = folder, {}, []

    def add(
        self, output: str, card: dict, tables: list[pa.Table], role: Role = Role.TOKEN_SHARDS, **about: str | None
    ) -> None:
        item = Latest(
            label=f"token-shards #{len(self.latest)}",
            stage="token-shards",
            schema="token-shards",
            role=role,
            dataset=f"shards-{len(self.latest)}",
            recipe="r",
            fingerprint=f"{len(self.latest):032}",
            settings={},
            inputs={},
            output=output,
            **about,
        )
        files = self.folder / item.dataset / layout.companions(item.fingerprint)
        files.mkdir(parents=True)
        (files / "tags.json").write_text(json.dumps(card))
        tokenizer().save_pretrained(files / "tokenizer")
        self.latest.append(item)
        self.tables[output] = tables
        write_latest(Directory.at(self.folder), self.latest)

    def scored_by(self, scorer: Scorer) -> None:
        """Say that the tags of all outputs came from the scores of a scorer."""
        item = Latest(
            label=f"annotations ({scorer.axes[0]})",
            stage="annotations",
            schema="annotations",
            role=Role.UNITS,
            dataset="annotations-0",
            recipe="r",
            fingerprint="a" * 32,
            settings=redacted({"axes": list(scorer.axes), "threads": 1, **scorer.identity()}),
            inputs={},
        )
        outputs = [dataclasses.replace(each, inputs={"scores-0": item.fingerprint}) for each in self.latest]
        write_latest(Directory.at(self.folder), [item, *outputs])


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    made = Made(tmp_path / "run")
    monkeypatch.setattr("annotate.proof.material.shard_tables", lambda workdir, output: made.tables[output])
    return made


@pytest.fixture
def made(empty: Made) -> Made:
    """Two outputs whose documents are apart."""
    card, tables = card_and_tables(500, cue=0.7, window=64, dropout=0.15)
    empty.add("train", card, tables, subset="train")
    empty.add("held_out", card, card_and_tables(80, cue=0.7, window=64, seed=5, parts=1)[1], subset="evaluation")
    return empty
