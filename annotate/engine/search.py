"""Finds which inputs of a unit end the worker that works on them, by trying parts of the unit in workers of their own.

The first attempt is with no input at all: if that ends the worker, as when a model can't be loaded, no input is to
blame, and nothing is searched. A part that ends its worker is tried again in two halves. A single input has to end its
worker twice: so a worker that something else killed in between costs some work, and blames nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

PROOFS = 2
"""How often a single input has to end its worker to be left out."""


@dataclass
class Search:
    """A search among the inputs of a unit.

    Attributes:
        inputs: number of inputs.
        found: those that end their worker, by number; of each, how it was lost at last.
        attempts: how many parts were tried.
    """

    inputs: int
    found: dict[int, str] = field(default_factory=dict)
    attempts: int = 0
    _todo: list[range] = field(default_factory=list)
    _proofs: dict[int, int] = field(default_factory=dict)
    _empty: bool = True  # whether the attempt with no input is still to be made

    @staticmethod
    def among(inputs: int, left_out: Mapping[int, str] = MappingProxyType({})) -> Search:
        """Begin a search; the inputs that are left out already are found from the start."""
        search = Search(inputs, dict(left_out))
        search._todo = halves(range(inputs)) if inputs > 1 else [range(inputs)]
        return search

    def part(self) -> range | None:
        """The next part to try, at first an empty one; None at the end of the search."""
        if self._empty:
            return range(0)
        while self._todo and all(one in self.found for one in self._todo[-1]):
            self._todo.pop()
        return self._todo[-1] if self._todo else None

    @property
    def left(self) -> int:
        """Number of inputs that are still to be searched."""
        if self._empty:
            return self.inputs - len(self.found)
        return sum(len(part) - sum(one in part for one in self.found) for part in self._todo)

    def passed(self) -> None:
        """The part did not end its worker."""
        self.attempts += 1
        if self._empty:
            self._empty = False
        else:
            self._todo.pop()

    def ended(self, how: str = "worker") -> None:
        """The part ended its worker, which was lost in this way."""
        self.attempts += 1
        if self._empty:
            self._proofs[-1] = self._proofs.get(-1, 0) + 1
            if self._proofs[-1] == PROOFS:
                self._empty, self._todo = False, []
            return
        part = self._todo.pop()
        if len(part) > 1:
            self._todo += halves(part)
            return
        (one,) = part
        self._proofs[one] = self._proofs.get(one, 0) + 1
        if self._proofs[one] == PROOFS:
            self.found[one] = how
        else:
            self._todo.append(part)


def halves(part: range) -> list[range]:
    """The two halves of a part: the second, and then the first, which is tried before it."""
    middle = part.start + len(part) // 2
    return [range(middle, part.stop), range(part.start, middle)]
