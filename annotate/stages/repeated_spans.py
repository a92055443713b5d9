"""Spans that occur many times in the corpus (licences, navigation): counted, and left out where that is asked for.

span hashes ─► span counts ─► unit counts ─► repeated spans

Equal spans are counted in the partition of their hash. Then each unit that has such a span is told how often it occurs
in the corpus, and in the units before. A unit sends one row for each different span, however often it has it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.graph import RANGE_UNITS, Map, Partitions, Received, Shuffle, Stage, Tables
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.shared.tables import as_table, span_numbers, span_texts
from annotate.stages.split import Split
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput

REPEATS = "repeats"
"""The name, in rules, of the number of times that a span occurs in the corpus."""
HASH = ["exact_high", "exact_low"]


@dataclass(frozen=True, kw_only=True)
class RepeatedSpans:
    """What to do about spans that occur more than once, word for word, in the kept documents of a corpus.

        Calibrate(scores, repeated=RepeatedSpans(drop=True, above=1000))

    Give it to `Calibrate(repeated=...)`. The rules of a tag scheme can then read `repeats`, the number of times that a
    span occurs (1 for one that is not repeated); and with `drop`, spans that occur more than `above` times are left out
    of the training shards, which list the gaps, and out of the calibration.

    Attributes:
        drop: whether repeated spans are left out.
        above: occurrences above which a span is left out.
        keep: number of occurrences of such a span that stay: the first ones in the kept documents. If one of them is in
            a document that later goes to quarantine because it spells a tag, it goes there too.
        shortest: code points of the shortest span that is counted; shorter ones are never called repeated.

    Raises:
        ConfigError: a number is too small, or `keep` is more than `above`.
    """

    drop: bool = False
    above: int = 100
    keep: int = 1
    shortest: int = 20

    def __post_init__(self) -> None:
        for name, least in (("above", 1), ("keep", 0), ("shortest", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.keep > self.above:
            raise ConfigError(
                f"keep must be at most above, got keep={self.keep} and above={self.above}",
                hint="A span that is left out occurs more than `above` times, and `keep` of these stay.",
            )


@dataclass(frozen=True)
class SpanHashes(Map):
    """128-bit hashes of the spans of kept documents, after NFC and folding of blanks.

    Attributes:
        spans: of the corpus.
        verdicts: which documents are kept; None for all.
        shortest: code points of the shortest span that is looked at.
    """

    spans: Split
    verdicts: NearDuplicates | None
    shortest: int

    name: ClassVar[str] = "span-hashes"
    schema: ClassVar[str] = "span-hashes"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Spans, the corpus for their text, and verdicts if any."""
        verdicts: Mapping[str, Stage] = {"verdicts": self.verdicts} if self.verdicts is not None else {}
        return {"spans": self.spans, "corpus": self.spans.corpus, **verdicts}

    def settings(self) -> Mapping[str, Any]:
        """The shortest span."""
        return {"shortest": self.shortest}

    def unit(self, tables: Tables) -> UnitOutput:
        """Hash the spans of a unit."""
        from annotate.minhash.documents import sign_texts
        from annotate.minhash.signing import Permutations

        spans = tables["spans"]
        row, number = spans["row"].to_numpy(), span_numbers(spans, tables.rows)
        wanted = spans["end"].to_numpy() - spans["start"].to_numpy() >= self.shortest
        if self.verdicts is not None:
            wanted &= tables["verdicts"]["kept"].to_numpy()[row - tables.rows.start]
        texts = span_texts(tables["corpus"], spans, tables.rows, tables.shard).filter(pa.array(wanted))
        exact = sign_texts(texts, Permutations.none()).exact
        columns = [row[wanted], number[wanted], exact[:, 0], exact[:, 1]]
        return UnitOutput(pa.table([pa.array(column) for column in columns], schema=contract(self.schema).schema))


