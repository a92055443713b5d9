"""Schedules through the engine: training order, phases and their tags, mixing, and exactly one state a document."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from length_scorer import length_scorer
from support import sentences

from annotate import (
    Calibrate,
    Corpus,
    Mix,
    Options,
    Phase,
    Pipeline,
    Place,
    Render,
    Schedule,
    Split,
    Tag,
    TagScheme,
    Thresholds,
    score,
    shards,
)
from annotate.tags.rendering import strip

N = 120
PHASES = (
    Phase(name="plain", share=0.25, tag_rate=0),
    Phase(name="tagged"),
    Phase(name="cooldown", share=0.1, tag_rate=0),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schedules")
    for shard in range(2):
        texts: list[str | None] = [sentences(100 * shard + i, 6) for i in range(N)]
        texts[7], texts[11] = None, f"{texts[11]} <long>"
        table = {
            "id": [f"{shard}-{i}" for i in range(N)],
            "text": texts,
            "source": ["wiki" if i % 6 == 0 else "web" for i in range(N)],
            "time": np.arange(N),
        }
        pq.write_table(pa.table(table), folder / f"s{shard}.parquet")
    return folder


def pipeline(corpus: Path, *, phases=PHASES, mix: Mix | None = None, unit_bytes: int = 4000, **options) -> Pipeline:
    documents = Corpus(str(corpus), unit_bytes=unit_bytes)
    spans = Split(documents)
    scores = score(spans, scorers=[length_scorer()])
    scheme = TagScheme(tags=(Tag(name="long", rule="length >= q(0.0)"),), phases=phases)
    schedule = Schedule(spans, phases=phases, mix=mix)
    thresholds = Thresholds(scores, None, Calibrate(scores), scheme)
    placements = Place(scores, None, thresholds, schedule)
    return Pipeline(Render(documents, None, placements, schedule=schedule, part_bytes=16_000, **options))


def written(workdir: Path) -> list[pl.DataFrame]:
    """The shards, each a frame, in training order."""
    return [pl.read_parquet(path) for path in shards(workdir)]


def test_phases_order_and_states(ray_cluster, tmp_path: Path, corpus: Path) -> None:
    result = pipeline(corpus).run(str(tmp_path / "out"), Options(workers=2))
    parts = written(tmp_path / "out")
    assert all(part["phase"].n_unique() == 1 for part in parts)
    frame = pl.concat(parts)
    assert list(frame["phase"].unique(maintain_order=True)) == ["plain", "tagged", "cooldown"]
    print(
        frame.group_by("phase", maintain_order=True).agg(pl.len(), pl.col("text").str.len_bytes().sum()), result.ledger
    )
    source = pl.read_parquet(corpus / "*.parquet").select("id", plain="text")
    both = frame.join(source, on="id", how="left", maintain_order="left")
    tags = both.with_row_index("row").select(pl.col("row").cast(pl.Int64), "placements").explode("placements")
    assert (
        strip(both["text"].to_arrow(), tags.drop_nulls().unnest("placements").to_arrow()).to_pylist()
        == both["plain"].to_list()
    )
    assert result.ledger.states["written"] == 2 * N - 4 == frame["id"].n_unique() == len(frame)
    assert result.ledger.states["quarantined"] == 4
