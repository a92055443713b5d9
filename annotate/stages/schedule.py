"""The training schedule: in what order documents are trained on, in which phase, and how sources are mixed."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.graph import Reduce, Stage, Tables
from annotate.randomness import keyed_hash, name_key, uniform
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.repeated_spans import RepeatedSpans
from annotate.stages.selection import Selection
from annotate.stages.split import Split
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import Output
from annotate.text.splits import SplitName, Splits
from annotate.training_order.mix import Mix
from annotate.training_order.phases import Phase, check_phases
from annotate.training_order.schedule import BINS, make_schedule


@dataclass(frozen=True)
class Schedule(Reduce):
    """When each document is trained on: shards that are given a schedule are in its order, a hash of the document.

    It counts how much text there is to train on in each bin of that hash; a phase is the interval that holds its
    budget. Shards without a schedule are in corpus order.

    Attributes:
        spans: of the corpus.
        verdicts: which documents are kept; None for all.
        phases: those of the tag scheme, `scheme.phases`; none for one phase.
        mix: weights of sources; None for the corpus as it is.
        tokenizer: what budgets and weights are counted with, as for `TokenShards`; None to count bytes of UTF-8.
        revision: of a hub name.
        repeated: repeated spans, as the calibration has them.
        splits: as the calibration has them.
        split: which documents are trained on, where there are splits.
        seed: of the order.
    """

    spans: Split
    verdicts: NearDuplicates | None = None
    phases: tuple[Phase, ...] = ()
    mix: Mix | None = None
    tokenizer: str | None = None
    revision: str | None = None
    repeated: RepeatedSpans | None = None
    splits: Splits | None = None
    split: SplitName = "train"
    seed: int = 0

    name: ClassVar[str] = "schedule"
    schema: ClassVar[str] = "schedule"
    piece_schema: ClassVar[str | None] = "document-sizes"

    def __post_init__(self) -> None:
        object.__setattr__(self, "phases", tuple(self.phases))
        check_phases(self.phases)
        _ = self.selection
        counted = next((phase for phase in self.phases if phase.tokens is not None), None)
        if counted is not None and self.tokenizer is None:
            raise ConfigError(
                f"phase {counted.name!r} has a budget in tokens, but there is no tokenizer to count them",
                hint="Give Schedule(tokenizer=...), or the phase a share.",
            )
        if self.tokenizer is not None:
            from annotate.tokens import pin_tokenizer

            pinned = pin_tokenizer(self.tokenizer, revision=self.revision)
            for name, value in zip(("tokenizer", "revision"), pinned, strict=True):
                object.__setattr__(self, name, value)

    @property
    def selection(self) -> Selection:
        """The documents that are trained on."""
        repeated = self.repeated if self.repeated is not None and self.repeated.drop else None
        return Selection(self.spans, self.verdicts, repeated, self.splits, self.split)

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus, its spans; verdicts and repeated spans, if any."""
        return self.selection.inputs

    def settings(self) -> Mapping[str, Any]:
        """The phases, the mix, what tokens are, by a hash of the tokenizer, and the seed."""
        return {
            "phases": [[phase.name, phase.tokens, phase.share, *phase.rates] for phase in self.phases],
            "mix": None if self.mix is None else self.mix.identity(),
            "tokenizer": None if self.tokenizer is None else self._loaded[1],
            "seed": self.seed,
            **self.selection.settings(),
        }

    @functools.cached_property
    def _loaded(self) -> tuple[Any, str]:
        """The tokenizer and its hash."""
        from annotate.tokens import load_tokenizer, tokenizer_hash

        assert self.tokenizer is not None
        tokenizer = load_tokenizer(self.tokenizer, revision=self.revision)
        return tokenizer, tokenizer_hash(tokenizer)

    def __getstate__(self) -> dict[str, Any]:
        """A worker loads the tokenizer itself, and checks that it is this one."""
        state = {name: value for name, value in vars(self).items() if name != "_loaded"}
        return state if self.tokenizer is None else {**state, "_expected": self._loaded[1]}

    def drawn_by(self) -> dict[str, Any]:
        """What documents depend on beside the table of the schedule, JSON-ready: the settings of its users have it.

        They know an input by its data, and the tables of two seeds can be equal.
        """
        return {"seed": self.seed, "mixed_by": list(self.columns_read), "phases": bool(self.phases)}

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The column that sources are mixed by."""
        return (self.mix.column,) if self.mix is not None else ()

    def places(self, shard: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Places of documents in the order: float64 `[n_rows]` in [0, 1)."""
        return self._drawn("training order", shard, rows)

    def untagged(
        self, shard: str, rows: npt.NDArray[np.int64], rates: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Which documents lose their tags, where `rates` of those in their phase keep them: bool `[n_rows]`."""
        drawn: npt.NDArray[np.bool_] = self._drawn("tag rate", shard, rows) >= rates
        return drawn

    def _drawn(self, purpose: str, shard: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        if not len(rows):
            return np.empty(0)
        return uniform(keyed_hash(self.seed, name_key(shard), rows, name_key(purpose)))

    def sources(self, table: pa.Table, shard: str) -> pa.Array | None:
        """The source of each of these documents, string `[n]`; None without a mix.

        Raises:
            ConfigError: a document is of no source that has a weight, or the column is no text.
        """
        if self.mix is None:
            return None
        try:
            sources = table[self.mix.column].cast(pa.string()).combine_chunks()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ConfigError(
                f"sources are mixed by the column {self.mix.column!r} of {shard}, whose type "
                f"{table[self.mix.column].type} is no text",
                hint=f"Name a column of texts or integers. {error}",
            ) from error
        return self.mix.named(sources)

    def piece(self, tables: Tables) -> pa.Table:
        """Count the text of a unit, by source and bin."""
        counts: Counter[str] = Counter()
        documents = self.selection.read(tables, [], counts, extra=self.columns_read).table
        texts = documents["text"]
        size = pc.binary_length(texts).cast(pa.int64()).to_numpy()
        sources = self.sources(documents, tables.shard)
        bins = (self.places(tables.shard, documents["row"].to_numpy()) * BINS).astype(np.int32)
        table = pa.table(
            {
                "source": pa.nulls(len(bins), pa.string()) if sources is None else sources,
                "bin": bins,
                "documents": np.ones(len(bins), np.int64),
                "size": size if self.tokenizer is None else _tokens(self, texts),
                "bytes": size,
            }
        )
        return self.merge([table])

    def merge(self, pieces: Iterable[pa.Table]) -> pa.Table:
        """Add the counts of each source and bin."""
        frame = pl.DataFrame(pa.concat_tables(list(pieces)))
        keys = ["source", "bin"]
        summed = frame.group_by(keys).agg(pl.col("documents", "size", "bytes").sum()).sort(keys)
        return summed.to_arrow().cast(contract("document-sizes").schema)

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> Output:
        """Cut the phases."""
        del shared
        table = make_schedule(merged, self.phases, self.mix)
        counts = {name: pc.sum(table[name]).as_py() or 0 for name in ("documents", "copies")}
        for phase in dict.fromkeys(table["phase"].to_pylist()):
            here = table.filter(pc.equal(table["phase"], phase))
            counts[f"size of {phase}"] = pc.sum(here["size"]).as_py()
            counts[f"budget of {phase}"] = here["budget"][0].as_py()
        return Output(table.cast(contract(self.schema).schema), counts=counts)

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say it when a phase is far from its budget: it has too few documents to be cut finely."""
        unit = "bytes" if self.tokenizer is None else "tokens"
        said = []
        for phase in self.phases:
            size, budget = (manifest.counts.get(f"{name} of {phase.name}", 0) for name in ("size", "budget"))
            if abs(size - budget) > 0.02 * budget:
                said.append(
                    f"phase {phase.name} has {size:,} {unit}, its budget is {budget:,}: documents are few or large"
                )
        return said


@functools.lru_cache(maxsize=1)
def _encoder(schedule: Schedule) -> Any:
    """Encodes documents; it parses the tokenizer, so a process makes one."""
    from annotate.tokens import TextTokenizer

    tokenizer, found = schedule._loaded
    if vars(schedule).get("_expected", found) != found:
        raise ConfigError(
            f"the tokenizer {schedule.tokenizer!r} is another one for this worker than for the driver",
            hint="It was changed during the run, or is another file there.",
        )
    return TextTokenizer(tokenizer)


def _tokens(schedule: Schedule, texts: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Tokens of each text, without special ones: int64 `[n]`."""
    tokens: npt.NDArray[np.int64] = np.diff(_encoder(schedule).encode(texts).documents).astype(np.int64)
    return tokens
