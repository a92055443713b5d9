"""Every public class of `annotate` shows how it is made or used, in an example that runs."""

from __future__ import annotations

import inspect
import textwrap
from unittest import mock

import pytest

import annotate
from annotate import Corpus, NearDuplicates, Pipeline, Place, Probe, Result, Split, Subsets, Tag, TagScheme, score
from annotate.reports import Ledger, MadeDataset

CLASSES = [name for name in annotate.__all__ if inspect.isclass(getattr(annotate, name))]
ERRORS = [name for name in CLASSES if issubclass(getattr(annotate, name), annotate.AnnotateError)]


def example(name: str) -> str:
    """The indented lines before the lists of a docstring."""
    lines = inspect.getdoc(getattr(annotate, name)).split("\nAttributes:")[0].splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ")))


@pytest.fixture
def names(world, monkeypatch):
    """What examples use without making it."""
    monkeypatch.chdir(world)
    corpus = Corpus("data")
    verdicts = NearDuplicates(corpus, subsets=Subsets())
    spans = Split(corpus)
    scores = score(spans, skip=verdicts, scorers=[Probe("niceness")])
    document_scores = score(Split(corpus, by="document"), skip=verdicts, scorers=[Probe("tone")])
    scheme = TagScheme(tags=(Tag(name="nice", rule="niceness >= q(0.7)"),))
    document_scheme = TagScheme(tags=(Tag(name="serious", rule="tone >= q(0.7)"),))
    shards = MadeDataset(
        label="shards", described="shards", folder="out/shards", fingerprint="", rows=1, units=1, bytes=1, counts={}
    )
    pipeline = mock.create_autospec(Pipeline, instance=True)
    pipeline.run.return_value = Result(
        workdir="out",
        outputs={"shards": shards},
        datasets={},
        ledgers={"shards": Ledger(1, {"written": 1}, {})},
        quarantined={},
        remarks=(),
    )
    given = {
        "corpus": corpus,
        "verdicts": verdicts,
        "spans": spans,
        "scores": scores,
        "scheme": scheme,
        "placements": Place(scores, scheme),
        "document_scores": document_scores,
        "document_scheme": document_scheme,
        "sentence_scores": scores,
        "sentence_scheme": scheme,
        "pipeline": pipeline,
    }
    return {name: getattr(annotate, name) for name in annotate.__all__} | given


def test_each_class_has_an_example_that_runs(names):
    for name in CLASSES:
        if (name not in ERRORS or name == "AnnotateError") and name != "PythonScorer":  # its doctest is run elsewhere
            code = example(name)
            assert code, f"{name} has no example"
            exec(compile(code, name, "exec"), dict(names))
