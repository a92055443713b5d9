"""A pause before what is lost at once is sent again: it grows with each such loss, until one is not at once."""

from __future__ import annotations

from dataclasses import dataclass

AT_ONCE_SECONDS = 5.0
"""What is lost so soon may be lost again at once, as while a cluster is being taken away."""
FIRST_SECONDS, LONGEST_SECONDS = 1.0, 30.0


@dataclass
class Pause:
    """A pause.

    Attributes:
        seconds: its length; 0 if the last loss was not at once.
        until: when it ends, by `time.monotonic`.
    """

    seconds: float = 0.0
    until: float = 0.0

    def lost(self, now: float, *, sent: float) -> None:
        """Something that was sent at some time is lost now. During a pause this changes nothing."""
        if now < self.until:
            return
        longer = min(LONGEST_SECONDS, max(FIRST_SECONDS, 2 * self.seconds))
        self.seconds = longer if now - sent < AT_ONCE_SECONDS else 0.0
        self.until = now + self.seconds

    def over(self, now: float) -> bool:
        """Whether the pause is over."""
        return now >= self.until
