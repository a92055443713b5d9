"""Says how long something takes, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

Tell = Callable[[str], None]

FIRST = 2.0  # seconds: what is done by then is not told of
EVERY = 10.0  # seconds between two lines


class Progress:
    """Tells how far something is and how long it will take, if it takes more than a moment."""

    def __init__(self, tell: Tell, what: str) -> None:
        self.tell, self.what, self.begun, self.next = tell, what, time.monotonic(), FIRST

    def at(self, done: int, of: int) -> None:
        """`done` parts of `of` are done."""
        passed = time.monotonic() - self.begun
        if done < of and passed >= self.next:
            self.next = passed + EVERY
            self.tell(f"{self.what}: {done:,} of {of:,} done, about {passed / done * (of - done):.0f} s left")
