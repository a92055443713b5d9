"""The role of a stage where documents end: it has a ledger. The engine asks for the role, never for a stage by name."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from annotate.graph.stage import Stage

Counts = Callable[[Stage], Mapping[str, int]]
"""Returns the counts of a stage's dataset; empty if there is no dataset."""


@dataclass(frozen=True)
class LedgerStates:
    """The states in which documents ended.

    Attributes:
        states: documents by state; each is in one.
        reached: number of documents that the stage has read, which is the sum of the states.
        beside: other counts, which are not part of the sum.
    """

    states: Mapping[str, int]
    reached: int
    beside: Mapping[str, int]


class EndsDocuments(Stage):
    """A stage where documents end. As an output of a pipeline it has a ledger: each document in one state.

    Attributes:
        unnamed: the name of an output to which the pipeline gave none. The label of its dataset shows any other name.
    """

    unnamed: ClassVar[str] = "shards"

    @abc.abstractmethod
    def ledger(self, counts: Counts) -> LedgerStates:
        """The states of the documents that the stage read. The stage chooses the names of the states."""
