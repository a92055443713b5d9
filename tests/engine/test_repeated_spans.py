"""Spans that occur many times in a corpus: counted over all units, told to rules, left out of the shards with gaps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exchanges import Given
from length_scorer import length_scorer
from support import sentences, to_shards

from annotate import (
    Calibrate,
    ConfigError,
    Corpus,
    NearDuplicates,
    Options,
    Pipeline,
    RepeatedSpans,
    Split,
    Splitter,
    Tag,
    TagScheme,
    score,
    shards,
)
from annotate.graph import Partitions, Shuffle
from annotate.pipeline import make
from annotate.stages.repeated_spans import FindRepeatedSpans
from annotate.tags.rendering import strip

NOTICE = "All rights reserved, whoever may ask.\n"
FOOTER = "Back to the top of the page.\n"
SHORT = "Read more.\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of 20 documents: a notice in each document, a footer in some, a short line in all."""
    folder = tmp_path_factory.mktemp("repeated")
    for shard in range(3):
        texts = []
        for i in range(20):
            lines = [sentences(100 * shard + i, 2) + "\n", NOTICE, SHORT, sentences(9000 + 100 * shard + i, 2) + "\n"]
            lines += [FOOTER.replace(" ", "  "), FOOTER] if i % 5 == 0 else []
            texts.append("".join(lines))
        texts[7] = NOTICE * 3  # nothing else: a document that is left out whole
        pq.write_table(
            pa.table({"id": [f"{shard}-{i}" for i in range(20)], "text": texts}), folder / f"s{shard}.parquet"
        )
    return folder


def pipeline(corpus: Path, *tags: Tag, unit_bytes: int = 1500, **options) -> Pipeline:
    documents = Corpus(str(corpus), unit_bytes=unit_bytes)
    spans = Split(documents, Splitter(by="line", blanks="previous"))
    scores = score(spans, scorers=[length_scorer()])
    calibration = Calibrate(scores, repeated=RepeatedSpans(**options))
    scheme = TagScheme(tags=tags or (Tag(name="long", rule="length >= 60"),))
    return to_shards(calibration, scheme)


def counted(corpus: Path) -> Counter[str]:
    texts = pl.read_parquet(corpus / "*.parquet")["text"].to_list()
    return Counter(" ".join(line.split()) for text in texts for line in text.splitlines())


def test_rules_read_how_often_a_span_occurs(ray_in_process, tmp_path: Path, corpus: Path) -> None:
    made = pipeline(corpus, Tag(name="boilerplate", rule="repeats > 20"), Tag(name="own", rule="repeats < 2"))
    made.run(str(tmp_path / "out"), Options(workers=2))
    written = pl.read_parquet(shards(tmp_path / "out"))
    assert written.columns == ["id", "text", "placements"]
    counts = counted(corpus)
    lines = [line for text in written["text"] for line in text.splitlines()]
    assert counts[NOTICE.strip()] > 60 and counts[FOOTER.strip()] == 24
    for line in lines:
        text = " ".join(line.removeprefix("<boilerplate>").removeprefix("<own>").split())
        n = counts[text] if len(text) >= 19 else 1  # with its line end, 20
        assert line.startswith("<boilerplate>") == (n > 20), line
        assert line.startswith("<own>") == (n < 2), line


@pytest.mark.parametrize(("unit_bytes", "workers"), [(1500, 2), (1 << 20, 1)])
def test_left_out_spans_leave_gaps(ray_in_process, tmp_path: Path, corpus: Path, unit_bytes: int, workers: int) -> None:
    made = pipeline(corpus, unit_bytes=unit_bytes, drop=True, above=24, keep=2)
    result = made.run(str(tmp_path / "out"), Options(workers=workers))
    written = pl.read_parquet(shards(tmp_path / "out"))
    source = dict(pl.read_parquet(corpus / "*.parquet").select("id", "text").iter_rows())
    placed = written.with_row_index("row").select(pl.col("row").cast(pl.Int64), "placements").explode("placements")
    untagged = strip(written["text"].to_arrow(), placed.drop_nulls().unnest("placements").to_arrow()).to_pylist()
    notices = 0
    for id_, text, gaps in zip(written["id"], untagged, written["gaps"].to_list(), strict=True):
        kept, at = [], 0
        for gap in gaps:
            kept.append(source[id_][at : gap["start"]])
            left_out = source[id_][gap["start"] : gap["end"]]
            assert left_out == source[id_].encode()[gap["byte_start"] : gap["byte_end"]].decode()
            assert set(left_out.splitlines(keepends=True)) == {NOTICE}
            at = gap["end"]
        assert "".join([*kept, source[id_][at:]]) == text
        notices += text.count(NOTICE)
    assert notices == 2  # the first two of the corpus
    assert written["id"].to_list() == [i for i in source if i.split("-")[1] != "7"]
    assert written["text"].str.count_matches(FOOTER.replace(" ", " +")).sum() == 24  # not above 24
    states = result.ledger.states
    assert states == {"written": 57, "near_duplicate": 0, "quarantined": 0, "repeated": 3, "not_reached": 0}
    assert result.ledger.beside["repeated_spans_left_out"] == counted(corpus)[NOTICE.strip()] - 2


