import functools
import os
import subprocess
import sys

import cloudpickle
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from annotate.errors import ConfigError
from annotate.models.base import Backbone, expand
from annotate.scorers import PythonScorer, check_anchors, fake_scorer
from annotate.scorers.base import Scorer


def length(table):
    return pc.utf8_length(table["text"])


def score(scorer, table):
    scorer = cloudpickle.loads(cloudpickle.dumps(scorer)).resolved()
    prepared = scorer.backbone.prepare(table)
    forward = scorer.backbone.load([scorer], "cpu")
    return expand(prepared, forward(prepared, [0])[0])


def test_a_function_scores_spans(spans):
    values, failures = score(PythonScorer(function=length, axes=("length",), batch_rows=3), spans)
    assert values.dtype == np.float32
    assert values[:, 0].tolist() == [len(text) for text in spans["text"].to_pylist()]
    assert failures == {}


def test_several_axes_and_columns():
    def both(table):
        return np.stack([table["text"].to_numpy().astype(float), table["size"].to_numpy()], axis=1)

    scorer = PythonScorer(function=both, axes=("a", "b"), columns=("text", "size"))
    values, _ = score(scorer, pa.table({"text": ["1", "2", "1"], "size": [5, 6, 5], "other": ["x", "y", "z"]}))
    assert values.tolist() == [[1, 5], [2, 6], [1, 5]]


def test_repeats_are_scored_once(spans):
    rows = []

    def spy(table):
        rows.append(table.num_rows)
        return length(table)

    scorer = PythonScorer(function=spy, axes=("length",))
    prepared = scorer.prepare(spans)
    scorer.load([scorer], "cpu")(prepared, [0])
    assert rows == [len(set(spans["text"].to_pylist()))]


def test_a_class_is_made_once_and_then_called(spans):
    made = []

    class Model:
        def __init__(self):
            made.append(1)

        def __call__(self, table):
            return length(table)

    scorer = PythonScorer(function=Model, axes=("length",), batch_rows=2)
    prepared = scorer.prepare(spans)
    forward = scorer.load([scorer], "cpu")
    forward(prepared, [0])
    forward(prepared, [0])
    assert made == [1]


def test_one_bad_input_fails_alone():
    def fussy(table):
        if "bad" in table["text"].to_pylist():
            raise KeyError("no such text")
        return length(table)

    values, failures = score(
        PythonScorer(function=fussy, axes=("length",)), pa.table({"text": ["a", "bad", "abc", "bad", ""]})
    )
    reason = "KeyError: 'no such text' (test_function_scorer.py, line "
    assert failures.keys() == {1, 3} and all(found.startswith(reason) for found in failures.values())
    np.testing.assert_array_equal(values[:, 0], np.float32([1, np.nan, 3, np.nan, 0]))


def test_a_broken_function_stops_the_run():
    calls = []

    def broken(table):
        calls.append(table.num_rows)
        return undefined_name  # noqa: F821

    scorer = PythonScorer(function=broken, axes=("x", "y"))
    prepared = scorer.prepare(pa.table({"text": [str(i) for i in range(1000)]}))
    with pytest.raises(
        ConfigError, match=r"the scorer of x, y .* fails on every span .*NameError: name 'undefined_name'"
    ):
        scorer.load([scorer], "cpu")(prepared, [0])
    assert len(calls) < 20


def test_one_axis_that_is_nan_leaves_the_others():
    def half(table):
        return [[1.0, float("nan")], [2.0, 3.0]]

    values, failures = score(PythonScorer(function=half, axes=("a", "b")), pa.table({"text": ["a", "b"]}))
    np.testing.assert_array_equal(values, np.float32([[1, np.nan], [2, 3]]))
    assert failures == {0: "non-finite score"}


@pytest.mark.parametrize(
    "make", [lambda n: pa.array([0.5] * n, pa.float32()), lambda n: np.broadcast_to(np.float32(0.5), n)]
)
def test_a_result_may_be_read_only(make):
    values, _ = score(
        PythonScorer(function=lambda table: make(table.num_rows), axes=("a",)), pa.table({"text": ["a", "b"]})
    )
    assert values[:, 0].tolist() == [0.5, 0.5]


