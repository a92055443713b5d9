"""Packing: pieces of documents in windows of one size.

By default pieces are laid into windows from the longest to the shortest, each into the fullest window that has room for
it (best-fit decreasing, Ding et al. 2024, arXiv 2404.10830). So documents that fit in a window are never cut, and few
tokens are padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from annotate.compiled import compiled, constant
from annotate.errors import ConfigError
from annotate.tokens.insertion import TaggedTokens
from annotate.tokens.kinds import CLOSE, OPEN, PADDING, REPEATED, Kinds
from annotate.tokens.pieces import Pieces, cut_into_pieces

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]

Way = Literal["best-fit", "concatenate"]
SMALLEST_WINDOW = 8
TOLERANCE = 16
"""A cut goes back by up to a sixteenth of a window, to where a span begins. Best-fit fills the room it leaves."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Windows of tokens.

    Attributes:
        ids: int32 `[n_windows, window]`.
        kinds: uint8 `[n_windows, window]`, of `annotate.tokens.kinds`.
        positions: int32 `[n_windows, window]`, from 0 in each segment; 0 for padding.
        spans: int64 `[n_windows, window]`, the row in the table of spans; -1 for what is not text. None: no spans were
            given.
        lengths: int32 `[n_segments]`, tokens of each segment, with the tags at its head. A segment is a piece of a
            document. Those of a window follow each other from its start, and padding follows them.
        documents: int64 `[n_segments]`, the document of each segment.
        pieces: int32 `[n_segments]`, the number of each segment among the pieces of its document, from 0.
        begins: int64 `[n_segments]`, the first token of each piece in the tagged documents.
        ends: int64 `[n_segments]`, one past its last token.
        segments: int64 `[n_windows + 1]`, the first segment of each window.
        cuts: how often a document was cut.
        cuts_at_spans: how many of these cuts are where a span begins.
    """

    ids: Int32
    kinds: Kinds
    positions: Int32
    spans: Int64 | None
    lengths: Int32
    documents: Int64
    pieces: Int32
    begins: Int64
    ends: Int64
    segments: Int64
    cuts: int
    cuts_at_spans: int

    @property
    def counts(self) -> dict[str, int]:
        """How many windows, segments, cuts, and tokens of each kind there are."""
        names = ("text_tokens", "tags", "closing_tags", "begin_tokens", "end_tokens", "repeated_tags", "padding")
        of_kind = np.bincount(self.kinds.ravel(), minlength=len(names)).tolist()
        return {
            "windows": len(self.ids),
            "segments": len(self.lengths),
            "cuts": self.cuts,
            "cuts_at_spans": self.cuts_at_spans,
            **dict(zip(names, of_kind, strict=True)),
        }

    @property
    def filled_share(self) -> float:
        """The share of tokens that are not padding; 1 where there is no window."""
        return float(self.lengths.sum() / self.ids.size) if self.ids.size else 1.0

    def laid_out(self, values: Int64, empty: int) -> Int64:
        """Where the windows have the tokens of the tagged documents, a value of each: int64 `[n_windows, window]`.

        Args:
            values: int64, one for each token of the tagged documents.
            empty: what stands at repeated tags and at padding.
        """
        sizes = self.ends - self.begins
        shift = np.repeat(self.begins - (np.cumsum(sizes) - sizes), sizes)
        found = np.full(self.ids.shape, empty, np.int64)
        found[(self.kinds != PADDING) & (self.kinds != REPEATED)] = values[shift + np.arange(len(shift))]
        return found


def pack(
    tagged: TaggedTokens,
    window: int,
    *,
    pad_id: int,
    way: Way = "best-fit",
    tolerance: int | None = None,
) -> Packed:
    """Pack tagged documents into windows. The result depends on the arguments alone.

    The pieces of a window are in the order of their documents, and windows in the order of their first documents. A
    window never ends in a tag: a tag goes to the next piece, or padding follows it.

    Args:
        tagged: the documents.
        window: tokens of a window, 8 or more.
        pad_id: the id that fills windows.
        way: "best-fit" cuts only documents that are longer than a window. "concatenate" lays documents end to end and
            cuts where a window ends.
        tolerance: a cut goes back by at most so many tokens, to where a span begins. None: a sixteenth of the window
            for "best-fit", 0 for "concatenate".

    Raises:
        ConfigError: a setting is out of range, or tags are of spans that were not given.
        InputError: more tags are in force at a place of a document than a window has room for; names the document.
    """
    if way not in get_args(Way):
        raise ConfigError(f"way must be one of {', '.join(get_args(Way))}, not {way!r}")
    if window < SMALLEST_WINDOW:
        raise ConfigError(f"a window must have at least {SMALLEST_WINDOW} tokens, not {window}")
    back = (window // TOLERANCE if way == "best-fit" else 0) if tolerance is None else tolerance
    if not 0 <= back < window:
        raise ConfigError(f"tolerance must be from 0 to less than the window, {window}, not {back}")
    pieces = cut_into_pieces(tagged, window, back, in_sequence=way == "concatenate")
    windows = pieces.windows if way == "concatenate" else _best_fit(tagged, pieces, window)
    return _filled(tagged, pieces, windows, window, pad_id)


def _best_fit(tagged: TaggedTokens, pieces: Pieces, window: int) -> Int64:
    """The window of each piece: int64 `[n_pieces]`. Windows are numbered in the order of their first pieces."""
    last = tagged.kinds[pieces.ends - 1]
    room = pieces.lengths + ((last == OPEN) | (last == CLOSE))  # after a tag something has to follow
    windows = np.zeros(len(room), np.int64)
    longest_first = np.argsort(-room, kind="stable")
    _fit(constant(room, np.int64), constant(longest_first, np.int64), window, windows)
    _, first, inverse = np.unique(windows, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _filled(tagged: TaggedTokens, pieces: Pieces, windows: Int64, window: int, pad_id: int) -> Packed:
    order = np.argsort(windows, kind="stable")
    n = int(windows.max(initial=-1)) + 1
    shape = (n, window)
    ids, kinds = np.full(shape, pad_id, np.int32), np.full(shape, PADDING, np.uint8)
    positions = np.zeros(shape, np.int32)
    with_spans = tagged.spans is not None
    token_spans = np.zeros(0, np.int64) if tagged.spans is None else tagged.spans
    spans = np.full(shape if with_spans else (0, 0), -1, np.int64)
    segments = np.searchsorted(windows[order], np.arange(n + 1))
    _fill(
        constant(tagged.ids, np.int32),
        constant(tagged.kinds, np.uint8),
        constant(token_spans, np.int64),
        constant(pieces.begins, np.int64),
        constant(pieces.ends, np.int64),
        constant(pieces.heads, np.int64),
        constant(np.array(tagged.vocabulary.open_ids, np.int32)[pieces.tags], np.int32),
        constant(order, np.int64),
        constant(segments, np.int64),
        ids,
        kinds,
        positions,
        spans,
    )
    return Packed(
        ids=ids,
        kinds=kinds,
        positions=positions,
        spans=spans if with_spans else None,
        lengths=pieces.lengths[order].astype(np.int32),
        documents=pieces.documents[order],
        pieces=pieces.numbers[order],
        begins=pieces.begins[order],
        ends=pieces.ends[order],
        segments=segments.astype(np.int64),
        cuts=pieces.cuts,
        cuts_at_spans=pieces.at_spans,
    )


@compiled
def _fit(room: Int64, order: Int64, window: int, windows: Int64) -> None:
    """Best fit, with a tree over the room that windows have left: log2(window) steps for each piece."""
    leaves = 1
    while leaves <= window:
        leaves *= 2
    some = np.zeros(2 * leaves, np.bool_)  # whether there is a window with this much room left; node 1 is the root
    newest = np.full(window + 1, -1, np.int64)  # by room left, the last window to have it
    before = np.full(len(room), -1, np.int64)  # the window that had the same room left before this one
    n = 0
    for piece in order:
        node = leaves + room[piece]
        found = some[node]
        while not found and node > 1:  # up, until there is something to the right
            if node % 2 == 0 and some[node + 1]:
                node, found = node + 1, True
            else:
                node //= 2
        if found:
            while node < leaves:
                node = 2 * node if some[2 * node] else 2 * node + 1
            left = node - leaves
            chosen = newest[left]
            newest[left] = before[chosen]
            if newest[left] < 0:
                some[node] = False
                while node > 1 and not some[node ^ 1]:
                    node //= 2
                    some[node] = False
        else:
            left, chosen = window, n
            n += 1
        windows[piece] = chosen
        left -= room[piece]
        before[chosen] = newest[left]
        newest[left] = chosen
        node = leaves + left
        while node >= 1 and not some[node]:
            some[node] = True
            node //= 2


@compiled
def _fill(
    token_ids: Int32,
    token_kinds: Kinds,
    token_spans: Int64,
    begins: Int64,
    ends: Int64,
    heads: Int64,
    head_ids: Int32,
    order: Int64,
    segments: Int64,
    ids: Int32,
    kinds: Kinds,
    positions: Int32,
    spans: Int64,
) -> None:
    with_spans = len(token_spans) > 0
    for row in range(len(segments) - 1):
        out = 0
        for segment in range(segments[row], segments[row + 1]):
            piece = order[segment]
            start = out
            for i in range(heads[piece], heads[piece + 1]):
                ids[row, out], kinds[row, out], positions[row, out] = head_ids[i], REPEATED, out - start
                out += 1
            for i in range(begins[piece], ends[piece]):
                ids[row, out], kinds[row, out], positions[row, out] = token_ids[i], token_kinds[i], out - start
                if with_spans:
                    spans[row, out] = token_spans[i]
                out += 1
