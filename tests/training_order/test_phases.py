"""Phases, mixes and the schedule: budgets met to a bin, rates within binomial bounds, errors that name the fix."""

from __future__ import annotations

import itertools
import re

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate import Mix, Phase, Schedule, preset
from annotate.errors import ConfigError
from annotate.storage.contracts import contract
from annotate.tags.scheme_file import parse_scheme
from annotate.training_order.phases import check_phases
from annotate.training_order.schedule import BINS, SCHEDULE, make_schedule, tag_rates, times

SOURCES = ("books", "code", "web")


def documents(n: int, seed: int) -> pl.DataFrame:
    """Places, sources and sizes of documents."""
    rng = np.random.default_rng(seed)
    source = rng.choice(SOURCES, n, p=[0.1, 0.3, 0.6])
    return pl.DataFrame({"place": rng.random(n), "source": source, "size": rng.integers(1, 900, n)})


def counted(frame: pl.DataFrame, *, mixed: bool) -> pa.Table:
    source = pl.col("source") if mixed else pl.lit(None, pl.String)
    grouped = (
        frame.with_columns(source=source, bin=(pl.col("place") * BINS).cast(pl.Int32))
        .group_by("source", "bin")
        .agg(documents=pl.len().cast(pl.Int64), size=pl.col("size").sum(), bytes=pl.col("size").sum() * 4)
    )
    return grouped.to_arrow().cast(contract("document-sizes").schema)


phases = st.lists(st.floats(0.01, 0.3), min_size=0, max_size=3).map(
    lambda shares: (*(Phase(name=f"p{i}", share=share) for i, share in enumerate(shares)), Phase(name="rest"))
)
weights = st.dictionaries(st.sampled_from(SOURCES), st.floats(0.05, 1), min_size=3)


@given(st.integers(30, 800), st.integers(0, 9), phases)
def test_without_a_mix_every_document_is_used_once_and_budgets_are_met(n: int, seed: int, wanted) -> None:
    frame = documents(n, seed)
    table = make_schedule(counted(frame, mixed=False), wanted, None)
    due = times(table, frame["place"].to_numpy(), None)
    assert sorted(due.document.tolist()) == list(range(n))
    assert (due.time >= 0).all() and (due.time < 1).all()
    order = np.lexsort((due.time, due.phase))
    assert (np.diff(frame["place"].to_numpy()[due.document[order]]) >= 0).all()  # phases are intervals of the hash
    sizes = np.bincount(due.phase, frame["size"].to_numpy()[due.document], minlength=len(wanted))
    assert sizes.tolist() == table["size"].to_pylist()
    largest = counted(frame, mixed=False)["size"].to_numpy().max()
    ends = np.cumsum(sizes) - np.cumsum(table["budget"].to_numpy())
    assert (np.abs(ends) <= largest / 2 + len(wanted)).all()


@given(st.integers(200, 800), st.integers(0, 9), phases, weights, st.sampled_from(["first_exhausted", "all_exhausted"]))
def test_a_mix_has_its_weights_and_a_document_one_phase(n: int, seed: int, wanted, mixed, exhaustion) -> None:
    frame = documents(n, seed)
    table = make_schedule(counted(frame, mixed=True), wanted, Mix(column="s", weights=mixed, exhaustion=exhaustion))
    due = times(table, frame["place"].to_numpy(), frame["source"].to_arrow())
    used = frame[due.document].with_columns(phase=pl.Series(due.phase), document=pl.Series(due.document))
    assert used.group_by("document").agg(pl.col("phase").n_unique())["phase"].max() == 1
    found = used.group_by("phase", "source").agg(
        pl.col("size").sum(), pl.col("document").n_unique().alias("documents"), pl.len().alias("all")
    )
    expected = pl.DataFrame(table).with_columns(
        phase=pl.col("phase").replace_strict({p.name: i for i, p in enumerate(wanted)}, return_dtype=pl.Int32)
    )
    both = expected.join(found, on=["phase", "source"], how="left").fill_null(0)
    assert both["size"].equals(both["size_right"]) and both["documents"].equals(both["documents_right"])
    assert (both["documents"] + both["copies"]).equals(both["all"].cast(pl.Int64), null_equal=True)
    # Weights hold to within a bin of each phase's end and cut, a bin being a document or two here.
    size = dict(used.group_by("source").agg(pl.col("size").sum()).iter_rows())
    total, repeats = sum(size.values()), dict(expected.select("source", "repeats").iter_rows())
    for source, weight in mixed.items():
        aim = weight / sum(mixed.values()) * total
        assert abs(size.get(source, 0) - aim) <= 2 * 900 * (1 + len(wanted)) * (1 + max(repeats.values()))
    limit = 1 if exhaustion == "first_exhausted" else max(repeats.values())
    assert used.group_by("document").len()["len"].max() <= np.ceil(limit)
    if exhaustion == "all_exhausted":
        assert used["document"].n_unique() == n


