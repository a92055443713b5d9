"""Place the tags of a scheme: rendering and token shards take the places of tags from here."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, overload

import numpy as np
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.graph import Stage, Tables
from annotate.stages.schedule import Schedule, ScheduleDocuments, drawn_by, scheduled, thinned
from annotate.stages.shared.annotations import Annotations
from annotate.stages.shared.measuring import Measuring
from annotate.stages.shared.tables import span_texts
from annotate.stages.shuffled_states import shuffled_states, states_of_unit
from annotate.stages.split import Split
from annotate.stages.thresholds import Thresholds
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput
from annotate.tags.placing import place
from annotate.tags.scheme import TagScheme
from annotate.tags.vocabulary import at


@dataclass(frozen=True, init=False)
class Place(Measuring):
    """Puts the tags of a scheme before the spans where their rules hold, in the documents that are kept.

        Place(scores, scheme)
        Place(Thresholds(Calibrate(scores, labels="labels.parquet"), scheme), schedule=Schedule())

    Attributes:
        thresholds: thresholds of the scheme; or scores and the scheme, to use the defaults of `Thresholds` and
            `Calibrate`.
        schedule: how documents are put in training order; None for corpus order. A scheme with phases always needs a
            training order; for it None means `Schedule()`.

    Raises:
        ConfigError: the scores don't go together; or a rule reads a probability that no curve gives.
    """

    schedule: Schedule | None

    name: ClassVar[str] = "placements"
    schema: ClassVar[str] = "placements"

    @overload
    def __init__(self, thresholds: Thresholds, /, *, schedule: Schedule | None = None) -> None: ...
    @overload
    def __init__(
        self, scores: Sequence[Annotations], scheme: TagScheme, /, *, schedule: Schedule | None = None
    ) -> None: ...
    @overload
    def __init__(self, *, thresholds: Thresholds, schedule: Schedule | None = None) -> None: ...
    def __init__(
        self,
        thresholds: Thresholds | Sequence[Annotations],
        scheme: TagScheme | None = None,
        *,
        schedule: Schedule | None = None,
    ) -> None:
        if isinstance(thresholds, Thresholds) == (scheme is not None):
            raise ConfigError(
                f"Place(...) takes thresholds, or scores and a tag scheme, got {thresholds!r} and {scheme!r}",
                hint="Write Place(scores, scheme), or Place(Thresholds(Calibrate(scores, ...), scheme)).",
            )
        if not isinstance(thresholds, Thresholds):
            assert scheme is not None, "so it was given"
            thresholds = Thresholds(thresholds, scheme)
        object.__setattr__(self, "thresholds", thresholds)
        object.__setattr__(self, "schedule", schedule)
        _ = self.training_order  # it is checked there
        self._check_curves()

    def _check_curves(self) -> None:
        """Check that there is a curve for each axis that rules read as a probability."""
        fitted = self.calibration.curves is not None
        for axis in self.scheme.curves:
            if not fitted and axis not in self._shipped():
                tag = next(tag for tag in self.scheme.tags if axis in tag.parsed.curves)
                raise ConfigError(
                    f"{at(tag.where)}the rule of tag {tag.name!r} reads p({axis}), but no curve gives a "
                    f"probability for {axis!r}",
                    hint=f"Give Calibrate(labels=FILE), use a probe that has a curve, or compare with a quantile: "
                    f"`{axis} >= q(0.7)`.",
                )

    @property
    def spans(self) -> Split:
        """The spans that are tagged."""
        return self.calibration.spans

    @functools.cached_property
    def training_order(self) -> ScheduleDocuments | None:
        """The stage that puts documents in training order; None for corpus order."""
        return scheduled(self.calibration, self.scheme.phases, self.schedule)

    @property
    def places(self) -> tuple[Place, ...]:
        """These placements alone. `Nest` has one for each level."""
        return (self,)

    @property
    def spelled(self) -> tuple[str, ...]:
        """All names that can stand between angle brackets."""
        return self.scheme.spelled

    @functools.cached_property
    def inputs(self) -> Mapping[str, Stage]:
        """The inputs of the rules; the schedule, if it has phases; the shuffled states, if tags are shuffled."""
        inputs = dict(super().inputs)
        if self.training_order is not None and self.training_order.phases:
            inputs["schedule"] = self.training_order
        if self.scheme.control == "shuffled":
            inputs["shuffled"] = shuffled_states(self.thresholds)
        return inputs

    @property
    def reads_text(self) -> bool:
        """Whether a layout reads the text."""
        return self.scheme.reads_text

    def settings(self) -> Mapping[str, Any]:
        """The scheme, the curves that the scorers have, and what phases are drawn by."""
        return {**super().settings(), **drawn_by(self.training_order)}

    def unit(self, tables: Tables) -> UnitOutput:
        """Place the tags of a unit."""
        documents = self.documents(tables)
        measured = self.measured(tables, documents)
        spans, scores = measured.spans, measured.scores
        ruled = states_of_unit(tables["shuffled"], tables.number) if "shuffled" in self.inputs else None
        placed = place(
            measured,
            self.scheme,
            ranks=self.ranks(tables, scores) if ruled is None else None,
            texts=span_texts(documents, spans, tables.rows, tables.shard) if self.reads_text else None,
            ruled=ruled,
        )
        table = thinned(placed, self.training_order, tables).cast(contract("placements").schema)
        opened = pc.filter(table["tag"], pc.not_equal(table["kind"], "close"))
        counts = {f"<{name}>": pc.sum(pc.equal(opened, name)).as_py() or 0 for name in self.scheme.shown}
        if self.scheme.groupings:
            unfitted = [np.isnan(each) for quantile, each in measured.thresholds.items() if quantile.by]
            counts["spans_of_a_group_without_scores"] = int(np.any(unfitted, axis=0).sum())
        unscored = np.any([np.isnan(values) for values in scores.values()], axis=0) if scores else np.zeros(0, bool)
        return UnitOutput(
            table,
            counts={
                **counts,
                "spans": spans.num_rows,
                "spans_with_a_null_score": int(unscored.sum()),
            },
        )

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warn of tags that are on no span or on every span, and of spans without a threshold."""
        spans = manifest.counts.get("spans", 0)
        said = []
        if unfitted := manifest.counts.get("spans_of_a_group_without_scores", 0):
            said.append(
                f"{unfitted:,} of {spans:,} spans are in groups without a score to fit a quantile on: the rules that "
                "compare with a quantile of the group never hold there"
            )
        for name, shown in zip(self.scheme.names, self.scheme.shown, strict=True):
            n = manifest.counts.get(f"<{shown}>", 0)
            rule = next((tag.rule for tag in self.scheme.tags if tag.name == name), None)
            if spans and n in (0, spans) and rule is not None and self.scheme.control == "none":
                where = "no span" if n == 0 else "every span"
                said.append(f"<{shown}> is on {where}: its rule is `{rule}`")
        return said


@dataclass(frozen=True, init=False)
class LevelOfNest(Place):
    """Tags of one of several nested levels, of all documents: `Nest` applies the phases."""

    training_order = None
