"""What users give may be a path or a string, a list or a tuple: stages that are given either are equal."""

from pathlib import Path

import pytest
from tiny_tokenizer import byte_tokenizer

from annotate import (
    Alias,
    AttributeScores,
    Calibrate,
    ConfigError,
    Corpus,
    Encoder,
    Family,
    NearDuplicates,
    Nest,
    Place,
    Probe,
    PythonScorer,
    Render,
    RewardModel,
    Schedule,
    Split,
    Splitter,
    Tag,
    TagScheme,
    Thresholds,
    TokenShards,
    score,
)


def function(table):
    """Never called here."""
    raise AssertionError


@pytest.mark.parametrize(("path", "several"), [(Path, list), (str, tuple)])
def test_a_path_is_a_string_and_a_list_a_tuple(tmp_path, path, several) -> None:
    """Hashed and compared with the same of strings and tuples: a list could not be hashed."""
    tokenizer = byte_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "ids.txt").write_text("a\nb\n")

    def made(path, several):
        corpus = Corpus(path("data"), columns=several(["source"]))
        verdicts = NearDuplicates(corpus, bands=several([9, 13]))
        spans = Split(corpus, Splitter(by="tokens", tokenizer=path(tokenizer)))
        scorer = PythonScorer(function=function, axes=several(["x"]), columns=several(["text", "source"]), version=1)
        scores = score(spans, several([scorer]), skip=verdicts)
        other = AttributeScores(spans, path("attributes"), attributes={"y": "tox"}, skip=verdicts)
        scheme = TagScheme(
            tags=several([Tag(name="a", rule="x > 1"), Tag(name="b", rule="y > 1")]),
            families=several([Family(name="a")]),
            aliases=several([Alias(name="both", tags=several(["a", "b"]))]),
        )
        calibration = Calibrate(several([*scores, other]), labels=path("labels"))
        placements = Place(Thresholds(calibration, scheme), schedule=Schedule(tokenizer=path(tokenizer)))
        outer = Thresholds(
            score(Split(corpus, by="document"), [scorer], skip=verdicts),
            TagScheme(tags=several([Tag(name="c", rule="x > 2")])),
        )
        nested = Nest(several([outer, Thresholds(scores, TagScheme(tags=several([Tag(name="d", rule="x > 2")])))]))
        shards = TokenShards(nested, tokenizer=path(tokenizer), window=64, loss="mask", reserved=several([]))
        models = (Probe(path("p.safetensors")), Encoder(path("e")), RewardModel(path("r"), axis="r", prompt="p"))
        given = Render(placements, exclude=path(tmp_path / "ids.txt"))
        return given, Render(placements, exclude=several(["a", "b"])), shards, models

    given, expected = made(path, several), made(str, tuple)
    assert given == expected and hash(given) == hash(expected)
    assert given[0] == given[1]


def test_what_is_neither_is_told(tmp_path) -> None:
    for wrong in (7, b"data", None, ["a.parquet", "b.parquet"]):
        with pytest.raises(ConfigError, match=r"path must be a path, as a string or a pathlib\.Path, got") as caught:
            Corpus(wrong)  # type: ignore[arg-type]
        assert "a glob" in caught.value.hint
    with pytest.raises(ConfigError, match="columns must be a list or a tuple, got 'source'") as caught:
        Corpus("data", columns="source")
    assert caught.value.hint == "Of one write columns=['source']."
    scores = score(Split(Corpus("data")), [PythonScorer(function=function, axes=["x"], version=1)])
    with pytest.raises(ConfigError, match="scores must be a list or a tuple"):
        Calibrate(scores[0])  # type: ignore[arg-type]


def test_verdicts_and_scores_of_others_are_told_where_they_are_given() -> None:
    corpus, other = Corpus("one"), Corpus("two")
    scorers = [PythonScorer(function=function, axes=["x"], version=1)]
    with pytest.raises(ConfigError, match=r"the spans are of the corpus .*one, the verdicts .*two") as caught:
        score(Split(corpus), scorers, skip=NearDuplicates(other))
    assert caught.value.hint == "Make one Corpus(...), and give it to both NearDuplicates and Split."
    with pytest.raises(ConfigError, match="skip must be verdicts"):
        score(Split(corpus), scorers, skip=corpus)  # type: ignore[arg-type]
    by_line, by_sentence = (score(Split(corpus, by=by), scorers) for by in ("line", "sentence"))
    skipped = score(Split(corpus), scorers, skip=NearDuplicates(corpus))
    for scores, what in (([*by_line, *by_sentence], "spans"), ([*by_sentence, *skipped], "verdicts")):
        with pytest.raises(ConfigError, match=f"the scores of x and of x are of different {what}") as caught:
            Calibrate(scores)
        assert caught.value.hint == "Score all axes on one Split(...), and give each the same skip=."


def test_what_a_stage_is_not_given_is_told_with_what_to_write() -> None:
    scores = score(Split(Corpus("one")), [PythonScorer(function=function, axes=["x"], version=1)])
    scheme = TagScheme(tags=[Tag(name="a", rule="x > 1")])
    for wrong in ((scores,), (Thresholds(scores, scheme), scheme)):
        with pytest.raises(ConfigError, match="takes thresholds, or scores and a tag scheme") as caught:
            Place(*wrong)
        assert "Place(scores, scheme)" in str(caught.value.hint)
    with pytest.raises(ConfigError, match=r"Render\(placements\) needs placements from Place or Nest"):
        Render(Corpus("one"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs a tag scheme"):
        Thresholds(scores, "x > 1")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is given a splitter and by='line'"):
        Split(Corpus("one"), Splitter(), by="line")
    assert Split(Corpus("one"), by="line") == Split(Corpus("one"), Splitter(by="line"))
    with pytest.raises(ConfigError, match="there are no scores"):
        Place([], scheme)


def test_a_revision_without_a_tokenizer_is_refused() -> None:
    with pytest.raises(ConfigError, match="revision is that of a tokenizer, but there is none"):
        Schedule(revision="v2")


def test_an_empty_path_is_refused_and_not_taken_for_the_current_folder():
    with pytest.raises(ConfigError, match="path is empty"):
        Corpus("")
