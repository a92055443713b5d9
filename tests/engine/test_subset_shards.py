"""Subsets through the engine: near-copies in one, thresholds from the calibration subset alone, nothing lost."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from length_scorer import length_scorer
from support import sentences

from annotate import (
    ConfigError,
    Corpus,
    NearDuplicates,
    Options,
    Phase,
    Pipeline,
    Place,
    Render,
    Split,
    Splitter,
    Subsets,
    Tag,
    TagScheme,
    score,
    shards,
)

SUBSETS = Subsets(train=0.5, calibration=0.25, evaluation=0.25)
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


def test_every_document_is_in_one_subset_and_near_copies_are_together(
    ray_in_process, tmp_path: Path, corpus: Path
) -> None:
    """Phases are of what is trained on: the other subsets are in corpus order, and keep all their tags."""
    documents = Corpus(corpus, unit_bytes=4000)
    verdicts = NearDuplicates(documents, threshold=0.95, group_threshold=0.4, subsets=SUBSETS)
    scores = score(Split(documents, Splitter(by="document")), skip=verdicts, scorers=[length_scorer()])
    phases = (Phase(name="plain", share=0.5, tag_rate=0), Phase(name="tagged"))
    placements = Place(scores, TagScheme(tags=(Tag(name="long", rule="length >= q(0.5)"),), phases=phases))
    found: dict[str, pl.DataFrame] = {}
    for name in NAMES:
        result = Pipeline(Render(placements, subset=name)).run(str(tmp_path / "out"), Options(workers=2))
        found[name] = pl.concat([pl.read_parquet(path) for path in shards(tmp_path / "out")])
        states = result.ledger.states
        assert states["written"] == len(found[name]) > 10
        assert states["held_out"] == 160 - len(found[name]) and sum(states.values()) == 160
    ids = {name: set(frame["id"]) for name, frame in found.items()}
    assert sum(map(len, ids.values())) == 160 == len(set.union(*ids.values()))
    for i in range(160):
        shard, number = divmod(i, 80)
        pair = {f"{shard}-{number - number % 2}", f"{shard}-{number - number % 2 + 1}"}
        assert sum(bool(pair & each) for each in ids.values()) == 1
    source = pl.read_parquet(corpus / "*.parquet").select("id", "text")
    texts = dict(source.iter_rows())
    lengths = sorted(len(texts[name]) for name in ids["calibration"])
    median = lengths[-(-len(lengths) // 2) - 1]  # of the calibration subset alone
    plain = set(found["train"].filter(pl.col("phase") == "plain")["id"])
    assert 10 < len(plain) < len(found["train"]) - 10
    for frame in found.values():
        for name, text in frame.select("id", "text").iter_rows():
            assert text.startswith("<long>") == (len(texts[name]) >= median and name not in plain)
    order = source["id"].to_list()
    for name, frame in found.items():
        ordered = [order.index(each) for each in frame["id"]]
        assert ("phase" in frame.columns, ordered != sorted(ordered)) == (name == "train", name == "train")


def test_what_subsets_need(corpus: Path) -> None:
    scores = score(Split(Corpus(corpus)), scorers=[length_scorer()])
    placed = Place(scores, TagScheme(tags=(Tag(name="long", rule="length > 0"),)))
    with pytest.raises(ConfigError, match="subset must be one of train, calibration, evaluation, got 'test'"):
        Render(placed, subset="test")
    with pytest.raises(ConfigError, match="subset='evaluation' is of no use: the documents are in no subsets"):
        Render(placed, subset="evaluation")
