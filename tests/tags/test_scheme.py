import json
import pickle

import pytest

import annotate.tags
from annotate.errors import ConfigError
from annotate.tags import DEFAULT_SCHEME, Tag, TagScheme
from annotate.tags.conditions import Quantile


def test_default_scheme():
    assert [tag.spelling for tag in DEFAULT_SCHEME.tags] == ["<nice>", "<authoritative_tone>", "<correct>"]
    assert DEFAULT_SCHEME.axes == ("correctness", "niceness", "tone")
    assert DEFAULT_SCHEME.quantiles == tuple(Quantile(axis, 0.7) for axis in ("correctness", "niceness", "tone"))
    assert DEFAULT_SCHEME.curves == ()


def test_scheme_gathers_what_its_rules_use():
    scheme = TagScheme(tags=(Tag(name="a", rule="x >= q(y, 0.5)"), Tag(name="b", rule="p(z) > 0.5 or x < q(0.1)")))
    assert scheme.axes == ("x", "y", "z")
    assert scheme.quantiles == (Quantile("x", 0.1), Quantile("y", 0.5))
    assert scheme.curves == ("z",)


def test_identity_follows_rules_and_order():
    a, b = Tag(name="a", rule="x > 1"), Tag(name="b", rule="x > 2")
    schemes = [(a, b), (b, a), (a,), (a, Tag(name="b", rule="x > 3")), (a, Tag(name="c", rule="x > 2"))]
    identities = {json.dumps(TagScheme(tags=tags).identity()) for tags in schemes}
    assert len(identities) == len(schemes)
    assert TagScheme(tags=[a, b]).identity() == TagScheme(tags=(a, b)).identity()


def test_schemes_are_values_that_travel():
    assert pickle.loads(pickle.dumps(DEFAULT_SCHEME)) == DEFAULT_SCHEME
    assert hash(DEFAULT_SCHEME) == hash(TagScheme(tags=DEFAULT_SCHEME.tags, document_dropout=0.1))


@pytest.mark.parametrize(
    "name", ["", "very nice", "nice\n", "a\u00a0b", "<nice>", "a<b", "a\\b", "\x00", "\ud800", None, 3]
)
def test_bad_names(name):
    with pytest.raises(ConfigError, match="a tag's name must be"):
        Tag(name=name, rule="x > 1")


@pytest.mark.parametrize("name", ["nice", "/nice", "|x|", "good-2", "très", "好", "a.b*"])
def test_good_names(name):
    assert Tag(name=name, rule="x > 1").spelling == f"<{name}>"


def test_bad_rule_names_the_tag():
    with pytest.raises(ConfigError, match=r"(?s)tag 'nice': the rule can't be read.*\^"):
        Tag(name="nice", rule="x >")
    with pytest.raises(ConfigError, match="the rule of tag 'nice' must be a string, got 3"):
        Tag(name="nice", rule=3)


def test_names_are_unique_and_some_tag_is_there():
    with pytest.raises(ConfigError, match="different names, got a twice"):
        TagScheme(tags=(Tag(name="a", rule="x > 1"), Tag(name="a", rule="x > 2")))
    with pytest.raises(ConfigError, match="at least one tag"):
        TagScheme(tags=())


def test_public_names():
    assert all(hasattr(annotate.tags, name) for name in annotate.tags.__all__)
