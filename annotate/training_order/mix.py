"""How the sources of a corpus are mixed: a weight for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError

SOURCES = 256
"""The most sources that can be mixed: the counts of all are held in memory together."""

OTHERS = "*"
"""In a mix, all sources that it does not name."""

Exhaustion = Literal["first_exhausted", "all_exhausted"]


@dataclass(frozen=True, kw_only=True)
class Mix:
    """How the sources of a corpus are mixed in what a model is trained on.

        Mix(column="source", weights={"wiki": 0.3, "*": 0.7})

    Attributes:
        column: the column of the corpus that says which source a document is of.
        weights: the weight of each source, by its value in the column. "*" is all other sources together. Of a source
            with the weight 0 nothing is used.
        exhaustion: when training ends, in the words of `interleave_datasets` of Hugging Face `datasets`.
            "first_exhausted": when one source is used up; no document comes twice. "all_exhausted": when every source
            is; the others are repeated.
    """

    column: str
    weights: tuple[tuple[str, float], ...]
    exhaustion: Exhaustion = "first_exhausted"

    def __init__(
        self,
        *,
        column: str,
        weights: Mapping[str, float] | Sequence[tuple[str, float]],
        exhaustion: Exhaustion = "first_exhausted",
    ) -> None:
        pairs = tuple(weights.items() if isinstance(weights, Mapping) else weights)
        names = [source for source, _ in pairs]
        if unnamed := [name for name in names if not isinstance(name, str)]:
            raise ConfigError(f"a source must be named by a text, got {unnamed[0]!r}", hint="Also an integer: '1'.")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"a source has one weight, got two for {twice[0]!r}")
        pairs = tuple(sorted(pairs))
        object.__setattr__(self, "column", column)
        object.__setattr__(self, "weights", pairs)
        object.__setattr__(self, "exhaustion", exhaustion)
        if exhaustion not in get_args(Exhaustion):
            choices = ", ".join(f'"{value}"' for value in get_args(Exhaustion))
            raise ConfigError(f"exhaustion must be {choices}, got {exhaustion!r}")
        for source, weight in pairs:
            if not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
                raise ConfigError(f"the weight of {source!r} must be a number from 0 on, got {weight!r}")
        if not sum(weight for _, weight in pairs) > 0:
            raise ConfigError(f"a mix needs a weight above 0, got {dict(pairs)}")
        if len(pairs) > SOURCES:
            raise ConfigError(f"a mix can have at most {SOURCES:,} sources, got {len(pairs):,}")

    def named(self, sources: pa.Array) -> pa.Array:
        """The source of each document, or "*" where that stands for it: string `[n]`.

        Raises:
            ConfigError: a document is of a source that has no weight.
        """
        known = pa.array([source for source, _ in self.weights], pa.string())
        if OTHERS in known.to_pylist():
            return pc.if_else(pc.is_in(sources, known), sources, OTHERS)
        for source in pc.unique(sources).filter(pc.invert(pc.is_in(pc.unique(sources), known))).to_pylist()[:1]:
            n = pc.sum(pc.equal(sources, source) if source is not None else pc.is_null(sources)).as_py()
            if source is None:
                raise ConfigError(
                    f"{n:,} documents have no value in the column {self.column!r}, by which sources are mixed",
                    hint=f"Give them one, or all that have none a weight: {OTHERS}=1.",
                )
            raise ConfigError(
                f"the mix has no weight for the source {f'{source:.80}'!r}, of which there are {n:,} documents here",
                hint=f"Give it one, or all others together: {OTHERS}=1. 0 leaves documents out.",
            )
        return sources

    def identity(self) -> dict[str, Any]:
        """All that decides the mix, as JSON."""
        return {"column": self.column, "weights": [list(pair) for pair in self.weights], "exhaustion": self.exhaustion}
