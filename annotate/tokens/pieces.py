"""From documents to pieces that fit in a window.

A document that fits is one piece. A longer one is cut: preferably where a span begins, and never after a tag. The tags
that are in force at the cut stand again at the head of the next piece, in the order in which they stood.

One tag of a family is in force at most. It is so from where it stands until another tag of its family stands, or its
own closing tag does; and no longer than its span, if it has one. A tag of family -1 is in force nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotate.compiled import compiled, constant
from annotate.errors import InputError
from annotate.tokens.insertion import TaggedTokens
from annotate.tokens.kinds import CLOSE, END, OPEN, TEXT, Kinds

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Pieces of documents, in the order of the documents. Arrays are `[n_pieces]` where nothing else is said.

    Attributes:
        begins: int64, the first token of each piece in the tagged documents.
        ends: int64, one past its last token.
        documents: int64, the document of each piece.
        heads: int64 `[n_pieces + 1]`, where in `tags` the tags begin that are repeated at the head of each piece.
        tags: int32 `[n_heads]`, which tags of the vocabulary are repeated.
        windows: int64, the window of each piece, if pieces were laid one after the other; else 0.
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
        """The tokens of each piece, with the tags at its head: int64 `[n_pieces]`."""
        return self.ends - self.begins + np.diff(self.heads)

    @property
    def numbers(self) -> Int32:
        """The number of each piece among those of its document, from 0: int32 `[n_pieces]`."""
        return (np.arange(len(self.documents)) - np.searchsorted(self.documents, self.documents)).astype(np.int32)

    @property
    def cuts(self) -> int:
        """How often documents were cut."""
        return len(self.documents) - len(np.unique(self.documents))


def cut_into_pieces(tagged: TaggedTokens, window: int, tolerance: int, *, in_sequence: bool) -> Pieces:
    """Cut documents into pieces of at most `window` tokens.

    Args:
        tagged: the documents.
        window: tokens of a window.
        tolerance: a cut goes back by at most so many tokens, to where a span begins.
        in_sequence: whether pieces fill one window after the other, so that any document may be cut. Else only
            documents that are longer than a window are.

    Raises:
        InputError: at a place of a document, more tags are in force than a window has room for. Names the document.
    """
    families = tagged.vocabulary.families
    placed = np.flatnonzero(tagged.tags >= 0)
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
            constant(placed, np.int64),
            constant(tagged.ends, np.int64),
            constant(families, np.int32),
            len(set(families)),
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
                hint="Take a larger window, or a layout with fewer tags.",
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
    placed: Int64,
    ends: Int64,
    families: Int32,
    n_families: int,
    window: int,
    tolerance: int,
    in_sequence: bool,  # noqa: FBT001 - numba has no keyword-only arguments
    pieces: Int64,
    heads: Int64,
    head_tags: Int32,
) -> tuple[int, int, int, int]:
    """How many pieces, tags at heads and cuts at spans there are; and a document that can't be cut, or -1.

    What does not fit in the arrays is counted, and not written.
    """
    n = n_heads = at_spans = number = placement = 0
    room = window
    # The tags in force, in the order in which they stand; and the token at which each ends to be so.
    active, until = np.empty(n_families, np.int32), np.empty(n_families, np.int64)
    for document in range(len(documents) - 1):
        first, last = documents[document], documents[document + 1]
        n_active = 0
        at = first
        while at < last:
            head = 0
            for k in range(n_active):
                if _goes_on(kinds, tags, families, active[k], until[k], at, last):
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
            at_spans += at > first and _begins_span(kinds, spans, at, first, last)
            if n < pieces.shape[1]:
                pieces[0, n], pieces[1, n], pieces[2, n], pieces[3, n] = at, stop, document, number
                heads[n + 1] = n_heads
            n += 1
            if in_sequence:
                room -= head + stop - at
                if room == 0 or stop < last:  # what follows a cut is in another window
                    room = window
                    number += 1
            while placement < len(placed) and placed[placement] < stop:
                i = placed[placement]
                n_active = _stand(active, until, n_active, families, kinds[i], tags[i], ends[placement])
                placement += 1
            at = stop
    return n, n_heads, at_spans, -1


@compiled
def _end_of_piece(kinds: Kinds, spans: Int64, at: int, first: int, last: int, limit: int, tolerance: int) -> int:
    """Where the piece that begins at `at` ends: at `limit` or before, and at `at` where nothing fits.

    A piece does not end after a tag. After a closing tag it may, if that is not the last place of the window.
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
    """Whether a span begins at a token, its tags included. Without spans: whether tags begin there."""
    if len(spans) == 0:
        return kinds[at] == OPEN and kinds[at - 1] != OPEN
    before, after = at - 1, at
    while before >= first and kinds[before] != TEXT:
        before -= 1
    while after < last and kinds[after] != TEXT:
        after += 1
    return before >= first and after < last and spans[before] != spans[after]


@compiled
def _stand(active: Int32, until: Int64, n_active: int, families: Int32, kind: int, tag: int, end: int) -> int:
    """Read one tag, whose span ends at `end`; return how many tags are in force after it."""
    if families[tag] < 0:
        return n_active
    kept = 0
    for k in range(n_active):
        ended = active[k] == tag if kind == CLOSE else families[active[k]] == families[tag]
        if not ended:
            active[kept], until[kept] = active[k], until[k]
            kept += 1
    if kind == OPEN:
        active[kept], until[kept] = tag, end
        kept += 1
    return kept


@compiled
def _goes_on(kinds: Kinds, tags: Int32, families: Int32, tag: int, end: int, at: int, last: int) -> bool:
    """Whether a tag that is in force before a cut, until `end`, has to stand again after the cut.

    Not if another tag takes its place before any text. But if its closing tag comes first it does, so that no tag is
    closed that was not opened.
    """
    if end <= at:
        return False
    while at < last and (kinds[at] == OPEN or kinds[at] == CLOSE):
        if kinds[at] == CLOSE and tags[at] == tag:
            return True
        if kinds[at] == OPEN and families[tags[at]] == families[tag]:
            return False
        at += 1
    return True
