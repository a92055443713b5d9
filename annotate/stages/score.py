"""Score spans: one stage a scorer, whose units are prepared, run through a model, and finished.

Stages whose scorers have equal backbones share the first two steps (`group`). Verdicts are a skip list: when they
change, a unit is topped up with the newly kept documents, as an entry of its own; earlier scores stay.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.arguments import as_tuple
from annotate.curves import Curve
from annotate.errors import ConfigError
from annotate.graph import Stage, Tables
from annotate.models.base import Backbone, Prepared, Scores, expand
from annotate.scorers.base import Scorer, check_scorer
from annotate.stages.corpus import Corpus
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.split import Split
from annotate.stages.tables import chosen, quarantine, span_numbers, span_texts
from annotate.storage.latest import Role
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import Output

RESERVED = ("row", "span", "truncated", "text", "start", "end", "id")


class Annotations(Stage):
    """Scores of the spans of kept documents, whoever gave them: what rules read.

    Attributes:
        spans: what has scores.
        skip: verdicts; documents that are not kept have none.
    """

    spans: Split
    skip: NearDuplicates | None

    name: ClassVar[str] = "annotations"
    schema: ClassVar[str] = "annotations"
    role: ClassVar[Role] = Role.UNITS

    @property
    @abc.abstractmethod
    def axes(self) -> tuple[str, ...]:
        """What is measured."""

    @property
    def curves(self) -> Mapping[str, Curve]:
        """How scores become probabilities, by axis, where that is known."""
        return {}

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Spans, the corpus for their text, and verdicts if any."""
        skip: Mapping[str, Stage] = {"verdicts": self.skip} if self.skip is not None else {}
        return {"spans": self.spans, "corpus": self.corpus, **skip}

    @property
    def corpus(self) -> Corpus:
        """The corpus that was split."""
        return self.spans.corpus

    @property
    def label(self) -> str:
        """The axes, and of what if it is not the corpus."""
        of = "" if self.corpus.name == "corpus" else f" of {self.corpus.name}"
        return f"annotations{of} ({', '.join(self.axes)})"


def check_axis_columns(axes: Sequence[str]) -> None:
    """Check that axes can be columns of annotations.

    Raises:
        ConfigError: there is none, two are equal, or one is no name.
    """
    bad = [axis for axis in axes if not axis.isidentifier() or axis in RESERVED]
    if bad or len(set(axes)) != len(axes) or not axes:
        raise ConfigError(f"axes must be different names that Python would accept, got {axes}")


def check_skip(spans: Split, skip: NearDuplicates | None) -> None:
    """Check that verdicts are of the documents that were split.

    Raises:
        ConfigError: they are of another corpus, or are no verdicts.
    """
    if not isinstance(skip, NearDuplicates | None):
        raise ConfigError(
            f"skip must be verdicts, or None to score all documents, got {skip!r}",
            hint="Give skip=NearDuplicates(corpus).",
        )
    if skip is not None and skip.corpus != spans.corpus:
        raise ConfigError(
            f"the spans are of the corpus {spans.corpus.path}, the verdicts of skip= of {skip.corpus.path}",
            hint="Make one Corpus(...), and give it to both NearDuplicates and Split.",
        )


