"""What is wrong with a completion, as its text tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

REPEATS = 3
"""A completion loops if it ends in a phrase that stands there so often."""
SHORTEST_PHRASE = 8
"""In characters. Holtzman et al. take two tokens; a word and a blank, or a short word twice, have as many."""
_TAIL = 3_000
"""Characters of the end that are looked at: a phrase of up to a third of them is found."""

NO_TEXT = "the generator gave no text"
EMPTY = "the completion is empty"
LOOPS = f"the completion loops: it ends in a phrase that stands there {REPEATS} times or more"
CUT_OFF = "the completion is cut off: it was not at its end after max_tokens"

WORDS = {EMPTY: "empty", LOOPS: "looping", CUT_OFF: "cut off"}
"""These reasons in a word, for counts."""
REFUSED = "refused"
"""The word for all other reasons: a server that refused, an opening that does not fit."""
LEFT_OUT = "left out: "
"""The names of the counts of completions that are left out begin so; a word stands after it."""


def loops(text: str) -> bool:
    """Whether a text ends in a phrase of 8 characters or more, three times in a row, perhaps with a part of it after.

    After Holtzman et al. 2020 (The Curious Case of Neural Text Degeneration, 1904.09751), who count a repetition if a
    phrase of at least two tokens is there three times or more at the end. Here it is of characters, so that a text of
    any script and any tokenizer is judged alike; and a phrase needs a letter or a digit, so that a line of dashes or
    the blanks at the end of a table are none.

    >>> loops("It was a dog. " * 3), loops("It was a dog. " * 2), loops("The end. " + "-" * 80)
    (True, False, False)
    """
    tail = text[-_TAIL:]
    codes = np.frombuffer(tail.encode("utf-32-le", "surrogatepass"), np.uint32)
    # Periodic at the end with period p: the last (REPEATS - 1) * p characters are those that stand p before them.
    for period in range(SHORTEST_PHRASE, len(codes) // REPEATS + 1):
        last = codes[len(codes) - (REPEATS - 1) * period :]
        before = codes[len(codes) - REPEATS * period : len(codes) - period]
        if last[-1] == before[-1] and np.array_equal(last, before) and any(map(str.isalnum, tail[-period:])):
            return True  # a shorter one without a letter, such as dashes, may be the end of a longer one with some
    return False


def wrong_with(text: str | None, *, cut_off: bool, keep_cut_off: bool) -> str | None:
    """Why a completion is left out; None if nothing is wrong with it.

    Args:
        text: the completion, None if it failed; the generator may know a better reason.
        cut_off: whether it ended because it had `max_tokens`.
        keep_cut_off: whether one that is cut off is right.
    """
    if text is None:
        return NO_TEXT
    if not text.strip():
        return EMPTY
    if loops(text):
        return LOOPS
    return CUT_OFF if cut_off and not keep_cut_off else None


def left_out(problems: Sequence[str | None]) -> dict[str, int]:
    """How many completions are left out, by names of counts.

    Args:
        problems: the reason for each, None for one that is kept.
    """
    return dict(Counter(LEFT_OUT + WORDS.get(problem, REFUSED) for problem in problems if problem is not None))
