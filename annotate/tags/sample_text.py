"""Sample text under a scheme, to see what the scheme does before anything is scored."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from annotate.curves import Platt
from annotate.randomness import keyed_hash, name_key, uniform
from annotate.tags.group_quantiles import fit_quantiles
from annotate.tags.placing import place
from annotate.tags.rendering import render
from annotate.tags.scheme import TagScheme
from annotate.tags.states import Measured

SAMPLE = (
    ("Rain fell all night. ", "By morning the river had left its bed. ", "Nobody was hurt."),
    ("You can keep bread for three days. ", "Wrap it in a cloth. ", "Never in plastic!"),
    ("Water boils at 50 degrees at sea level. ", "Ask anyone who knows."),
    (
        "The old mill stood where two roads met, and whoever came by, on foot or with a cart, stopped to hear what "
        "was new, to let the horses drink, and to ask what bread would cost when the summer was over. ",
        "Nobody remembers who built it, though there are people in the village who will tell you, at some length and "
        "without being asked, that it was their own grandfather who carried the first stone up from the river.",
    ),
)


def sample(scheme: TagScheme) -> tuple[pa.Array, pa.Table]:
    """Short documents with the tags of a scheme, by scores that are drawn, the same each time.

        texts, placements = sample(preset("default"))

    Returns:
        Tagged texts, large_string `[n_documents]`, and the placements in them, as `schemas/` says.
    """
    spans = [span for document in SAMPLE for span in document]
    lengths = np.array([len(span) for span in spans])
    row = np.repeat(np.arange(len(SAMPLE)), [len(document) for document in SAMPLE])
    first = np.searchsorted(row, row)
    before = np.cumsum(lengths) - lengths
    start = before - before[first]
    table = pa.table(
        {
            "row": row,
            "span": np.arange(len(spans)) - first,
            **dict.fromkeys(("start", "byte_start"), start),  # the sample is ASCII
            **dict.fromkeys(("end", "byte_end"), start + lengths),
        }
    )
    scores = {axis: _scores(scheme, axis, len(spans)) for axis in scheme.axes}
    read = {*scheme.columns, *(name for by in scheme.groupings for name in by)}
    columns = {name: pa.array(_values(scheme, name), pa.string()).take(pa.array(row)) for name in read}
    measured = Measured(
        spans=table,
        scores=scores,
        thresholds=fit_quantiles(scheme.quantiles, scores, columns),
        curves=dict.fromkeys(scheme.curves, Platt(a=-10.0, b=5.0)),
        columns=columns,
        shard="a sample",
    )
    ranks = {axis: np.argsort(np.argsort(values)) / len(values) for axis, values in scores.items()}
    placed = place(measured, scheme, ranks=ranks, texts=pa.array(spans, pa.large_string()))
    return render(pa.array(["".join(document) for document in SAMPLE], pa.large_string()), placed), placed


def _scores(scheme: TagScheme, axis: str, n: int) -> np.ndarray:
    """Drawn scores, on both sides of the numbers that rules compare with: float32 `[n]`."""
    drawn = uniform(keyed_hash(3, np.arange(n), name_key(axis)))
    numbers = [number for tag in scheme.tags for name, number in tag.parsed.numbers if name == axis] or [0.0, 1.0]
    low, high = min(numbers), max(numbers)
    margin = max(high - low, abs(high)) / 2 or 1.0
    return (low - margin + drawn * (high - low + 2 * margin)).astype(np.float32)


def _values(scheme: TagScheme, column: str) -> list[str]:
    """A value of a column for each sample document: those that rules name, or two, one after the other."""
    named = [text for tag in scheme.tags for name, text in tag.parsed.values if name == column] or ["one", "another"]
    return [named[i % len(named)] for i in range(len(SAMPLE))]
