"""A layout is an entry of one table: those that this file adds are placed, rendered, explained and packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from token_families import encoder

from annotate.cli.app import app, guarded
from annotate.errors import ConfigError
from annotate.tags.in_force import in_force, span_ends
from annotate.tags.layouts import LAYOUTS, NONE, Int64, Layout, LayoutName, States
from annotate.tags.placing import place
from annotate.tags.rendering import render, strip
from annotate.tags.scheme import TagScheme
from annotate.tags.states import Measured
from annotate.tags.vocabulary import Family, Tag
from annotate.tokens import TagVocabulary, insert, pack
from annotate.tokens.kinds import OPEN, REPEATED

DOCUMENT = ("One is here. ", "Two came. ", "Three did not. ", "Four is the last of them.")
SCORES = [1, 1, 0, 1]


def first_of_run(state: States, row: Int64) -> States:
    """The tag of each span whose neighbour before has not the same; never a closing tag."""
    same = np.append(False, (state[1:] == state[:-1]) & (row[1:] == row[:-1]))[: len(state)]
    return np.where(same, NONE, state).astype(np.int16)


def own(state: States, row: Int64) -> States:
    return state


@pytest.fixture(autouse=True)
def layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three layouts that the package does not have."""
    where = "before the first of several spans that have it"
    marked = Layout(
        words="after its span, and before {percent:.0f} % of its words",
        after=own,
        inside=lambda drawn, rate: drawn < rate,
    )
    monkeypatch.setitem(LAYOUTS, "run", Layout(words=where, before=first_of_run, in_force="change"))
    monkeypatch.setitem(LAYOUTS, "first", Layout(words=where, before=first_of_run, in_force="span"))
    monkeypatch.setitem(LAYOUTS, "marked", marked)


@dataclass(frozen=True)
class Placed:
    scheme: TagScheme
    spans: pa.Table
    text: str
    placements: pa.Table


def placed(layout: Any, rate: float = 0.0) -> Placed:
    ends = np.cumsum([len(span) for span in DOCUMENT])
    starts = ends - [len(span) for span in DOCUMENT]
    spans = pa.table(
        {"row": [0] * 4, "span": range(4), "start": starts, "end": ends, "byte_start": starts, "byte_end": ends}
    )
    scheme = TagScheme(tags=(Tag(name="a", rule="x > 0"),), families=(Family(name="a", layout=layout, rate=rate),))
    measured = Measured(
        spans=spans, scores={"x": np.array(SCORES, np.float32)}, thresholds={}, curves={}, columns={}, shard="s"
    )
    return Placed(
        scheme, spans, "".join(DOCUMENT), place(measured, scheme, texts=pa.array(DOCUMENT, pa.large_string()))
    )


@pytest.mark.parametrize(
    ("layout", "rate", "expected"),
    [
        ("run", 0, "<a>One is here. Two came. Three did not. <a>Four is the last of them."),
        ("marked", 0, "One is here. <a>Two came. <a>Three did not. Four is the last of them.<a>"),
        ("marked", 1, "One <a>is <a>here. <a>Two <a>came. <a>Three did not. Four <a>is <a>the <a>last <a>of "),
    ],
)
def test_it_is_placed_and_rendered(layout: str, rate: float, expected: str) -> None:
    made = placed(layout, rate)
    texts = pa.array([made.text], pa.large_string())
    tagged = render(texts, made.placements)
    assert tagged[0].as_py().startswith(expected)
    assert strip(tagged, made.placements).equals(texts)


@pytest.mark.parametrize(("layout", "repeated"), [("run", [1, 1, 1]), ("first", [0, 0, 1]), ("marked", [0, 0, 0])])
def test_heads_of_windows_have_it_as_long_as_it_is_in_force(layout: str, repeated: list[int]) -> None:
    """The text is cut inside span 1, which has the tag of span 0; inside span 2, which has none; and inside span 3."""
    made = placed(layout)
    known = in_force([made.scheme])
    ends = span_ends(made.placements, known.of_spans.get(0, []), made.spans, made.spans["byte_end"])
    placements = made.placements.append_column("byte_end", ends)
    vocabulary = TagVocabulary(
        names=tuple(known.names), open_ids=(9000,), close_ids=(-1,), families=tuple(known.families.values())
    )
    texts = pa.array([made.text], pa.large_string())
    tagged = insert(encoder("byte-level").encode(texts), texts, placements, vocabulary, spans=made.spans)
    inside = [int(np.flatnonzero(tagged.spans == span)[2]) for span in (1, 2, 3)]
    heads = []
    for cut in inside:
        packed = pack(tagged, cut, pad_id=0, way="concatenate", tolerance=0)
        head = packed.kinds[packed.pieces.tolist().index(1)]
        assert (packed.kinds[0, 0] == OPEN) == (layout != "marked")
        heads.append(int((head == REPEATED).sum()))
    assert heads == repeated


def test_scheme_check_says_where_it_stands(tmp_path, capsys) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[[family]]\nname = "x"\nlayout = "marked"\nrate = 0.5\ntags = { good = "x >= 0.5" }\n')
    assert guarded(app, ["scheme", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "<good> stands after its span, and before 50 % of its words if `x >= 0.5`." in out
    assert "Rain" in out and "<good>" in out.partition("On sample text")[2]


def test_a_layout_that_is_not_there_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(ConfigError, match=r'must be "prefix", .*"repeat", "run", "first", "marked", got .round'):
        Family(name="x", layout="round")  # type: ignore[arg-type]


def test_type_checkers_know_the_layouts_that_ship(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert get_args(LayoutName) == tuple(LAYOUTS)


def test_a_layout_does_not_stand_on_both_sides() -> None:
    """Readers of tokens tell a tag of the text after it from one of the text before it by its name alone."""
    for wrong in (
        {"before": own},
        {"after": own, "in_force": "span"},
        {"before": own, "after": own, "in_force": "span"},
    ):
        with pytest.raises(ValueError, match="a tag stands before its span"):
            Layout(words="", **wrong)
