"""When each document is trained on: phases as intervals of a hash, and sources mixed by weight.

Each document has a place in [0, 1), which is a hash of it. [0, 1) is cut into `BINS` bins, and a phase is an interval
of bins, so a document is in one phase at most.

Within its phase a document has a time in [0, 1), by which documents are ordered. Without a mix, that is its place in
the interval. With a mix, the text of each source is used `repeats` times in each phase: in passes one after the other,
each in the order of the places, of which the last may end early. The passes of a source are spread evenly over the
phase, so that at any time the sources come by their weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.training_order.mix import OTHERS, Mix
from annotate.training_order.phases import Phase

BINS = 1 << 14
PASSES = 1000
"""The most times that a source can be repeated: all copies of a document are in memory together."""
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

WHOLE = (Phase(name="all"),)
"""The one phase of a schedule without phases."""


def make_schedule(counts: pa.Table, phases: Sequence[Phase], mix: Mix | None) -> pa.Table:
    """Find the interval of each phase, and what is used of each source in it.

    A phase ends at the edge of a bin that is nearest to its budget, so budgets are met to within a bin. So are the
    weights of the mix, over all phases together; within one phase they are those of the documents that are in it.

    Args:
        counts: a table of `schemas/document-sizes.json`, one row for each source and bin.
        phases: in their order. Empty: one phase has everything.
        mix: of the sources. None: there is one source, null.

    Returns:
        A table of `schemas/schedule.json`.

    Raises:
        ConfigError: the budgets are more than there is; a source has no weight; or one with a weight has no text.
    """
    sources, tables = _by_source(counts)
    repeats = _repeats(sources, tables["size"].sum(axis=1), mix)
    phases = tuple(phases) or WHOLE
    # Not a matrix product: its last bit differs between machines, and could move an edge.
    weighted = np.append(0.0, np.cumsum((repeats[:, None] * tables["size"]).sum(axis=0)))
    budgets = _budgets(phases, float(weighted[-1]))
    edges = [0, *(_nearest(weighted, target) for target in np.cumsum(budgets).tolist())]
    rows = []
    for phase, low, high, budget in zip(phases, edges[:-1], edges[1:], budgets, strict=True):
        for k, source in enumerate(sources):
            whole, part = divmod(repeats[k], 1.0)
            within = np.append(0.0, np.cumsum(tables["size"][k, low:high]))
            cut = low + _nearest(within, part * float(within[-1])) if part else low
            used = {name: int(whole * of[k, low:high].sum() + of[k, low:cut].sum()) for name, of in tables.items()}
            reached = tables["documents"][k, low : high if whole else cut].sum()
            rows.append(
                {
                    "phase": phase.name,
                    "source": source,
                    "low": low,
                    "high": high,
                    "whole": int(whole),
                    "cut": cut,
                    "repeats": float(repeats[k]),
                    "rate_from": phase.rates[0],
                    "rate_to": phase.rates[1],
                    "budget": round(budget),
                    "documents": int(reached),
                    "copies": used["documents"] - int(reached),
                    "size": used["size"],
                    "bytes": used["bytes"],
                }
            )
    return pa.Table.from_pylist(rows, schema=SCHEDULE)


SCHEDULE = pa.schema(
    [
        ("phase", pa.string()),
        ("source", pa.string()),
        *((name, pa.int32()) for name in ("low", "high", "whole", "cut")),
        *((name, pa.float64()) for name in ("repeats", "rate_from", "rate_to")),
        *((name, pa.int64()) for name in ("budget", "documents", "copies", "size", "bytes")),
    ]
)


def _by_source(counts: pa.Table) -> tuple[list[str | None], dict[str, Int64]]:
    """The sources, sorted; and documents, size and bytes of each by bin, int64 `[n_sources, BINS]` by name."""
    found: list[str | None] = pc.unique(counts["source"]).to_pylist() or [None]
    sources = sorted(found, key=lambda source: source or "")
    number = _numbers(counts["source"], sources)
    tables = {}
    for name in ("documents", "size", "bytes"):
        tables[name] = np.zeros((len(sources), BINS), np.int64)
        np.add.at(tables[name], (number, counts["bin"].to_numpy()), counts[name].to_numpy())
    return sources, tables


def _repeats(sources: Sequence[str | None], sizes: Int64, mix: Mix | None) -> Float64:
    """How many times the text of each source is used: float64 `[n_sources]`."""
    if mix is None:
        return np.ones(len(sources))
    found = dict(zip(sources, sizes.tolist(), strict=True))
    total = sum(weight for _, weight in mix.weights)
    lasts = {}
    for source, weight in mix.weights:
        if weight and not found.get(source):
            known = ", ".join(sorted(s for s in found if s not in (None, OTHERS))) or "none"
            raise ConfigError(
                f"the source {source!r} has the weight {weight:g}, but there is no text of it to train on",
                hint=f"Of those that have a weight, the column {mix.column!r} has: {known}.",
            )
        if weight:
            lasts[source] = found[source] * total / weight
    amount = min(lasts.values()) if mix.exhaustion == "first_exhausted" else max(lasts.values())
    most = min(lasts, key=lambda source: lasts[source])
    if amount > PASSES * lasts[most]:
        raise ConfigError(
            f"by these weights the source {most!r} would come {amount / lasts[most]:,.0f} times, more than {PASSES:,}",
            hint=f"Give it less weight: it has {found[most] / sum(found.values()):.3g} of all text.",
        )
    return np.array([amount / lasts[source] if source in lasts else 0.0 for source in sources])


def _budgets(phases: Sequence[Phase], total: float) -> list[float]:
    """The size that each phase aims at."""
    asked = [
        float(phase.tokens) if phase.tokens is not None else None if phase.share is None else phase.share * total
        for phase in phases
    ]
    left = total - sum(size for size in asked if size is not None)
    if left < -1e-9 * total or (None in asked and left <= 0 < total):  # without any text, budgets of 0 are right
        budgets = ", ".join(f"{phase.name} {phase.budget}" for phase in phases)
        raise ConfigError(
            f"the phases ask for more than there is: {budgets}; there are {round(total):,} tokens to train on",
            hint='Lower a budget, add text, or repeat sources with Mix(..., exhaustion="all_exhausted").',
        )
    return [left if size is None else size for size in asked]


def _nearest(sums: Float64, target: float) -> int:
    """The index of the sum that is nearest to a target. Sums ascend."""
    above = int(np.searchsorted(sums, target * (1 - 1e-12)))
    if above >= len(sums):
        return len(sums) - 1
    if target >= sums[-1] * (1 - 1e-12):
        return len(sums) - 1
    return above - 1 if above and target - sums[above - 1] < sums[above] - target else above


@dataclass(frozen=True, kw_only=True)
class Times:
    """When each copy of a document is trained on.

    Attributes:
        document: int64 `[n_copies]`, the position of the document in what was asked for.
        phase: int32 `[n_copies]`, the number of its phase.
        time: float64 `[n_copies]`, when in the phase, in [0, 1).
    """

    document: Int64
    phase: npt.NDArray[np.int32]
    time: Float64


def phase_names(schedule: pa.Table) -> list[str]:
    """The phases of a schedule, in their order."""
    return list(dict.fromkeys(schedule["phase"].to_pylist()))


def times(schedule: pa.Table, places: Float64, sources: pa.Array | None) -> Times:
    """When documents are trained on. Those that are not reached have no row.

    Args:
        schedule: from `make_schedule`.
        places: float64 `[n]` in [0, 1), the place of each document.
        sources: string `[n]`, the source of each document; None where the schedule has no mix.
    """
    lines = _Lines.of(schedule)
    at = places * BINS
    phase = lines.phase_at(at)
    reached = np.flatnonzero(phase >= 0)
    at, phase = at[reached], phase[reached]
    line = phase * len(lines.sources) + lines.source_numbers(sources, reached)
    low, high, whole, cut = (lines.columns[name][line] for name in ("low", "high", "whole", "cut"))
    more = at < cut
    copies = whole + more
    document = np.repeat(np.arange(len(reached)), copies)
    nth = np.arange(len(document)) - np.repeat(np.cumsum(copies) - copies, copies)
    last = nth == whole[document]
    end = np.where(last, cut[document], high[document])
    within = (at[document] - low[document]) / (end - low[document])
    # The last pass ends at `cut`. Its part of the time is its part of the text.
    share = lines.columns["repeats"][line][document] - np.where(last, whole[document], 0)
    length = np.where(last, share, 1.0) / lines.columns["repeats"][line][document]
    begin = nth / lines.columns["repeats"][line][document]
    time = np.minimum(begin + within * length, np.nextafter(1.0, 0.0))
    return Times(document=reached[document], phase=phase[document].astype(np.int32), time=time)


def tag_rates(schedule: pa.Table, places: Float64) -> Float64:
    """The share of documents that keep their tags at each place: float64 `[n]`; 0 where there is no phase."""
    lines = _Lines.of(schedule)
    at = places * BINS
    phase = lines.phase_at(at)
    line = np.maximum(phase, 0) * len(lines.sources)
    low, high, first, last = (lines.columns[name][line] for name in ("low", "high", "rate_from", "rate_to"))
    rates = first + (last - first) * (at - low) / np.maximum(high - low, 1)
    return np.where(phase >= 0, rates, 0.0)


@dataclass(frozen=True)
class _Lines:
    """A schedule as arrays, with a line for each phase and source."""

    sources: list[str | None]
    columns: Mapping[str, npt.NDArray[Any]]

    @staticmethod
    def of(schedule: pa.Table) -> _Lines:
        sources = list(dict.fromkeys(schedule["source"].to_pylist()))
        names = ("low", "high", "whole", "cut", "repeats", "rate_from", "rate_to")
        return _Lines(sources, {name: schedule[name].to_numpy() for name in names})

    def phase_at(self, at: Float64) -> Int64:
        """The number of the phase at each place, given in bins; -1 where there is none."""
        high = self.columns["high"][:: len(self.sources)]
        phase = np.searchsorted(high, at, side="right")
        return np.where(phase < len(high), phase, -1)

    def source_numbers(self, sources: pa.Array | None, wanted: Int64) -> Int64:
        """The number of the source of each wanted document."""
        if sources is None:
            return np.zeros(len(wanted), np.int64)
        return _numbers(sources.take(pa.array(wanted)), self.sources)


def _numbers(values: pa.Array | pa.ChunkedArray, sources: Sequence[str | None]) -> Int64:
    """The number of each value among the sources: int64 `[n]`. All values are among them."""
    found = pc.index_in(values.cast(pa.string()), pa.array(sources, pa.string()))
    return np.asarray(found).astype(np.int64) if len(values) else np.zeros(0, np.int64)