def test_rates_and_mixes_of_a_hundred_thousand_documents() -> None:
    """Within six standard deviations of the binomial, which one draw in a billion is not."""
    n = 100_000
    wanted = (
        Phase(name="plain", share=0.2, tag_rate=0.0),
        Phase(name="ramp", share=0.3, tag_rate=(0.2, 0.9)),
        Phase(name="tagged"),
        Phase(name="half", share=0.1, tag_rate=0.5),
    )
    mix = Mix(column="s", weights={"books": 2, "code": 1, "web": 1}, exhaustion="all_exhausted")
    schedule = Schedule(mix=mix)
    row = np.arange(n)
    places = schedule.places("shard", row)
    frame = documents(n, 0).with_columns(place=places)
    table = make_schedule(counted(frame, mixed=True), wanted, mix)
    rates = tag_rates(table, places)
    kept = ~schedule.untagged("shard", row, rates)
    due = times(table, places, frame["source"].to_arrow())
    phase = np.empty(n, np.int64)
    phase[due.document] = due.phase
    assert not kept[phase == 0].any() and kept[phase == 2].all()
    within = np.abs(kept[phase == 3].mean() - 0.5) <= 6 * np.sqrt(0.25 / (phase == 3).sum())
    assert within
    low, high = (table[name][3].as_py() / BINS for name in ("low", "high"))
    at = (places[phase == 1] - low) / (high - low)
    for tenth in range(10):
        here = kept[phase == 1][(at * 10).astype(int) == tenth]
        rate = 0.2 + 0.7 * (tenth + 0.5) / 10
        assert abs(here.mean() - rate) <= 6 * np.sqrt(0.25 / len(here))
    sizes = frame["size"].to_numpy()[due.document]
    names = frame["source"].to_numpy()[due.document]
    for k in range(4):  # also at any time of training
        here = (due.phase == 2) & ((due.time * 4).astype(int) == k)
        share = sizes[here][names[here] == "books"].sum() / sizes[here].sum()
        assert abs(share - 0.5) < 0.02
    sums = np.bincount(due.phase, sizes)
    assert np.allclose(sums / sums.sum(), [0.2, 0.3, 0.4, 0.1], atol=2e-4)


def test_the_contract_and_meco() -> None:
    assert SCHEDULE.equals(pa.schema([(f.name, f.type) for f in contract("schedule").schema]))
    meco = preset("meco").phases
    assert [(phase.share, phase.rates) for phase in meco] == [(0.9, (1.0, 1.0)), (0.1, (0.0, 0.0))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a b"}, "must be of letters, digits"),
        ({"name": "a", "tokens": 10, "share": 0.5}, "tokens or a share, got both"),
        ({"name": "a", "tokens": 0}, "must be a whole number from 1 on, got 0"),
        ({"name": "a", "tokens": 1.5}, "must be a whole number from 1 on, got 1.5"),
        ({"name": "a", "share": 1.5}, r"must lie in \(0, 1\], got 1.5"),
        ({"name": "a", "tag_rate": 1.2}, r"must lie in \[0, 1\], or be two such numbers, got 1.2"),
        ({"name": "a", "tag_rate": [0.1, 0.2, 0.3]}, "or be two such numbers"),
        ({"name": "a", "tag_rate": None}, "or be two such numbers, got None"),
    ],
)
def test_bad_phases(arguments, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Phase(**arguments)


def test_phases_that_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="different names, got 'a' twice"):
        check_phases([Phase(name="a", share=0.1), Phase(name="a")])
    with pytest.raises(ConfigError, match="one phase at most can take what the others leave, got 'a' and 'b'"):
        check_phases([Phase(name="a"), Phase(name="b")])
    with pytest.raises(ConfigError, match=r"sum to 1.1, which is more than there is"):
        check_phases([Phase(name="a", share=0.5), Phase(name="b", share=0.6)])
    with pytest.raises(ConfigError, match="leaves nothing for the others"):
        check_phases([Phase(name="a", share=1.0), Phase(name="b", tokens=7)])


