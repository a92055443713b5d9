"""What the layout of plain text says about sentences: blank lines, list items, headings, blocks.

Hard-wrapped prose is the normal case, so a line end counts only where the lines on its two sides say so.
"""

from __future__ import annotations

import numpy as np

from annotate.text.blanks import BlankRuns
from annotate.text.pages import Bytes, Mask, Positions, windows

_WINDOW = 8
_ITEM_DIGITS = 3

_BLANK = np.zeros(256, np.bool_)
_BLANK[[*b" \t\n\v\f\r"]] = True
_DIGIT = np.zeros(256, np.bool_)
_DIGIT[ord("0") : ord("9") + 1] = True
_LETTER = np.zeros(256, np.bool_)
_LETTER[[*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1)]] = True
_BULLET = np.zeros(256, np.bool_)
_BULLET[[*b"-*+|"]] = True
_UNDERLINE = np.zeros(256, np.bool_)
_UNDERLINE[[*b"=-~^\"'`#*+:._"]] = True


def line_cuts(buffer: Bytes, gaps: BlankRuns) -> tuple[Positions, Positions]:
    """Find the line ends that end a sentence, and those that can't.

    A sentence ends at a blank line, before a list item, a heading `# ...`, a field `:name ...`, a directive, a code
    fence or a doctest prompt, before a deeper line where the line before ends in a colon, before a line less deep than
    the one before (unless that opens its paragraph, as first-line indents do), and behind a heading or an underline. It
    never ends between a heading and its underline.

    Returns:
        int64, indices of gaps where a sentence must end, and of gaps where none may; the two have nothing in common.
    """
    lines = gaps.lines
    inside = ~gaps.outer[lines]
    blank = inside & (gaps.breaks[lines] > 1)
    single = inside & ~blank
    # The first bytes of each line, and nothing for the line that the last gap of the page would begin.
    first = np.pad(windows(buffer, gaps.ends[lines[:-1]], range(_WINDOW)), ((0, 0), (0, 1)))
    indent = gaps.ends[lines] - gaps.line_starts
    item, heading, underline = _begins_item(first), _begins_heading(first), _is_underline(buffer, gaps, first)

    deeper = indent[1:] > indent[:-1]
    shallower = indent[1:] < indent[:-1]
    colon = buffer[gaps.starts[lines[1:]] - 1] == ord(":")
    opens = ~single[:-1] & ~item[:-1]
    new = item[1:] | heading[1:] | heading[:-1] | underline[:-1] | (deeper & colon) | (shallower & ~opens)
    must = single[1:] & new & ~underline[1:]
    never = single[1:] & underline[1:]
    return lines[1:][must | blank[1:]], lines[1:][never]


def _begins_item(first: Bytes) -> Mask:
    """Whether a line begins like a list item, a field, a directive, a fence, a table row or a doctest prompt."""
    blank, digit, letter = (table[first[:5]] for table in (_BLANK, _DIGIT, _LETTER))
    item: Mask = _BULLET[first[0]] & blank[1]
    for mark in ("•", "◦", "▪", ".. ", ">>> ", "```"):
        item |= _begins(first, mark.encode())
    number = np.ones(first.shape[1], np.bool_)
    for digits in range(1, _ITEM_DIGITS + 1):
        number &= digit[digits - 1]
        item |= number & ((first[digits] == ord(".")) | (first[digits] == ord(")"))) & blank[digits + 1]
    item |= letter[0] & (first[1] == ord(")")) & blank[2]
    item |= (first[0] == ord("(")) & (letter[1] | digit[1]) & (first[2] == ord(")")) & blank[3]
    item |= (first[0] == ord(":")) & letter[1] & letter[2]
    return item


def _begins_heading(first: Bytes) -> Mask:
    """Whether a line is a heading as in Markdown: up to six number signs and a blank."""
    heading = np.zeros(first.shape[1], np.bool_)
    signs = first[0] == ord("#")
    for following in first[1:]:
        heading |= signs & _BLANK[following]
        signs &= following == ord("#")
    return heading


def _is_underline(buffer: Bytes, gaps: BlankRuns, first: Bytes) -> Mask:
    """Whether a line is one word whose first and last three bytes are the same mark: `=====`."""
    lines = gaps.lines
    alike = np.flatnonzero(_UNDERLINE[first[0]] & (first[0] == first[1]) & (first[0] == first[2]))
    begin, end = gaps.ends[lines[alike]], gaps.starts[lines[alike + 1]]
    last = (windows(buffer, end, range(-3, 0)) == first[0, alike]).all(axis=0)
    underline = np.zeros(len(lines), np.bool_)
    underline[alike[last & (lines[alike + 1] == lines[alike] + 1) & (end - begin >= 3)]] = True
    return underline


def _begins(first: Bytes, prefix: bytes) -> Mask:
    begins: Mask = first[0] == prefix[0]
    for byte, wanted in zip(first[1:], prefix[1:], strict=False):
        begins &= byte == wanted
    return begins
