"""`p(axis)` in a rule: from a curve fitted on labelled texts, from the scorer, or an error that says what to do."""

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support import to_shards, write_corpus

from annotate import (
    Calibrate,
    ConfigError,
    Corpus,
    Options,
    PythonScorer,
    Split,
    Tag,
    TagScheme,
    score,
    shards,
)
from annotate.curves import Platt


class Length:
    """Scores a text by its length."""

    def __call__(self, table):
        return np.asarray(pc.utf8_length(table["text"]), np.float32)


class WithCurve(PythonScorer):
    """A scorer that brings a curve of its own."""

    curves = {"length": Platt(a=1.0, b=-50.0)}  # noqa: RUF012


def pipeline(corpus, rule, *, scorer=PythonScorer, labels=None):
    documents = Corpus(str(corpus), unit_bytes=3000)
    scores = score(Split(documents), scorers=[scorer(function=Length, axes=("length",), version=1)])
    scheme = TagScheme(tags=(Tag(name="long", rule=rule),))
    return to_shards(scores, scheme, calibration=Calibrate(scores, labels=labels))


def tagged_lengths(workdir):
    """Lengths of the spans that have the tag, and of those that don't."""
    written = pl.read_parquet(shards(workdir))
    parts = [text.split("<long>") for text in written["text"]]
    assert sum(len(p) - 1 for p in parts) > 10
    return written


def test_a_curve_fitted_on_labels_gives_the_probability(ray_cluster, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", shards=1)
    texts = ["x" * n for n in range(20, 120)] * 2
    labels = [float(len(text) >= 60) for text in texts]
    labels[0] = None
    pq.write_table(pa.table({"text": texts, "length": labels}), tmp_path / "labelled.parquet")
    made = pipeline(corpus, "p(length) >= 0.5", labels=str(tmp_path / "labelled.parquet"))
    result = made.run(str(tmp_path / "out"), Options(workers=1, by_value=(__name__,)))
    curves = next(d for s, d in result.datasets.items() if s.name == "curves")
    assert curves.manifest.rows == 1
    place = next(d for s, d in result.datasets.items() if s.name == "placements")
    spans = next(d for s, d in result.datasets.items() if s.name == "spans" and s.corpus.name == "corpus")
    long = total = 0
    for unit in spans.units():
        table = spans.stage.read(spans.directory, unit)
        lengths = table["end"].to_numpy() - table["start"].to_numpy()
        long += int((lengths >= 60).sum())
        total += len(lengths)
    assert 0 < long < total
    assert abs(place.manifest.counts["<long>"] - long) <= 0.05 * total
    assert result.ledger.states["written"] == 30


def test_a_curve_of_the_scorer_is_used_and_is_in_the_recipe(ray_cluster, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", shards=1)
    made = pipeline(corpus, "p(length) >= 0.5", scorer=WithCurve)
    place = next(stage for stage in made.stages() if stage.name == "placements")
    assert place.settings()["curves"] == {"length": {"kind": "platt", "a": 1.0, "b": -50.0}}
    made.run(str(tmp_path / "out"), Options(workers=1, by_value=(__name__,)))
    assert tagged_lengths(tmp_path / "out")["text"].str.contains("<long>").any()


def test_without_a_curve_an_error_offers_what_there_is(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", shards=1)
    with pytest.raises(ConfigError, match="no curve gives a probability") as caught:
        pipeline(corpus, "p(length) >= 0.5")
    assert "q(0.7)" in caught.value.hint


def test_labels_of_no_axis_are_refused(ray_cluster, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", shards=1)
    pq.write_table(pa.table({"text": ["a text"], "kindness": [1.0]}), tmp_path / "labelled.parquet")
    made = pipeline(corpus, "p(length) >= 0.5", labels=str(tmp_path / "labelled.parquet"))
    with pytest.raises(ConfigError, match="labels of no axis"):
        made.run(str(tmp_path / "out"), Options(workers=1, by_value=(__name__,)))
