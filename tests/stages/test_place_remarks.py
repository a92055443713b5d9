"""A tag that is nowhere or everywhere is said loudly."""

import pytest

from annotate import Calibrate, Corpus, Place, PythonScorer, Split, Tag, TagScheme, Thresholds, score
from annotate.storage.manifests import Manifest


def length(table):
    """Never called here."""
    raise AssertionError


@pytest.mark.parametrize(
    ("tagged", "said"),
    [
        (0, ["<long> is on no span: its rule is `length > 9`"]),
        (7, ["<long> is on every span: its rule is `length > 9`"]),
        (3, []),
    ],
)
def test_a_tag_on_no_span_or_on_all_is_worth_a_remark(tagged, said):
    scores = score(Split(Corpus("corpus")), scorers=[PythonScorer(function=length, axes=("length",), version=1)])
    scheme = TagScheme(tags=(Tag(name="long", rule="length > 9"),))
    place = Place(scores, None, Thresholds(scores, None, Calibrate(scores), scheme))
    counts = {"spans": 7, "<long>": tagged}
    assert place.remarks(Manifest("placements", "", "", {}, {}, (), 1, tagged, 0, counts)) == said
