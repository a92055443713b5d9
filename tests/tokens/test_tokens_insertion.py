"""Where tags stand among the tokens, and that the tokens of the text stay what they are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from token_families import FAMILIES, encoder, tagged
from token_reference import Placed, place_of, placed, placement_table, span_table

from annotate.errors import ConfigError, InputError
from annotate.tokens import TagVocabulary, TextTokenizer, insert
from annotate.tokens.boundaries import boundaries
from annotate.tokens.insertion import span_numbers, token_scores
from annotate.tokens.kinds import BEGIN, CLOSE, END, OPEN, TEXT


def ranges(encoded, row):
    own = slice(*encoded.documents[row : row + 2])
    return list(zip(encoded.starts[own].tolist(), encoded.ends[own].tolist(), strict=True))


@settings(deadline=None, max_examples=60)
@given(case=placed())
@pytest.mark.parametrize("name", FAMILIES)
def test_taking_tags_out_gives_the_tokens_of_the_untagged_document(name, case: Placed):
    texts = pa.array(case.texts)
    encoded = encoder(name).encode(texts)
    for begin, end in ((None, None), (1, None), (1, 2)):
        made = insert(encoded, texts, case.placements, tagged(name)[1], begin_id=begin, end_id=end)
        assert made.ids[made.kinds == TEXT].tolist() == encoded.ids.tolist()
        for row, text in enumerate(case.texts):
            own = slice(*made.documents[row : row + 2])
            kinds = made.kinds[own].tolist()
            assert (
                made.ids[own][made.kinds[own] == TEXT].tolist() == encoder(name).encode(pa.array([text])).ids.tolist()
            )
            there = TEXT in kinds
            assert kinds.count(BEGIN) == (kinds[:1] == [BEGIN]) == (there and begin is not None)
            assert kinds.count(END) == (kinds[-1:] == [END]) == (there and end is not None)


@settings(deadline=None, max_examples=60)
@given(case=placed())
@pytest.mark.parametrize("name", FAMILIES)
def test_tags_stand_where_the_rule_says_in_their_order(name, case: Placed):
    texts = pa.array(case.texts)
    encoded = encoder(name).encode(texts)
    vocabulary = tagged(name)[1]
    made = insert(encoded, texts, case.placements, vocabulary)
    expected, moved = [], 0
    rows = case.placements.to_pylist()
    for row, text in enumerate(case.texts):
        tokens = ranges(encoded, row)
        inserted = [[] for _ in range(len(tokens) + 1)]
        for one in rows:
            if one["row"] == row:
                index, was_moved = place_of(text, one["byte_offset"], tokens)
                inserted[index].append(vocabulary.id_of(one["tag"], one["kind"]))
                moved += was_moved
        first = encoded.documents[row]
        for i in range(len(tokens) + 1):
            expected += inserted[i]
            expected += encoded.ids[first + i : first + i + 1].tolist() if i < len(tokens) else []
    assert made.ids.tolist() == expected
    assert len(made.ends) == len(rows)
    assert made.moved == moved
    tags = made.kinds != TEXT
    assert made.ids[tags].tolist() == [vocabulary.id_of(one["tag"], one["kind"]) for one in rows]
    assert [OPEN if one["kind"] == "open" else CLOSE for one in rows] == made.kinds[tags].tolist()
    assert [vocabulary.names[tag] for tag in made.tags[tags]] == [one["tag"] for one in rows]
    assert (made.tags[~tags] == -1).all()


@settings(deadline=None, max_examples=60)
@given(case=placed())
@pytest.mark.parametrize("name", ["byte-level", "metaspace", "wordpiece"])
def test_a_token_is_of_the_span_whose_tag_stands_before_it(name, case: Placed):
    texts = pa.array(case.texts)
    encoded = encoder(name).encode(texts)
    spans = case.spans
    made = insert(encoded, texts, case.placements, tagged(name)[1], spans=spans, begin_id=1, end_id=2)
    assert ((made.spans == -1) == (made.kinds != TEXT)).all()
    of_text = made.spans[made.kinds == TEXT].tolist()
    expected = []
    for row, text in enumerate(case.texts):
        tokens = ranges(encoded, row)
        own = [(i, one["byte_start"]) for i, one in enumerate(spans.to_pylist()) if one["row"] == row]
        begins = [(0 if start == 0 else place_of(text, start, tokens)[0], i) for i, start in own]
        expected += [max(i for begin, i in begins if begin <= token) for token in range(len(tokens))]
    assert of_text == expected
    numbers = span_numbers(made.spans, spans)
    first_of_row = {row: spans["row"].to_pylist().index(row) for row in spans["row"].to_pylist()}
    assert numbers.tolist() == [-1 if s < 0 else s - first_of_row[spans["row"][s].as_py()] for s in made.spans.tolist()]


@settings(deadline=None, max_examples=60)
@given(case=placed())
@pytest.mark.parametrize("name", ["byte-level", "metaspace", "wordpiece", "llama"])
def test_segments_of_their_own_have_their_tags_right_before_them(name, case: Placed):
    texts = pa.array(case.texts)
    encoded = encoder(name).encode_segments(texts, case.spans)
    starts = case.spans.select(["row", "byte_start"])
    index, moved = boundaries(encoded, texts, starts["row"].to_numpy(), starts["byte_start"].to_numpy())
    assert not moved.any()
    slices = [case.texts[s["row"]].encode()[s["byte_start"] : s["byte_end"]].decode() for s in case.spans.to_pylist()]
    lengths = [len(encoder(name).encode(pa.array([piece])).ids) for piece in slices]
    assert index.tolist() == (np.cumsum(lengths) - lengths).tolist()


def show(name, text, places, **more):
    """Tokens with tags between them."""
    texts = pa.array([text])
    rows = [(0, len(text[:at].encode()), tag, kind) for at, tag, kind in places]
    made = insert(encoder(name).encode(texts), texts, placement_table(rows), tagged(name)[1], **more)
    return made, [tagged(name)[0].backend_tokenizer.id_to_token(i) for i in made.ids]


def test_blanks_before_a_word_do_not_separate_it_from_its_tag():
    for at in (8, 9):  # before the blank, behind it
        made, pieces = show("byte-level", "It was, the best", [(at - 1, "nice", "open")])
        assert pieces[pieces.index("<nice>") + 1].startswith("Ġ")
        assert made.moved == 0
    _, pieces = show("byte-level", "dog.\n\n\nYes.", [(4, "nice", "open")])
    assert "".join(pieces) == "dog.ĊĊĊ<nice>Yes."


@pytest.mark.parametrize("blank", [" ", "\u3000", "\n\u2028", "\u2029\t"])
def test_wide_blanks_are_blank_on_both_sides_of_a_place(blank):
    text = f"dog.{blank}was"
    for at in (4, 4 + len(blank)):
        made, pieces = show("metaspace", text, [(at, "nice", "open")])
        assert pieces[pieces.index("<nice>") + 1] in ("▁was", "w")
        assert made.moved == 0


def test_a_tag_that_would_split_a_token_stands_after_it():
    made, pieces = show("byte-level", "was the fox", [(5, "nice", "open")])  # t<nice>he
    assert "".join(pieces) == "wasĠthe<nice>Ġfox"
    assert made.moved == 1


def test_a_closing_tag_at_the_end_stands_behind_blanks_and_before_the_end_token():
    _, pieces = show("byte-level", "the dog.\n", [(0, "plain", "open"), (9, "plain", "close")], end_id=2)
    assert "".join(pieces) == "<plain>theĠdog.Ċ</plain></s>"
    _, pieces = show("byte-level", "the dog. \n", [(0, "plain", "open"), (8, "plain", "close")])
    assert "".join(pieces) == "<plain>theĠdog.</plain>ĠĊ"


def test_documents_without_text_get_no_tokens_of_begin_or_end():
    texts = pa.array(["", None, "dog"])
    made = insert(encoder("byte-level").encode(texts), texts, placement_table([]), tagged("byte-level")[1], begin_id=1)
    assert np.diff(made.documents)[:2].tolist() == [0, 0]
    assert made.ids[0] == 1


def test_scores_of_tokens():
    scores = np.array([0.5, np.nan, -1], np.float32)
    found = token_scores(np.array([[0, -1], [2, 1]]), scores)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[0.5, np.nan], [-1, np.nan]], np.float32))


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        ([(1, 0, "nice", "open"), (0, 0, "nice", "open")], InputError, "sorted by row"),
        ([(0, 2, "nice", "open"), (0, 1, "nice", "open")], InputError, "sorted by row"),
        ([(2, 0, "nice", "open")], InputError, "the rows 2 to 2, but there are 2 documents"),
        ([(-1, 0, "nice", "open")], InputError, "the rows -1 to -1"),
        ([(1, 9, "nice", "open")], InputError, "byte 9 of row 1 is outside"),
        ([(0, -1, "nice", "open")], InputError, "byte -1 of row 0 is outside"),
        ([(0, 0, "rude", "open")], ConfigError, "<rude>, which the tokenizer does not know"),
        ([(0, 0, "nice", "close")], ConfigError, "</nice>, which the tokenizer does not know"),
        ([(0, 0, "nice", "escape")], ConfigError, "must be 'open', 'close' or 'mark', got 'escape'"),
    ],
)
def test_placements_that_do_not_fit_are_refused(rows, error, said):
    texts = pa.array(["The end.", "one"])
    with pytest.raises(error, match=said):
        insert(encoder("byte-level").encode(texts), texts, placement_table(rows), tagged("byte-level")[1])


def test_spans_that_leave_a_document_out_are_refused():
    texts = pa.array(["The end.", "one"])
    with pytest.raises(InputError, match="row 1 has none"):
        insert(
            encoder("byte-level").encode(texts),
            texts,
            placement_table([]),
            tagged("byte-level")[1],
            spans=span_table([(0, 0, 8)]),
        )


def test_tokens_of_other_documents_are_refused():
    with pytest.raises(InputError, match="there are 1 documents, but tokens of 2"):
        insert(
            encoder("byte-level").encode(pa.array(["a", "b"])),
            pa.array(["a"]),
            placement_table([]),
            tagged("byte-level")[1],
        )


def test_strings_that_are_no_dictionary_and_chunks_will_do():
    texts = pa.array(["The end.", "one"])
    table = placement_table([(0, 0, "nice", "open"), (1, 0, "tone", "open")])
    plain = table.set_column(2, "tag", table["tag"].cast(pa.string()))
    chunked = pa.concat_tables([plain.slice(0, 1), plain.slice(1)])
    made = [
        insert(encoder("byte-level").encode(texts), texts, one, tagged("byte-level")[1]).ids.tolist()
        for one in (table, plain, chunked)
    ]
    assert made[0] == made[1] == made[2]


def test_a_vocabulary_needs_an_id_a_tag():
    assert isinstance(encoder("byte-level"), TextTokenizer)
    with pytest.raises(ConfigError, match="used twice: 7"):
        TagVocabulary(names=("a", "b"), open_ids=(7, 7), close_ids=(-1, -1))
    with pytest.raises(ConfigError, match="used twice: a"):
        TagVocabulary(names=("a", "a"), open_ids=(7, 8), close_ids=(-1, -1))
    with pytest.raises(ConfigError, match="one value a tag"):
        TagVocabulary(names=("a",), open_ids=(7, 8), close_ids=(-1,))