def test_torch_is_not_imported_for_a_function_without_it():
    code = """
import sys
import pyarrow as pa, pyarrow.compute as pc
from annotate.scorers import PythonScorer, check_anchors
def length(table):
    if "bad" in table["text"].to_pylist(): raise ValueError("bad")
    return pc.utf8_length(table["text"])
scorer = PythonScorer(function=length, axes=("length",), anchors={"length": ("a", "bb")})
prepared = scorer.backbone.prepare(pa.table({"text": ["one", "bad", "four"]}))
forward = scorer.backbone.load([scorer], "cpu")
check_anchors([scorer], scorer, forward)
[scores] = forward(prepared, [0])
assert scores.values[[0, 2], 0].tolist() == [3, 4] and list(scores.failures) == [1], scores
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


def test_a_function_that_uses_torch_runs_without_gradients():
    import torch

    weights = torch.nn.Linear(1, 1)

    def model(table):
        return weights(torch.ones(table.num_rows, 1))

    values, failures = score(PythonScorer(function=model, axes=("a",)), pa.table({"text": ["a", "b"]}))
    assert failures == {}
    assert np.isfinite(values).all()


def test_null_and_infinite_results_fail_alone():
    def fussy(table):
        return pc.if_else(pc.equal(table["text"], "null"), None, pc.divide(1.0, pc.utf8_length(table["text"])))

    values, failures = score(PythonScorer(function=fussy, axes=("x",)), pa.table({"text": ["null", "", "ab"]}))
    assert failures == {0: "non-finite score", 1: "non-finite score"}
    assert values[2, 0] == 0.5


@pytest.mark.parametrize(("axes", "result"), [(("a",), [1.0]), (("a", "b"), [1.0, 2.0]), (("a",), [[1.0, 1.0]] * 2)])
def test_another_number_of_scores_is_refused_by_name(axes, result):
    def wrong(table):
        return result

    with pytest.raises(
        ConfigError, match=r"the scorer of a.* \(wrong\) was given 2 inputs and returned scores of shape"
    ):
        score(PythonScorer(function=wrong, axes=axes), pa.table({"text": ["a", "b"]}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"function": 3}, "must be callable"),
        ({"axes": "length"}, "axes must be a list or a tuple"),
        ({"axes": ()}, "one axis or more"),
        ({"axes": ("a", "a")}, "must differ"),
        ({"columns": "text"}, "columns must be a list or a tuple"),
        ({"columns": ()}, "one column or more"),
        ({"batch_rows": 0}, "batch_rows must be positive"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigError, match=message):
        PythonScorer(**{"function": length, "axes": ("length",), **settings})


def test_lists_and_tuples_are_alike():
    lists, tuples = (PythonScorer(function=length, axes=t(["x"]), columns=t(["text"])) for t in (list, tuple))
    assert lists == tuples and hash(lists) == hash(tuples)
    assert fake_scorer(["a", "b"]).identity() == fake_scorer(("a", "b")).identity()


def test_identity_is_source_or_version():
    by_source = PythonScorer(function=length, axes=("length",)).identity()
    assert "utf8_length" in str(by_source)
    versioned = [PythonScorer(function=f, axes=("x",), version=2).identity() for f in (length, len)]
    assert "utf8_length" not in str(versioned[0])
    assert [v["function"]["version"] for v in versioned] == [2, 2]
    with pytest.raises(ConfigError, match="no Python source"):
        PythonScorer(function=len, axes=("x",)).identity()


def test_anchors_are_checked_with_other_columns_null():
    def kind(table):
        return pc.add(length(table), pc.fill_null(pc.cast(table["size"], pa.float64()), 0))

    for pair, right in ((("a", "abc"), True), (("abc", "a"), False)):
        scorer = PythonScorer(function=kind, axes=("x",), columns=("text", "size"), anchors={"x": pair})
        forward = scorer.load([scorer], "cpu")
        if right:
            check_anchors([scorer], scorer, forward)
        else:
            with pytest.raises(ConfigError, match="got 3, 'a' must score high and got 1"):
                check_anchors([scorer], scorer, forward)


def test_it_is_what_the_protocol_says():
    scorer = PythonScorer(function=functools.partial(length), axes=("length",), anchors={"length": ("a", "bb")})
    assert isinstance(scorer, Scorer)
    assert isinstance(scorer, Backbone)
    assert len({scorer, PythonScorer(function=scorer.function, axes=("length",))}) == 2


def test_the_fake_scorer_is_a_function_of_text_and_axis(spans):
    values, _ = score(fake_scorer(axes=("a", "b")), spans)
    assert values.shape == (len(spans), 2)
    assert ((values >= 0) & (values < 1)).all()
    assert values[0].tolist() == values[4].tolist()
    assert len(np.unique(values)) == 2 * len(set(spans["text"].to_pylist()))
    assert score(fake_scorer(axes=("b",)), spans)[0][:, 0].tolist() == values[:, 1].tolist()
    assert fake_scorer().identity() == fake_scorer().identity()


def test_the_examples_in_the_docs_run():
    import doctest

    from annotate.scorers import function, testing
    from annotate.source_code import functions

    for module in (function, testing, functions):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0
