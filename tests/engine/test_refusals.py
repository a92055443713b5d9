"""What ends the workers of stages that don't score: it is found down to the document, which goes to quarantine."""

import ctypes
import json
import os
import time
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from length_scorer import length_scorer
from support import sentences, shard_bytes

from annotate import (
    Corpus,
    Options,
    Pipeline,
    Place,
    Render,
    Schedule,
    Split,
    Tag,
    TagScheme,
    Thresholds,
    score,
)
from annotate.storage.refusals import REASON

DEATHS = {
    "Segfault": lambda: ctypes.string_at(0),
    "Exit": lambda: os._exit(3),
    "Hang": lambda: time.sleep(600),
}


def die(texts, *words):
    """End this process, or hang, if a text has one of the words."""
    for text in texts.to_pylist():
        for word in words:
            if text is not None and word in text:
                DEATHS[word]()


class DeadlySplit(Split):
    """A map that some documents end."""

    unit_seconds = 2

    def settings(self):
        return {**super().settings(), "deadly": True}

    def unit(self, tables):
        die(tables["corpus"]["text"], "Segfault", "Hang")
        return super().unit(tables)


@dataclass(frozen=True)
class DeadlyRender(Render):
    """A shuffle, or a map that gathers, that some documents end."""

    def rows(self, documents, tables, bad, counts):
        die(documents.table["text"], "Exit")
        return super().rows(documents, tables, bad, counts)


def write(folder, bad=(), *, invalid=False):
    """Two shards; some documents have a word that is deadly, or as many bytes that are no UTF-8."""
    folder.mkdir()
    texts = [sentences(i, 3).encode() for i in range(24)]
    for row, word in bad:
        text = f"{word} here. ".encode() + texts[row]
        texts[row] = b"\xff" * len(text) if invalid else text
    for shard, part in enumerate((texts[:12], texts[12:])):
        _, offsets, data = pa.array(part, pa.binary()).buffers()
        text = pa.StringArray.from_buffers(len(part), offsets, data)
        pq.write_table(pa.table({"text": text, "n": range(len(part))}), folder / f"s{shard}.parquet")
    return folder


def pipeline(folder, split=DeadlySplit, schedule=None):
    scores = score(split(Corpus(folder, id=None, unit_bytes=900)), [length_scorer()])
    scheme = TagScheme(tags=(Tag(name="long", rule="length >= q(0.5)"), Tag(name="any", rule="not length < -1")))
    return Pipeline(DeadlyRender(Place(Thresholds(scores, scheme), schedule=schedule), part_bytes=1500))


def run(folder, out, **options):
    return pipeline(folder, **options).run(out, Options(workers=2, by_value=(__name__,)))


def quarantined(out):
    views = [pl.read_parquet(path) for path in sorted((out / "quarantine").iterdir())]
    return pl.concat(views).sort(pl.all())


def compare(out, plain, rows):
    """Compare two runs, of which one has crashed."""
    assert list(shard_bytes(plain).values()) == list(shard_bytes(out).values())
    assert json.loads((plain / "ledger.json").read_text()) == json.loads((out / "ledger.json").read_text())
    one, other = quarantined(out), quarantined(plain)
    assert one.drop("reason").equals(other.drop("reason"))
    assert set(one.select("shard", "row").iter_rows()) == rows


@pytest.mark.slow  # a worker is started anew after each crash
def test_documents_that_crash_or_hang_go_to_quarantine(ray_cluster, tmp_path):
    bad = (1, "Segfault"), (4, "Hang"), (17, "Exit")
    folder = write(tmp_path / "corpus", bad)
    made = run(folder, tmp_path / "out")
    assert made.ledger.states == {"written": 21, "near_duplicate": 0, "quarantined": 3, "not_reached": 0}
    assert made.quarantined == {REASON: 3}
    assert any("3 documents" in remark for remark in made.remarks)
    run(write(tmp_path / "invalid", bad, invalid=True), tmp_path / "plain")
    compare(tmp_path / "out", tmp_path / "plain", {("s0.parquet", 1), ("s0.parquet", 4), ("s1.parquet", 5)})
    # Nothing is left to do.
    again = run(folder, tmp_path / "out")
    assert again.ledger == made.ledger and again.datasets == made.datasets


@pytest.mark.slow
def test_documents_that_crash_a_shuffle(ray_cluster, tmp_path):
    bad, options = ((3, "Exit"),), {"split": Split, "schedule": Schedule(seed=3)}
    run(write(tmp_path / "corpus", bad), tmp_path / "out", **options)
    run(write(tmp_path / "invalid", bad, invalid=True), tmp_path / "plain", **options)
    compare(tmp_path / "out", tmp_path / "plain", {("s0.parquet", 3)})
