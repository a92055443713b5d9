"""Tag schemes through the engine: columns, layouts that read text, orders by rank, and tags nested in tags."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from length_scorer import length_scorer

from annotate import (
    Calibrate,
    ConfigError,
    Corpus,
    Family,
    InputError,
    Mix,
    NearDuplicates,
    Nest,
    Options,
    Phase,
    Pipeline,
    Place,
    Render,
    RepeatedSpans,
    Schedule,
    Split,
    Splitter,
    Tag,
    TagScheme,
    Thresholds,
    by_column,
    score,
    shards,
    tables,
)
from annotate.stages.shared.tables import as_texts
from annotate.tags.rendering import strip


def sentence(seed: int) -> str:
    """Ten to a hundred letters that end in a full stop."""
    rng = np.random.default_rng(seed)
    return " ".join("a" * n for n in rng.integers(1, 9, rng.integers(3, 14)).tolist()).capitalize() + " omega."


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemes")
    for shard in range(2):
        texts = [" ".join(sentence(100 * shard + 10 * i + k) for k in range(1 + i % 4)) for i in range(24)]
        sources = ["wiki" if i % 3 == 0 else "web" for i in range(24)]
        years = [2000 + i % 2 if i else None for i in range(24)]
        table = {"id": [f"{shard}-{i}" for i in range(24)], "text": texts, "source": sources, "year": years}
        pq.write_table(pa.table(table), folder / f"s{shard}.parquet")
    return folder


def placed(corpus: Corpus, by: str, scheme: TagScheme, *axes: str) -> Place:
    return Place(thresholds(corpus, by, scheme, *axes))


def thresholds(corpus: Corpus, by: str, scheme: TagScheme, *axes: str) -> Thresholds:
    scores = score(Split(corpus, Splitter(by=by)), scorers=[length_scorer(axis) for axis in axes])
    return Thresholds(scores, scheme)


def rendered(tmp_path: Path, corpus: Path, placements: Place | Nest, workers: int = 2) -> pl.DataFrame:
    """The shards; that taking the tags out gives back the text is checked."""
    Pipeline(Render(placements)).run(str(tmp_path / "out"), Options(workers=workers))
    written = pl.read_parquet(shards(tmp_path / "out"))
    tags = written.with_row_index("row").select(pl.col("row").cast(pl.Int64), "placements").explode("placements")
    source = pl.read_parquet(corpus / "*.parquet")
    assert (
        strip(written["text"].to_arrow(), tags.drop_nulls().unnest("placements").to_arrow()).to_pylist()
        == source["text"].to_list()
    )
    return written.with_columns(plain=source["text"])


def test_nested_tags_of_two_splits(ray_in_process, tmp_path: Path, corpus: Path) -> None:
    documents = Corpus(str(corpus), unit_bytes=800)
    whole = TagScheme(
        tags=(*by_column("source", "source", {"wiki": "wiki", "web": "web"}), Tag(name="even", rule='year == "2000"')),
        families=(Family(name="source", layout="begin-end"), Family(name="even", layout="begin-end")),
    )
    parts = TagScheme(
        tags=(Tag(name="long", rule="length >= q(0.5)", family="l"), Tag(name="short", rule="else", family="l")),
        families=(Family(name="l", layout="begin-end"),),
    )
    nested = Nest(
        [thresholds(documents, "document", whole, "whole"), thresholds(documents, "sentence", parts, "length")]
    )
    written = rendered(tmp_path, corpus, nested)
    placed_tags = pa.concat_tables(tables(tmp_path / "out", "nested-placements"))
    assert placed_tags.num_rows == sum(len(each) for each in written["placements"])
    assert placed_tags.column_names[:3] == ["shard", "row", "offset"]
    for row in written.to_dicts():
        even = row["year"] == 2000
        opened, closed = f"<{row['source']}>{'<even>' * even}", f"{'</even>' * even}</{row['source']}>"
        assert row["text"].startswith(opened) and row["text"].endswith(closed)
        inside = row["text"][len(opened) : len(row["text"]) - len(closed)]
        assert re.fullmatch(r"(<(long|short)>[^<>]+</\2>)+", inside)
        assert inside.count("</") == row["plain"].count(".")


def test_tags_inside_spans_and_by_rank(ray_in_process, tmp_path: Path, corpus: Path) -> None:
    documents = Corpus(str(corpus), unit_bytes=800)
    scheme = TagScheme(
        tags=(Tag(name="l", rule="length > 30"), Tag(name="m", rule="length2 > 0"), Tag(name="w", rule="length > 60")),
        families=(Family(name="w", layout="repeat", rate=1.0),),
        order="rank",
    )
    written = rendered(tmp_path, corpus, placed(documents, "sentence", scheme, "length", "length2"))
    text = "".join(written["text"])
    assert "<l><m>" in text and "<m><l>" not in text  # equal ranks: the order of the scheme
    for sentence in re.split(r"(?=<l>|(?<!<l>)<m>)", text):
        plain = re.sub("<.>", "", sentence)
        words = len(plain.split()) - 1
        assert sentence.count("<w>") == (words if len(plain) > 60 else 0)


def test_equal_bytes_however_units_are_cut(ray_in_process, tmp_path: Path, corpus: Path) -> None:
    """What is drawn does not depend on units; only the control `shuffled` does, of more than 16 units."""
    scheme = TagScheme(
        tags=(Tag(name="a", rule="length > 0"), Tag(name="b", rule="length > 30")),
        families=(Family(name="a", dropout=0.3),),
        order="shuffled",
        document_dropout=0.2,
        control="shuffled-in-document",
    )
    found = []
    for unit_bytes in (800, 1 << 20):
        documents = Corpus(str(corpus), unit_bytes=unit_bytes)
        folder = tmp_path / str(unit_bytes)
        found.append(rendered(folder, corpus, placed(documents, "sentence", scheme, "length")))
    assert found[0].equals(found[1])
    assert 0 < found[0].filter(~pl.col("text").str.contains("<")).height < 24


def test_what_cannot_be_nested_or_read(ray_in_process, tmp_path: Path, corpus: Path) -> None:
    documents = Corpus(str(corpus), unit_bytes=800)
    scheme = TagScheme(tags=(Tag(name="t", rule="length > 0"),))
    inner, outer = (thresholds(documents, by, scheme, "length") for by in ("sentence", "document"))
    with pytest.raises(ConfigError, match="different tags, got <t> twice"):
        Nest([outer, inner])
    with pytest.raises(ConfigError, match="of one corpus") as caught:
        Nest([thresholds(Corpus("other"), "document", scheme, "length"), inner])
    assert caught.value.hint == "Split one Corpus twice, and give both score(...) the same skip=."
    repeated = Thresholds(Calibrate(outer.scores, repeated=RepeatedSpans(drop=True)), scheme)
    with pytest.raises(ConfigError, match="can only be those of the last level"):
        Nest([repeated, inner])
    with pytest.raises(ConfigError, match="two or more levels"):
        Nest([inner])
    first, second = (Thresholds(outer.scores, replace(scheme, phases=(Phase(name=name),))) for name in ("a", "b"))
    with pytest.raises(ConfigError, match="nested tag schemes have different phases"):
        Nest([first, second, inner])


def test_numbers_with_a_fraction_are_no_names() -> None:
    for kind in (pa.float64(), pa.float32()):
        with pytest.raises(ConfigError, match=r"'reward' of s, whose type (double|float) is no text"):
            as_texts(pa.chunked_array([pa.array([0.1, None], kind)]), "reward", "s")
    assert as_texts(pa.chunked_array([pa.array([2000, None])]), "year", "s").to_pylist() == ["2000", None]


def test_a_column_that_is_not_there_is_told_before_anything_runs(ray_in_process, tmp_path: Path, corpus: Path) -> None:
    documents = Corpus(str(corpus), unit_bytes=800)
    spans = Split(documents)

    def read_by(verdicts: NearDuplicates | None = None, rule: str = "length > 0", mix: Mix | None = None) -> Render:
        scores = score(spans, skip=verdicts, scorers=[length_scorer()])
        scheme = TagScheme(tags=(Tag(name="t", rule=rule),))
        return Render(Place(scores, scheme, schedule=Schedule(mix=mix)))

    for stage, reader in {
        read_by(rule='sauce == "x"'): "placements",
        read_by(rule="length > q(0.5, by=sauce)"): "calibration by sauce",
        read_by(mix=Mix(column="sauce", weights={"x": 1})): "schedule",
        read_by(NearDuplicates(documents, keep="highest:sauce")): "members",
    }.items():
        with pytest.raises(
            InputError, match=rf"has no column 'sauce', which the stage '{reader}.*' reads; it has: .*source"
        ) as caught:
            Pipeline(stage).run(str(tmp_path / "out"), Options(workers=2))
        assert caught.value.hint == "Did you mean 'source'?"
    assert not list((tmp_path / "out").rglob("*.parquet"))
