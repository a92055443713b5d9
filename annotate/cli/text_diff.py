"""Shows the difference of two texts, word by word, on the terminal."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.text import Text

from annotate.amounts import counted
from annotate.cli.terminal import visible
from annotate.minhash.reference import UNSPACED, folded

WORDS = 1000  # compared of each text, from the first difference on: difflib's time grows with their square
CONTEXT = 8  # equal words shown on each side of a change
LONGEST = 40  # words shown of a change
CHANGES = 12  # changes shown

_UNSPACED = "".join(f"{chr(low)}-{chr(high)}" for low, high in UNSPACED)
# Very long words are cut, because a text may have a megabyte without a blank.
_WORD = re.compile(rf"(?:[{_UNSPACED}]|[^ {_UNSPACED}]{{1,64}}) ?")


@dataclass(frozen=True)
class _Piece:
    """Some words: in both texts ("equal"), only in the first ("-"), only in the second ("+"), or left out ("...")."""

    kind: Literal["equal", "-", "+", "..."]
    words: Sequence[str]


def difference(first: str, second: str) -> Text:
    """Show the difference: `[-only in the first-]` red, `{+only in the second+}` green, with a few words around.

    Texts are compared as the near-duplicate filter does: in Unicode's normal form C, with each run of blanks as one.
    Long runs of equal words, and changes after the first few, are only counted. Control characters are made visible.
    """
    if first == second:
        return Text("The texts are equal.", style="dim")
    one, other = folded(first), folded(second)
    if one == other:
        return Text("The texts differ only in blanks and Unicode's normal form.", style="dim")
    shown = Text()
    # With a blank at the end, the last word ends with a blank like the others.
    pieces = list(_pieces(_WORD.findall(f"{one} "), _WORD.findall(f"{other} ")))
    changes = [i for i, piece in enumerate(pieces) if piece.kind in "-+"]
    for i, piece in enumerate(pieces):
        if len(changes) > CHANGES and i > changes[CHANGES - 1]:
            return shown.append(Text(f"... {counted(len(changes) - CHANGES, 'more change')}", style="dim"))
        if piece.kind == "equal":
            shown.append(_equal(piece.words, begins=i == 0, ends=i == len(pieces) - 1))
        elif piece.kind == "...":
            shown.append(Text(f"... {piece.words[0]}", style="dim"))
        else:
            shown.append(_changed(piece))
    shown.rstrip()
    return shown


def _pieces(first: list[str], second: list[str]) -> Iterator[_Piece]:
    """Cut two lists of words into equal and different pieces, in order."""
    before = _common(first, second)
    after = _common(first[before:][::-1], second[before:][::-1])
    ends = len(first) - after, len(second) - after
    stops = min(ends[0], before + WORDS), min(ends[1], before + WORDS)
    whole = stops == ends
    if before:
        yield _Piece("equal", first[:before])
    yield from _compared(first[before : stops[0]], second[before : stops[1]], whole=whole)
    if not whole:
        left = max(ends[0] - stops[0], ends[1] - stops[1])
        yield _Piece("...", [f"{counted(left, 'more word')} not compared"])
    elif after:
        yield _Piece("equal", first[ends[0] :])


def _common(first: list[str], second: list[str]) -> int:
    """Count the equal words at the start of two lists."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0].rstrip() == pair[1].rstrip(), pairs))


def _compared(first: list[str], second: list[str], *, whole: bool) -> Iterator[_Piece]:
    """Compare words. If more words follow (not `whole`), leave out a change at the end: it may go on."""
    one, other = ([word.rstrip() for word in words] for words in (first, second))
    steps = difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    equal = [i for i, step in enumerate(steps) if step[0] == "equal"]
    for kind, start, stop, other_start, other_stop in steps if whole or not equal else steps[: equal[-1] + 1]:
        if kind == "equal":
            yield _Piece("equal", first[start:stop])
            continue
        if start < stop:
            yield _Piece("-", first[start:stop])
        if other_start < other_stop:
            yield _Piece("+", second[other_start:other_stop])


def _equal(words: Sequence[str], *, begins: bool, ends: bool) -> Text:
    """Show the equal words next to a change, and count the others."""
    head, tail = (0 if begins else CONTEXT), (0 if ends else CONTEXT)
    left = len(words) - head - tail
    if left <= CONTEXT:
        return Text(visible("".join(words)))
    return Text.assemble(
        visible("".join(words[:head])),
        (f"... {counted(left, 'word')} ... ", "dim"),
        visible("".join(words[len(words) - tail :])),
    )


def _changed(piece: _Piece) -> Text:
    """Show changed words in brackets, and a blank at their end after the bracket."""
    text = visible("".join(piece.words[:LONGEST]))
    left = len(piece.words) - LONGEST
    rest = f"... {counted(left, 'more word')}" if left > 0 else ""
    opens, closes, style = ("[-", "-]", "red") if piece.kind == "-" else ("{+", "+}", "green")
    return Text.assemble((f"{opens}{(text + rest).rstrip()}{closes}", style), " " if text.endswith(" ") or rest else "")
