"""A scorer without a model, for tests of pipelines."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import xxhash

from annotate.arguments import as_tuple
from annotate.models.base import FloatArray
from annotate.scorers.function import PythonScorer


def fake_scorer(
    axes: Sequence[str] = ("fake",), *, anchors: Mapping[str, tuple[str, str]] | None = None
) -> PythonScorer:
    """Score spans by a hash of text and axis: uniform from 0 to 1, the same on every machine.

    >>> scorer = fake_scorer(axes=("niceness",))
    >>> prepared = scorer.prepare(pa.table({"text": ["one", "two", "one"]}))
    >>> [scores] = scorer.load([scorer], "cpu")(prepared, [0])
    >>> scores.values.shape, prepared.inverse.tolist()
    ((2, 1), [0, 1, 0])
    """
    axes = as_tuple(axes, "axes")
    return PythonScorer(
        function=functools.partial(_hash_scores, axes=axes), axes=axes, version="fake-1", anchors=anchors or {}
    )


def _hash_scores(table: pa.Table, axes: Sequence[str]) -> FloatArray:
    texts = [text.encode() for text in table["text"].to_pylist()]
    columns = [[xxhash.xxh64_intdigest(text, seed) for text in texts] for seed in map(_seed, axes)]
    # 24 bits, which float32 holds exactly.
    return np.array([[value >> 40 for value in column] for column in columns], np.float32).T / np.float32(2**24)


def _seed(axis: str) -> int:
    return xxhash.xxh64_intdigest(axis.encode())