def test_a_scheme_file_names_the_line_of_a_bad_phase() -> None:
    good = '[[family]]\nname = "f"\ntags = { a = "x > 0" }\n\n'
    cases = {
        '[[phase]]\nname = "p"\nshare = 2.0\n': r"line 5: the share of phase 'p' must lie in \(0, 1\], got 2.0",
        "[[phase]]\nshare = 0.5\n": "line 5: a phase needs a name",
        '[[phase]]\nname = "p"\ntag_rate = "all"\n': "line 7: tag_rate must be a number or a list, got 'all'",
        '[[phase]]\nname = "p"\nrate = 0.5\n': "line 7: a phase has no 'rate'",
        '[[phase]]\nname = "p"\n\n[[phase]]\nname = "q"\n': "line 8: one phase at most",
    }
    for text, message in cases.items():
        with pytest.raises(ConfigError, match=message):
            parse_scheme(good + text, "scheme.toml")
    scheme = parse_scheme(good + '[[phase]]\nname = "p"\ntokens = 1000\ntag_rate = [0, 1]\n', "scheme.toml")
    assert scheme.phases == (Phase(name="p", tokens=1000, tag_rate=(0, 1)),)


def test_without_any_text_phases_are_empty() -> None:
    """Bad rows never stop a run, also where there is nothing else."""
    none = counted(documents(100, 1).clear(), mixed=False)
    blank = counted(documents(100, 1).with_columns(size=pl.lit(0)), mixed=False)  # no tokens, but documents
    for counts, wanted in itertools.product((none, blank), ((), (Phase(name="a", share=0.5), Phase(name="b")))):
        table = make_schedule(counts, wanted, None)
        assert sum(table["documents"].to_pylist()) == sum(counts["documents"].to_pylist())
        assert sum(table["budget"].to_pylist()) == 0
    with pytest.raises(ConfigError, match="there are 0 tokens to train on"):
        make_schedule(none, (Phase(name="a", tokens=10), Phase(name="b")), None)


def test_impossible_budgets_and_mixes() -> None:
    frame = documents(100, 1)
    total = frame["size"].sum()
    with pytest.raises(ConfigError, match=re.escape(f"there are {total:,} tokens to train on")) as caught:
        make_schedule(counted(frame, mixed=False), (Phase(name="a", tokens=total + 1),), None)
    assert "Lower a budget" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="ask for more than there is"):
        make_schedule(counted(frame, mixed=False), (Phase(name="a", tokens=total), Phase(name="b")), None)
    with pytest.raises(ConfigError, match="the source 'news' has the weight 1, but there is no text of it"):
        make_schedule(counted(frame, mixed=True), (), Mix(column="s", weights={"news": 1, **dict.fromkeys(SOURCES, 1)}))
    mix = Mix(column="s", weights={"web": 1})
    with pytest.raises(ConfigError, match="no weight for the source 'code', of which there are 1 documents here"):
        mix.named(pa.array(["web", "code"]))
    others = Mix(column="s", weights={"web": 1, "*": 2})
    assert others.named(pa.array(["web", "code", None])).to_pylist() == ["web", "*", "*"]
    with pytest.raises(ConfigError, match="2 documents have no value in the column 's'"):
        mix.named(pa.array(["web", None, None]))
    with pytest.raises(ConfigError, match="must be a number from 0 on, got -1"):
        Mix(column="s", weights={"web": -1})
    with pytest.raises(ConfigError, match=r"the source 'code' would come [0-9,]+ times, more than 1,000"):
        rare = Mix(column="s", weights={"web": 1, "code": 1, "books": 1e-12}, exhaustion="all_exhausted")
        make_schedule(counted(frame, mixed=True), (), rare)
    with pytest.raises(ConfigError, match="must be named by a text, got 1"):
        Mix(column="s", weights={"web": 1, 1: 2})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="one weight, got two for 'web'"):
        Mix(column="s", weights=[("web", 1), ("code", 1), ("web", 2)])
    with pytest.raises(ConfigError, match=f"for the source '{'x' * 80}', of which"):
        mix.named(pa.array(["x" * 100_000]))
    with pytest.raises(ConfigError, match="needs a weight above 0"):
        Mix(column="s", weights={"web": 0})
    with pytest.raises(ConfigError, match="first_exhausted"):
        Mix(column="s", weights={"web": 1}, exhaustion="never")  # type: ignore[arg-type]
