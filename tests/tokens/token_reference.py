"""What the package does with arrays, said again in plain Python loops, and the random input it is compared on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from token_families import TAGS
from token_families import TEXT as TRAINING

from annotate.tokens.insertion import Tagged
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


def active_at(tagged: Tagged, document: int, at: int) -> list[int]:
    """The tags in force before token `at` of a document, in order, that are to be said again there."""
    vocabulary = tagged.vocabulary
    first, last = tagged.documents[document : document + 2]
    spans = tagged.spans
    active: list[tuple[int, int | None]] = []  # tag, and the span that it is of, where it is known
    closes = [i >= 0 for i in vocabulary.close_ids]

    def span_at(token: int) -> int | None:
        """The span of the next token of the text, or of the last, where none follows."""
        text = [i for i in range(first, last) if tagged.kinds[i] == TEXT]
        if spans is None or not text:
            return None
        return int(spans[next((i for i in text if i >= token), text[-1])])

    for i in range(first, at):
        tag = int(tagged.tags[i])
        if tagged.kinds[i] == CLOSE:
            same = [k for k, (other, _) in enumerate(active) if other == tag]
            if same:
                del active[same[-1]]
        elif tagged.kinds[i] == OPEN and vocabulary.families[tag] >= 0:
            if not closes[tag]:
                active = [
                    one for one in active if closes[one[0]] or vocabulary.families[one[0]] != vocabulary.families[tag]
                ]
            active.append((tag, span_at(i)))
    here = span_at(at)
    run = []
    for i in range(at, last):
        if tagged.kinds[i] != OPEN:
            break
        if not closes[tagged.tags[i]]:
            run.append(vocabulary.families[tagged.tags[i]])
    kept = []
    for tag, span in active:
        if not closes[tag]:
            if vocabulary.names[tag] in vocabulary.of_spans and span != here:
                continue
            if vocabulary.families[tag] in run:
                continue
        kept.append(tag)
    return kept


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
def tagged_documents(draw: st.DrawFn, *, longest: int = 60) -> Tagged:
    """Tagged tokens of documents of any length, as `insert` makes them: spans, tags at their starts, closing tags."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    closes, spans_given = draw(st.booleans()), draw(st.booleans())
    ends = draw(st.booleans())
    kinds: list[int] = []
    tags: list[int] = []
    spans: list[int] = []
    documents = [0]
    span = -1

    def put(kind: int, tag: int = -1, of: int = -1) -> None:
        kinds.append(kind)
        tags.append(tag)
        spans.append(of)

    for _ in range(draw(st.integers(0, 6))):
        if ends:
            put(BEGIN)
        for _ in range(int(rng.integers(1, 6))):
            span += 1
            opened = [tag for tag in range(len(TAGS)) if rng.random() < 0.4]
            for tag in opened:
                put(OPEN, tag)
            for _ in range(int(rng.integers(1, longest // 3))):
                put(TEXT, of=span)
            for tag in opened[::-1]:
                if VOCABULARY.close_ids[tag] >= 0 and closes:
                    put(CLOSE, tag)
        if ends:
            put(END)
        documents.append(len(kinds))
    families = draw(st.sampled_from([(0, 1, 2), (0, 1, 0), (-1, 1, 2)]))
    of_spans = frozenset(draw(st.sampled_from([(), ("nice",), ("nice", "tone")]))) if spans_given else frozenset()
    ids = np.arange(len(kinds), dtype=np.int32)  # those of tags aside, each is there once
    for kind, of_kind in ((OPEN, VOCABULARY.open_ids), (CLOSE, VOCABULARY.close_ids)):
        here = np.array(kinds, np.uint8) == kind
        ids[here] = np.array(of_kind)[np.array(tags, np.int64)[here]]
    vocabulary = TagVocabulary(
        names=TAGS,
        open_ids=VOCABULARY.open_ids,
        close_ids=VOCABULARY.close_ids,
        families=families,
        of_spans=of_spans,
    )
    return Tagged(
        ids=ids,
        kinds=np.array(kinds, np.uint8),
        tags=np.array(tags, np.int32),
        spans=np.array(spans, np.int64) if spans_given else None,
        documents=np.array(documents, np.int64),
        vocabulary=vocabulary,
        placements=sum(tag >= 0 for tag in tags),
        moved=0,
    )
