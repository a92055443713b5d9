"""The training schedule: in what order documents are trained on, in which phase, and how sources are mixed."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from annotate.arguments import as_path
from annotate.errors import ConfigError
from annotate.graph import Reduce, Stage, Tables
from annotate.randomness import keyed_hash, name_key, uniform
from annotate.stages.calibrate import Calibrate
from annotate.stages.shared.selection import Selection
from annotate.stages.shared.tables import chosen
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput
from annotate.training_order.mix import Mix
from annotate.training_order.phases import Phase, check_phases
from annotate.training_order.schedule import BINS, make_schedule, tag_rates


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How documents are put in training order, by a hash of each document. It is given to `Place` and `Nest`.

        Place(scores, scheme, schedule=Schedule(seed=1))

    The phases are those of the tag scheme. Where documents are in subsets, those for training alone have an
    order: shards of another subset are in corpus order, and their tags are not thinned by phases.

    Attributes:
        mix: weights of sources; None for the corpus as it is.
        tokenizer: the tokenizer that counts budgets and weights, which `TokenShards` use too if they are given none:
            a `tokenizer.json`, a directory that holds one, or a hub name. None to count bytes of UTF-8.
        revision: of a hub name.
        seed: of the order.
    """

    mix: Mix | None = None
    tokenizer: str | PathLike[str] | None = None
    revision: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        keep_pinned(self, self.tokenizer, self.revision)

    def places(self, shard: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Places of documents in the order: float64 `[n_rows]` in [0, 1)."""
        return self._drawn("training order", shard, rows)

    def untagged(
        self, shard: str, rows: npt.NDArray[np.int64], rates: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Which documents lose their tags, if the share `rates` of their phase keeps them: bool `[n_rows]`."""
        drawn: npt.NDArray[np.bool_] = self._drawn("tag rate", shard, rows) >= rates
        return drawn

    def _drawn(self, purpose: str, shard: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        if not len(rows):
            return np.empty(0)
        return uniform(keyed_hash(self.seed, name_key(shard), rows, name_key(purpose)))


def keep_pinned(holder: object, tokenizer: str | PathLike[str] | None, revision: str | None) -> None:
    """Set the fields `tokenizer` and `revision` of a frozen dataclass: a hub name is resolved to a commit once.

    Raises:
        ConfigError: there is a revision and no tokenizer; or the tokenizer is no path or name.
    """
    if tokenizer is None:
        if revision is not None:
            raise ConfigError("revision is that of a tokenizer, but there is none", hint="Give tokenizer=... too.")
        return
    from annotate.tokens import pin_tokenizer

    pinned = pin_tokenizer(as_path(tokenizer, "tokenizer"), revision=revision)
    for name, value in zip(("tokenizer", "revision"), pinned, strict=True):
        object.__setattr__(holder, name, value)


@dataclass(frozen=True)
class ScheduleDocuments(Reduce):
    """When each document is trained on: the amount of text in each bin of the documents' hash, cut into phases.

    A phase is the interval that holds its budget.

    Attributes:
        selection: the documents that are trained on.
        phases: those of the tag scheme; none for one phase.
        asked: the mix, how text is counted, and the seed of the order.
    """

    selection: Selection
    phases: tuple[Phase, ...]
    asked: Schedule

    name: ClassVar[str] = "schedule"
    schema: ClassVar[str] = "schedule"
    piece_schema: ClassVar[str] = "document-sizes"

    def __post_init__(self) -> None:
        check_phases(self.phases)
        counted = next((phase for phase in self.phases if phase.tokens is not None), None)
        if counted is not None and self.asked.tokenizer is None:
            raise ConfigError(
                f"phase {counted.name!r} has a budget in tokens, but there is no tokenizer to count them",
                hint="Give Place(..., schedule=Schedule(tokenizer=...)), or the phase a share.",
            )
        columns = self.selection.spans.corpus.columns
        if self.mix is not None and columns is not None and self.mix.column not in columns:
            raise ConfigError(
                f"sources are mixed by the column {self.mix.column!r}, which does not travel with the documents",
                hint=f"Give Corpus(..., columns=[..., {self.mix.column!r}]).",
            )

    @property
    def mix(self) -> Mix | None:
        """Weights of sources, if they are mixed."""
        return self.asked.mix

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus, its spans; verdicts and repeated spans, if any."""
        return self.selection.inputs

    def settings(self) -> Mapping[str, Any]:
        """The phases, the mix, a hash of the tokenizer, and the seed."""
        return {
            "phases": [[phase.name, phase.tokens, phase.share, *phase.rates] for phase in self.phases],
            "mix": None if self.mix is None else self.mix.identity(),
            "tokenizer": None if self._loaded is None else self._loaded[1],
            "seed": self.asked.seed,
            **self.selection.settings(),
        }

    @functools.cached_property
    def _loaded(self) -> tuple[Any, str] | None:
        """The tokenizer and its hash; None where bytes are counted."""
        if self.asked.tokenizer is None:
            return None
        from annotate.tokens import load_tokenizer, tokenizer_hash

        tokenizer = load_tokenizer(str(self.asked.tokenizer), revision=self.asked.revision)
        return tokenizer, tokenizer_hash(tokenizer)

    def __getstate__(self) -> dict[str, Any]:
        """A worker loads the tokenizer itself, and checks that it is this one."""
        state = {name: value for name, value in vars(self).items() if name != "_loaded"}
        return state if self._loaded is None else {**state, "_expected": self._loaded[1]}

    def drawn_by(self) -> dict[str, Any]:
        """Settings that stages which read the schedule must have among their own, JSON-ready.

        A stage knows an input by its data. Two seeds, or two ways to draw subsets, can give equal tables, and yet other
        documents.
        """
        drawn = {"seed": self.asked.seed, "mixed_by": list(self.columns_read), "phases": bool(self.phases)}
        return {**drawn, **self.selection.settings()}

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The column that sources are mixed by."""
        return (self.mix.column,) if self.mix is not None else ()

    def without_tags(self, tables: Tables, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of these documents lose their tags by the rate of their phase: bool `[n_rows]`.

        Only documents that are trained on have a phase. Those of another subset keep their tags.
        """
        rates = tag_rates(tables["schedule"], self.asked.places(tables.shard, rows))
        without = self.asked.untagged(tables.shard, rows, rates)
        if self.selection.subsets is not None:
            groups = tables["verdicts"]["split_group"].to_numpy()[rows - tables.rows.start]
            without &= self.selection.subsets.inside(groups, self.selection.subset)
        return without

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
        bins = (self.asked.places(tables.shard, documents["row"].to_numpy()) * BINS).astype(np.int32)
        table = pa.table(
            {
                "source": pa.nulls(len(bins), pa.string()) if sources is None else sources,
                "bin": bins,
                "documents": np.ones(len(bins), np.int64),
                "size": size if self.asked.tokenizer is None else _tokens(self, texts),
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

    def finish(self, merged: pa.Table, shared: Mapping[str, pa.Table]) -> UnitOutput:
        """Cut the phases."""
        del shared
        table = make_schedule(merged, self.phases, self.mix)
        counts = {name: pc.sum(table[name]).as_py() or 0 for name in ("documents", "copies")}
        for phase in dict.fromkeys(table["phase"].to_pylist()):
            here = table.filter(pc.equal(table["phase"], phase))
            counts[f"size of {phase}"] = pc.sum(here["size"]).as_py()
            counts[f"budget of {phase}"] = here["budget"][0].as_py()
        return UnitOutput(table.cast(contract(self.schema).schema), counts=counts)

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warn if a phase is far from its budget, because it has too few documents to be cut finely."""
        unit = "bytes" if self.asked.tokenizer is None else "tokens"
        said = []
        for phase in self.phases:
            size, budget = (manifest.counts.get(f"{name} of {phase.name}", 0) for name in ("size", "budget"))
            if abs(size - budget) > 0.02 * budget:
                said.append(
                    f"phase {phase.name} has {size:,} {unit}, its budget is {budget:,}: documents are few or large"
                )
        return said


def scheduled(calibration: Calibrate, phases: Sequence[Phase], schedule: Schedule | None) -> ScheduleDocuments | None:
    """The stage that schedules documents for placements with these phases; None for corpus order.

    Raises:
        ConfigError: `schedule` is not a Schedule; or a phase or the mix needs something that is missing.
    """
    if not isinstance(schedule, Schedule | None):
        raise ConfigError(
            f"schedule must be a Schedule, or None for corpus order, got {schedule!r}",
            hint="Give schedule=Schedule().",
        )
    if schedule is None and not phases:
        return None
    return ScheduleDocuments(Selection.of(calibration), tuple(phases), schedule or Schedule())


def drawn_by(training_order: ScheduleDocuments | None) -> dict[str, Any]:
    """Settings of placements that depend on a schedule; empty if it has no phases."""
    return {"schedule": training_order.drawn_by()} if training_order is not None and training_order.phases else {}


def thinned(placed: pa.Table, training_order: ScheduleDocuments | None, tables: Tables) -> pa.Table:
    """The placements of a unit, without those of documents that lose their tags by the rate of their phase.

    Args:
        placed: with the column `row`.
        training_order: with the phases; None for none.
        tables: of a stage that has it as the input `schedule`, and verdicts where documents are in subsets.
    """
    if training_order is None or not training_order.phases:
        return placed
    rows, of_placement = np.unique(placed["row"].to_numpy(), return_inverse=True)
    return chosen(placed, ~training_order.without_tags(tables, rows)[of_placement])


@functools.lru_cache(maxsize=1)
def _encoder(schedule: ScheduleDocuments) -> Any:
    """The encoder of documents. It parses the tokenizer, so a process makes it once."""
    from annotate.tokens import TextTokenizer

    loaded = schedule._loaded
    assert loaded is not None, "texts are counted in tokens"
    tokenizer, found = loaded
    if vars(schedule).get("_expected", found) != found:
        raise ConfigError(
            f"the tokenizer {schedule.asked.tokenizer!r} is another one for this worker than for the driver",
            hint="It was changed during the run, or its path is another file there. Put the same file on all nodes, "
            "and run again.",
        )
    return TextTokenizer(tokenizer)


def _tokens(schedule: ScheduleDocuments, texts: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Tokens of each text, without special ones: int64 `[n]`."""
    tokens: npt.NDArray[np.int64] = np.diff(_encoder(schedule).encode(texts).documents).astype(np.int64)
    return tokens
