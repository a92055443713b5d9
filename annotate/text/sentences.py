"""Where sentences end: rules over all candidate gaps of a page at once.

A sentence ends at a gap between two words when the word before ends in a mark (`.`, `?`, `…`, quotes and brackets may
follow it) that the rules below believe, at a blank line, and where the layout begins something new (a list item, a
heading, a block after a colon); or behind a mark such as `。` with no gap at all. A line end alone ends nothing.

A period before a lower-case letter ends a sentence only behind a quote or bracket or a plain word of four letters or
more: shorter ones may be abbreviations that are not listed, but text in lower case throughout has sentences too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotate.text import abbreviations
from annotate.text.blanks import BlankRuns
from annotate.text.characters import (
    CLOSER,
    DIGIT,
    ELLIPSIS,
    ENDER,
    HOLD,
    LOWER,
    OPENER,
    STRONG,
    WIDE,
    WORD,
    character_flags,
    last_bytes,
)
from annotate.text.lines import line_cuts
from annotate.text.pages import MARGIN, Bytes, Mask, Page, Positions, windows
from annotate.text.utf8 import begin_of_code_point, code_points_at, is_continuation

_MAY_END = last_bytes(ENDER | CLOSER)
_MAY_BE_WIDE = last_bytes(WIDE)
_MOST_CLOSERS = 6
_MOST_OPENERS = 4
_PLAIN_WORD = 4  # letters; a shorter word before a period and a lower-case letter may be an abbreviation not listed

_NUMBERING_DIGITS = 3

_LETTER = np.zeros(256, np.bool_)
_LETTER[[*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1)]] = True
_CLOSED = np.zeros(256, np.bool_)
_CLOSED[[*b"\"')]}`"]] = True
_DIGIT = np.zeros(256, np.bool_)
_DIGIT[ord("0") : ord("9") + 1] = True


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Places between two words of one document where a span may end.

    Attributes:
        left: int64 `[n]`, position in the page one past the last byte that is not blank before the cut, ascending.
        right: int64 `[n]`, position of the first byte that is not blank after it; `left` where there is no blank.
        block: bool `[n]`, whether the layout ends something here: a paragraph, a list item, a heading.
    """

    left: Positions
    right: Positions
    block: Mask


def cuts_at(gaps: BlankRuns, chosen: Positions) -> Cuts:
    """Make cuts at the gaps with these indices; a blank line ends a block."""
    return Cuts(left=gaps.starts[chosen], right=gaps.ends[chosen], block=gaps.breaks[chosen] > 1)


def sentence_cuts(page: Page, gaps: BlankRuns) -> Cuts:
    """Find all ends of sentences of a page, except the ends of its documents."""
    believed = np.zeros(len(gaps.starts), np.bool_)
    candidates = np.flatnonzero(_MAY_END[page.buffer[gaps.starts - 1]] & ~gaps.outer)
    believed[_believed(page.buffer, gaps, candidates)] = True
    must, never = line_cuts(page.buffer, gaps)
    believed[never] = False
    believed[must] = True
    block = np.zeros(len(gaps.starts), np.bool_)
    block[must] = True
    chosen = np.flatnonzero(believed)
    wide = _ends_without_gap(page)
    left = np.append(gaps.starts[chosen], wide)
    order = np.argsort(left, kind="stable")
    return Cuts(
        left=left[order],
        right=np.append(gaps.ends[chosen], wide)[order],
        block=np.append(block[chosen], np.zeros(len(wide), np.bool_))[order],
    )


def _believed(buffer: Bytes, gaps: BlankRuns, candidates: Positions) -> Positions:
    """Of the gaps behind a mark or a closer, those at which a sentence ends."""
    flags = character_flags()
    end = _skip_back(buffer, gaps.starts[candidates], CLOSER, _MOST_CLOSERS)
    mark_at = begin_of_code_point(buffer, end - 1)
    kind = flags[code_points_at(buffer, mark_at)]
    hold = (flags[code_points_at(buffer, gaps.ends[candidates])] & HOLD) != 0
    marked = np.flatnonzero(((kind & ENDER) != 0) & ~hold)
    candidates, mark_at, kind = candidates[marked], mark_at[marked], kind[marked]

    closed = end[marked] < gaps.starts[candidates]
    word_at = _skip(buffer, gaps.ends[candidates], OPENER, _MOST_OPENERS)
    next_flags = flags[code_points_at(buffer, word_at)]
    lower = (next_flags & LOWER) != 0
    period = buffer[mark_at] == ord(".")
    repeated = period & (buffer[mark_at - 1] == ord("."))
    abbreviation, plain = _word_before(buffer, mark_at, word_at, next_flags)
    numbering = _is_numbering(buffer, gaps, candidates, mark_at)
    alone = _begins_at(gaps, candidates, mark_at)
    goes_on = np.select(
        [repeated | ((kind & ELLIPSIS) != 0), period, (kind & STRONG) != 0],
        [lower, abbreviation | numbering | (lower & (closed | ~plain)), lower & (closed | alone)],
        False,
    )
    believed: Positions = candidates[~goes_on]
    return believed


