"""Openings of a unit, as a generator takes them: cut to a length, each with its condition and a key for its draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from annotate.generators.base import Request
from annotate.graph import Rows
from annotate.randomness import keyed_hash, name_key
from annotate.stages.shared.conditions import Condition
from annotate.text.arrays import one_array


@dataclass(frozen=True)
class Openings:
    """Openings of a unit, as a generator takes them.

    Attributes:
        table: `row`, `id`, and the columns that are taken along.
        texts: of the openings, large_string `[n]`; null for one that can't be used.
        condition: of each, int64 `[n]`, a position among the conditions.
        problem: why an opening can't be used, string `[n]`; null if it can.
        asked: the openings that the requests are of, positions in the table: int64.
        requests: to the generator.
        left_out: by position in the table, why an opening is not asked for.
    """

    table: pa.Table
    texts: pa.Array
    condition: npt.NDArray[np.int64]
    problem: pa.Array
    asked: npt.NDArray[np.int64]
    requests: Sequence[Request]
    left_out: Mapping[int, str]


def cut(texts: pa.ChunkedArray, most: int | None) -> pa.Array:
    """Texts of at most so many characters, cut between words; where there are no blanks, between characters."""
    if most is None:
        return one_array(texts)
    text = pl.col("text")
    head = text.str.slice(0, most + 1).str.replace(r"(?s)\s+\S*$", "")
    between = (head.str.len_chars() > 0) & (head.str.len_chars() <= most)
    parts = pl.when(text.str.len_chars() <= most).then(text).when(between).then(head).otherwise(text.str.slice(0, most))
    frame = pl.DataFrame({"text": pl.from_arrow(texts)}).select(parts)
    return one_array(frame.to_arrow()["text"].cast(pa.large_string()))


def keys_of(
    shard: str, rows: Rows, condition: npt.NDArray[np.int64], conditions: Sequence[Condition]
) -> npt.NDArray[np.uint64]:
    """A hash of document and prompt for each opening: uint64 `[n]`."""
    if not len(rows):
        return np.zeros(0, np.uint64)
    texts = np.array([name_key(each.text) for each in conditions], np.uint64)
    return keyed_hash(0, name_key(shard), rows, texts[condition])
