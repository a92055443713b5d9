"""Place the tags of a scheme: the truth about where tags are."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.graph import Stage, Tables
from annotate.stages.measuring import Measuring
from annotate.stages.schedule import Schedule
from annotate.stages.shuffled_states import shuffled_states, states_of_unit
from annotate.stages.split import Split
from annotate.stages.tables import span_texts
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import Output
from annotate.tags.placing import place
from annotate.tags.vocabulary import at
from annotate.text.splits import Splits
from annotate.training_order.schedule import tag_rates


@dataclass(frozen=True)
class Place(Measuring):
    """Tags of a scheme before the spans of kept documents where their rules hold.

    Attributes:
        scores: what rules read.
        verdicts: which documents are kept; None for all.
        thresholds: of the scheme.
        schedule: when documents are trained on; for a scheme that has phases.
    """

    schedule: Schedule | None = None

    name: ClassVar[str] = "placements"
    schema: ClassVar[str] = "placements"

    def __post_init__(self) -> None:
        phases = self.schedule.phases if self.schedule is not None else ()
        if phases != self.scheme.phases:
            if self.schedule is not None:
                raise ConfigError(
                    "the tag scheme and its schedule must have the same phases",
                    hint="Give Schedule(phases=scheme.phases).",
                )
            names = ", ".join(phase.name for phase in self.scheme.phases)
            raise ConfigError(
                f"the tag scheme has phases ({names}), but no schedule says which documents are in them",
                hint="Give Place and the shards schedule=Schedule(spans, verdicts, scheme.phases).",
            )
        fitted = self.thresholds.calibration.curves is not None
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
        """What is tagged."""
        return self.scores[0].spans

    @property
    def splits(self) -> Splits | None:
        """The splits of the calibration."""
        return self.thresholds.calibration.splits

    @property
    def places(self) -> tuple[Place, ...]:
        """Itself; of nested ones, each."""
        return (self,)

    @property
    def spelled(self) -> tuple[str, ...]:
        """All that can be between angle brackets."""
        return self.scheme.spelled

    @functools.cached_property
    def inputs(self) -> Mapping[str, Stage]:
        """What the scheme reads; the schedule, where it has phases; the states of spans, where these are shuffled."""
        inputs = dict(super().inputs)
        if self.schedule is not None and self.scheme.phases:
            inputs["schedule"] = self.schedule
        if self.scheme.control == "shuffled":
            inputs["shuffled"] = shuffled_states(self.scores, self.verdicts, self.thresholds)
        return inputs

    @property
    def reads_text(self) -> bool:
        """Whether a layout reads it."""
        return self.scheme.reads_text

    def settings(self) -> Mapping[str, Any]:
        """The scheme, the curves that the scorers have, and what phases are drawn by."""
        drawn = {"schedule": self.schedule.drawn_by()} if self.schedule is not None and self.scheme.phases else {}
        return {**super().settings(), **drawn}

    def unit(self, tables: Tables) -> Output:
        """Place the tags of a unit."""
        documents = self.documents(tables)
        measured = self.measured(tables, documents)
        spans, scores = measured.spans, measured.scores
        if self.scheme.phases:
            measured = replace(measured, untagged=self._untagged(tables, spans["row"].to_numpy()))
        ruled = states_of_unit(tables["shuffled"], tables.number) if "shuffled" in self.inputs else None
        placed = place(
            measured,
            self.scheme,
            ranks=self.ranks(tables, scores) if ruled is None else None,
            texts=span_texts(documents, spans, tables.rows, tables.shard) if self.reads_text else None,
            ruled=ruled,
        )
        table = placed.cast(contract("placements").schema)
        opened = pc.filter(table["tag"], pc.not_equal(table["kind"], "close"))
        counts = {f"<{name}>": pc.sum(pc.equal(opened, name)).as_py() or 0 for name in self.scheme.shown}
        if self.scheme.groupings:
            unfitted = [np.isnan(each) for quantile, each in measured.thresholds.items() if quantile.by]
            counts["spans_of_a_group_without_scores"] = int(np.any(unfitted, axis=0).sum())
        unscored = np.any([np.isnan(values) for values in scores.values()], axis=0) if scores else np.zeros(0, bool)
        return Output(
            table,
            counts={
                **counts,
                "spans": spans.num_rows,
                "spans_with_a_null_score": int(unscored.sum()),
            },
        )

    def _untagged(self, tables: Tables, row: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """The spans of documents that their phase leaves without tags: bool `[n_spans]`."""
        assert self.schedule is not None, "there are phases"
        rows, of_span = np.unique(row, return_inverse=True)
        rates = tag_rates(tables["schedule"], self.schedule.places(tables.shard, rows))
        untagged: npt.NDArray[np.bool_] = self.schedule.untagged(tables.shard, rows, rates)[of_span]
        return untagged

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say it when a tag is nowhere or everywhere, and when spans have no threshold."""
        spans = manifest.counts.get("spans", 0)
        said = []
        if unfitted := manifest.counts.get("spans_of_a_group_without_scores", 0):
            said.append(
                f"{unfitted:,} of {spans:,} spans are of groups without a score to fit a quantile on: the rules that "
                "compare with it never hold there"
            )
        for name, shown in zip(self.scheme.names, self.scheme.shown, strict=True):
            n = manifest.counts.get(f"<{shown}>", 0)
            rule = next((tag.rule for tag in self.scheme.tags if tag.name == name), None)
            if spans and n in (0, spans) and rule is not None and self.scheme.control == "none":
                where = "no span" if n == 0 else "every span"
                said.append(f"<{shown}> is on {where}: its rule is `{rule}`")
        return said
