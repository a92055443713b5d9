"""Roles that a stage can have beside its kind: what the engine asks for in place of a stage by name."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from annotate.graph.stage import Stage

Counts = Callable[[Stage], Mapping[str, int]]
"""Gives what the dataset of a stage has counted: nothing where it is not there."""


@dataclass(frozen=True)
class LedgerStates:
    """What has become of documents.

    Attributes:
        states: documents by state; each is in one.
        reached: documents that the stage has looked at, which the states sum to.
        beside: other counts, which are in no sum.
    """

    states: Mapping[str, int]
    reached: int
    beside: Mapping[str, int]


class EndsDocuments(Stage):
    """A stage where documents end: as an output of a pipeline it has a ledger, which says what became of each.

    Attributes:
        unnamed: what an output is called that was given no name; one with another name has that in its label.
    """

    unnamed: ClassVar[str] = "shards"

    @abc.abstractmethod
    def ledger(self, counts: Counts) -> LedgerStates:
        """What has become of the documents that it looked at, in states that it names."""