@dataclass(frozen=True)
class Score(Annotations):
    """Scores of the spans of kept documents, by one scorer; `score()` makes these."""

    spans: Split
    scorer: Scorer
    skip: NearDuplicates | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigError(f"threads must be at least 1, got {self.threads}")
        check_scorer(self.scorer)
        check_axis_columns(self.scorer.axes)
        check_skip(self.spans, self.skip)
        object.__setattr__(self, "scorer", self.scorer.resolved())

    @property
    def axes(self) -> tuple[str, ...]:
        """What is measured."""
        return tuple(self.scorer.axes)

    @property
    def curves(self) -> Mapping[str, Curve]:
        """Those that the scorer has."""
        return self.scorer.curves

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Those that the scorer takes."""
        return tuple(name for name in self.scorer.backbone.columns if name != "text")

    def identifies(self, name: str, unit: Unit) -> bool:
        """Verdicts are not: a unit is topped up with newly kept documents."""
        del unit
        return name != "verdicts"

    def settings(self) -> Mapping[str, Any]:
        """The scorer's identity (model hashes, dtype, head, sign, activation) and the torch threads of a model."""
        return {"axes": list(self.axes), "threads": self.threads, **self.scorer.identity()}

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say it when scores failed, spans were truncated, or kinds of device are mixed."""
        said = []
        counts = manifest.counts
        if failed := counts.get("failed_scores", 0):
            said.append(f"{failed:,} scores failed and are null: see quarantine")
        spans = counts.get("spans", 0)
        if (truncated := counts.get("truncated_spans", 0)) * 20 > spans:
            said.append(f"{truncated:,} of {spans:,} spans are longer than the model's window and were truncated")
        if cut := counts.get("cut_contexts", 0):
            said.append(
                f"{cut:,} of {spans:,} spans have a prompt or context that leaves them too little of the model's "
                "window: its start was cut"
            )
        if unknown := counts.get("mostly_unknown_spans", 0):
            said.append(
                f"{unknown:,} of {spans:,} spans ({unknown / spans:.1%}) are by half or more of characters that "
                "the model's tokenizer does not know: their scores mean nothing"
            )
        if halved := counts.get("halved_batches", 0):
            said.append(f"{halved:,} batches were halved; scores may differ in the last digits from an undisturbed run")
        kinds = sorted(name.removeprefix("device=") for name in manifest.notes if name.startswith("device="))
        if len(kinds) > 1:
            said.append(f"scored on several kinds of device ({', '.join(kinds)}): equal bytes are not promised")
        return said


def score(
    spans: Split, scorers: Sequence[Scorer], *, skip: NearDuplicates | None = None, threads: int = 1
) -> tuple[Score, ...]:
    """Scores of spans: a stage for each scorer; those on one encoder share its forward pass.

    Args:
        spans: what is scored.
        scorers: models that score it.
        skip: verdicts; documents that are not kept are not scored.
        threads: torch threads of each model, which can change the last bits of a score.

    Raises:
        ConfigError: two scorers measure the same axis.
    """
    scorers = as_tuple(scorers, "scorers")
    axes = [axis for scorer in scorers for axis in scorer.axes]
    twice = sorted({axis for axis in axes if axes.count(axis) > 1})
    if twice:
        raise ConfigError(f"two scorers measure {', '.join(twice)}", hint="Give one of them another axis name.")
    return tuple(Score(spans, scorer, skip, threads) for scorer in scorers)


def group(stages: Sequence[Score]) -> list[list[Score]]:
    """Group stages that share spans, verdicts and backbone: they run in one forward pass."""
    groups: list[list[Score]] = []
    keys: list[tuple[Split, NearDuplicates | None, int, Backbone]] = []
    for stage in stages:
        key = (stage.spans, stage.skip, stage.threads, stage.scorer.backbone)
        if key in keys:
            groups[keys.index(key)].append(stage)
        else:
            keys.append(key)
            groups.append([stage])
    return groups


@dataclass(frozen=True)
class Batch:
    """One forward pass over one unit: which spans, their model inputs, and for which stages of a group."""

    wanted: tuple[int, ...]
    row: npt.NDArray[np.int64]
    span: npt.NDArray[np.int32]
    prepared: Prepared


def missing_rows(tables: Tables, scored: npt.NDArray[np.int64], *, verdicts: bool) -> npt.NDArray[np.int64]:
    """Rows of a unit's documents that are kept, have spans, and have no scores yet."""
    rows = np.unique(tables["spans"]["row"].to_numpy())
    if verdicts:
        table = tables["verdicts"]
        kept = table["row"].to_numpy()[table["kept"].to_numpy()]
        rows = rows[np.isin(rows, kept)]
    return rows[~np.isin(rows, scored)]


def prepare(stage: Score, tables: Tables, rows: npt.NDArray[np.int64], wanted: Sequence[int]) -> Batch:
    """Prepare the spans of documents `rows` of a unit for the backbone of `stage`."""
    spans = tables["spans"]
    spans = spans.append_column("span", pa.array(span_numbers(spans, tables.rows)))
    spans = spans.filter(pa.array(np.isin(spans["row"].to_numpy(), rows))).combine_chunks()
    backbone = stage.scorer.backbone
    documents = stage.corpus.reader.documents(
        tables.directory("corpus"), tables.unit("corpus"), extra=stage.columns_read
    )
    kept = chosen(documents, np.isin(documents["row"].to_numpy(), rows))
    del documents
    position = np.searchsorted(kept["row"].to_numpy(), spans["row"].to_numpy())
    local = spans.set_column(0, "row", pa.array(position, pa.int64()))
    inputs = {"text": span_texts(kept, local, range(kept.num_rows), tables.shard)}
    inputs |= {name: kept[name].take(pa.array(position)) for name in stage.columns_read}
    prepared = backbone.prepare(pa.table(inputs))
    return Batch(tuple(wanted), spans["row"].to_numpy(), spans["span"].to_numpy(), prepared)