def _begins_at(gaps: BlankRuns, candidates: Positions, position: Positions) -> Mask:
    """Whether the word that ends at a gap begins at `position`."""
    begins: Mask = gaps.ends[candidates - 1] == position
    return begins


def _skip_back(buffer: Bytes, ends: Positions, flag: int, most: int) -> Positions:
    """Move each end back over up to `most` characters that have the flag."""
    flags = character_flags()
    ends = ends.copy()
    active = np.arange(len(ends))
    for _ in range(most):
        begins = begin_of_code_point(buffer, ends[active] - 1)
        has = (flags[code_points_at(buffer, begins)] & flag) != 0
        active = active[has]
        if not len(active):
            break
        ends[active] = begins[has]
    return ends


def _skip(buffer: Bytes, begins: Positions, flag: int, most: int) -> Positions:
    """Move each position forward over up to `most` characters that have the flag."""
    flags = character_flags()
    begins = begins.copy()
    active = np.arange(len(begins))
    for _ in range(most):
        code_points = code_points_at(buffer, begins[active])
        has = (flags[code_points] & flag) != 0
        active = active[has]
        if not len(active):
            break
        begins[active] += _widths(code_points[has])
    return begins


def _widths(code_points: npt.NDArray[np.int32]) -> Positions:
    return np.searchsorted(np.array([0x80, 0x800, 0x10000]), code_points, "right") + 1


def _word_before(
    buffer: Bytes, period_at: Positions, next_at: Positions, next_flags: npt.NDArray[np.uint16]
) -> tuple[Mask, Mask]:
    """Judge the words before a period.

    Returns:
        Whether the period belongs to an abbreviation that goes on with the next word, and whether the word is a plain
        one: it ends in a quote or bracket, or in four letters or more that are no abbreviation.
    """
    reach = abbreviations.BYTES + 1
    before = windows(buffer, period_at, range(-reach, 0))
    letter = _LETTER[before][::-1]  # from the period backwards
    dot = (before == ord("."))[::-1]
    length = _run(letter | dot)
    first = begin_of_code_point(buffer, period_at - np.minimum(length, abbreviations.BYTES) - 1)
    whole = (length < reach) & ((character_flags()[code_points_at(buffer, first)] & WORD) == 0)
    kinds = np.where(whole, abbreviations.abbreviation_kinds(before[1:], length), 0)

    # Letters and periods in turn, as in U.S.A. or J.; the pronoun stands alone more often than a middle name does.
    in_turn = _run(np.stack([letter[k] if k % 2 == 0 else dot[k] for k in range(reach)]))
    initials = whole & (in_turn == length) & (length % 2 == 1) & ~((length == 1) & (buffer[period_at - 1] == ord("I")))
    kinds = np.where((kinds == 0) & initials, abbreviations.MAYBE, kinds)

    goes_on = (kinds == abbreviations.NEVER) | ((kinds == abbreviations.NUMBER) & ((next_flags & DIGIT) != 0))
    maybe = np.flatnonzero(kinds == abbreviations.MAYBE)
    following = windows(buffer, next_at[maybe], range(reach))
    goes_on[maybe] = ~abbreviations.is_starter(following[:-1], _run(_LETTER[following]))
    plain = (letter[:_PLAIN_WORD].all(axis=0) & (kinds == 0)) | _CLOSED[before[-1]]
    return goes_on, plain


def _run(has: Mask) -> Positions:
    """How many rows hold from the first on; bool `[k, n]` to int64 `[n]`."""
    length = np.zeros(has.shape[1], np.int64)
    goes_on = np.ones(has.shape[1], np.bool_)
    for row in has:
        goes_on &= row
        length += goes_on
    return length


def _is_numbering(buffer: Bytes, gaps: BlankRuns, candidates: Positions, period_at: Positions) -> Mask:
    """Whether the word is the number of a list item: up to three digits and a period at the start of a line."""
    line_before = np.zeros(len(gaps.starts), np.bool_)
    line_before[gaps.lines] = True
    digits = _run(_DIGIT[windows(buffer, period_at, range(-_NUMBERING_DIGITS - 1, 0))][::-1])
    alone = (digits > 0) & (digits <= _NUMBERING_DIGITS) & _begins_at(gaps, candidates, period_at - digits)
    return alone & line_before[candidates - 1]


def _ends_without_gap(page: Page) -> Positions:
    """Positions behind marks that end a sentence with no blank after them, and behind the closers that follow."""
    buffer = page.buffer
    last = np.flatnonzero(buffer[:-MARGIN] >= 0x80)
    last = last[_MAY_BE_WIDE[buffer[last]] & ~is_continuation(buffer[last + 1])]
    if not len(last):
        return last
    flags = character_flags()
    last = last[(flags[code_points_at(buffer, begin_of_code_point(buffer, last))] & WIDE) != 0]
    ends = _skip(buffer, last + 1, CLOSER, _MOST_CLOSERS)
    following = code_points_at(buffer, ends)
    # Behind a blank the rule for gaps decides; a particle or a comma carries the sentence on after a quotation.
    goes_on = (flags[following] & (ENDER | HOLD)) != 0
    goes_on |= np.isin(following, [ord(c) for c in " \t\n\v\f\r\u2028\u2029\u3000と"])
    return np.unique(ends[~goes_on])
