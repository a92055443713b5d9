"""A tag that is nowhere or everywhere is said loudly, and thresholds of groups that have few scores or none."""

import pyarrow as pa
import pytest

from annotate import Corpus, Place, PythonScorer, Split, Tag, TagScheme, Thresholds, score
from annotate.errors import ConfigError
from annotate.stages.shared.token_cards import meanings
from annotate.stages.thresholds import threshold_values
from annotate.storage.manifests import Manifest
from annotate.tags.conditions import Quantile
from annotate.tags.scheme_file import parse_scheme


def length(table):
    """Never called here."""
    raise AssertionError


def placed(rule):
    scores = score(Split(Corpus("corpus")), scorers=[PythonScorer(function=length, axes=("length",), version=1)])
    scheme = TagScheme(tags=(Tag(name="long", rule=rule),))
    return Place(scores, scheme)


def manifest(units, rows, counts):
    return Manifest("", "", "", {}, {}, (), units, rows, 0, counts)


@pytest.mark.parametrize(
    ("tagged", "said"),
    [
        (0, ["<long> is on no span: its rule is `length > 9`"]),
        (7, ["<long> is on every span: its rule is `length > 9`"]),
        (3, []),
    ],
)
def test_a_tag_on_no_span_or_on_all_is_worth_a_remark(tagged, said):
    place = placed("length > 9")
    assert place.remarks(manifest(1, tagged, {"spans": 7, "<long>": tagged})) == said


BY_SOURCE = placed("length >= q(0.7, by=source) and length > q(0.1)")


def test_groups_of_few_scores_or_none_are_worth_a_remark():
    counts = {"of_groups": 12, "of_few_scores": 3, "fewest": 1}
    (said,) = BY_SOURCE.thresholds.remarks(manifest(1, 12, counts))
    assert said.startswith("3 of 12 thresholds of groups come from fewer than 100 scores, the smallest number is 1:")
    assert BY_SOURCE.thresholds.remarks(manifest(1, 12, counts | {"of_few_scores": 0})) == []
    (said,) = BY_SOURCE.remarks(manifest(1, 1, {"spans": 7, "<long>": 2, "spans_of_a_group_without_scores": 4}))
    assert said.startswith("4 of 7 spans are in groups without a score to fit a quantile on")


def test_a_scheme_without_groups_reads_and_records_what_it_did_before():
    plain = placed("length >= q(0.7)")
    assert {"corpus", "groups-0"} <= set(BY_SOURCE.thresholds.inputs) and "corpus" in BY_SOURCE.inputs
    assert not {"corpus", "groups-0"} & set(plain.thresholds.inputs) and "corpus" not in plain.inputs
    assert plain.thresholds.settings() == {"quantiles": [["length", 0.7]]}
    assert BY_SOURCE.thresholds.settings() == {"quantiles": [["length", 0.1], ["length", 0.7, ["source"]]]}


def test_thresholds_as_they_are_recorded():
    """Of every group its value, n and ties; none of a group without scores, which is null in JSON and NaN in rules."""
    row = {"axis": "length", "rank": 1, "ties": 2}
    table = pa.Table.from_pylist(
        [
            row | {"quantile": 0.1, "value": 2.0, "n": 9, "group": []},
            row | {"quantile": 0.7, "value": 5.0, "n": 7, "group": [("source", "wiki")]},
            row | {"quantile": 0.7, "value": None, "n": 0, "group": [("source", None)]},
        ],
        schema=BY_SOURCE.thresholds._schema("thresholds"),
    )
    values = threshold_values(table)
    assert values[Quantile("length", 0.1)] == {(): 2.0}
    assert values[Quantile("length", 0.7, ("source",))].keys() == {("wiki",), (None,)}
    ((name, said),) = meanings(BY_SOURCE, table)
    assert (name, said["threshold"]) == (
        "long",
        [
            {"axis": "length", "q": 0.1, "value": 2.0, "n": 9, "ties": 2},
            {"axis": "length", "q": 0.7, "group": {"source": "wiki"}, "value": 5.0, "n": 7, "ties": 2},
            {"axis": "length", "q": 0.7, "group": {"source": None}, "value": None, "n": 0, "ties": 2},
        ],
    )


def test_an_axis_that_no_scorer_measures_is_named_with_its_line():
    scores = score(Split(Corpus("corpus")), scorers=[PythonScorer(function=length, axes=("length",), version=1)])
    for rule, name in (("lenght > 1", "lenght"), ("length > q(lengths, 0.7)", "lengths")):
        scheme = parse_scheme(f'[[family]]\nname = "f"\ntags = {{ long = "{rule}" }}', "x.toml")
        with pytest.raises(ConfigError) as caught:
            Thresholds(scores, scheme)
        assert caught.value.message.startswith(
            f"x.toml, line 3: the rule of tag 'long' reads the axis {name!r}, which no"
        )
        assert str(caught.value.hint).startswith("Did you mean 'length'? Scored axes: length.")
