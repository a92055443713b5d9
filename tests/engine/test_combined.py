"""A weighted sum of scores, through the engine: other weights score nothing anew."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.compute as pc
import pytest
import support
from length_scorer import length_scorer

from annotate import Combined, ConfigError, Corpus, NearDuplicates, PythonScorer, Split, Tag, TagScheme, score, tables


def scored(corpus, calls):
    def loud(table):
        with Path(calls, "loud").open("a") as file:
            file.write("x")
        texts = table["text"]
        values = np.asarray(pc.count_substring(texts, "a"), np.float32)
        return np.where(np.asarray(pc.utf8_length(texts)) % 7 == 0, np.float32("nan"), values)

    documents = Corpus(str(corpus), unit_bytes=2000)
    scorers = [length_scorer("length"), PythonScorer(function=loud, axes=["loud"], version="1")]
    return score(Split(documents), scorers, skip=NearDuplicates(documents))


def test_it_is_the_sum_and_other_weights_score_nothing_anew(ray_in_process, tmp_path):
    corpus = support.write_corpus(tmp_path / "corpus", shards=2)
    scores = scored(corpus, tmp_path)
    scheme = TagScheme(tags=(Tag(name="high", rule="sum >= q(0.5)"),))
    calls = []
    for weights in ({"length": 0.5, "loud": -2.0}, {"loud": 3}):
        both = Combined(scores, axis="sum", weights=weights)
        result = support.to_shards((*scores, both), scheme).run(str(tmp_path / "out"))
        calls.append((tmp_path / "loud").stat().st_size)
        axes = ("length", "loud", "sum")
        parts = [
            pl.concat([pl.DataFrame(each) for each in tables(tmp_path / "out", f"annotations ({axis})")])
            for axis in axes
        ]
        at = ["row", "span"]
        assert all(part[at].equals(parts[0][at]) for part in parts)
        values = {axis: part[axis].cast(pl.Float64) for axis, part in zip(axes, parts, strict=True)}
        expected = sum(weight * values[axis] for axis, weight in sorted(weights.items())).cast(pl.Float32)
        assert values["sum"].cast(pl.Float32).equals(expected) and expected.null_count() > 0
        assert any("spans have no sum: one of" in remark for remark in result.remarks)
        assert result.ledger.states["written"] > 0
    assert calls[0] == calls[1] > 0


def test_what_can_not_be_summed_up_is_refused(tmp_path):
    scores = scored(tmp_path, tmp_path)
    good = {"axis": "sum", "weights": {"length": 1}}
    for wrong, message in (
        ({"weights": {"lenght": 1}}, "axis 'lenght', which no score has"),
        ({"weights": {}}, "one or more finite numbers"),
        ({"weights": {"length": float("nan")}}, "one or more finite numbers"),
        ({"weights": {"length": 0}}, "other than 0"),
        ({"axis": "loud"}, "a score is of the axis 'loud' already"),
        ({"axis": "row"}, "axes must be different names"),
    ):
        with pytest.raises(ConfigError, match=message):
            Combined(scores, **{**good, **wrong})
    with pytest.raises(ConfigError, match="there are no scores"):
        Combined([], **good)