def finish(
    stage: Score, shard: str, batch: Batch, scores: Scores, device: str, covered: npt.NDArray[np.int64]
) -> Output:
    """Put scores back in span order; a NaN becomes a null with a quarantine line.

    Args:
        stage: whose scores they are.
        shard: of the unit.
        batch: what was scored.
        scores: of the distinct inputs.
        device: kind of device that made them; empty where there was nothing to score.
        covered: rows of documents to leave out: their scores are committed.
    """
    values, failures = expand(batch.prepared, scores)
    if values.shape != (len(batch.row), len(stage.axes)):
        raise ConfigError(
            f"the scorer of {', '.join(stage.axes)} gave scores of shape {values.shape} for {len(batch.row)} spans; "
            f"expected ({len(batch.row)}, {len(stage.axes)})"
        )
    fresh = ~np.isin(batch.row, covered)
    columns: dict[str, pa.Array] = {
        "row": pa.array(batch.row),
        "span": pa.array(batch.span),
        "truncated": pa.array(batch.prepared.truncated),
    }
    for i, axis in enumerate(stage.axes):
        columns[axis] = pa.array(np.ascontiguousarray(values[:, i]), pa.float32(), mask=np.isnan(values[:, i]))
    failed = [
        (at, axis)
        for at in sorted(failures)
        for i, axis in enumerate(stage.axes)
        if fresh[at] and np.isnan(values[at, i])
    ]
    bad = quarantine(
        shard,
        [int(batch.row[at]) for at, _ in failed],
        [failures[at] for at, _ in failed],
        spans=[int(batch.span[at]) for at, _ in failed],
        axes=[axis for _, axis in failed],
    )
    context, unknown = batch.prepared.context_cut, batch.prepared.unknown
    counts = {
        "spans": int(fresh.sum()),
        "distinct_inputs": batch.prepared.distinct,
        "tokens": batch.prepared.tokens,
        "truncated_spans": int(batch.prepared.truncated[fresh].sum()),
        **({} if context is None else {"cut_contexts": int(context[fresh].sum())}),
        **({} if unknown is None else {"mostly_unknown_spans": int(unknown[fresh].sum())}),
        "failed_scores": len(failed),
        "halved_batches": scores.halved,
    }
    return Output(
        pa.table(columns).filter(pa.array(fresh)),
        quarantine=bad,
        counts=counts,
        notes={"device": device} if device else {},
    )


def kept_spans(tables: Tables, *, verdicts: bool) -> pa.Table:
    """Spans of a unit's kept documents, with a column `span`, the number of each in its document."""
    spans = tables["spans"]
    spans = spans.append_column("span", pa.array(span_numbers(spans, tables.rows)))
    if verdicts:
        table = tables["verdicts"]
        kept = table["row"].to_numpy()[table["kept"].to_numpy()]
        spans = spans.filter(pa.array(np.isin(spans["row"].to_numpy(), kept)))
    return spans


def kept_scores(
    tables: Tables, stages: Mapping[str, Annotations], *, verdicts: bool
) -> tuple[pa.Table, dict[str, npt.NDArray[np.float32]]]:
    """Spans of a unit's kept documents, and their scores on all axes (NaN where there is none).

    Returns:
        The span table, with a column `span`, and float32 `[n_spans]` by axis.

    Raises:
        ConfigError: an annotation dataset does not cover the kept documents.
    """
    spans = kept_spans(tables, verdicts=verdicts)
    row, span = spans["row"].to_numpy(), spans["span"].to_numpy()
    scores: dict[str, npt.NDArray[np.float32]] = {}
    for name, stage in stages.items():
        table = tables[name]
        table = table.take(np.lexsort((table["span"].to_numpy(), table["row"].to_numpy())))
        # Entries of a unit overlap where one that lost its part was made again after a later one: the first counts.
        places = np.stack([table["row"].to_numpy(), table["span"].to_numpy()])
        fresh = np.append(True, (np.diff(places, axis=1) != 0).any(axis=0)) if table.num_rows else np.empty(0, bool)
        table = table.filter(pa.array(np.isin(table["row"].to_numpy(), row) & fresh))
        if not np.array_equal(table["row"].to_numpy(), row) or not np.array_equal(table["span"].to_numpy(), span):
            raise ConfigError(
                f"{tables.shard}, rows {tables.rows.start} to {tables.rows.stop}: the scores of "
                f"{', '.join(stage.axes)} do not cover the kept documents",
                hint="What lies in the work directory was changed by something else: --rescore scores it again.",
            )
        for axis in stage.axes:
            scores[axis] = table[axis].to_numpy(zero_copy_only=False).astype(np.float32)
    return spans, scores