def test_equal_bytes_however_units_are_cut(ray_in_process, tmp_path: Path, corpus: Path) -> None:
    frames = []
    for unit_bytes in (600, 1 << 20):
        pipeline(corpus, unit_bytes=unit_bytes, drop=True, above=5).run(str(tmp_path / str(unit_bytes)))
        frames.append(pl.read_parquet(shards(tmp_path / str(unit_bytes))))
    assert frames[0].equals(frames[1])


def test_what_is_left_out_is_not_calibrated_and_copies_do_not_count(
    ray_in_process, tmp_path: Path, corpus: Path
) -> None:
    documents = Corpus(str(corpus), unit_bytes=1500)
    verdicts = NearDuplicates(documents, group_span=None, group_threshold=0.8)
    spans = Split(documents, Splitter(by="line", blanks="previous"))
    scores = score(spans, skip=verdicts, scorers=[length_scorer()])
    repeated = RepeatedSpans(drop=True, above=10, keep=0)
    made = Pipeline(all=Calibrate(scores), left=Calibrate(scores, repeated=repeated))
    found = make(made, tmp_path / "out", Options(workers=2))
    whole, without = (
        next(d.manifest.counts for s, d in found.datasets.items() if isinstance(s, Calibrate) and s.repeated == which)
        for which in (None, repeated)
    )
    dropped = next(d.manifest.counts for s, d in found.datasets.items() if s.name == "repeated-spans")
    assert dropped["dropped"] == 57 + 3 + 24  # notices but for those of two documents that are copies, and footers
    assert whole["scores of length"] - without["scores of length"] == dropped["dropped"]


def test_no_span_above_the_count_is_said(ray_in_process, tmp_path: Path, corpus: Path) -> None:
    result = pipeline(corpus, drop=True, above=1000).run(str(tmp_path / "out"))
    assert "repeated-spans: no span occurs more than 1,000 times: none is left out" in result.remarks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"above": 0}, "above must be at least 1, got 0"),
        ({"keep": -1}, "keep must be at least 0, got -1"),
        ({"shortest": 0}, "shortest must be at least 1, got 0"),
        ({"above": 3, "keep": 4}, "keep must be at most above, got keep=4 and above=3"),
    ],
)
def test_settings_that_make_no_sense(options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RepeatedSpans(**options)


def test_a_quantile_of_repeats_is_refused() -> None:
    with pytest.raises(ConfigError, match="`repeats` for how often a span occurs"):
        pipeline(Path("corpus"), Tag(name="often", rule="repeats >= q(0.9)"))


def test_what_is_sent_for_a_span_does_not_grow_with_its_occurrences() -> None:
    repeated = FindRepeatedSpans(Split(Corpus("corpus")), None, RepeatedSpans())
    counts = repeated.inputs["counts"].counts
    assert isinstance(counts, Shuffle)
    n = 10_000
    table = pa.table(
        {
            "row": pa.array(np.arange(n)),
            "span": pa.array(np.zeros(n, np.int32)),
            "exact_high": pa.array(np.arange(n, dtype=np.uint64) // 9999),
            "exact_low": pa.array(np.full(n, 5, np.uint64)),
        }
    )
    (output,) = counts.send(Given("", 0, 0, 3, hashes=table), Partitions((7,), 1 << 30))
    sent = output.table
    assert sent["here"].to_pylist() == [9999, 1]
    assert sent["to"].to_pylist() == [5, 5]
