import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from annotate.amounts import duration, size
from annotate.cli.colours import BARS, panel, span_table, tag_colours, tagged_text
from annotate.cli.terminal import visible
from annotate.reports.documents import ScoredDocument

NAMES = ("nice", "firm")


@st.composite
def tagged(draw):
    """An untagged text, and placements in it."""
    text = draw(st.text(max_size=40))
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    kinds = st.sampled_from([("open", "nice"), ("open", "firm"), ("escape", "nice")])
    return text, [dict(zip(("kind", "tag"), draw(kinds), strict=True), offset=at) for at in places]


@given(tagged())
def test_colours_leave_text_and_tags_as_they_are(example):
    text, placements = example
    pieces, at = [], 0
    for placement in placements:
        pieces += [text[at : placement["offset"]], f"<{placement['tag']}>" if placement["kind"] == "open" else "\\"]
        at = placement["offset"]
    whole = "".join([*pieces, text[at:]])
    shown = tagged_text(whole, placements, {"nice": "green", "firm": "cyan"})
    assert shown.plain == visible(whole)
    marked = [shown.plain[span.start : span.end] for span in shown.spans if "reverse" in str(span.style)]
    assert marked == pieces[1::2]


@given(st.text())
def test_visible_text_has_no_control_but_tabs_and_line_breaks(text):
    shown = visible(text)
    assert len(shown) == len(text)
    assert not {c for c in shown if (ord(c) < 32 or 127 <= ord(c) < 160)} - {"\n", "\t"}
    assert all(a == b for a, b in zip(shown, text, strict=True) if a.isprintable() and b.isprintable())


def test_text_after_tags_at_one_place_has_the_colour_of_the_first():
    placements = [{"kind": "open", "tag": tag, "offset": 2} for tag in NAMES]
    shown = tagged_text("ab<nice><firm>cd", placements, {"nice": "green", "firm": "cyan"})
    styles = {shown.plain[span.start : span.end]: str(span.style) for span in shown.spans}
    assert styles == {"ab": "dim", "<nice>": "bold reverse green", "<firm>": "bold reverse cyan", "cd": "green"}


def test_a_tag_has_the_colour_of_its_axis():
    axes = ("tone", "niceness")
    assert tag_colours({"nice": ("niceness",), "firm": ("tone",)}, axes) == {"nice": "cyan", "firm": "green"}
    assert tag_colours({"nice": ("niceness",), "nasty": ("niceness",)}, axes) == {"nice": "green", "nasty": "cyan"}
    assert tag_colours({"nice": ("niceness",), "any": ()}, axes) == {"nice": "green", "any": "cyan"}


def printed(renderable, width=100):
    out = Console(width=width, markup=False, highlight=False, record=True, file=io.StringIO())
    out.print(renderable)
    return out.export_text()


def test_bars_say_where_a_score_lies_and_missing_scores_are_said():
    sample = {"niceness": np.arange(800, dtype=np.float32)}
    scores = [-5.0, 50.0, 150.0, 799.0, 9999.0, None]
    document = ScoredDocument(
        id="d", place="s:0", spans=["a"] * 5 + ["\n"], scores={"niceness": scores}, tags=[["nice"]] + [[]] * 5
    )
    lines = printed(span_table(document, {"niceness": "green"}, {"nice": "green"}, sample, None)).splitlines()[1:]
    assert [line.split()[2] for line in lines[:5]] == [BARS[0], BARS[0], BARS[1], BARS[7], BARS[7]]
    assert "no score" in lines[5] and "<nice>a" in lines[0] and "<nice>" not in lines[1]
    same = {"niceness": np.full(9, 1.5, np.float32)}
    one = ScoredDocument(id="d", place="s:0", spans=["a"], scores={"niceness": [1.5]}, tags=[[]])
    assert BARS[4] in printed(span_table(one, {}, {}, same, None))
    assert not set(BARS) & set(printed(span_table(one, {}, {}, {}, None)))


def test_only_marks_and_blank_spans_are_dim():
    document = ScoredDocument(id="d", place="s:0", spans=["one\ntwo", " \n"], scores={}, tags=[["nice"], []])
    out = Console(force_terminal=True, width=40, file=io.StringIO(), color_system="standard", legacy_windows=False)
    out.print(span_table(document, {}, {"nice": "green"}, {}, None))
    [first, second] = out.file.getvalue().splitlines()
    assert "one\x1b[2m↵\x1b[0mtwo" in first and "\x1b[1;32m<nice>\x1b[0m" in first
    assert "\x1b[2m ↵\x1b[0m" in second or "\x1b[2m \x1b[0m\x1b[2m↵\x1b[0m" in second


def test_no_word_of_a_long_line_is_lost_in_a_frame():
    words = " ".join(f"word{i}" for i in range(200))
    assert all(f"word{i}" in printed(panel(Text(words), "d", None)) for i in range(200))
    cut = printed(panel(Text(words), "d", 100))
    assert f"{len(words) - 100:,} more characters" in cut and "word199" not in cut


def test_sizes_and_times():
    assert [size(n) for n in (None, 0, 999, 1000, 1_234_567, 5 * 10**15)] == [
        "-", "0 B", "999 B", "1.0 kB", "1.2 MB", "5000.0 TB",
    ]  # fmt: skip
    assert [duration(s) for s in (None, 0.04, 59.9, 60, 3599, 7500)] == [
        "-", "0.0 s", "59.9 s", "1 min 0 s", "59 min 59 s", "2 h 5 min",
    ]  # fmt: skip
