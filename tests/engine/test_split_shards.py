"""Splits through the engine: near-copies on one side, thresholds from the calibration split alone, nothing lost."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from length_scorer import length_scorer
from support import sentences

from annotate import (
    Calibrate,
    ConfigError,
    Corpus,
    NearDuplicates,
    Options,
    Pipeline,
    Place,
    Render,
    Split,
    Splits,
    Splitter,
    Tag,
    TagScheme,
    Thresholds,
    score,
    shards,
)

SPLITS = Splits(train=0.5, calibration=0.25, evaluation=0.25)
NAMES = ("train", "calibration", "evaluation")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of documents, each followed by a copy in which a few words are others."""
    folder = tmp_path_factory.mktemp("splits")
    for shard in range(2):
        texts = []
        for i in range(40):
            text = sentences(100 * shard + i, 12)
            words = text.split(" ")
            words[10:14] = [f"other{i}{k}" for k in range(4)]
            words[40:44] = [f"more{i}{k}" for k in range(4)]
            texts += [text, " ".join(words)]
        ids = [f"{shard}-{i}" for i in range(80)]
        pq.write_table(pa.table({"id": ids, "text": texts}), folder / f"s{shard}.parquet")
    return folder


def test_every_document_is_in_one_split_and_near_copies_are_together(ray_cluster, tmp_path: Path, corpus: Path) -> None:
    documents = Corpus(str(corpus), unit_bytes=4000)
    verdicts = NearDuplicates(documents, threshold=0.95, group_threshold=0.4)
    spans = Split(documents, Splitter(by="document"))
    scores = score(spans, skip=verdicts, scorers=[length_scorer()])
    scheme = TagScheme(tags=(Tag(name="long", rule="length >= q(0.5)"),))
    thresholds = Thresholds(scores, verdicts, Calibrate(scores, verdicts, splits=SPLITS), scheme)
    placements = Place(scores, verdicts, thresholds)
    found: dict[str, pl.DataFrame] = {}
    for name in NAMES:
        result = Pipeline(Render(documents, verdicts, placements, split=name)).run(
            str(tmp_path / "out"), Options(workers=2)
        )
        found[name] = pl.read_parquet(shards(tmp_path / "out"))
        states = result.ledger.states
        assert states["written"] == len(found[name]) > 10
        assert states["held_out"] == 160 - len(found[name]) and sum(states.values()) == 160
    ids = {name: set(frame["id"]) for name, frame in found.items()}
    assert sum(map(len, ids.values())) == 160 == len(set.union(*ids.values()))
    for i in range(160):
        shard, number = divmod(i, 80)
        pair = {f"{shard}-{number - number % 2}", f"{shard}-{number - number % 2 + 1}"}
        assert sum(bool(pair & each) for each in ids.values()) == 1
    texts = dict(pl.read_parquet(corpus / "*.parquet").select("id", "text").iter_rows())
    lengths = sorted(len(texts[name]) for name in ids["calibration"])
    median = lengths[-(-len(lengths) // 2) - 1]  # of the calibration split alone
    for frame in found.values():
        for name, text in frame.select("id", "text").iter_rows():
            assert text.startswith("<long>") == (len(texts[name]) >= median)


def test_what_splits_need(corpus: Path) -> None:
    documents = Corpus(str(corpus))
    scores = score(Split(documents), scorers=[length_scorer()])
    with pytest.raises(ConfigError, match="splits are by split group"):
        Calibrate(scores, splits=SPLITS)
    scheme = TagScheme(tags=(Tag(name="long", rule="length > 0"),))
    placed = Place(scores, None, Thresholds(scores, None, Calibrate(scores), scheme))
    with pytest.raises(ConfigError, match="split must be one of train, calibration, evaluation, got 'test'"):
        Render(documents, None, placed, split="test")
    with pytest.raises(ConfigError, match="split='evaluation' is of no use: there are no splits"):
        Render(documents, None, placed, split="evaluation")
