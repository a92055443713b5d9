"""Nest the tags of smaller spans in those of larger ones: two splits of one corpus, each with scores of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from annotate.errors import ConfigError
from annotate.graph import Map, Stage, Tables
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.place import Place
from annotate.stages.repeated_spans import RepeatedSpans
from annotate.stages.schedule import Schedule
from annotate.stages.split import Split
from annotate.storage.contracts import contract
from annotate.storage.parts import Output
from annotate.tags.placements import PLACEMENTS, nest
from annotate.text.splits import Splits


@dataclass(frozen=True)
class Nest(Map):
    """The tags of `inner` inside those of `outer`.

    Attributes:
        outer: of larger spans, such as whole documents; perhaps nested themselves.
        inner: of smaller ones, such as sentences.
    """

    outer: Place | Nest
    inner: Place

    name: ClassVar[str] = "nested-placements"
    schema: ClassVar[str] = "placements"

    def __post_init__(self) -> None:
        if self.outer.verdicts != self.inner.verdicts or self.outer.spans.corpus != self.inner.spans.corpus:
            raise ConfigError("nested placements must be of one corpus, under the same verdicts")
        if self.outer.repeated is not None:
            raise ConfigError("repeated spans are left out by the inner placements alone: the outer ones can have none")
        if self.outer.splits != self.inner.splits:
            raise ConfigError("nested placements must be given the same splits")
        if self.outer.schedule != self.inner.schedule:
            raise ConfigError("nested placements must be given the same schedule, or none")
        if both := sorted(set(self.outer.spelled) & set(self.inner.spelled)):
            raise ConfigError(f"nested placements must have different tags, got <{both[0]}> in both")

    @property
    def verdicts(self) -> NearDuplicates | None:
        """Which documents are kept."""
        return self.inner.verdicts

    @property
    def splits(self) -> Splits | None:
        """The splits of the calibrations."""
        return self.inner.splits

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the placements."""
        return self.inner.schedule

    @property
    def spans(self) -> Split:
        """The smallest spans."""
        return self.inner.spans

    @property
    def repeated(self) -> RepeatedSpans | None:
        """The repeated spans of the inner placements."""
        return self.inner.repeated

    @property
    def places(self) -> tuple[Place, ...]:
        """All that is nested, from the outermost on."""
        return (*self.outer.places, self.inner)

    @property
    def spelled(self) -> tuple[str, ...]:
        """All that can be between angle brackets."""
        return (*self.outer.spelled, *self.inner.spelled)

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Both."""
        return {"outer": self.outer, "inner": self.inner}

    def settings(self) -> Mapping[str, Any]:
        """None of its own."""
        return {}

    def unit(self, tables: Tables) -> Output:
        """Nest the tags of a unit."""
        outer, inner = (tables[name].cast(PLACEMENTS) for name in ("outer", "inner"))
        return Output(nest(outer, inner).cast(contract(self.schema).schema))


Placements = Place | Nest
"""What can be rendered."""
