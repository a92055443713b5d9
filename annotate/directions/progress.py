"""Says how long something takes, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

Tell = Callable[[str], None]

EVERY = 10.0  # seconds between two lines


class Progress:
    """Tells how long something takes, once its first part is done, and then how far it is."""

    def __init__(self, tell: Tell, what: str) -> None:
        self.tell, self.what, self.begun, self.told = tell, what, time.monotonic(), 0.0

    def at(self, done: int, of: int) -> None:
        """`done` parts of `of` are done."""
        passed = time.monotonic() - self.begun
        if done == 1 or passed - self.told > EVERY:
            self.told = passed
            self.tell(f"{self.what}: {done} of {of} done, about {passed / done * (of - done):.0f} s left")
