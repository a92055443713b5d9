"""Documents to pieces that fit in a window.

A document that fits is one piece. A longer one is cut, preferably where a span begins, never behind a tag, and the
tags in force at the cut are said again at the head of the next piece. Which are in force: one that has a closing tag,
until it; one that has none, until the next of its family, or the end of its span where the vocabulary says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotate.errors import ConfigError, InputError
from annotate.minhash.compiled import compiled, constant
from annotate.tokens.insertion import Tagged
from annotate.tokens.kinds import CLOSE, END, OPEN, TEXT, Kinds

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Pieces of documents, in the order of documents; `[n_pieces]` each unless said otherwise.

    Attributes:
        begins: int64, the first token of each piece in the tagged documents.
        ends: int64, one past its last token.
        documents: int64, the document that it is of.
        heads: int64 `[n_pieces + 1]`, the first of the tags that are repeated at the head of each.
        tags: int32 `[n_heads]`, which tags of the vocabulary these are.
        windows: int64, the window of each piece where they were laid one after the other, else 0.
        at_spans: how many of the cuts are where a span begins.
    """

    begins: Int64
    ends: Int64
    documents: Int64
    heads: Int64
    tags: Int32
    windows: Int64
    at_spans: int

    @property
    def lengths(self) -> Int64:
        """Tokens of each piece, those at its head counted; int64 `[n_pieces]`."""
        return self.ends - self.begins + np.diff(self.heads)

    @property
    def cuts(self) -> int:
        """Cuts within documents."""
        return len(self.documents) - len(np.unique(self.documents))


def cut(tagged: Tagged, window: int, tolerance: int, *, in_sequence: bool) -> Pieces:
    """Cut documents into pieces of at most `window` tokens.

    Args:
        tagged: the documents.
        window: tokens of a window.
        tolerance: a cut goes back by up to so many tokens to be where a span begins.
        in_sequence: whether pieces fill one window after the other, so that any document may be cut; else only
            documents longer than a window are.

    Raises:
        InputError: more tags are in force at a place of a document than a window has room for; names the document.
    """
    vocabulary = tagged.vocabulary
    if vocabulary.of_spans and tagged.spans is None:
        raise ConfigError(
            f"tags that are of spans need the spans, and none were given: {', '.join(sorted(vocabulary.of_spans))}",
            hint="give `insert` the spans",
        )
    of_spans = [name in vocabulary.of_spans for name in vocabulary.names]
    capacity = len(tagged.documents) + 4 * len(tagged.ids) // window + 16
    heads_capacity = capacity * 4
    while True:
        pieces, heads = np.zeros((4, capacity), np.int64), np.zeros(capacity + 1, np.int64)
        tags = np.zeros(heads_capacity, np.int32)
        n, n_heads, at_spans, failed = _cut(
            constant(tagged.kinds, np.uint8),
            constant(tagged.tags, np.int32),
            constant(np.zeros(0) if tagged.spans is None else tagged.spans, np.int64),
            constant(tagged.documents, np.int64),
            constant([i >= 0 for i in vocabulary.close_ids], np.bool_),
            constant(vocabulary.families, np.int32),
            constant(of_spans, np.bool_),
            window,
            tolerance,
            in_sequence,
            pieces,
            heads,
            tags,
        )
        if failed >= 0:
            raise InputError(
                f"more tags stand in one place of row {failed} than a window of {window} tokens has room for",
                hint="take a larger window, or a layout with fewer tags",
            )
        if n <= capacity and n_heads <= heads_capacity:
            begins, ends, documents, windows = pieces[:, :n]
            return Pieces(
                begins=begins,
                ends=ends,
                documents=documents,
                heads=heads[: n + 1],
                tags=tags[:n_heads],
                windows=windows,
                at_spans=at_spans,
            )
        capacity, heads_capacity = n, n_heads


