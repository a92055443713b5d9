"""Windows hold every token of the documents once, never end in a tag, and say again which tags are in force."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_reference import VOCABULARY, best_fit, in_force, tagged_documents

from annotate.errors import ConfigError, InputError
from annotate.tokens import TaggedTokens, TagVocabulary, loss_mask, pack, token_table
from annotate.tokens.kinds import BEGIN, CLOSE, END, OPEN, PADDING, REPEATED, TEXT
from annotate.tokens.pieces import cut_into_pieces

PAD = 999
ways = st.sampled_from(["best-fit", "concatenate"])
windows = st.integers(8, 64)


def segments_of(packed):
    """(window, first place, end, document) of each segment."""
    found = []
    for window in range(len(packed.ids)):
        at = 0
        for segment in range(packed.segments[window], packed.segments[window + 1]):
            found.append((window, at, at + int(packed.lengths[segment]), int(packed.documents[segment])))
            at += int(packed.lengths[segment])
        assert at <= packed.ids.shape[1]
        assert (packed.kinds[window, at:] == PADDING).all()
        assert (packed.ids[window, at:] == PAD).all()
    return found


@settings(deadline=None, max_examples=200)
@given(tagged=tagged_documents(), window=windows, way=ways, tolerance=st.none() | st.integers(0, 7))
def test_each_token_is_there_once_and_windows_do_not_end_in_tags(tagged: TaggedTokens, window, way, tolerance):
    packed = pack(tagged, window, pad_id=PAD, way=way, tolerance=tolerance)
    body = (packed.kinds != PADDING) & (packed.kinds != REPEATED)
    segments = segments_of(packed)
    for document in range(len(tagged.documents) - 1):
        own = slice(*tagged.documents[document : document + 2])
        pieces = {int(packed.pieces[n]): segment for n, segment in enumerate(segments) if segment[3] == document}
        assert sorted(pieces) == list(range(sum(segment[3] == document for segment in segments)))
        expected = [*zip(tagged.ids[own].tolist(), tagged.kinds[own].tolist(), strict=True)]
        found = []
        for number in sorted(pieces):
            w, a, b, _ = pieces[number]
            found += [(int(packed.ids[w, i]), int(packed.kinds[w, i])) for i in range(a, b) if body[w, i]]
        assert found == expected
    last = packed.kinds[:, -1]
    assert not np.isin(last, [OPEN, CLOSE, REPEATED]).any()
    padding = int((packed.kinds == PADDING).sum())
    assert packed.filled_share == pytest.approx(1 - padding / packed.ids.size if packed.ids.size else 1)
    assert packed.counts["padding"] == padding
    assert packed.counts["text_tokens"] == (tagged.kinds == TEXT).sum()
    assert packed.counts["segments"] - packed.counts["cuts"] == (np.diff(tagged.documents) > 0).sum()


@settings(deadline=None, max_examples=200)
@given(tagged=tagged_documents(), window=windows, way=ways)
def test_values_of_tokens_are_laid_out_as_the_tokens_are(tagged: TaggedTokens, window, way):
    packed = pack(tagged, window, pad_id=PAD, way=way)
    found = packed.laid_out(np.arange(len(tagged.ids)), -1)
    body = (packed.kinds != PADDING) & (packed.kinds != REPEATED)
    assert ((found >= 0) == body).all()
    assert sorted(found[body].tolist()) == list(range(len(tagged.ids)))
    assert (tagged.ids[found[body]] == packed.ids[body]).all()


@settings(deadline=None, max_examples=200)
@given(tagged=tagged_documents(), window=windows, way=ways)
def test_cuts_repeat_the_tags_in_force(tagged: TaggedTokens, window, way):
    pieces = cut_into_pieces(tagged, window, window // 16, in_sequence=way == "concatenate")
    for i, (begin, end, document) in enumerate(zip(pieces.begins, pieces.ends, pieces.documents, strict=True)):
        assert tagged.documents[document] <= begin < end <= tagged.documents[document + 1]
        head = pieces.tags[pieces.heads[i] : pieces.heads[i + 1]].tolist()
        fresh = begin == tagged.documents[document]
        assert head == ([] if fresh else in_force(tagged, document, int(begin)))
        assert end - begin + len(head) <= window
        if end < tagged.documents[document + 1]:
            assert tagged.kinds[end - 1] in (TEXT, CLOSE)
    order = list(zip(pieces.documents.tolist(), pieces.begins.tolist(), strict=True))
    assert order == sorted(order)


@settings(deadline=None, max_examples=200)
@given(tagged=tagged_documents(longest=30), window=windows)
def test_best_fit_is_best_fit_and_cuts_long_documents_alone(tagged: TaggedTokens, window):
    pieces = cut_into_pieces(tagged, window, window // 16, in_sequence=False)
    packed = pack(tagged, window, pad_id=PAD)
    lengths = np.diff(tagged.documents)
    tag_last = [k in (OPEN, CLOSE) for k in tagged.kinds[tagged.documents[1:][lengths > 0] - 1]]
    fits = lengths[lengths > 0] + tag_last <= window
    times = np.bincount(pieces.documents, minlength=len(lengths))[lengths > 0]
    assert ((times == 1) == fits).all()
    rooms = [
        int(n) + (tagged.kinds[end - 1] in (OPEN, CLOSE)) for n, end in zip(pieces.lengths, pieces.ends, strict=True)
    ]
    chosen = best_fit(rooms, window)
    groups = {}
    for piece, one in enumerate(chosen):
        groups.setdefault(one, []).append(piece)
    expected = sorted(groups.values())
    segments = list(zip(packed.documents.tolist(), packed.lengths.tolist(), strict=True))
    found = [segments[first:stop] for first, stop in pairwise(packed.segments)]
    assert found == [[(int(pieces.documents[p]), int(pieces.lengths[p])) for p in group] for group in expected]


@settings(deadline=None, max_examples=200)
@given(tagged=tagged_documents(), window=windows)
def test_concatenating_fills_windows_in_order(tagged: TaggedTokens, window):
    packed = pack(tagged, window, pad_id=PAD, way="concatenate")
    assert (np.diff(packed.documents) >= 0).all()
    text = packed.kinds == TEXT
    assert packed.ids[text].tolist() == tagged.ids[tagged.kinds == TEXT].tolist()
    for window_number in range(len(packed.ids) - 1):  # what is left is so only because a tag would have stood last
        padding = int((packed.kinds[window_number] == PADDING).sum())
        assert padding <= 6 + 2


@settings(deadline=None, max_examples=200)
@given(tagged=tagged_documents(), window=windows, way=ways)
def test_positions_spans_and_masks(tagged: TaggedTokens, window, way):
    packed = pack(tagged, window, pad_id=PAD, way=way)
    masks = {policy: loss_mask(packed, policy) for policy in ("train", "mask", "mask-all-but-closing")}
    counting = {
        "train": {TEXT, OPEN, CLOSE, END},
        "mask": {TEXT, END},
        "mask-all-but-closing": {TEXT, CLOSE, END},
    }
    expected = {policy: np.zeros(packed.ids.shape, np.uint8) for policy in masks}
    positions = np.zeros(packed.ids.shape, np.int32)
    for w, a, b, _ in segments_of(packed):
        positions[w, a:b] = np.arange(b - a)
        for policy, kinds in counting.items():
            expected[policy][w, a + 1 : b] = [kind in kinds for kind in packed.kinds[w, a + 1 : b]]
    assert (packed.positions == positions).all()
    for policy, mask in masks.items():
        assert mask.dtype == np.uint8
        assert (mask == expected[policy]).all()
    if tagged.spans is None:
        assert packed.spans is None
    else:
        assert ((packed.spans == -1) == (packed.kinds != TEXT)).all()
        text = tagged.kinds == TEXT  # no two tokens of the text have one id here
        span_of = dict(zip(tagged.ids[text].tolist(), tagged.spans[text].tolist(), strict=True))
        packed_text = packed.kinds == TEXT
        assert packed.spans[packed_text].tolist() == [span_of[i] for i in packed.ids[packed_text].tolist()]


def documents_of(*parts: str, **more) -> TaggedTokens:
    """Documents written as kinds: `n`, `p`, `t` open tags; `N`, `P`, `T` close; `.` text, `^` begin, `$` end.

    A blank begins a span.
    """
    kinds, tags, spans, documents, span = [], [], [], [0], 0
    letters = {"n": (OPEN, 0), "p": (OPEN, 1), "t": (OPEN, 2), "N": (CLOSE, 0), "P": (CLOSE, 1), "T": (CLOSE, 2)}
    letters |= {"^": (BEGIN, -1), "$": (END, -1), ".": (TEXT, -1)}
    for part in parts:
        for letter in part:
            if letter == " ":
                span += 1
                continue
            kind, tag = letters[letter]
            kinds.append(kind)
            tags.append(tag)
            spans.append(span if kind == TEXT else -1)
        documents.append(len(kinds))
        span += 1
    ids = [
        {OPEN: 800 + tag, CLOSE: 810 + tag}.get(kind, i) for i, (kind, tag) in enumerate(zip(kinds, tags, strict=True))
    ]
    families, of_spans = more.pop("families", (0, 1, 2)), more.pop("of_spans", ())
    ends = []
    for i in np.flatnonzero(np.array(tags) >= 0).tolist():
        document_end = next(end for end in documents if end > i)
        text = [j for j in range(i, document_end) if kinds[j] == TEXT]
        of_span = [j for j in text if spans[j] == spans[text[0]]]
        ends.append(of_span[-1] + 1 if VOCABULARY.names[tags[i]] in of_spans else document_end)
    return TaggedTokens(
        ids=np.array(ids, np.int32),
        kinds=np.array(kinds, np.uint8),
        tags=np.array(tags, np.int32),
        spans=np.array(spans, np.int64),
        documents=np.array(documents, np.int64),
        vocabulary=TagVocabulary(
            names=VOCABULARY.names,
            open_ids=VOCABULARY.open_ids,
            close_ids=VOCABULARY.close_ids,
            families=families,
        ),
        ends=np.array(ends, np.int64),
        moved=0,
    )


def drawn(packed) -> list[str]:
    """Windows written in the same way: repeated tags in brackets, padding as `_`."""
    names = {9000: "n", 9001: "p", 9002: "t"}
    letters = {TEXT: ".", BEGIN: "^", END: "$", PADDING: "_"}
    tags, closing = {800: "n", 801: "p", 802: "t"}, {810: "N", 811: "P", 812: "T"}
    shown = []
    for ids, kinds in zip(packed.ids.tolist(), packed.kinds.tolist(), strict=True):
        line = ""
        for i, kind in zip(ids, kinds, strict=True):
            if kind == REPEATED:
                line += f"[{names[i]}]"
            else:
                line += {OPEN: tags, CLOSE: closing}[kind][i] if kind in (OPEN, CLOSE) else letters[kind]
        shown.append(line)
    return shown


def test_a_cut_goes_back_to_where_a_span_begins():
    tagged = documents_of("n..... ....... ....")
    assert drawn(pack(tagged, 16, pad_id=PAD, tolerance=4)) == ["n............___", "[n]....___________"]
    assert drawn(pack(tagged, 16, pad_id=PAD, tolerance=0)) == ["n...............", "[n].______________"]
    assert pack(tagged, 16, pad_id=PAD, tolerance=4).counts["cuts_at_spans"] == 1
    assert pack(tagged, 16, pad_id=PAD, tolerance=0).counts["cuts_at_spans"] == 0


def test_a_tag_is_left_to_the_next_window():
    assert drawn(pack(documents_of("....... n..."), 8, pad_id=PAD)) == ["......._", "n...____"]
    assert drawn(pack(documents_of(".......", "n..."), 8, pad_id=PAD, way="concatenate")) == ["......._", "n...____"]


@pytest.mark.parametrize("way", ["best-fit", "concatenate"])
def test_a_tag_at_the_end_of_a_document_has_something_behind_it(way):
    assert drawn(pack(documents_of("p.....P"), 8, pad_id=PAD, way=way)) == ["p.....P_"]
    assert drawn(pack(documents_of("p......P"), 8, pad_id=PAD, way=way)) == ["p.....__", "[p].P_____"]


@pytest.mark.parametrize("way", ["best-fit", "concatenate"])
def test_an_end_token_and_closing_tags_stay_with_their_text(way):
    assert drawn(pack(documents_of("........$"), 8, pad_id=PAD, way=way)) == ["......._", ".$______"]
    assert drawn(pack(documents_of("p.......P$"), 8, pad_id=PAD, way=way)) == ["p......_", "[p].P$____"]


def test_a_tag_is_in_force_until_the_next_of_its_family():
    one_family = {"families": (0, 1, 0)}
    assert drawn(pack(documents_of("n... t... ......", **one_family), 8, pad_id=PAD)) == ["n...t...", "[t]......_"]
    assert drawn(pack(documents_of("n... t... ......"), 8, pad_id=PAD)) == ["n...t...", "[n][t]......"]
    # At the cut itself the tag that stands there takes the place of the one before.
    assert drawn(pack(documents_of("n....... t...", **one_family), 8, pad_id=PAD)) == ["n.......", "t...____"]
    assert drawn(pack(documents_of("n....... t..."), 8, pad_id=PAD)) == ["n.......", "[n]t...___"]


def test_a_tag_of_no_family_is_not_repeated():
    assert drawn(pack(documents_of("n..........", families=(-1, 1, 2)), 8, pad_id=PAD)) == ["n.......", "..._____"]


def test_a_tag_with_a_closing_tag_is_in_force_until_it():
    assert drawn(pack(documents_of("p.. .......P .......$"), 8, pad_id=PAD)) == ["p.......", "[p]..P....", "...$____"]


def test_a_tag_of_a_span_is_in_force_in_it_alone():
    of_spans = {"of_spans": ["nice"]}
    for document, windows_ in (
        ("tn....... ....", ["tn......", "[t][n]....._"]),  # a cut inside the span
        ("tn...... .....", ["tn......", "[t].....__"]),  # at its end
        ("tn.. ........", ["tn......", "[t]....___"]),  # behind it
        ("tn........ .......", ["tn......", "[t][n]......", "[t]...____"]),
    ):
        assert drawn(pack(documents_of(document, **of_spans), 8, pad_id=PAD)) == windows_


@pytest.mark.parametrize("way", ["best-fit", "concatenate"])
def test_a_state_takes_the_place_of_the_one_before_it_though_neither_is_closed(way):
    states = {"families": (0, 0, 0)}
    for document, windows_ in (
        ("n. p. n. p. t. ...... ....", ["n.p.n.p.", "t.......", "[t]....___"]),
        ("n. p... ....P... t......", ["n.p.....", "[p]..P..._", "t......_"]),
    ):
        assert drawn(pack(documents_of(document, **states), 8, pad_id=PAD, way=way)) == windows_


def test_more_tags_than_a_window_holds_is_said_of_the_row():
    with pytest.raises(InputError, match="row 1 than a window of 8 tokens"):
        pack(documents_of("....", "ptptptptptpt...."), 8, pad_id=PAD)
    with pytest.raises(InputError, match="row 1 than a window"):
        pack(documents_of("....", "ptptptptptpt...."), 8, pad_id=PAD, way="concatenate")


@pytest.mark.parametrize(
    ("settings_", "said"),
    [
        ({"window": 7}, "at least 8 tokens, not 7"),
        ({"way": "worst-fit"}, "best-fit, concatenate, not 'worst-fit'"),
        ({"tolerance": 8}, "less than the window, 8, not 8"),
        ({"tolerance": -1}, "not -1"),
    ],
)
def test_settings_out_of_range(settings_, said):
    given_settings = {"window": 8, **settings_}
    with pytest.raises(ConfigError, match=said):
        pack(documents_of("."), given_settings.pop("window"), pad_id=PAD, **given_settings)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ConfigError, match="train, mask, mask-all-but-closing, not 'some'"):
        loss_mask(pack(documents_of("."), 8, pad_id=PAD), "some")


def test_no_documents_make_no_windows():
    for way in ("best-fit", "concatenate"):
        packed = pack(documents_of(), 8, pad_id=PAD, way=way)
        assert packed.ids.shape == (0, 8)
        assert packed.filled_share == 1
        assert token_table(packed, loss_mask(packed, "train")).num_rows == 0


def test_the_table_of_tokens():
    tagged = documents_of("^n.. ..$", "^..$", "^........ ....$")
    packed = pack(tagged, 12, pad_id=PAD)
    spans = pa.table({"row": pa.array([0, 0, 1, 2, 2], pa.int64())})
    scores = {"tone": np.array([1, 2, 3, 4, 5], np.float32)}
    table = token_table(packed, loss_mask(packed, "mask"), rows=np.array([70, 80, 90]), spans=spans, scores=scores)
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert types == {
        "input_ids": "list<item: int32>",
        "loss_mask": "list<item: uint8>",
        "position_ids": "list<item: int32>",
        "segment_lengths": "list<item: int32>",
        "document_rows": "list<item: int64>",
        "document_pieces": "list<item: int32>",
        "span_ids": "list<item: int32>",
        "scores_tone": "list<item: float>",
    }
    first = table.slice(0, 1).to_pylist()[0]
    assert first["segment_lengths"] == [7, 4]
    assert first["document_rows"] == [70, 80]
    assert [row["document_pieces"] for row in table.to_pylist()] == [[0, 0], [0], [1]]
    assert first["span_ids"] == [-1, -1, 0, 0, 1, 1, -1, -1, 0, 0, -1, -1]
    assert first["position_ids"] == [*range(7), *range(4), 0]
    assert first["loss_mask"] == [0, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0]
    assert [None if x != x else x for x in first["scores_tone"]] == [
        None, None, 1, 1, 2, 2, None, None, 3, 3, None, None,
    ]  # fmt: skip
    short = token_table(packed, loss_mask(packed, "mask"), padded=False, spans=spans)
    for row, whole in zip(short.to_pylist(), table.to_pylist(), strict=True):
        n = sum(row["segment_lengths"])
        for name in ("input_ids", "loss_mask", "position_ids", "span_ids"):
            assert row[name] == whole[name][:n]
    without = TaggedTokens(**{**vars(tagged), "spans": None})
    packed = pack(without, 12, pad_id=PAD)
    assert "span_ids" not in token_table(packed, loss_mask(packed, "mask")).column_names
    with pytest.raises(ConfigError, match="need the spans"):
        token_table(packed, loss_mask(packed, "mask"), spans=spans)
