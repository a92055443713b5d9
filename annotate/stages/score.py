"""Score spans: one stage a scorer, whose units are prepared, run through a model, and finished.

Stages whose scorers have equal backbones share the first two steps. Verdicts are a skip list: when they
change, a unit is topped up with the newly kept documents, as an entry of its own; earlier scores stay.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate import tally
from annotate.amounts import counted
from annotate.arguments import as_tuple
from annotate.curves import Curve
from annotate.errors import ConfigError
from annotate.graph import Model, Rows, Sample, Tables, Tuned
from annotate.models.base import Forward, Prepared, Scores, expand, without
from annotate.models.text_model import TextModel
from annotate.models.trials import Trial
from annotate.scorers.anchors import check_anchors
from annotate.scorers.base import Scorer, check_scorer
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.shared.annotations import Annotations, check_axis_columns, check_skip
from annotate.stages.shared.resources import check_resources
from annotate.stages.shared.tables import chosen, numbered_spans, quarantine, span_texts
from annotate.stages.split import Split
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import UnitOutput, parquet_bytes
from annotate.storage.store import Directory
from annotate.text.arrays import one_array


@dataclass(frozen=True)
class Score(Annotations, Model):
    """Scores of the spans of kept documents, by one scorer; `score()` makes these."""

    spans: Split
    scorer: Scorer
    skip: NearDuplicates | None = None
    threads: int = 1
    unit_seconds: float | None = None
    gpus: float = 1.0

    rescored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_resources(self.threads, self.gpus)
        if self.unit_seconds is not None and not self.unit_seconds > 0:
            raise ConfigError(f"unit_seconds must be above 0, got {self.unit_seconds}", hint="None sets no limit.")
        check_scorer(self.scorer)
        if self.gpus > 1 and not getattr(self.scorer.backbone, "spreads", False):
            raise ConfigError(
                f"gpus={self.gpus:g}: the model of {', '.join(self.scorer.axes)} can't be spread over several GPUs",
                hint="Classifiers, reward models and causal language models of Transformers can be.",
            )
        check_axis_columns(self.scorer.axes)
        check_skip(self.spans, self.skip)
        object.__setattr__(self, "scorer", self.scorer.resolved())

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes on which spans get scores."""
        return tuple(self.scorer.axes)

    @property
    def curves(self) -> Mapping[str, Curve]:
        """The curves that the scorer has."""
        return self.scorer.curves

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The columns that the scorer takes."""
        return tuple(name for name in self.scorer.backbone.columns if name != "text")

    def identifies(self, name: str, unit: Unit) -> bool:
        """All inputs but verdicts: when these change, newly kept documents are added to a unit."""
        del unit
        return name != "verdicts"

    @property
    def shared(self) -> Hashable:
        """Stages of the same spans and verdicts whose scorers have equal backbones share its forward pass."""
        return self.spans, self.skip, self.threads, self.gpus, self.unit_seconds, self.scorer.backbone

    def together(self, stages: Sequence[Score]) -> str:
        """Annotations, with the axes of all stages."""
        return f"annotations ({', '.join(axis for stage in stages for axis in stage.axes)})"

    @property
    def gpu(self) -> bool:
        """Whether the scorer can use a GPU."""
        return self.scorer.backbone.gpu

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of a scorer that can use a GPU."""
        return ("torch", "transformers") if self.gpu else ()

    def wanted(self, tables: Tables) -> Rows:
        """The documents that are kept and have spans."""
        rows = np.unique(tables["spans"]["row"].to_numpy())
        if self.skip is None:
            return rows
        verdicts = tables["verdicts"]
        return rows[np.isin(rows, verdicts["row"].to_numpy()[verdicts["kept"].to_numpy()])]

    @functools.cached_property
    def _reading(self) -> Any:
        """How the model reads texts."""
        return self.scorer.backbone.reading()

    def sent(self) -> Self:
        """The stage with all that `prepare` needs: workers that had to look for it would import torch for it."""
        made = copy.copy(self)
        _ = made._reading  # from now on it is part of the copy, also of what is pickled
        return made

    def prepare(self, tables: Tables, rows: Rows) -> Spans:
        """Prepare the spans of documents for the backbone."""
        row, span, inputs, ids = self._inputs(tables, rows)
        return Spans(row, span, self._prepare(inputs), ids)

    def _prepare(self, inputs: pa.Table) -> Prepared:
        return self.scorer.backbone.prepare(inputs, self._reading)

    def items(self, prepared: Spans) -> int:
        """The distinct inputs."""
        return prepared.inputs.distinct

    def prepare_without(self, tables: Tables, rows: Rows, left_out: Mapping[int, str]) -> Spans:
        """Prepare spans, without those of some distinct inputs: they get no score, and a line in quarantine."""
        row, span, inputs, ids = self._inputs(tables, rows)
        prepared = self._prepare(inputs)
        kept = pa.array(~np.isin(prepared.inverse, list(left_out)))
        return Spans(row, span, without(prepared, self._prepare(inputs.filter(kept)), left_out), ids)

    def _inputs(self, tables: Tables, rows: Rows) -> tuple[Rows, npt.NDArray[np.int32], pa.Table, pa.Array]:
        """Row and number of the spans of documents, the columns that the backbone reads, and the documents' ids."""
        spans = tables["spans"]
        spans = numbered_spans(spans, tables.rows)
        spans = spans.filter(pa.array(np.isin(spans["row"].to_numpy(), rows))).combine_chunks()
        documents = self.corpus.reader.documents(
            tables.directory("corpus"), tables.unit("corpus"), extra=self.columns_read
        )
        kept = chosen(documents, np.isin(documents["row"].to_numpy(), rows))
        del documents
        position = np.searchsorted(kept["row"].to_numpy(), spans["row"].to_numpy())
        local = spans.set_column(0, "row", pa.array(position, pa.int64()))
        inputs = {"text": span_texts(kept, local, range(kept.num_rows), tables.shard)}
        inputs |= {name: kept[name].take(pa.array(position)) for name in self.columns_read}
        return spans["row"].to_numpy(), spans["span"].to_numpy(), pa.table(inputs), one_array(kept["id"])

    def tokens(self, prepared: Spans) -> int:
        """The tokens of the distinct inputs."""
        return prepared.inputs.tokens

    def sample(self, workdir: Directory, unit: Unit, items: int) -> Sample:
        """The first documents of a unit, with about so many spans."""
        tables = _SampleTables(self, workdir, unit, items)
        spans = tables["spans"]
        return Sample(
            tables=tables,
            rows=np.unique(spans["row"].to_numpy()),
            items=spans.num_rows,
            text_bytes=int(np.sum(spans["byte_end"].to_numpy() - spans["byte_start"].to_numpy())),
            documents_bytes=parquet_bytes(spans).size + parquet_bytes(tables["corpus"]).size,
            result_bytes=4 * spans.num_rows * len(self.axes),
        )

    def tune(
        self, sample: Sample, stages: Sequence[Score], device: str, *, seconds: float, tell: Callable[[Trial], None]
    ) -> Tuned | None:
        """Time the model with other dtypes and sizes of batches. A Python function has none.

        Raises:
            ConfigError: the model can't be used with the settings as they are.
        """
        backbone = self.scorer.backbone
        if not isinstance(backbone, TextModel):
            return None
        from annotate.models.device import placed, use_threads
        from annotate.models.tuning import try_settings

        use_threads(self.threads)
        _, _, spans, _ = self._inputs(sample.tables, sample.rows)
        scorers = [stage.scorer for stage in stages]
        trials = try_settings(backbone, scorers, spans, placed(device, self.gpus), seconds=seconds, tell=tell)
        return Tuned(trials, _lines(scorers, trials.best))

    def load(self, stages: Sequence[Score], device: str) -> Forward:
        """Load the backbone with the heads of all stages, and check that known texts get the scores that they should.

        Raises:
            ConfigError: a model can't be loaded, or gives other scores.
        """
        scorers, backbone = [stage.scorer for stage in stages], self.scorer.backbone
        if self.gpu:
            from annotate.models.device import placed

            device = placed(device, self.gpus)
        forward = backbone.load(scorers, device)
        if forward.device is not None:
            from annotate.models.device import use_threads

            use_threads(self.threads)
        check_anchors(scorers, backbone, forward)
        if isinstance(backbone, TextModel):
            from annotate.models.advice import advise

            for subject, text in advise(backbone, forward).items():
                tally.say(subject, text)
        return forward

    def forward(
        self, model: Callable[[], Forward], prepared: Spans, stages: Sequence[Score], wanted: Sequence[int]
    ) -> Sequence[Scores]:
        """Score the distinct inputs, for the stages that want scores.

        Raises:
            ConfigError: the scores have another shape or type than they should.
        """
        asked = [stages[i] for i in wanted]
        if prepared.inputs.distinct == 0:
            return [Scores(values=np.empty((0, len(stage.axes)), np.float32)) for stage in asked]
        scores = model()(prepared.inputs, wanted)
        for stage, values in zip(asked, scores, strict=True):
            _check(stage, prepared.inputs, values)
        return scores

    def device_kind(self, model: Forward) -> str:
        """The kind of device of the model."""
        if (device := model.device) is None:
            return super().device_kind(model)
        from annotate.models.device import device_kind

        return device_kind(device)

    def finish(self, shard: str, prepared: Spans, result: Scores, device: str, covered: Rows) -> UnitOutput:
        """Put scores back in span order; a NaN becomes a null with a quarantine line.

        Raises:
            ConfigError: there are more or fewer scores than spans.
        """
        inputs = prepared.inputs
        values, failures = expand(inputs, result)
        if values.shape != (len(prepared.row), len(self.axes)):
            raise ConfigError(
                f"the scorer of {', '.join(self.axes)} gave scores of shape {values.shape} for {len(prepared.row)} "
                f"spans; expected ({len(prepared.row)}, {len(self.axes)})",
                hint="A scorer has to give a score for each span and axis, NaN where there is none.",
            )
        fresh = ~np.isin(prepared.row, covered)
        columns: dict[str, pa.Array] = {
            "row": pa.array(prepared.row),
            "span": pa.array(prepared.span),
            "truncated": pa.array(inputs.truncated),
        }
        for i, axis in enumerate(self.axes):
            columns[axis] = pa.array(np.ascontiguousarray(values[:, i]), pa.float32(), mask=np.isnan(values[:, i]))
        failed = [
            (at, axis)
            for at in sorted(failures)
            for i, axis in enumerate(self.axes)
            if fresh[at] and np.isnan(values[at, i])
        ]
        document = np.searchsorted(np.unique(prepared.row), prepared.row[[at for at, _ in failed]])
        bad = quarantine(
            shard,
            [int(prepared.row[at]) for at, _ in failed],
            [failures[at] for at, _ in failed],
            ids=prepared.ids.take(pa.array(document)),
            spans=[int(prepared.span[at]) for at, _ in failed],
            axes=[axis for _, axis in failed],
        )
        context, unknown = inputs.context_cut, inputs.unknown
        counts = {
            "spans": int(fresh.sum()),
            "distinct_inputs": inputs.distinct,
            "tokens": inputs.tokens,
            "truncated_spans": int(inputs.truncated[fresh].sum()),
            **({} if context is None else {"cut_contexts": int(context[fresh].sum())}),
            **({} if unknown is None else {"mostly_unknown_spans": int(unknown[fresh].sum())}),
            "failed_scores": len(failed),
            "halved_batches": result.halved,
            "too_large_batches": result.too_large,
        }
        return UnitOutput(
            pa.table(columns).filter(pa.array(fresh)),
            quarantine=bad,
            counts=counts,
            notes={"device": device} if device else {},
        )

    def settings(self) -> Mapping[str, Any]:
        """The scorer's identity (model hashes, dtype, head, sign, activation), threads of a model and time limit."""
        limit = {} if self.unit_seconds is None else {"unit_seconds": self.unit_seconds}
        return {"axes": list(self.axes), "threads": self.threads, **limit, **self.scorer.identity()}

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warn of failed scores, truncated spans and mixed kinds of device."""
        said = []
        counts = manifest.counts
        if failed := counts.get("failed_scores", 0):
            said.append(f"{counted(failed, 'score')} failed and {'is' if failed == 1 else 'are'} null: see quarantine")
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
            large = counts.get("too_large_batches", 0)
            why = f", {large:,} of them since they did not fit in memory (lower batch_tokens)" if large else ""
            said.append(
                f"{counted(halved, 'batch')} {'was' if halved == 1 else 'were'} cut in two{why}; scores may differ in "
                "the last digits from an undisturbed run"
            )
        kinds = sorted(name.removeprefix("device=") for name in manifest.notes if name.startswith("device="))
        if len(kinds) > 1:
            said.append(f"scored on several kinds of device ({', '.join(kinds)}): equal bytes are not promised")
        return said


def score(
    spans: Split,
    scorers: Sequence[Scorer],
    *,
    skip: NearDuplicates | None = None,
    threads: int = 1,
    unit_seconds: float | None = None,
    gpus: float = 1,
) -> tuple[Score, ...]:
    """Scores of spans: a stage for each scorer; those on one encoder share its forward pass.

        scores = score(Split(documents), [Probe("niceness"), Probe("tone")], skip=verdicts)

    Args:
        spans: what is scored.
        scorers: models that score it.
        skip: verdicts; documents that are not kept are not scored.
        threads: torch threads of each model, which can change the last bits of a score.
        unit_seconds: the time that a model may take for a work unit. If it takes longer, twice, the spans that hold it
            up are looked for, and get no score. None for no limit.
        gpus: that each model takes where the cluster has some: 0.5 puts two models on a GPU, 4 spreads one over four of
            a node. The bytes of scores do not depend on it.

    Raises:
        ConfigError: two scorers measure the same axis.
    """
    scorers = as_tuple(scorers, "scorers")
    axes = [axis for scorer in scorers for axis in scorer.axes]
    twice = sorted({axis for axis in axes if axes.count(axis) > 1})
    if twice:
        raise ConfigError(f"two scorers measure {', '.join(twice)}", hint="Give one of them another axis name.")
    return tuple(Score(spans, scorer, skip, threads, unit_seconds, float(gpus)) for scorer in scorers)


@dataclass(frozen=True)
class Spans:
    """Spans of a unit, as the model of a scorer takes them.

    Attributes:
        row: of each, int64 `[n_spans]`.
        span: number of each in its document, int32 `[n_spans]`.
        inputs: of the model, each distinct one once.
        ids: of the documents that have spans here, in the order of their rows.
    """

    row: Rows
    span: npt.NDArray[np.int32]
    inputs: Prepared
    ids: pa.Array


def _lines(scorers: Sequence[Scorer], trial: Trial) -> list[str]:
    """What to write for each scorer; dots stand for its other settings."""
    lines: dict[str, None] = {}
    for scorer in scorers:
        takes = hasattr(scorer, "dtype") and not isinstance(getattr(scorer, "model", None), TextModel)
        name = type(scorer if takes else scorer.backbone).__name__
        lines[f'{name}(..., dtype="{trial.dtype}", batch_tokens={trial.batch_tokens})'] = None
    return list(lines)


def _check(stage: Score, inputs: Prepared, scores: Scores) -> None:
    expected = (inputs.distinct, len(stage.axes))
    if scores.values.shape != expected or scores.values.dtype != np.float32:
        raise ConfigError(
            f"the scorer of {', '.join(stage.axes)} gave {scores.values.dtype} scores of shape {scores.values.shape}; "
            f"expected float32 {expected}",
            hint="A scorer has to give a row for each input and a column for each axis, NaN where there is no score.",
        )


class _SampleTables(Tables):
    """The documents and spans of a sample, held in memory."""

    def __init__(self, stage: Score, workdir: Directory, unit: Unit, items: int) -> None:
        super().__init__(stage, workdir, {"corpus": unit, "spans": unit}, {})
        documents = stage.corpus.read(self.directory("corpus"), unit)
        self._held = {"corpus": documents}
        spans = stage.spans.unit(self).table
        rows = spans["row"].to_numpy()
        last = int(rows[min(items, len(rows)) - 1]) if len(rows) else -1
        self._held = {
            name: table.filter(pc.less_equal(table["row"], last))
            for name, table in (("corpus", documents), ("spans", spans))
        }

    def __getitem__(self, name: str) -> pa.Table:
        return self._held[name]
