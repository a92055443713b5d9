"""The blanks of a page: the gaps between words, and which of them break a line, a paragraph or a document."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotate.text.pages import SEPARATOR, Bytes, Mask, Page, Positions

_LINE_SEPARATOR, _PARAGRAPH_SEPARATOR, _IDEOGRAPHIC_SPACE = "\u2028", "\u2029", "\u3000"


@dataclass(frozen=True, kw_only=True)
class BlankRuns:
    """The maximal runs of blanks and separators of a page, in order; a page begins and ends with one.

    Blanks are the ASCII ones, U+2028, U+2029 and the ideographic space; a no-break space is part of a word. A line ends
    at LF, CRLF, CR, U+2028 or U+2029, and U+2029 also ends a paragraph.

    Attributes:
        starts: int64 `[n_gaps]`, position in the page of the first blank, one past the last byte of the word before.
        ends: int64 `[n_gaps]`, position of the first byte of the next word.
        breaks: int64 `[n_gaps]`, the number of line ends inside, two or more for a blank line.
        outer: bool `[n_gaps]`, whether a document begins or ends inside.
        lines: int64 `[n_lines]`, the gaps that hold the end of a line or of a document, in order.
        line_starts: int64 `[n_lines]`, position in the page where the line of the next word begins, with its indent.
    """

    starts: Positions
    ends: Positions
    breaks: Positions
    outer: Mask
    lines: Positions
    line_starts: Positions


def find_blank_runs(page: Page) -> BlankRuns:
    """Find all gaps of a page."""
    buffer = page.buffer
    # Comparisons run over bytes many times faster than a lookup table does.
    blank = (buffer == ord(" ")) | (buffer == SEPARATOR) | ((buffer >= ord("\t")) & (buffer <= ord("\r")))
    newline = buffer == ord("\n")
    carriage = np.flatnonzero(buffer == ord("\r"))
    newline[carriage[~newline[carriage + 1]]] = True
    line_ends = np.flatnonzero(newline)
    wide = {
        character: find_character(buffer, character)
        for character in (_LINE_SEPARATOR, _PARAGRAPH_SEPARATOR, _IDEOGRAPHIC_SPACE)
    }
    for at in wide.values():
        for k in range(3):
            blank[at + k] = True
    if len(wide[_LINE_SEPARATOR]) + len(wide[_PARAGRAPH_SEPARATOR]):
        # A paragraph separator counts twice, as the two line ends of a blank line do.
        line_ends = np.sort(
            np.concatenate([line_ends, wide[_LINE_SEPARATOR] + 2, np.repeat(wide[_PARAGRAPH_SEPARATOR] + 2, 2)])
        )
    starts = np.append(0, np.flatnonzero(blank[1:] > blank[:-1]) + 1)
    ends = np.append(np.flatnonzero(blank[1:] < blank[:-1]) + 1, len(buffer))
    borders = np.append(page.starts - 1, page.ends)
    outer = np.zeros(len(starts), np.bool_)
    outer[np.searchsorted(starts, borders, "right") - 1] = True
    breaks = np.bincount(np.searchsorted(starts, line_ends, "right") - 1, minlength=len(starts))
    lines = np.flatnonzero((breaks > 0) | outer)
    stops = np.sort(np.concatenate([line_ends, borders]), kind="stable")
    line_starts = stops[np.searchsorted(stops, ends[lines]) - 1] + 1
    return BlankRuns(starts=starts, ends=ends, breaks=breaks, outer=outer, lines=lines, line_starts=line_starts)


def find_character(buffer: Bytes, character: str) -> Positions:
    """Where a character of three UTF-8 bytes begins; int64."""
    first, second, third = character.encode()
    at = np.flatnonzero(buffer[:-2] == first)
    found: Positions = at[(buffer[at + 1] == second) & (buffer[at + 2] == third)]
    return found
