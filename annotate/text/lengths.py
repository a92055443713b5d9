"""Spans that are too short or too long: merging and cutting, for all spans of a page at once."""

from __future__ import annotations

import numpy as np

from annotate.text.characters import EXTEND, JOIN, character_flags
from annotate.text.pages import Bytes, Mask, Positions
from annotate.text.utf8 import begin_of_code_point, byte_offsets, code_point_offsets, code_points_at

_SLACK = 4  # a cut looks for a blank in the last quarter of the longest span


def merged(lengths: Positions, first: Mask, block: Mask, min_chars: int) -> Mask:
    """Say which fragments still begin a span after the short ones have joined a neighbour.

    A fragment shorter than `min_chars` joins the one after it. The last of a document, or of a block that holds others,
    joins the one before. Of several short ones in a row every second joins, then again, until none is short. Only a
    span that is a whole document stays shorter than `min_chars`.

    Args:
        lengths: int64 `[n]`, code points of each fragment from its first to its last that is not blank.
        first: bool `[n]`, whether a fragment is the first of its document.
        block: bool `[n]`, whether it is the first of a block.
        min_chars: the shortest span.

    Returns:
        bool `[n]`.
    """
    alive = np.arange(len(lengths))
    block = block | first
    while len(alive):
        first_now, block_now = first[alive], block[alive]
        size = np.add.reduceat(lengths, alive)
        last = np.append(first_now[1:], True)
        short = (size < min_chars) & ~(first_now & last)
        if not short.any():
            break
        index = np.arange(len(alive))
        run_start = np.maximum.accumulate(np.where(short & ~(np.append(False, short[:-1]) & ~first_now), index, 0))
        acting = short & ((index - run_start) % 2 == 0)
        ends_block = np.append(block_now[1:], True)
        back = acting & (last | (ends_block & ~block_now))
        onward = acting & ~back
        joins = back | np.append(False, onward[:-1])
        alive = alive[~joins]
    keeps = np.zeros(len(lengths), np.bool_)
    keeps[alive] = True
    return keeps


def cut_long(buffer: Bytes, begins: Positions, ends: Positions, blanks: Positions, max_chars: int) -> Positions:
    """Cut spans that have more than `max_chars` code points into near-equal parts of at most that many.

    Each cut is made at the last of `blanks` before its ideal place, not further back than a quarter of `max_chars`;
    failing that, between two code points, where possible not before a combining mark or joiner and not inside CRLF.

    Args:
        buffer: uint8, a page's buffer.
        begins: int64 `[n]`, ascending positions of the spans.
        ends: int64 `[n]`, their ends.
        blanks: int64, ascending positions where a cut is welcome.
        max_chars: the longest span, in code points.

    Returns:
        int64, positions of the cuts, ascending.
    """
    maybe = np.flatnonzero(ends - begins > max_chars)
    if not len(maybe):
        return np.zeros(0, np.int64)
    bounds = np.stack([begins[maybe], ends[maybe]], axis=1)
    offsets = code_point_offsets(buffer, bounds.ravel()).reshape(-1, 2)
    long = np.flatnonzero(offsets[:, 1] - offsets[:, 0] > max_chars)
    if not len(long):
        return np.zeros(0, np.int64)
    begin, size = offsets[long, 0], offsets[long, 1] - offsets[long, 0]
    slack = max_chars // _SLACK
    parts = -(-size // (max_chars - slack))
    span = np.repeat(np.arange(len(long)), parts - 1)
    number = np.arange(len(span)) - np.repeat(np.cumsum(parts - 1) - (parts - 1), parts - 1) + 1
    ideal = begin[span] + number * size[span] // parts[span]
    lowest = byte_offsets(buffer, np.maximum(ideal - slack, begin[span] + 1))
    at = byte_offsets(buffer, ideal)
    cuts = _back_to_whole_character(buffer, at, lowest)
    if len(blanks):
        blank = blanks[np.maximum(np.searchsorted(blanks, at, "right") - 1, 0)]
        cuts = np.where((blank >= lowest) & (blank <= at), blank, cuts)
    return np.unique(cuts)


def splits_character(buffer: Bytes, positions: Positions) -> Mask:
    """Whether a cut at each position would tear apart what a reader takes for one character.

    Args:
        buffer: uint8, a page's buffer.
        positions: int64 `[n]`, each at the first byte of a code point.
    """
    flags = character_flags()
    before = flags[code_points_at(buffer, begin_of_code_point(buffer, positions - 1))]
    after = flags[code_points_at(buffer, positions)]
    crlf = (buffer[positions - 1] == ord("\r")) & (buffer[positions] == ord("\n"))
    torn: Mask = ((after & EXTEND) != 0) | ((before & JOIN) != 0) | crlf
    return torn


def _back_to_whole_character(buffer: Bytes, positions: Positions, lowest: Positions) -> Positions:
    cuts = positions.copy()
    active = np.arange(len(cuts))
    while len(active):
        active = active[splits_character(buffer, cuts[active]) & (cuts[active] > lowest[active])]
        cuts[active] = begin_of_code_point(buffer, cuts[active] - 1)
    # Nothing but marks as far back as a cut may go: then the ideal place is as good as any.
    torn = splits_character(buffer, cuts)
    cuts[torn] = positions[torn]
    return cuts
