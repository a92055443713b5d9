"""Parameters of a pipeline as the command line gives them: text becomes what the type says."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Literal, Optional

import pytest
from support import to_shards

from annotate import ConfigError, Corpus, Pipeline, Split, Splitter, Tag, TagScheme, column_scorer, score
from annotate.graph import Stage
from annotate.pipeline_files import build, load


def made(**given: str) -> dict[str, object]:
    """What the parameters are in the pipeline function."""
    seen: dict[str, object] = {}

    def pipeline(
        maybe: tuple[str, ...] | None = ("x",),
        older: Optional[tuple[int, ...]] = None,  # noqa: UP045  # an older way to write it
        many: list[float] = [],  # noqa: B006
        word: str | None = "w",
        choice: Literal["a", "b"] = "a",
        number: int | None = 1,
    ) -> Pipeline:
        seen.update(maybe=maybe, older=older, many=many, word=word, choice=choice, number=number)
        return Pipeline(Split(Corpus("corpus")))

    pipeline.__annotations__ = inspect.get_annotations(pipeline, eval_str=True)
    build(pipeline, given)
    return {name: seen[name] for name in given}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("maybe", "a,b", ("a", "b")),
        ("maybe", " a , b,", ("a", "b")),
        ("maybe", "a", ("a",)),
        ("maybe", "", ()),
        ("maybe", "none", None),
        ("older", "1,2", (1, 2)),
        ("older", "None", None),
        ("many", "0.5,1", [0.5, 1.0]),
        ("word", "a,b", "a,b"),
        ("word", "none", None),
        ("choice", "b", "b"),
        ("number", "7", 7),
    ],
)
def test_text_becomes_what_the_type_says(name: str, text: str, value: object) -> None:
    assert made(**{name: text}) == {name: value}


@pytest.mark.parametrize(("name", "text"), [("older", "1,x"), ("choice", "c"), ("number", "1,2"), ("many", "y")])
def test_what_the_type_does_not_allow_is_an_error(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"parameter {name}='{text}': "):
        made(**{name: text})


@pytest.mark.parametrize(("text", "columns"), [("a,b", ("a", "b")), ("none", None), ("", ())])
def test_the_shipped_pipeline_takes_the_columns_that_travel(
    text: str, columns: tuple[str, ...] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    pipeline, _ = load(str(Path(__file__).parents[1] / "pipelines" / "conditional_pretraining.py"))
    built = build(pipeline, {"columns": text, "corpus": str(tmp_path)})
    (corpus,) = (stage for stage in built.stages() if isinstance(stage, Corpus))
    assert corpus.columns == columns


def test_outputs_have_names():
    corpus = Corpus("corpus")
    assert list(Pipeline(Split(corpus)).outputs) == ["spans"]
    spans, lines = Split(corpus), Split(corpus, Splitter(by="line"))
    assert list(Pipeline(spans, lines).outputs) == ["spans", "spans_2"]
    assert list(Pipeline(train=spans, evaluation=lines).outputs) == ["train", "evaluation"]
    assert [stage.name for stage in Pipeline(spans).checks] == ["repeated-ids"]


def shards(spans: Split, tag: str) -> Stage:
    scheme = TagScheme(tags=(Tag(name=tag, rule="reward > 0"),))
    return to_shards(score(spans, scorers=[column_scorer("reward")]), scheme).outputs["shards"]


def test_names_of_outputs_are_checked():
    spans, lines = Split(Corpus("corpus")), Split(Corpus("corpus"), Splitter(by="line"))
    for given, named, said in (
        (tuple(shards(spans, names) for names in ("en", "de")), {}, "two outputs are called 'shards'"),
        ((spans,), {"spans": lines}, "two outputs are called 'spans'"),
        ((), {"a b": spans}, "'a b', which is no Python name"),
        ((), {"class": spans}, "'class', which is no Python name"),
        ((), {"one": spans, "two": Split(Corpus("corpus"))}, "'one' and 'two' are one and the same"),
        ((), {"one": "spans"}, "takes one or more stages"),
        ((), {}, "takes one or more stages"),
    ):
        with pytest.raises(ConfigError, match=said):
            Pipeline(*given, **named)
