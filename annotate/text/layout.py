"""What the layout of plain text says about sentences: blank lines, list items, headings, blocks.

Hard-wrapped prose is the normal case, so a line end counts only where the lines on its two sides say so.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from annotate.text.gaps import Gaps
from annotate.text.pages import Bytes, Mask, Positions

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


def line_cuts(buffer: Bytes, gaps: Gaps) -> tuple[Positions, Positions]:
    """Find the line ends that end a sentence, and those that can't.

    A sentence ends at a blank line, before a list item, a heading `# ...`, a field `:name ...`, a directive, a code fence
    or a doctest prompt, before a deeper line where the line before ends in a colon, before a line less deep than the one
    before (unless that opens its paragraph, as first-line indents do), and behind a heading or an underline. It never
    ends between a heading and its underline.

    Returns:
        int64, indices of gaps where a sentence must end, and of gaps where none may; the two have nothing in common.
    """
    lines = gaps.lines
    inside = ~gaps.outer[lines]
    blank = inside & (gaps.breaks[lines] > 1)
    single = inside & ~blank
    first = sliding_window_view(buffer, _WINDOW)[gaps.ends[lines[:-1]]]  # the first bytes of each line
    first = np.concatenate([first, np.zeros((1, _WINDOW), np.uint8)])
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
    blank, digit, letter = _BLANK[first], _DIGIT[first], _LETTER[first]
    bullet = _BULLET[first[:, 0]] & blank[:, 1]
    for mark in "•◦▪":
        bullet |= _begins(first, mark.encode())
    number = np.zeros(len(first), np.bool_)
    for digits in range(1, _ITEM_DIGITS + 1):
        point = (first[:, digits] == ord(".")) | (first[:, digits] == ord(")"))
        number |= digit[:, :digits].all(axis=1) & point & blank[:, digits + 1]
    lettered = letter[:, 0] & (first[:, 1] == ord(")")) & blank[:, 2]
    lettered |= (first[:, 0] == ord("(")) & (letter | digit)[:, 1] & (first[:, 2] == ord(")")) & blank[:, 3]
    field = (first[:, 0] == ord(":")) & letter[:, 1] & letter[:, 2]
    return bullet | number | lettered | field | _begins(first, b".. ") | _begins(first, b">>> ") | _begins(first, b"```")


def _begins_heading(first: Bytes) -> Mask:
    """Whether a line is a heading as in Markdown: up to six number signs and a blank."""
    signs = np.logical_and.accumulate(first == ord("#"), axis=1).sum(axis=1)
    return (signs > 0) & (signs <= 6) & _BLANK[first[np.arange(len(first)), np.minimum(signs, _WINDOW - 1)]]


def _is_underline(buffer: Bytes, gaps: Gaps, first: Bytes) -> Mask:
    """Whether a line is one word whose first and last three bytes are the same mark: `=====`."""
    lines = gaps.lines
    underline = np.zeros(len(lines), np.bool_)
    begins, ends = gaps.ends[lines[:-1]], gaps.starts[lines[1:]]
    alike = _UNDERLINE[first[:-1, 0]] & (first[:-1, 0] == first[:-1, 1]) & (first[:-1, 0] == first[:-1, 2])
    last = (buffer[ends[:, None] - np.arange(1, 4)] == first[:-1, :1]).all(axis=1)
    underline[:-1] = alike & last & (np.diff(lines) == 1) & (ends - begins >= 3)
    return underline


def _begins(first: Bytes, prefix: bytes) -> Mask:
    begins: Mask = (first[:, : len(prefix)] == np.frombuffer(prefix, np.uint8)).all(axis=1)
    return begins
