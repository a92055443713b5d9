"""The layouts: where the tag of a span stands in the text, and how long it counts.

`LAYOUTS` is the one table of them. Placing, the scheme's names, its description in words, token shards and inference
all read it. To add a layout, add an entry here and its name to `LayoutName`; no other code has to change.

A layout works on states. The state of a span, in one family of tags, is the number of the tag that it has
(`TagScheme.names`); or `NONE`; or `SILENT`, where not even the family's null tag may stand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

States = npt.NDArray[np.int16]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

NONE, SILENT = -1, -2
CLOSES = 1 << 14
"""Added to the number of a tag, it stands for the closing tag."""

LayoutName = Literal["prefix", "begin-end", "change", "suffix", "repeat"]
Reach = Literal["span", "change", "nowhere"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the tag of a span stands in the text, and how long it counts.

    `before`, `closing` and `after` are functions of the state of each span of a unit, int16 `[n_spans]`, and of the row
    of its document, int64 `[n_spans]`. They say what stands at each span: the number of a tag, that plus `CLOSES` for
    its closing tag, or `NONE`. None in place of a function: nothing ever stands there.

    Attributes:
        words: where the tag stands, to follow "<nice> stands"; `{percent}` is the family's `rate` as a percentage.
        in_force: how long a tag counts for the text after it. "span": until its span ends. "change": until another tag
            of its family, or its closing tag, comes. "nowhere": it says something of the text before it, or around it,
            as tags do that stand after a span or inside it.
        before: what stands before each span.
        closing: what closes each span. Of several families at one place, the last to open is the first to close.
        after: what stands after each span, about that span.
        inside: before which words of a span its tag stands, bool `[n_words]`. It is given a number in [0, 1) that is
            drawn for each word from the second on, and the family's `rate`. None: before no word.
        closes: whether the tags have closing tags.
        every_span: whether the tag stands again where the next span has the same one.
    """

    words: str
    in_force: Reach = "nowhere"
    before: Callable[[States, Int64], States] | None = None
    closing: Callable[[States, Int64], States] | None = None
    after: Callable[[States, Int64], States] | None = None
    inside: Callable[[Float64, float], Mask] | None = None
    closes: bool = False
    every_span: bool = False

    def __post_init__(self) -> None:
        # Readers of tokens tell whether a tag is in force by its name alone.
        behind = self.after is not None or self.inside is not None
        if (self.before is None) != (self.in_force == "nowhere") or (self.before is not None and behind):
            raise ValueError(
                "a tag stands before its span, and is in force; or after or inside it, and is in force nowhere"
            )


def _own(state: States, row: Int64) -> States:
    """The tag of each span."""
    del row
    return state


def _own_closed(state: States, row: Int64) -> States:
    """The closing tag of each span that has a tag."""
    del row
    return np.where(state >= 0, state + CLOSES, NONE).astype(np.int16)


def _changes(state: States, row: Int64) -> States:
    """The tag of each span that has another one than the span before; its closing tag where none takes its place.

    Before the first span of a document there is no tag.
    """
    state = np.maximum(state, np.int16(NONE))  # SILENT is no tag either
    previous = np.append(np.int16(NONE), state[:-1])[: len(state)]
    previous[np.append(True, row[1:] != row[:-1])[: len(state)]] = NONE
    stands = np.where(state == NONE, previous + CLOSES, state)
    return np.where(state != previous, stands, NONE).astype(np.int16)


def _drawn(drawn: Float64, rate: float) -> Mask:
    """Each word, with the chance `rate`."""
    return drawn < rate


LAYOUTS: dict[str, Layout] = {
    "prefix": Layout(words="before its span", before=_own, in_force="span", every_span=True),
    "begin-end": Layout(
        words="before its span, with a closing tag after it",
        before=_own,
        closing=_own_closed,
        closes=True,
        in_force="change",
        every_span=True,
    ),
    "change": Layout(
        words="before a span whose tag differs from that of the span before",
        before=_changes,
        closes=True,
        in_force="change",
    ),
    "suffix": Layout(words="after its span", after=_own),
    # Maini et al. 2025, algorithm 2.
    "repeat": Layout(words="before words inside its span, {percent:.3g} % of them", inside=_drawn),
}
