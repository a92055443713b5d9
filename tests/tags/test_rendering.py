import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.errors import ConfigError, InputError
from annotate.tags import DEFAULT_SCHEME
from annotate.tags.forgery import escape_placements, spells_a_tag
from annotate.tags.placements import PLACEMENTS, merge, placements_of
from annotate.tags.rendering import render, spelled, strip

NAMES = [tag.name for tag in DEFAULT_SCHEME.tags]
SPELLINGS = {"open": "<{}>", "escape": "\\"}

alphabets = st.one_of(
    st.characters(exclude_categories=("Cs",)),
    st.sampled_from(["<nice>", "<", ">", "nice", "<correct>", "é", "好", "😀", "\0"]),
)
texts = st.lists(st.one_of(st.none(), st.lists(alphabets, max_size=12).map("".join)), max_size=6)


def placements_at(data):
    """Placements from (row, offset, byte_offset, tag, kind)."""
    parts = [
        placements_of(*(np.array([v], np.int64) for v in (row, offset, byte)), pa.array([tag]), kind)
        for row, offset, byte, tag, kind in data
    ]
    return merge([PLACEMENTS.empty_table(), *parts])


@st.composite
def tagged_documents(draw):
    documents = draw(texts)
    data = []
    for row, text in enumerate(documents):
        for offset in draw(st.lists(st.integers(0, len(text)), max_size=5)) if text is not None else []:
            kind = draw(st.sampled_from(["open", "open", "escape"]))
            data.append((row, offset, len(text[:offset].encode()), draw(st.sampled_from(NAMES)), kind))
    return documents, placements_at(data)


def by_loop(documents, placements):
    out = list(documents)
    for p in reversed(placements.to_pylist()):
        text = out[p["row"]]
        out[p["row"]] = text[: p["offset"]] + SPELLINGS[p["kind"]].format(p["tag"]) + text[p["offset"] :]
    return out


@given(tagged_documents(), st.sampled_from([pa.string(), pa.large_string()]), st.integers(0, 3), st.booleans())
def test_render_agrees_with_a_loop_and_strip_inverts_it(case, kind, ahead, chunked):
    documents, placements = case
    array = pa.array(["é<nice>"] * ahead + documents + ["behind"], kind).slice(ahead, len(documents))
    if chunked:
        array = pa.chunked_array([array.slice(0, 2), array.slice(2)])
    tagged = render(array, placements)
    tagged.validate(full=True)
    assert tagged.type == pa.large_string()
    assert tagged.to_pylist() == by_loop(documents, placements)
    for back in (strip(tagged, placements), strip(pa.chunked_array([tagged]), placements)):
        back.validate(full=True)
        assert back.to_pylist() == documents
    outer = pa.concat_arrays([pa.array(["x"], pa.large_string()), tagged]).slice(1)
    assert strip(outer, placements).to_pylist() == documents


def test_text_may_spell_what_is_inserted():
    documents = pa.array(["<nice><nice>a<nice>"])
    placements = placements_at([(0, 0, 0, "nice", "open"), (0, 6, 6, "nice", "open"), (0, 19, 19, "nice", "open")])
    tagged = render(documents, placements)
    assert tagged.to_pylist() == ["<nice><nice><nice><nice>a<nice><nice>"]
    assert strip(tagged, placements).to_pylist() == documents.to_pylist()


def test_placements_as_plain_strings_or_in_chunks():
    documents = pa.array(["one two", "three"])
    placements = placements_at([(0, 4, 4, "nice", "open"), (0, 4, 4, "correct", "open"), (1, 0, 0, "correct", "open")])
    plain = pa.table(
        {n: placements[n].cast(pa.string()) if n in ("tag", "kind") else placements[n] for n in placements.column_names}
    )
    later = pa.concat_tables(
        [placements.slice(0, 1), placements_at([(0, 4, 4, "correct", "open")]), placements.slice(2)]
    )
    for same in (placements, plain, later):
        assert render(documents, same).to_pylist() == ["one <nice><correct>two", "<correct>three"]
    assert spelled(placements).to_pylist() == [b"<nice>", b"<correct>", b"<correct>"]


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_any_string_type(kind):
    documents = pa.array(["<nice> two", None, "<nice> two", ""]).cast(kind)
    placements = placements_at([(0, 7, 7, "correct", "open"), (3, 0, 0, "nice", "open")])
    assert render(documents, placements).to_pylist() == ["<nice> <correct>two", None, "<nice> two", "<nice>"]
    assert spells_a_tag(documents, DEFAULT_SCHEME.spelled).tolist() == [True, False, True, False]
    assert escape_placements(documents, DEFAULT_SCHEME.spelled)["row"].to_pylist() == [0, 2]


