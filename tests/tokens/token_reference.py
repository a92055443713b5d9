"""What the package does with arrays, said again in plain Python loops, and the random input it is compared on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from token_families import TAGS
from token_families import TEXT as TRAINING

from annotate.tokens.insertion import TaggedTokens
from annotate.tokens.kinds import BEGIN, CLOSE, END, OPEN, TEXT
from annotate.tokens.vocabulary import TagVocabulary

BLANKS = set(" \t\n\v\f\r\u2028\u2029\u3000")
VOCABULARY = TagVocabulary(names=TAGS, open_ids=(9000, 9001, 9002), close_ids=(-1, 9003, -1), families=(0, 1, 2))

_WORDS = sorted({word for text in TRAINING for word in text.split(" ")})
_TROUBLE = [
    "<nice>",
    "</plain>",
    " <|endoftext|> ",
    "[CLS]",
    " <s> ",
    "\u2581",
    "\ufb01",
    "e\u0301",
    "\u00a0",
    "\u2028",
    "\u3000",
]
words = st.sampled_from(_WORDS)
blanks = st.text(st.sampled_from(" \t\n\r\u3000"), max_size=4)
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
texts = st.lists(words | blanks | anything | st.sampled_from(_TROUBLE), max_size=14).map("".join)


@dataclass(frozen=True)
class Placed:
    """Documents with placements, and the spans whose starts they are at."""

    texts: list[str]
    placements: pa.Table
    spans: pa.Table


@st.composite
def placed(draw: st.DrawFn) -> Placed:
    """Some documents, cut in spans anywhere between characters, with tags at some of their ends."""
    documents = draw(st.lists(texts, min_size=1, max_size=4))
    placements, spans = [], []
    for row, text in enumerate(documents):
        cuts = sorted(draw(st.sets(st.integers(1, len(text) - 1), max_size=6))) if len(text) > 1 else []
        edges = [len(text[:cut].encode()) for cut in [0, *cuts, len(text)]] if text else [0]
        spans += [(row, a, b) for a, b in pairwise(edges)]
        for at in edges:
            for _ in range(draw(st.integers(0, 3))):
                kind = draw(st.sampled_from(["open", "open", "close"]))
                placements.append((row, at, "plain" if kind == "close" else draw(st.sampled_from(TAGS)), kind))
    return Placed(documents, placement_table(placements), span_table(spans))


def placement_table(rows: list[tuple[int, int, str, str]]) -> pa.Table:
    table = _table(rows, {"row": pa.int64(), "byte_offset": pa.int64(), "tag": pa.string(), "kind": pa.string()})
    return table.set_column(2, "tag", table["tag"].dictionary_encode())


def span_table(rows: list[tuple[int, int, int]]) -> pa.Table:
    return _table(rows, dict.fromkeys(("row", "byte_start", "byte_end"), pa.int64()))


def _table(rows: list[tuple], types: dict[str, pa.DataType]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(types)
    return pa.table({name: pa.array(column, types[name]) for name, column in zip(types, columns, strict=True)})


def place_of(text: str, at: int, tokens: list[tuple[int, int]]) -> tuple[int, bool]:
    """The token before which a place at byte `at` is, and whether it has moved; `tokens` are byte ranges."""
    encoded = text.encode()
    before, after = encoded[:at].decode(), encoded[at:].decode()
    word = next((i for i, character in enumerate(after) if character not in BLANKS), None)
    if word is None:
        token = next((i for i, (start, _) in enumerate(tokens) if start >= at), len(tokens))
        return token, token > 0 and tokens[token - 1][1] > at
    first = at + len(after[:word].encode())
    last = len(before.rstrip("".join(BLANKS)).encode())
    token = next((i for i in range(len(tokens)) if max(end for _, end in tokens[: i + 1]) > first), len(tokens))
    moved = token < len(tokens) and last > 0 and tokens[token][0] < last
    return token + moved, moved


def in_force(tagged: TaggedTokens, document: int, at: int) -> list[int]:
    """The tags in force before token `at` of a document, in order, but for those that are replaced right there.

    What is in force is walked to from the start of the document: of each family the last tag that stood.
    """
    first, last = tagged.documents[document : document + 2]
    families = tagged.vocabulary.families
    ends = dict(zip(np.flatnonzero(tagged.tags >= 0).tolist(), tagged.ends.tolist(), strict=True))
    of_family: dict[int, tuple[int, int]] = {}  # the tag, and where its span ends
    for i in range(first, at):
        tag = int(tagged.tags[i])
        family = families[tag]
        if tagged.kinds[i] == OPEN and family >= 0:
            of_family.pop(family, None)  # for the order
            of_family[family] = tag, ends[i]
        elif tagged.kinds[i] == CLOSE and of_family.get(family, (None, None))[0] == tag:
            del of_family[family]
    wanted = {family: tag for family, (tag, end) in of_family.items() if end > at}
    closed = set()  # these stand, even if another of the family follows: no tag is closed that was not opened
    for i in range(at, last):
        if tagged.kinds[i] not in (OPEN, CLOSE):
            break
        tag = int(tagged.tags[i])
        if tagged.kinds[i] == CLOSE:
            closed.add(tag)
        elif wanted.get(families[tag]) not in closed:
            wanted.pop(families[tag], None)
    return list(wanted.values())


def best_fit(rooms: list[int], window: int) -> list[int]:
    """The window of each piece: longest first, to the window with the least room that has enough, the latest such."""
    left: list[list[int]] = []  # room, when it got it
    chosen = [0] * len(rooms)
    for step, piece in enumerate(sorted(range(len(rooms)), key=lambda i: -rooms[i])):
        fits = [i for i, (room, _) in enumerate(left) if room >= rooms[piece]]
        if fits:
            best = min(fits, key=lambda i: (left[i][0], -left[i][1]))
        else:
            best = len(left)
            left.append([window, 0])
        left[best] = [left[best][0] - rooms[piece], step]
        chosen[piece] = best
    return chosen


@st.composite
def tagged_documents(draw: st.DrawFn, *, longest: int = 60) -> TaggedTokens:
    """Tagged tokens of documents of any length, as `insert` makes them: spans, tags at their starts, closing tags."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spans_given, closed_late = draw(st.booleans()), draw(st.booleans())
    ends = draw(st.booleans())
    families = draw(st.sampled_from([(0, 1, 2), (0, 1, 0), (0, 0, 0), (1, 1, 0), (-1, 1, 2)]))
    of_spans = draw(st.sets(st.sampled_from(range(len(TAGS)))))
    closing = draw(st.sets(st.sampled_from(range(len(TAGS)))))
    kinds: list[int] = []
    tags: list[int] = []
    spans: list[int] = []
    placed_ends: list[int | None] = []
    documents = [0]
    span = -1

    def put(kind: int, tag: int = -1, of: int = -1) -> None:
        kinds.append(kind)
        tags.append(tag)
        spans.append(of)
        if kind in (OPEN, CLOSE):
            placed_ends.append(None)

    for _ in range(draw(st.integers(0, 6))):
        if ends:
            put(BEGIN)
        late: list[int] = []
        first_placed = len(placed_ends)
        for _ in range(int(rng.integers(1, 6))):
            span += 1
            for tag in late:  # the closing tag of a state that ends
                put(CLOSE, tag)
            opened = [tag for tag in range(len(TAGS)) if rng.random() < 0.4]
            opening = len(placed_ends)
            for tag in opened:
                put(OPEN, tag)
            for _ in range(int(rng.integers(1, longest // 3))):
                put(TEXT, of=span)
            for k, tag in enumerate(opened):
                if tag in of_spans:
                    placed_ends[opening + k] = len(kinds)
            closes = [tag for tag in opened[::-1] if tag in closing]
            late = closes if closed_late else []
            for tag in [] if closed_late else closes:
                put(CLOSE, tag)
        if ends:
            put(END)
        documents.append(len(kinds))
        placed_ends[first_placed:] = [len(kinds) if e is None else e for e in placed_ends[first_placed:]]
    ids = np.arange(len(kinds), dtype=np.int32)  # those of tags aside, each is there once
    for kind, of_kind in ((OPEN, VOCABULARY.open_ids), (CLOSE, (9010, 9011, 9012))):
        here = np.array(kinds, np.uint8) == kind
        ids[here] = np.array(of_kind)[np.array(tags, np.int64)[here]]
    vocabulary = TagVocabulary(
        names=TAGS, open_ids=VOCABULARY.open_ids, close_ids=(9010, 9011, 9012), families=families
    )
    return TaggedTokens(
        ids=ids,
        kinds=np.array(kinds, np.uint8),
        tags=np.array(tags, np.int32),
        spans=np.array(spans, np.int64) if spans_given else None,
        documents=np.array(documents, np.int64),
        vocabulary=vocabulary,
        ends=np.array(placed_ends, np.int64),
        moved=0,
    )
