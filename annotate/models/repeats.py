"""Equal inputs are scored once: the distinct rows of a span table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.errors import ConfigError

_FEW_BYTES = 1 << 20


def drop_repeats(spans: pa.Table, columns: Sequence[str]) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Keep the first of each distinct combination of `columns`, in order of first appearance.

    Returns:
        The distinct rows, of these columns only, and int64 `[n_spans]`: the distinct row of each span.

    Raises:
        ConfigError: a column is missing.
    """
    missing = [name for name in columns if name not in spans.column_names]
    if missing:
        raise ConfigError(
            f"the spans have no column {missing[0]!r}; they have {spans.column_names}",
            hint="name a column that the corpus has, or leave it out of the scorer",
        )
    key = np.zeros(spans.num_rows, np.int64)
    for name in columns:
        codes = _codes(spans.column(name))
        # Codes of the combination so far stay below n, so the product fits.
        key = _first_appearance(key * (int(codes.max(initial=0)) + 1) + codes)[1]
    first, inverse = _first_appearance(key)
    return spans.select(list(columns)).take(pa.array(first)), inverse


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Numbers from 0 to n - 1 that are equal where the values are, nulls among themselves: int64 `[n]`."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())  # a corpus column may hold some that are not valid UTF-8
    if pa.types.is_large_binary(column.type) and column.nbytes > _FEW_BYTES:
        import polars as pl  # not above: who only runs a model, on few texts, needs no Polars

        # Each text gets the first row that has it. Polars compares texts where they are: 5 MiB for 8 MiB of different
        # texts, where a dictionary takes 37.
        texts = pl.DataFrame({"text": pl.from_arrow(column)}).with_row_index("first")
        return texts.select(pl.col("first").min().over("text")).to_series().to_numpy().astype(np.int64)
    values = column.combine_chunks()
    if not pa.types.is_dictionary(values.type):
        try:
            values = values.dictionary_encode(null_encoding="encode")
        except pa.ArrowNotImplementedError:
            # Lists and structs of a corpus can't be compared: each row is its own.
            return np.arange(len(column))
    return np.asarray(values.indices.fill_null(len(values.dictionary)), np.int64)


def _first_appearance(key: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The row where each distinct key first appears, ascending, and each row's position in that list."""
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.sort(first), rank[inverse]