def test_text_is_not_copied_before_it_is_joined():
    documents = pa.array(["a" * 1_000_000] * 4, pa.large_string())
    placements = placements_at([(2, 5, 5, "nice", "open")])
    before = pa.total_allocated_bytes()
    tagged = render(documents, placements)
    assert pa.total_allocated_bytes() - before < 1.1 * 4_000_000
    assert len(tagged[2].as_py()) == 1_000_006


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((0, 1, 1, "nice", "open"), "byte 1 of row 0 is inside a character"),
        ((0, 3, 3, "nice", "open"), "byte 3 of row 0 is outside of its document"),
        ((0, -1, -1, "nice", "open"), "byte -1 of row 0 is outside of its document"),
        ((1, 0, 0, "nice", "open"), "a placement is in row 1, whose document is null"),
        ((3, 0, 0, "nice", "open"), "name the rows 3 to 3, but there are 3 documents"),
        ((-1, 0, 0, "nice", "open"), "name the rows -1 to -1, but there are 3 documents"),
    ],
)
def test_placements_that_do_not_fit(data, message):
    with pytest.raises(InputError, match=message):
        render(pa.array(["é", None, "abc"]), placements_at([data]))


def test_unsorted_placements_and_unknown_kinds():
    placements = placements_at([(0, 0, 0, "nice", "open"), (0, 2, 2, "nice", "open"), (1, 0, 0, "nice", "open")])
    for order in ([1, 0, 2], [0, 2, 1]):
        with pytest.raises(InputError, match="must be sorted"):
            render(pa.array(["abc", "abc"]), placements.take(order))
    strange = placements.set_column(5, "kind", pa.array(["shut"] * 3))
    with pytest.raises(ConfigError, match="must be 'open', 'close', 'mark' or 'escape', got 'shut'"):
        render(pa.array(["abc", "abc"]), strange)


def test_strip_checks_what_it_takes_out():
    placements = placements_at([(0, 1, 1, "nice", "open"), (1, 0, 0, "nice", "open"), (1, 2, 2, "correct", "open")])
    tagged = render(pa.array(["abc", "abc"]), placements)
    assert tagged.to_pylist() == ["a<nice>bc", "<nice>ab<correct>c"]
    for row, text in [(0, "a<mice>bc"), (1, "<nice>ab<corrupt>"), (1, "<nice>aab<correct>"), (0, "a<nic")]:
        other = tagged.to_pylist()
        other[row] = text
        with pytest.raises(InputError, match=rf"row {row}\b"):
            strip(pa.array(other), placements)
    with pytest.raises(InputError, match=r"row 0 should hold b'<nice>' .* byte 1 .* holds b'<mice>'"):
        strip(pa.array(["a<mice>bc", "<nice>ab<correct>c"]), placements)


@given(texts, st.booleans())
def test_escaped_text_spells_no_tag(documents, large):
    array = pa.array(documents, pa.large_string() if large else pa.string())
    forged = [text is not None and any(f"<{name}>" in text for name in NAMES) for text in documents]
    assert spells_a_tag(array, DEFAULT_SCHEME.spelled).tolist() == forged
    placements = escape_placements(array, DEFAULT_SCHEME.spelled)
    assert placements.schema.equals(PLACEMENTS)
    assert placements.num_rows == sum(text.count(f"<{name}>") for text in documents if text for name in NAMES)
    escaped = render(array, placements)
    assert escaped.to_pylist() == [
        text and text.replace("<nice>", "<\\nice>").replace("<correct>", "<\\correct>") for text in documents
    ]
    assert not spells_a_tag(escaped, DEFAULT_SCHEME.spelled).any()
    assert strip(escaped, placements).to_pylist() == documents


@given(tagged_documents())
def test_with_escapes_a_tag_is_spelled_only_where_one_was_placed(case):
    documents, placements = case
    opened = merge([placements.filter(pa.compute.equal(placements["kind"].cast(pa.string()), "open"))])
    array = pa.array(documents, pa.string())
    both = merge([opened, escape_placements(array, DEFAULT_SCHEME.spelled)])
    tagged = render(array, both)
    spelled_in_text = sum(text.count(f"<{name}>") for text in tagged.to_pylist() if text for name in NAMES)
    assert spelled_in_text == opened.num_rows
    assert strip(tagged, both).to_pylist() == documents


def test_a_spelling_across_two_documents_is_none():
    array = pa.chunked_array([["<nice>é<ni", "ce><nice>"], ["", None, "é<nice>"]])
    assert spells_a_tag(array, DEFAULT_SCHEME.spelled).tolist() == [True, True, False, False, True]
    placements = escape_placements(array, DEFAULT_SCHEME.spelled)
    assert [(p["row"], p["offset"], p["byte_offset"]) for p in placements.to_pylist()] == [
        (0, 1, 1),
        (1, 4, 4),
        (4, 2, 3),
    ]
