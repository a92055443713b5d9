"""Quantiles of groups, against NumPy's; tallies that merge in any order."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.errors import ConfigError
from annotate.tags import group_quantiles as module
from annotate.tags.conditions import Quantile
from annotate.tags.group_quantiles import (
    GroupBy,
    Tally,
    check_groups,
    exact_quantiles,
    fit_quantiles,
    quantile_bins,
    tally_bins,
    tally_values,
)
from annotate.tags.quantiles import image

NAN = math.nan
scores = st.one_of(st.floats(width=32), st.sampled_from([0.0, -0.0, 1.0, NAN]))
values = st.sampled_from(["a", "b", "null", "", None])
rows = st.lists(st.tuples(scores, values, values), min_size=1, max_size=120)
shares = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]))


def columns(*some: list[str | None]) -> list[pa.Array]:
    return [pa.array(each, pa.string()) for each in some]


@given(rows, shares)
def test_each_group_has_its_own_exact_quantile(rows: list, q: float) -> None:
    x, one, two = (list(each) for each in zip(*rows, strict=True))
    x = np.array(x, np.float32)
    quantile = Quantile("x", q, by=("one", "two"))
    names = dict(zip(("one", "two"), columns(one, two), strict=True))
    fitted = fit_quantiles([quantile, Quantile("x", q)], {"x": x}, names)
    for key in set(zip(one, two, strict=True)):
        here = np.array([pair == key for pair in zip(one, two, strict=True)])
        known = x[here & ~np.isnan(x)]
        wanted = np.quantile(known, q, method="inverted_cdf") if len(known) else NAN
        assert np.array_equal(fitted[quantile][here], np.full(here.sum(), wanted, np.float32), equal_nan=True)
    known = x[~np.isnan(x)]
    whole = np.quantile(known, q, method="inverted_cdf") if len(known) else NAN
    assert np.array_equal(fitted[Quantile("x", q)], np.float32(whole), equal_nan=True)


@given(rows, st.lists(st.integers(0, 120), max_size=4), st.randoms(use_true_random=False))
def test_tallies_of_pieces_add_up(rows: list, cuts: list[int], random: object) -> None:
    x, one, _ = (list(each) for each in zip(*rows, strict=True))
    x, groups = np.array(x, np.float32), GroupBy.of(columns(one))
    whole = tally_bins(x, groups)
    order = np.arange(len(x))
    random.shuffle(order)
    pieces = np.split(order, sorted(min(cut, len(x)) for cut in cuts))
    parts = [tally_bins(x[some], GroupBy(numbers=groups.numbers[some], keys=groups.keys)) for some in pieces]
    of_group = [np.repeat(np.arange(len(groups.keys)), np.diff(part.starts)) for part in parts]
    keys, counts = (np.concatenate([getattr(part, name) for part in parts]) for name in ("keys", "counts"))
    merged = Tally.of(np.concatenate(of_group), keys, len(groups.keys), counts)
    for name in ("starts", "keys", "counts", "totals"):
        assert np.array_equal(getattr(merged, name), getattr(whole, name))


def test_null_is_a_group_and_no_text() -> None:
    groups = GroupBy.of(columns(["null", None, "", None], ["x", "x", "x", None]))
    assert set(groups.keys) == {("null", "x"), (None, "x"), ("", "x"), (None, None)}
    assert groups.spread({(None, "x"): 2.0}).tolist()[1] == 2.0
    assert np.isnan(groups.spread({(None, "x"): 2.0})[[0, 2, 3]]).all()


def test_several_quantiles_in_one_pass_and_what_is_written_of_them() -> None:
    x = np.array([3, 1, 2, 2, NAN, 7], np.float32)
    groups = GroupBy(numbers=np.array([0, 0, 0, 0, 1, 2]), keys=(("a",), ("b",), ("c",)))
    first = tally_bins(x, groups)
    bins = [quantile_bins(first, q) for q in (0.0, 0.5)]
    assert bins[1].tolist() == [int(image(np.array([2], np.float32))[0] >> 16), -1, bins[0][2]]
    second = tally_values(x, groups.numbers, bins, 3)
    lowest, middle = (exact_quantiles(first, q, second) for q in (0.0, 0.5))
    assert [each.value for each in lowest][::2] == [1, 7] and math.isnan(lowest[1].value)
    assert [(each.n, each.rank, each.below, each.ties) for each in middle] == [(4, 2, 1, 2), (0, 0, 0, 0), (1, 1, 0, 1)]
    with pytest.raises(ConfigError, match="by the first pass and 1 by the second"):
        exact_quantiles(first, 0.5, tally_values(x[[0, 1, 2]], groups.numbers[[0, 1, 2]], bins, 3))
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\]"):
        quantile_bins(first, 1.5)


def test_nothing_at_all() -> None:
    groups = GroupBy.of(columns([], []))
    assert groups.keys == () and len(groups.numbers) == 0
    assert len(groups.spread({})) == 0
    none = tally_bins(np.zeros(0, np.float32), groups)
    assert (len(none.totals), len(quantile_bins(none, 0.5)), exact_quantiles(none, 0.5, Tally.none())) == (0, 0, [])


def test_too_many_groups_name_the_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_GROUPS", 4)
    check_groups(("source",), [(str(i),) for i in range(4)])
    with pytest.raises(ConfigError) as caught:
        check_groups(("source", "url"), [("s", str(i)) for i in range(5)])
    assert "by source, url have at least 5 groups (1 of 'source', 5 of 'url'); at most 4" in caught.value.message
    assert "column of few values" in str(caught.value.hint)