@dataclass(frozen=True)
class SpanCounts(Shuffle):
    """How often each span occurs, with a row for each unit that has it; spans that occur once are left out."""

    hashes: SpanHashes

    name: ClassVar[str] = "span-counts"
    schema: ClassVar[str] = "span-counts"
    sent_schema: ClassVar[str] = "sent-span-hashes"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The hashes."""
        return {"hashes": self.hashes}

    def settings(self) -> Mapping[str, Any]:
        """It has none of its own."""
        return {}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send the number of occurrences of each span in the unit to the partition of its hash."""
        counted = pl.DataFrame(tables.sent.select(HASH)).group_by(HASH).agg(here=pl.len().cast(pl.Int64)).sort(HASH)
        to = (pl.col("exact_low") % partitions.number).cast(pl.Int32)
        yield UnitOutput(as_table(counted.with_columns(to=to, unit=pl.lit(tables.number, pl.Int64)), self.sent_schema))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Add up the occurrences of each span."""
        sent = pl.DataFrame(received.sent).sort(*HASH, "unit")
        counted = sent.with_columns(
            before=(pl.col("here").cum_sum() - pl.col("here")).over(HASH), count=pl.col("here").sum().over(HASH)
        )
        yield UnitOutput(as_table(counted.filter(pl.col("count") > 1), self.schema))


@dataclass(frozen=True)
class UnitCounts(Shuffle):
    """The counts of spans, in the range of the units that have them."""

    counts: SpanCounts

    name: ClassVar[str] = "unit-counts"
    schema: ClassVar[str] = "span-counts"
    sent_schema: ClassVar[str] = "sent-span-counts"

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The counts, and the hashes."""
        return {"counts": self.counts, "hashes": self.counts.hashes}

    @property
    def beside(self) -> tuple[tuple[str, ...], ...]:
        """The hashes, whose units are cut in ranges."""
        return (("hashes",),)

    def settings(self) -> Mapping[str, Any]:
        """It has none of its own."""
        return {}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send a count to the range of its unit."""
        del partitions
        to = (pl.col("unit") // RANGE_UNITS).cast(pl.Int32)
        yield UnitOutput(as_table(pl.DataFrame(tables.sent).with_columns(to=to), self.sent_schema))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Put them in order."""
        yield UnitOutput(as_table(pl.DataFrame(received.sent).sort("unit", *HASH), self.schema))


@dataclass(frozen=True)
class FindRepeatedSpans(Map):
    """Spans that occur more than once, word for word, in the kept documents of a corpus.

    Attributes:
        spans: of the corpus.
        verdicts: which documents are kept; None for all.
        asked: which spans are looked for, and which are left out.
    """

    spans: Split
    verdicts: NearDuplicates | None
    asked: RepeatedSpans

    name: ClassVar[str] = "repeated-spans"
    schema: ClassVar[str] = "repeated-spans"

    @functools.cached_property
    def inputs(self) -> Mapping[str, Stage]:
        """The hashes of a unit, and the counts of its range."""
        hashes = SpanHashes(self.spans, self.verdicts, self.asked.shortest)
        return {"hashes": hashes, "counts": UnitCounts(SpanCounts(hashes))}

    def settings(self) -> Mapping[str, Any]:
        """The settings that decide which spans are left out."""
        return {"drop": self.asked.drop, "above": self.asked.above, "keep": self.asked.keep}

    def unit(self, tables: Tables) -> UnitOutput:
        """Find the repeated spans of a unit."""
        counts = pl.DataFrame(tables["counts"]).filter(pl.col("unit") == tables.number).drop("unit")
        nth = pl.col("before") + pl.int_range(pl.len()).over(HASH)
        left_out = (pl.col("count") > self.asked.above) & (nth >= self.asked.keep) & self.asked.drop
        found = (
            pl.DataFrame(tables["hashes"])
            .join(counts, on=HASH, how="inner", maintain_order="left")
            .with_columns(dropped=left_out)
        )
        return UnitOutput(
            as_table(found, self.schema),
            counts={
                "repeated": found.height,
                "dropped": int(found["dropped"].sum()),
                "spans": tables["hashes"].num_rows,
            },
        )

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warn if nothing, or more than half, is left out."""
        if not self.asked.drop:
            return []
        spans, dropped = manifest.counts.get("spans", 0), manifest.counts.get("dropped", 0)
        if dropped == 0:
            return [f"no span occurs more than {self.asked.above:,} times: none is left out"]
        if dropped * 2 > spans:
            return [f"{dropped:,} of {spans:,} spans are left out as repeated: more than half"]
        return []


def dropped_spans(repeated: pa.Table, spans: pa.Table) -> npt.NDArray[np.bool_]:
    """Which spans of a unit are left out: bool `[n_spans]`, for a table of all of its spans."""
    mask = np.zeros(spans.num_rows, bool)
    mask[_places(repeated.filter(repeated["dropped"]), spans)] = True
    return mask


def repeats(repeated: pa.Table, spans: pa.Table) -> npt.NDArray[np.float32]:
    """The values of `repeats` in rules: float32 `[n_spans]`, for a table of all spans of a unit."""
    counts = np.ones(spans.num_rows, np.float32)
    counts[_places(repeated, spans)] = repeated["count"].to_numpy()
    return counts


def _places(repeated: pa.Table, spans: pa.Table) -> npt.NDArray[np.int64]:
    """Where in `spans` each repeated span is."""
    first = np.searchsorted(spans["row"].to_numpy(), repeated["row"].to_numpy())
    return first + repeated["span"].to_numpy()
