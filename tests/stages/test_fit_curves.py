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
from annotate.pipeline import make
from annotate.stages.fit_curves import _checked


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
    return to_shards(Calibrate(scores, labels=labels), scheme)


def tagged_lengths(workdir):
    """Lengths of the spans that have the tag, and of those that don't."""
    written = pl.read_parquet(shards(workdir))
    parts = [text.split("<long>") for text in written["text"]]
    assert sum(len(p) - 1 for p in parts) > 10
    return written


def test_a_curve_fitted_on_labels_gives_the_probability(ray_in_process, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", shards=1)
    texts = ["x" * n for n in range(20, 120)] * 2
    labels = [float(len(text) >= 60) for text in texts]
    labels[0] = None
    pq.write_table(pa.table({"text": texts, "length": labels}), tmp_path / "labelled.parquet")
    made = pipeline(corpus, "p(length) >= 0.5", labels=str(tmp_path / "labelled.parquet"))
    run = make(made, tmp_path / "out", Options(workers=1, by_value=(__name__,)))
    result = run.result()
    assert result.datasets["curves"].rows == 1
    place = result.datasets["placements"]
    spans = next(d for s, d in run.datasets.items() if s.name == "spans" and s.corpus.name == "corpus")
    long = total = 0
    for unit in spans.units():
        table = spans.stage.read(spans.directory, unit)
        lengths = table["end"].to_numpy() - table["start"].to_numpy()
        long += int((lengths >= 60).sum())
        total += len(lengths)
    assert 0 < long < total
    assert abs(place.counts["<long>"] - long) <= 0.05 * total
    assert result.ledger.states["written"] == 30


def test_a_curve_of_the_scorer_is_used_and_is_in_the_recipe(ray_in_process, tmp_path):
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


def test_labels_of_no_axis_are_refused(ray_in_process, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", shards=1)
    pq.write_table(pa.table({"text": ["a text"], "kindness": [1.0]}), tmp_path / "labelled.parquet")
    made = pipeline(corpus, "p(length) >= 0.5", labels=str(tmp_path / "labelled.parquet"))
    with pytest.raises(ConfigError, match="labels of no axis"):
        made.run(str(tmp_path / "out"), Options(workers=1, by_value=(__name__,)))


def run_on_labels(tmp_path, labels, texts=None):
    corpus = write_corpus(tmp_path / "corpus", shards=1)
    texts = texts or ["x" * n for n in range(20, 120)]
    pq.write_table(pa.table({"text": texts, "length": labels}), tmp_path / "labelled.parquet")
    made = pipeline(corpus, "p(length) >= 0.5", labels=str(tmp_path / "labelled.parquet"))
    return made.run(tmp_path / "out", Options(workers=1, by_value=(__name__,)))


def test_texts_that_have_both_labels_are_counted(ray_in_process, tmp_path):
    texts = ["x" * n for n in range(20, 120)] + ["x" * n for n in (20, 21, 118, 119)]
    labels = [n >= 60 for n in range(20, 120)] + [True, False, False, None]
    result = run_on_labels(tmp_path, labels, texts)
    told = [remark for remark in result.remarks if "both labels" in remark]
    assert len(told) == 1 and "2 texts have both labels of length" in told[0]


def test_a_label_that_is_none_is_refused_with_its_file_and_row(ray_in_process, tmp_path):
    with pytest.raises(ConfigError, match=r"labelled.parquet, labels of length: must be 0, 1 or null, got -1 in row 3"):
        run_on_labels(tmp_path, [0, 1, 1, -1] + [1] * 96)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 1.0, 0.7], "labels of x: must be 0, 1 or null, got 0.7 in row 12"),
        (["0", "1"], "labels of x: must be 0, 1 or null, got a column of type string"),
    ],
)
def test_other_values_and_types_are_no_labels(labels, message):
    with pytest.raises(ConfigError, match=message):
        _checked(pa.chunked_array([labels]), "labels of x", 10)


def test_what_stands_for_no_label_is_left_out():
    column = pa.chunked_array([[0.0, None], [float("nan"), 1.0]])
    assert np.array_equal(_checked(column, "labels", 0), [0.0, np.nan, np.nan, 1.0], equal_nan=True)
    assert _checked(pa.chunked_array([[True, None, False]]), "labels", 0)[[0, 2]].tolist() == [1.0, 0.0]
    assert np.isnan(_checked(pa.chunked_array([pa.nulls(3)]), "labels", 0)).all()
