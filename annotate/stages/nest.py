"""Nest the tags of smaller spans in those of larger ones: one corpus split in several ways, each with its scores."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from annotate.arguments import as_tuple
from annotate.errors import ConfigError
from annotate.graph import Documents, Map, Stage, Tables
from annotate.stages.calibrate import Calibrate
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.place import LevelOfNest, Place
from annotate.stages.schedule import Schedule, ScheduleDocuments, drawn_by, scheduled, thinned
from annotate.stages.split import Split
from annotate.stages.thresholds import Thresholds
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput
from annotate.tags.placements import PLACEMENTS, nest
from annotate.training_order.phases import Phase


@dataclass(frozen=True)
class Nest(Map):
    """The tags of several levels of spans, each inside those of the level before: in place of one `Place`.

        Nest([Thresholds(document_scores, document_scheme), Thresholds(sentence_scores, sentence_scheme)])

    Settings for all levels are given once: the schedule here, subsets in the verdicts, phases in one of the schemes.
    Only the last level can leave out repeated spans.

    Attributes:
        levels: thresholds, from those of the largest spans, such as whole documents, to those of the smallest, such as
            sentences.
        schedule: as for `Place`.

    Raises:
        ConfigError: there are fewer than two levels; they have different corpora or verdicts; two have the same tag;
            phases or repeated spans are given at a wrong level.
    """

    levels: Sequence[Thresholds]
    _: KW_ONLY
    schedule: Schedule | None = None

    name: ClassVar[str] = "nested-placements"
    schema: ClassVar[str] = "placements"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", as_tuple(self.levels, "levels"))
        if len(self.levels) < 2 or not all(isinstance(level, Thresholds) for level in self.levels):
            raise ConfigError(
                f"Nest(...) takes the thresholds of two or more levels of spans, got {self.levels!r}",
                hint="Write Nest([Thresholds(document_scores, scheme), Thresholds(sentence_scores, other_scheme)]).",
            )
        for outer in self.levels[:-1]:
            if (outer.calibration.corpus, outer.calibration.verdicts) != (self.corpus, self.verdicts):
                places = sorted({outer.calibration.corpus.place, self.corpus.place})
                raise ConfigError(
                    "nested placements must be of one corpus, under the same verdicts; the corpora of these are: "
                    + ", ".join(places),
                    hint="Split one Corpus twice, and give both score(...) the same skip=.",
                )
            if outer.calibration.repeated is not None:
                raise ConfigError(
                    "repeated spans can only be those of the last level, the smallest",
                    hint="Give Calibrate(..., repeated=...) of the last level alone.",
                )
        if len({level.scheme.phases for level in self.levels if level.scheme.phases}) > 1:
            raise ConfigError(
                "nested tag schemes have different phases", hint="Give phases to one of the schemes: they hold for all."
            )
        names = [name for place in self.places for name in place.spelled]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(
                f"nested placements must have different tags, got <{twice[0]}> twice",
                hint="Give one of them another name.",
            )
        _ = self.training_order  # it is checked there

    @property
    def calibration(self) -> Calibrate:
        """The calibration of the smallest spans."""
        return self.levels[-1].calibration

    @property
    def corpus(self) -> Documents:
        """The corpus whose spans these are."""
        return self.calibration.corpus

    @property
    def verdicts(self) -> NearDuplicates | None:
        """The verdicts, which say which documents are kept; None if all are."""
        return self.calibration.verdicts

    @property
    def spans(self) -> Split:
        """The smallest spans."""
        return self.calibration.spans

    @functools.cached_property
    def places(self) -> tuple[Place, ...]:
        """The placements that are nested, from the outermost on."""
        return tuple((LevelOfNest if level.scheme.phases else Place)(level) for level in self.levels)

    @functools.cached_property
    def training_order(self) -> ScheduleDocuments | None:
        """The stage that puts documents in training order; None for corpus order."""
        phases: Sequence[Phase] = next((level.scheme.phases for level in self.levels if level.scheme.phases), ())
        return scheduled(self.calibration, phases, self.schedule)

    @property
    def spelled(self) -> tuple[str, ...]:
        """All names that can stand between angle brackets."""
        return tuple(name for place in self.places for name in place.spelled)

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The placements; with phases also the schedule, and the verdicts, which tell the documents for training."""
        inputs: dict[str, Stage] = {f"level-{i}": place for i, place in enumerate(self.places)}
        if self.training_order is not None and self.training_order.phases:
            inputs["schedule"] = self.training_order
            if self.verdicts is not None:
                inputs["verdicts"] = self.verdicts
        return inputs

    def settings(self) -> Mapping[str, Any]:
        """The settings by which phases are drawn."""
        return drawn_by(self.training_order)

    def unit(self, tables: Tables) -> UnitOutput:
        """Nest the tags of a unit."""
        levels = [tables[f"level-{i}"].cast(PLACEMENTS) for i in range(len(self.levels))]
        nested = functools.reduce(nest, levels)
        return UnitOutput(thinned(nested, self.training_order, tables).cast(contract(self.schema).schema))


Placements = Place | Nest
"""The stages whose placements can be rendered."""