@compiled
def _cut(
    kinds: Kinds,
    tags: Int32,
    spans: Int64,
    documents: Int64,
    closes: npt.NDArray[np.bool_],
    families: Int32,
    of_spans: npt.NDArray[np.bool_],
    window: int,
    tolerance: int,
    in_sequence: bool,  # noqa: FBT001 - numba has no keyword-only arguments
    pieces: Int64,
    heads: Int64,
    head_tags: Int32,
) -> tuple[int, int, int, int]:
    """Number of pieces, of tags at heads, of cuts at spans; and the document that can't be cut, or -1.

    What does not fit in the arrays is counted only.
    """
    n = n_heads = at_spans = number = 0
    room = window
    active, opened = np.empty(8, np.int32), np.empty(8, np.int64)  # tags in force, and where each stands
    for document in range(len(documents) - 1):
        first, last = documents[document], documents[document + 1]
        n_active = 0
        text = first - 1  # the last token of the text so far
        at = first
        while at < last:
            head = 0
            fresh = at > first and _begins_span(kinds, spans, at, first, last)
            if at > first:
                for k in range(n_active):
                    if _carries(kinds, tags, families, closes, of_spans, active[k], at, last, fresh):
                        if n_heads + head < len(head_tags):
                            head_tags[n_heads + head] = active[k]
                        head += 1
            stop = _end_of_piece(kinds, spans, at, first, last, at + room - head, tolerance)
            if stop == at:
                if in_sequence and room < window:
                    room = window
                    number += 1
                    continue
                return n, n_heads, at_spans, document
            n_heads += head
            at_spans += fresh
            if n < pieces.shape[1]:
                pieces[0, n], pieces[1, n], pieces[2, n], pieces[3, n] = at, stop, document, number
                heads[n + 1] = n_heads
            n += 1
            if in_sequence:
                room -= head + stop - at
                if room == 0 or stop < last:  # what follows a cut is in another window
                    room = window
                    number += 1
            if stop == last:
                break
            for i in range(at, stop):
                if kinds[i] == TEXT:
                    if len(spans) > 0 and text >= first and spans[i] != spans[text]:
                        n_active = _drop_of_spans(active, opened, n_active, of_spans, text)
                    text = i
                elif kinds[i] == CLOSE:
                    n_active = _drop_closed(active, opened, n_active, tags[i])
                elif kinds[i] == OPEN and families[tags[i]] >= 0:
                    if not closes[tags[i]]:
                        n_active = _drop_family(active, opened, n_active, families, closes, tags[i])
                    if n_active == len(active):
                        active = np.append(active, np.empty_like(active))
                        opened = np.append(opened, np.empty_like(opened))
                    active[n_active], opened[n_active] = tags[i], i
                    n_active += 1
            at = stop
    return n, n_heads, at_spans, -1


@compiled
def _end_of_piece(kinds: Kinds, spans: Int64, at: int, first: int, last: int, limit: int, tolerance: int) -> int:
    """Where the piece from `at` ends, at most at `limit`; `at` where nothing fits.

    A piece does not end behind a tag; behind a closing tag it may, where that is not the window's last place.
    """
    if last < limit or (last == limit and kinds[last - 1] != OPEN and kinds[last - 1] != CLOSE):
        return last
    top = min(limit, last - 1)
    whole = 0  # the last place that leaves closing tags and the end token with their text
    for end in range(top, at, -1):
        if whole > 0 and end < top - tolerance:
            break
        if (kinds[end - 1] == TEXT or (kinds[end - 1] == CLOSE and end < limit)) and (
            kinds[end] != CLOSE and kinds[end] != END
        ):
            if end >= top - tolerance and _begins_span(kinds, spans, end, first, last):
                return end
            whole = max(whole, end)
    if whole > 0:
        return whole
    for end in range(top, at, -1):
        if kinds[end - 1] == TEXT or (kinds[end - 1] == CLOSE and end < limit):
            return end
    return at


@compiled
def _begins_span(kinds: Kinds, spans: Int64, at: int, first: int, last: int) -> bool:
    """Whether a span begins at a token, its tags counted; where spans are not known, whether tags begin there."""
    if len(spans) == 0:
        return kinds[at] == OPEN and kinds[at - 1] != OPEN
    before, after = at - 1, at
    while before >= first and kinds[before] != TEXT:
        before -= 1
    while after < last and kinds[after] != TEXT:
        after += 1
    return before >= first and after < last and spans[before] != spans[after]


@compiled
def _carries(
    kinds: Kinds,
    tags: Int32,
    families: Int32,
    closes: npt.NDArray[np.bool_],
    of_spans: npt.NDArray[np.bool_],
    tag: int,
    at: int,
    last: int,
    fresh: bool,  # noqa: FBT001 - as above
) -> bool:
    """Whether a tag in force before a cut is still so behind it; the tags that stand there may take its place."""
    if closes[tag]:
        return True
    if of_spans[tag] and fresh:
        return False
    while at < last and kinds[at] == OPEN:
        if families[tags[at]] == families[tag] and not closes[tags[at]]:
            return False
        at += 1
    return True


@compiled
def _drop_of_spans(active: Int32, opened: Int64, n_active: int, of_spans: npt.NDArray[np.bool_], text: int) -> int:
    """End the tags of the span before: those that stand before its last token."""
    kept = 0
    for k in range(n_active):
        if not of_spans[active[k]] or opened[k] > text:
            active[kept], opened[kept] = active[k], opened[k]
            kept += 1
    return kept


@compiled
def _drop_closed(active: Int32, opened: Int64, n_active: int, tag: int) -> int:
    """End the last of this tag."""
    for k in range(n_active - 1, -1, -1):
        if active[k] == tag:
            for j in range(k, n_active - 1):
                active[j], opened[j] = active[j + 1], opened[j + 1]
            return n_active - 1
    return n_active


@compiled
def _drop_family(
    active: Int32, opened: Int64, n_active: int, families: Int32, closes: npt.NDArray[np.bool_], tag: int
) -> int:
    """End the tags whose place this one takes."""
    kept = 0
    for k in range(n_active):
        if closes[active[k]] or families[active[k]] != families[tag]:
            active[kept], opened[kept] = active[k], opened[k]
            kept += 1
    return kept
