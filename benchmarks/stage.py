"""The scoring stage that `score.py` times: real documents of distinct sentences, MiniLM, the heads of three axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from report import flipped
from texts import docstrings

from annotate import Corpus, Encoder, Probe, Split, Splitter, score
from annotate.engine.map import make_unit
from annotate.engine.source import open_source
from annotate.engine.worker import Context
from annotate.graph import Tables, Work
from annotate.models.base import Forward
from annotate.models.text_model import Dtype
from annotate.stages.score import Score
from annotate.storage.store import Directory

AXES = ("niceness", "tone", "correctness")
NOTHING_SCORED = np.empty(0, np.int64)


def write_corpus(path: Path, spans: int) -> list[str]:
    """Write docstrings as a corpus of this many distinct spans, or a few more.

    A docstring that repeats a span is passed over.

    Returns:
        The spans, in order.
    """
    splitter = Splitter()
    documents: list[str] = []
    distinct: dict[str, None] = {}
    for text in docstrings():
        table = splitter.split(pa.array([text], pa.large_string()))
        edges = zip(table["start"].to_pylist(), table["end"].to_pylist(), strict=True)
        sentences = [text[start:end] for start, end in edges]
        if len(set(sentences)) == len(sentences) and distinct.keys().isdisjoint(sentences):
            documents.append(text)
            distinct |= dict.fromkeys(sentences)
        if len(distinct) >= spans:
            break
    pq.write_table(pa.table({"text": documents}), path)
    return list(distinct)


def probes(dtype: Dtype) -> list[Probe]:
    """The shipped probes, on an encoder of this dtype."""
    cards = {axis: Probe(axis).head().card for axis in AXES}
    return [
        Probe(axis, encoder=Encoder(card.encoder.name, max_length=card.max_length, dtype=dtype))
        for axis, card in cards.items()
    ]


@dataclass(frozen=True)
class LoadedStage:
    """The scoring stage of one work unit, in this process. A call makes an annotation table for each axis."""

    stages: tuple[Score, ...]
    model: Forward
    tables: Tables

    @staticmethod
    def load(corpus: Corpus, scorers: Sequence[Probe], workdir: Directory, threads: int) -> LoadedStage:
        """Split a corpus of one unit, and load the model."""
        spans = Split(corpus)
        stages = score(spans, scorers=scorers, threads=threads)
        (unit,) = open_source(corpus, workdir).units()
        work = Work("unit", unit.shard, unit.start, unit.stop, unit.text_bytes, ({"corpus": unit},))
        split = make_unit(Context(spans, workdir, {}), work)
        model = stages[0].load(stages, "cpu")
        return LoadedStage(stages, model, Tables(stages[0], workdir, {"spans": split, "corpus": unit}, {}))

    def __call__(self) -> list[pa.Table]:
        """Score all spans."""
        first = self.stages[0]
        prepared = first.prepare(self.tables, first.wanted(self.tables))
        scored = first.forward(lambda: self.model, prepared, self.stages, range(len(self.stages)))
        return [
            stage.finish(self.tables.shard, prepared, scores, "cpu", NOTHING_SCORED).table
            for stage, scores in zip(self.stages, scored, strict=True)
        ]


def tolerance(exact: Sequence[pa.Table], near: Sequence[pa.Table]) -> dict[str, dict[str, float]]:
    """How far scores are off, by axis: root mean square and largest (in standard deviations); share of changed tags."""
    found = {}
    for axis, one, other in zip(AXES, exact, near, strict=True):
        a, b = (table[axis].to_numpy().astype(np.float64) for table in (one, other))
        off = np.abs(a - b) / a.std()
        found[axis] = {"rms": float(np.sqrt((off**2).mean())), "max": float(off.max()), "flipped": flipped(a, b)}
    return found
